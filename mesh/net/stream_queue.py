"""What waits for a stream to take it: little, not for long, small datagrams first; section 19.

A stream delivers in order and repeats what is lost, so all that is sent while the network is slow
waits in one line. Bytes that the kernel has taken cannot be taken back; those still here can. So
the line is kept here, short, and what becomes stale in it is dropped: datagrams may be lost, and
what they carry (TCP, a game) copes with loss better than with delay.
"""

from collections import deque
from typing import Final

from mesh.constants import STREAM_QUEUE_BYTES, STREAM_QUEUE_TIME, STREAM_QUICK_BYTES
from mesh.net.counters import DriverCounters

QUICK_SHARE: Final = 4
"""Small datagrams have a quarter of the room at most, so that a flood of them stops nobody."""


class _Lane:
    """Frames in the order in which they came, with the time of each."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.frames: deque[tuple[float, bytes]] = deque()
        self.waiting_bytes = 0

    def put(self, frame: bytes, now: float) -> int:
        """Append; return how many frames gave way."""
        self.frames.append((now, frame))
        self.waiting_bytes += len(frame)
        dropped = 0
        while self.waiting_bytes > self._limit_bytes:
            self.pop()
            dropped += 1
        return dropped

    def pop(self) -> bytes:
        _, frame = self.frames.popleft()
        self.waiting_bytes -= len(frame)
        return frame


class StreamQueue:
    """Frames that wait for one stream.

    Args:
        counters: where frames that gave way to newer ones, or waited for too long, are counted.
    """

    def __init__(self, counters: DriverCounters) -> None:
        self._counters = counters
        quick_bytes = STREAM_QUEUE_BYTES // QUICK_SHARE
        self._quick = _Lane(quick_bytes)
        self._bulk = _Lane(STREAM_QUEUE_BYTES - quick_bytes)

    def __len__(self) -> int:
        """Return how many bytes wait."""
        return self._quick.waiting_bytes + self._bulk.waiting_bytes

    def put(self, frame: bytes, now: float) -> None:
        """Append a frame; the oldest ones give way where there is no room."""
        # Hot path.
        lane = self._quick if len(frame) <= STREAM_QUICK_BYTES + 2 else self._bulk
        self._counters.queue_full += lane.put(frame, now)

    def take(self, limit_bytes: int, now: float) -> bytes:
        """Return, and forget, what is to be sent next: whole frames, joined.

        Args:
            limit_bytes: no further frame is added to so many bytes.
            now: the present moment.
        """
        # Hot path.
        taken: list[bytes] = []
        total = 0
        for lane in (self._quick, self._bulk):
            while lane.frames and total < limit_bytes:
                put_at, _ = lane.frames[0]
                frame = lane.pop()
                if now - put_at > STREAM_QUEUE_TIME:
                    self._counters.queue_full += 1
                    continue
                taken.append(frame)
                total += len(frame)
        return b"".join(taken)
