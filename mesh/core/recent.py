"""Group frames of the last moment, for a peer whose session comes up a little later.

The first thing that a machine sends is a question to everybody: ARP, neighbour solicitation, DHCP,
a game that looks for servers. It would be repeated after a second or more. So what was flooded just
before a session came up is sent to the new peer too, which makes the first ping answer at once.
"""

from collections import deque
from collections.abc import Iterable

from mesh.addresses import EdgeId

RECENT_LIFETIME = 1.0  # s; ARP (RFC 1122 section 2.3.2.1) repeats its question then
MAX_RECENT_FRAMES = 16
MAX_RECENT_FRAME_BYTES = 600  # with a virtio-net header; DHCP fits, bulk multicast does not


class RecentFrames:
    """The latest small frames that were flooded."""

    def __init__(self) -> None:
        self._floods: deque[tuple[float, bytes, frozenset[EdgeId]]] = deque(
            maxlen=MAX_RECENT_FRAMES
        )

    def note(self, read: memoryview, sent_to: Iterable[EdgeId], now: float) -> None:
        """Remember (a copy of) one TAP read that is flooded now, and whom it was sent to."""
        if len(read) <= MAX_RECENT_FRAME_BYTES:
            self._floods.append((now, bytes(read), frozenset(sent_to)))

    def missed_by(self, edge_id: EdgeId, now: float) -> list[bytes]:
        """Return the recent reads that were not sent to an edge, the oldest first."""
        return [
            read
            for at, read, sent_to in self._floods
            if now - at < RECENT_LIFETIME and edge_id not in sent_to
        ]
