"""Datagrams that did not get through, as far as anybody says so; docs/protocol.md section 12.4.

Two tell of it. The kernel refuses a send: that is certain, and the frames in it take another way.
A router or host answers with ICMP: that may be forged, so it costs a path no more than doubt, and
what the error quotes is sent again only if it is, byte by byte, a datagram that we have sealed.
"""

from collections.abc import Sequence

from mesh.core.allowance import Allowance
from mesh.core.context import Context
from mesh.core.outbox import Via
from mesh.core.peer import Peer
from mesh.core.peers import PeerTable
from mesh.core.supernodes import Supernodes
from mesh.engine import Buffer
from mesh.wire.datagram import DatagramType, peek_receiver_index_untrusted

SHORT_QUOTES_PER_SECOND = 10.0  # quotes too short to say whose they are: each asks all peers
SUPERNODE_ERRORS_PER_SECOND = 10.0  # each has all peers look at what goes through it
RESENT_BURST = 256.0  # datagrams
RESENT_RATE = 256.0  # 1/s


class Undelivered:
    """Finds out whose it was, and sends it again by a way that may be open."""

    def __init__(self, context: Context, supernodes: Supernodes, peers: PeerTable) -> None:
        self._context = context
        self._supernodes = supernodes
        self._peers = peers
        self._short_quotes = Allowance(SHORT_QUOTES_PER_SECOND, SHORT_QUOTES_PER_SECOND)
        self._supernode_errors = Allowance(SUPERNODE_ERRORS_PER_SECOND, SUPERNODE_ERRORS_PER_SECOND)
        self._resent = Allowance(RESENT_BURST, RESENT_RATE)

    def receive_unreachable_untrusted(self, via: Via, quoted: bytes, now: float) -> None:
        """Take in an ICMP error about a datagram that began with ``quoted``; never raises."""
        registration = self._supernodes.at(via)
        if registration is not None and self._supernode_errors.take(now):
            registration.receive_send_error(via, now)
        owner = self._owner_of(quoted)
        if owner is not None:
            if owner.refused(via, now) and owner.has_sealed_untrusted(quoted):
                self._resend(owner, via, quoted, now)
        elif len(quoted) < 8 and self._short_quotes.take(now):
            for peer in self._peers:
                if peer.paths.find(via) is not None:
                    peer.refused(via, now)

    def receive_unsent(self, via: Via, datagrams: Sequence[bytes], now: float) -> None:
        """Take back what a refused send held; `Peer.send_failed` has been told of the refusal."""
        for datagram in datagrams:
            owner = self._owner_of(datagram)
            if owner is not None and owner.paths.has_just_lost(via, now):
                self._resend(owner, via, datagram, now)

    def _owner_of(self, datagram: Buffer) -> Peer | None:
        if len(datagram) < 8 or datagram[0] != DatagramType.TRANSPORT:
            return None
        index = peek_receiver_index_untrusted(datagram)
        _, owner = self._context.indexes.find_by_their_index(index) or (None, None)
        return owner if isinstance(owner, Peer) else None

    def _resend(self, peer: Peer, via: Via, datagram: bytes, now: float) -> None:
        if self._resent.take(now):
            for way in peer.paths.ways(now):
                if way != via:
                    self._context.outbox.send(way, datagram)
