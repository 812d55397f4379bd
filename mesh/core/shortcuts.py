"""Short ways through the engine for lone small frames: what frames before them have found out.

Theory of operation. A ping, a game's update or a typed character comes alone, and what it waits for
is the Python that runs for it: 60 calls between the TAP and the socket, and as many on the other
side. Most of what they find out is what they found out for the frame before: whose the destination
is, which session seals and which way is in use. So the first frame of a kind leaves a note of that
(a `_WayOut`, a `_WayIn`), and the next one takes the short way if everything that the note was made
from is still what it was.

Nothing is decided here: where a note does not fit, or there is anything to decide (two ways, a
doubt, a counter out of turn, a message), nothing is done, and the long way is taken. Each datagram
is verified, and its counter checked, as on the long way.
"""

from typing import Final, NamedTuple

from mesh.constants import REJECT_AFTER_TIME, TAG_BYTES, TRANSPORT_HEADER_BYTES
from mesh.core.context import Context
from mesh.core.frame_sender import BASE_FRAME_BYTES, PLAINTEXT_START, inner_header
from mesh.core.outbox import Via
from mesh.core.path import Path
from mesh.core.peer import Peer
from mesh.core.peers import PeerTable
from mesh.core.reception import Reception
from mesh.core.switch import Switch
from mesh.core.tap_port import HEAD_BYTES, TapPort, head_of
from mesh.crypto.session import Session
from mesh.datapath.vnet import GSO_NONE, VIRTIO_NET_HEADER_BYTES, decode_vnet
from mesh.engine import FrameIovec, OutgoingDatagrams, ReceivedDatagrams
from mesh.wire.datagram import peek_transport_index_untrusted
from mesh.wire.ethernet import addresses
from mesh.wire.inner import InnerKind

MAX_NOTES: Final = 1024
"""Of each direction; all are forgotten when there are more: members may invent addresses."""

NOTHING: Final[FrameIovec] = ()
"""There is no frame to be written."""

_FRAME: Final = int(InnerKind.FRAME)
_MAX_READ_BYTES: Final = VIRTIO_NET_HEADER_BYTES + BASE_FRAME_BYTES
_OVERHEAD_BYTES: Final = TRANSPORT_HEADER_BYTES + TAG_BYTES


class _WayOut(NamedTuple):
    """What is known of frames with one virtio-net header and pair of MACs."""

    peer: Peer
    session: Session
    vias: tuple[Via, ...]
    inner: bytes
    least_bytes: int
    switch_changes: int
    until: float


class _WayIn(NamedTuple):
    """What is known of datagrams of one session; ``entry`` is the table's for its index."""

    session: Session
    peer: Peer
    via: Via
    path: Path
    until: float
    entry: tuple[Session, object]


class Shortcuts:
    """The short ways of one edge."""

    def __init__(
        self,
        context: Context,
        switch: Switch,
        peers: PeerTable,
        tap: TapPort,
        reception: Reception,
    ) -> None:
        self._switch = switch
        self._tap = tap
        self._reception = reception
        self._sessions = context.indexes.sessions
        self._may_be_direct = not context.config.relay_only
        self._out: dict[tuple[bytes], _WayOut] = {}
        self._in: dict[int, _WayIn] = {}
        self._sealed = memoryview(bytearray(_MAX_READ_BYTES + _OVERHEAD_BYTES))
        self._opened = memoryview(bytearray(_MAX_READ_BYTES))
        peers.on_forget.append(lambda _: self.forget())

    def forget(self) -> None:
        """Forget all notes, so that they keep nothing alive: they are soon made anew."""
        self._out.clear()
        self._in.clear()

    # From the TAP

    def forward(self, read: memoryview, now: float) -> OutgoingDatagrams | None:  # Hot path.
        """Seal one frame, if there is a short way for it.

        Args:
            read: one TAP read, virtio-net header and frame; it is written over if it is sent.
            now: the time.

        Returns:
            What is to be sent at once, valid until the next call; None if nothing was done.
        """
        size = len(read)
        if not HEAD_BYTES <= size <= _MAX_READ_BYTES:
            return None
        head = head_of(read)
        way = self._out.get(head) or self._note_way_out(read, head, now)
        if way is None:
            return None
        peer, session, vias, inner, least_bytes, switch_changes, until = way
        slots, paths = peer.sessions, peer.paths
        if (
            size < least_bytes
            or switch_changes != self._switch.changes
            or now >= until
            or slots.current is not session
            or now >= slots.seals_until
            or now >= paths.fresh_until
            or paths.vias(now) is not vias
        ):
            del self._out[head]
            return None
        sender = peer.sender
        sender.sent_frames += 1
        sender.sent_bytes += size - VIRTIO_NET_HEADER_BYTES
        read[PLAINTEXT_START:VIRTIO_NET_HEADER_BYTES] = inner
        length = session.seal_into(self._sealed, read[PLAINTEXT_START:])
        via = vias[0]
        return OutgoingDatagrams((self._sealed[:length],), length, via[1], via[0])

    def _note_way_out(self, read: memoryview, head: tuple[bytes], now: float) -> _WayOut | None:
        fields = decode_vnet(read)
        if fields is None or fields[1] != GSO_NONE:
            return None
        peer = self._tap.owner_of(read, now)
        if peer is None or peer.sessions.current is None or now >= peer.paths.fresh_until:
            return None
        vias = peer.paths.vias(now)
        if len(vias) != 1 or vias[0].relay_id:
            return None
        destination, _ = addresses(read, VIRTIO_NET_HEADER_BYTES)
        least_bytes = VIRTIO_NET_HEADER_BYTES + fields[4] + fields[5] + 2
        way = _WayOut(
            peer,
            peer.sessions.current,
            vias,
            inner_header(fields),
            max(least_bytes, HEAD_BYTES + 2),
            self._switch.changes,
            self._switch.known_until(destination),
        )
        if len(self._out) >= MAX_NOTES:
            self._out.clear()
        self._out[head] = way
        return way

    # From a socket

    def deliver(self, batch: ReceivedDatagrams, now: float) -> FrameIovec | None:  # Hot path.
        """Open one datagram, if there is a short way for it.

        Returns:
            The frame that is to be written at once, valid until the next call; `NOTHING` if the
            datagram brought something else, after which all outputs are to be taken; None if
            nothing was done.
        """
        datagram, stride, source, socket = batch
        size = len(datagram)
        if size != stride or size > _MAX_READ_BYTES:
            return None
        index = peek_transport_index_untrusted(datagram, 0, size)
        way = self._in.get(index) or self._note_way_in(index, Via(socket, source), now)
        if way is None:
            return None
        session, peer, via, path, until, entry = way
        if (
            now >= until
            or peer.sessions.current is not session
            or self._sessions.get(index) is not entry
            or not path.is_validated
            or source != via[1]
            or socket != via[0]
        ):
            del self._in[index]
            return None
        plaintext = session.open_next_untrusted(memoryview(datagram), self._opened)
        if plaintext is None:
            return None
        peer.last_heard_at = path.last_heard_at = now
        if len(plaintext) and plaintext[0] == _FRAME:
            return self._tap.deliver_lone(peer, plaintext, now)
        self._reception.receive_odd(peer, session, plaintext, via, now)
        return NOTHING

    def _note_way_in(self, index: int, via: Via, now: float) -> _WayIn | None:
        entry = self._sessions.get(index)
        if entry is None or not self._may_be_direct:
            return None
        session, peer = entry
        if not isinstance(peer, Peer):
            return None
        path = peer.paths.find(via)
        if path is None or not path.is_validated or session.is_expired(now):
            return None
        if len(self._in) >= MAX_NOTES:
            self._in.clear()
        until = session.created_at + REJECT_AFTER_TIME
        way = self._in[index] = _WayIn(session, peer, via, path, until, entry)
        return way
