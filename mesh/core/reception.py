"""What to do with a datagram, by its type; every RemoteError is caught here and counted."""

import struct
from collections.abc import Callable
from typing import ParamSpec

from mesh import events
from mesh.constants import (
    EDGE_LOAD_INITIATIONS_PER_SECOND,
    PEER_SILENCE_TIMEOUT,
    PROTOCOL_VERSION,
    RELAY_HEADER_BYTES,
)
from mesh.core.allowance import Allowance
from mesh.core.context import Context
from mesh.core.guesser import Guesser
from mesh.core.initiations import InitiationGuard
from mesh.core.local import LocalEndpoints
from mesh.core.outbox import Via
from mesh.core.peer import Peer
from mesh.core.peers import PeerTable
from mesh.core.registration import Registration
from mesh.core.supernodes import Supernodes
from mesh.core.tap_port import TapPort
from mesh.core.timers import Timer
from mesh.crypto.handshake import PeerInitiation, UnsupportedVersion
from mesh.crypto.identity import edge_id_of
from mesh.crypto.session import Session
from mesh.engine import Buffer
from mesh.errors import MalformedMessage, NotAuthentic, RemoteError, Replayed
from mesh.events import DropReason
from mesh.wire.datagram import (
    RELAY_WORDS,
    DatagramType,
    UnknownDatagram,
    classify_untrusted,
    decode_relay_header,
    decode_unknown_session,
    decode_version_refusal,
    echo_untrusted,
    encode_unknown_session,
    encode_version_refusal,
    peek_receiver_index_untrusted,
    peek_transport_index_untrusted,
)
from mesh.wire.inner import InnerKind, decode_fragment, inner_kind, open_control_untrusted
from mesh.wire.messages import (
    Bye,
    Guess,
    Hello,
    Message,
    Ping,
    Pong,
    UnknownMessage,
    decode_message,
)

HINTS_PER_SECOND = 10.0

# Plain numbers: comparing with a member of an enum costs four times as much.
_RELAY = int(DatagramType.RELAY)
_FRAME = int(InnerKind.FRAME)
_ENVELOPE = struct.Struct(">III")

P = ParamSpec("P")


class Reception:
    """Sorts datagrams: sessions first, then handshakes, then hints."""

    def __init__(
        self,
        context: Context,
        supernodes: Supernodes,
        peers: PeerTable,
        local: LocalEndpoints,
        tap: TapPort,
        *,
        guesser: Guesser,
    ) -> None:
        self._context = context
        self._config = config = context.config
        self._supernodes = supernodes
        self._peers = peers
        self._local = local
        self._tap = tap
        self._guesser = guesser
        self._guard = InitiationGuard(
            config.identity.public_key,
            config.community,
            context.entropy,
            EDGE_LOAD_INITIATIONS_PER_SECOND,
        )
        self._hints_sent = Allowance(HINTS_PER_SECOND, HINTS_PER_SECOND)
        self._handlers: dict[int, Callable[[Buffer, Via, float], None]] = {
            DatagramType.PEER_INITIATION: self._receive_initiation,
            DatagramType.PEER_RESPONSE: self._receive_response,
            DatagramType.COOKIE_REPLY: self._receive_cookie,
            DatagramType.TRANSPORT: self._receive_transport,
            DatagramType.RELAY: self._receive_relayed,
            DatagramType.SUPERNODE_RESPONSE: self._receive_supernode_response,
            DatagramType.UNKNOWN_SESSION: self._receive_hint,
            DatagramType.VERSION_REFUSAL: self._receive_version_refusal,
            DatagramType.PUNCH: self._receive_punch,
        }

    def receive_batch_untrusted(
        self, batch: memoryview, stride: int, via: Via, now: float
    ) -> None:  # Hot path.
        """Take in datagrams that arrived together: runs of one session at once, others singly.

        Args:
            batch: one datagram behind the other; anybody may have sent them.
            stride: the length of each; the last may be shorter.
            via: how they came.
            now: the time.
        """
        start = 0
        while start < len(batch):
            end = self._receive_run(batch, start, stride, via, now)
            if end == start:
                end = start + stride
                self.receive_untrusted(batch[start:end], via, now)
            start = end

    def _receive_run(
        self, batch: memoryview, start: int, stride: int, via: Via, now: float
    ) -> int:  # Hot path.
        """Open the datagrams from ``start`` on that one session with a peer can open.

        Returns:
            Where they end; ``start`` where the first one is something else, whatever it may be.
        """
        envelope = b""
        header = start
        if batch[start] == _RELAY:
            header = start + RELAY_HEADER_BYTES
            envelope = bytes(batch[start : min(header, start + stride)])
            via = self._via_of_envelope(envelope, via)
            if not via.relay_id:
                return start
        index = peek_transport_index_untrusted(batch, header, start + stride)
        entry = self._context.indexes.sessions.get(index)
        if entry is None:
            return start
        session, peer = entry
        if not isinstance(peer, Peer) or session.is_expired(now):
            return start
        if self._config.relay_only and not via.relay_id:
            return start
        newest_before = session.highest_counter
        room = self._tap.room(len(batch) - start)
        opened = session.open_run_untrusted(batch, start, stride, room, envelope)
        if opened.replayed:
            self._context.drop(DropReason.REPLAYED, opened.replayed)
        if opened.not_authentic:
            self._context.drop(DropReason.NOT_AUTHENTIC, opened.not_authentic)
        if opened.plaintexts:
            peer.heard(session, via, now, is_newest=session.highest_counter > newest_before)
            self._receive_plaintexts(peer, session, opened.plaintexts, via, now)
        return opened.end

    def _via_of_envelope(self, envelope: bytes, via: Via) -> Via:
        """Return the relayed way that an envelope names; ``via`` itself if it is not for us."""
        registration = self._supernodes.by_via.get(via)
        if registration is None or len(envelope) < RELAY_HEADER_BYTES:
            return via
        word, source, destination = _ENVELOPE.unpack(envelope)
        if word not in RELAY_WORDS or destination != registration.contact.relay_id:
            return via
        return Via(via.socket, via.endpoint, source)

    def _receive_plaintexts(
        self,
        peer: Peer,
        session: Session,
        plaintexts: list[memoryview],
        via: Via,
        now: float,
    ) -> None:  # Hot path.
        """Take in what a run opened to: neighbouring frames together, all else singly."""
        first = 0
        for number, plaintext in enumerate(plaintexts):
            if len(plaintext) and plaintext[0] == _FRAME:
                continue
            if number > first:
                self._tap.deliver_run(peer, plaintexts[first:number], via, now)
            first = number + 1
            self.receive_odd(peer, session, plaintext, via, now)
            if self._peers.get(peer.edge_id) is not peer:  # it said bye
                self._context.drop(DropReason.UNKNOWN_SESSION, len(plaintexts) - first)
                return
        if first < len(plaintexts):
            self._tap.deliver_run(peer, plaintexts[first:] if first else plaintexts, via, now)

    def receive_untrusted(self, datagram: memoryview, via: Via, now: float) -> None:
        """Take in one datagram that anybody may have sent; never raises."""
        self._count_errors(self._sort, datagram, via, now)

    def _sort(self, datagram: memoryview, via: Via, now: float) -> None:
        handler = self._handlers.get(classify_untrusted(datagram))
        if handler is None:
            self._context.drop(DropReason.UNKNOWN_TYPE)
        else:
            handler(datagram, via, now)

    def _count_errors(self, receive: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run what takes in one datagram; whatever is wrong with it is counted."""
        try:
            receive(*args, **kwargs)
        except UnknownDatagram:
            self._context.drop(DropReason.UNKNOWN_TYPE)
        except UnknownMessage:
            self._context.drop(DropReason.UNKNOWN_MESSAGE)
        except MalformedMessage:
            self._context.drop(DropReason.MALFORMED)
        except Replayed:
            self._context.drop(DropReason.REPLAYED)
        except NotAuthentic:
            self._context.drop(DropReason.NOT_AUTHENTIC)
        except RemoteError:
            self._context.drop(DropReason.MALFORMED)

    def _receive_relayed(self, envelope: Buffer, via: Via, now: float) -> None:
        registration = self._supernodes.by_via.get(via)
        source, destination = decode_relay_header(envelope)
        if registration is None or destination != registration.contact.relay_id:
            self._context.drop(DropReason.UNKNOWN_SENDER)
            return
        inner = memoryview(envelope)[RELAY_HEADER_BYTES:]
        classify_untrusted(inner)
        self._handlers[inner[0]](inner, Via(via.socket, via.endpoint, source), now)

    def _receive_transport(self, datagram: Buffer, via: Via, now: float) -> None:  # Hot path.
        index = peek_receiver_index_untrusted(datagram)
        entry = self._context.indexes.sessions.get(index)
        if entry is None:
            self._context.drop(DropReason.UNKNOWN_SESSION)
            self._hint(datagram, via, now)
            return
        session, owner = entry
        if session.is_expired(now):
            self._context.drop(DropReason.EXPIRED_SESSION)
        elif isinstance(owner, Peer):
            # Whatever a peer's session can open was taken by `_receive_run`.
            reason = DropReason.NO_PATH if self._config.relay_only else DropReason.MALFORMED
            self._context.drop(reason)
        elif isinstance(owner, Registration) and not via.relay_id:
            news = owner.receive_transport_untrusted(datagram, session, via, now)
            self._peers.receive_news(owner, news, now)

    def receive_odd(
        self, peer: Peer, session: Session, plaintext: memoryview, via: Via, now: float
    ) -> None:
        """Take in what a datagram opened to that is no whole frame; never raises."""
        self._count_errors(self._receive_odd, peer, session, plaintext, via, now)

    def _receive_odd(
        self, peer: Peer, session: Session, plaintext: memoryview, via: Via, now: float
    ) -> None:
        """Take in a fragment or a message.

        Raises:
            RemoteError: it does not parse.
        """
        if inner_kind(plaintext) == InnerKind.FRAGMENT:
            number, index, count, piece, csum_start, csum_offset = decode_fragment(plaintext)
            csum = (csum_start, csum_offset)
            whole = peer.reassembler.add(number, index, count, csum, piece, now)
            peer.schedule_reassembly(now)
            if whole is not None:
                self._tap.deliver_whole(peer, whole[0], whole[1], via, now)
            return
        message = decode_message(open_control_untrusted(bytes(plaintext)))
        if not isinstance(message, Bye):
            self._receive_message(peer, message, via, now)
        elif peer.may_say_bye(session):
            self._peers.forget(peer)

    def _receive_message(self, peer: Peer, message: Message, via: Via, now: float) -> None:
        match message:
            case Ping():
                peer.receive_ping(message, via, now)
            case Pong():
                if message.endpoint is not None:
                    self._local.observe(message.endpoint)
                peer.receive_pong(message, via, now)
            case Hello():
                peer.receive_hello(message, now, loopback=self._supernodes.is_on_loopback)
                if message.answer:
                    peer.say_hello(now, extra=via, answer=False)
                self._guesser.wake(now)
            case Guess():
                self._guesser.receive(peer, message, now)
            case _:
                self._context.drop(DropReason.UNKNOWN_MESSAGE)

    # Handshakes

    def _receive_initiation(self, datagram: Buffer, via: Via, now: float) -> None:
        if self._config.relay_only and not via.relay_id:
            self._context.drop(DropReason.NO_PATH)
            return
        cookie_reply = self._guard.check_untrusted(datagram, via.endpoint, now)
        if cookie_reply is not None:
            self._context.drop(DropReason.UNDER_LOAD)
            self._context.outbox.send(via, cookie_reply)
            return
        try:
            initiation = PeerInitiation.receive_untrusted(
                datagram, self._config.identity, self._config.community
            )
        except UnsupportedVersion as refusal:
            answer = encode_version_refusal(PROTOCOL_VERSION, refusal.sender_index)
            self._context.outbox.send(via, answer)
            raise
        self._guard.accept_number(edge_id_of(initiation.their_static), initiation.number)
        peer = self._peers.peer_for(initiation.their_static, now)
        if peer is None:
            self._context.drop(DropReason.TABLE_FULL)
            return
        if via.relay_id:
            self._note_relay(peer, via, now)
        if peer.member is None:
            self._context.timers.set_no_later_than(
                Timer.PEER_EXPIRY, peer.edge_id, now + PEER_SILENCE_TIMEOUT
            )
        peer.respond(initiation, via, now)

    def _note_relay(self, peer: Peer, via: Via, now: float) -> None:
        """Take the way that an initiation came by for the relay that no list has named yet."""
        registration = self._supernodes.by_via.get(via.supernode)
        if registration is not None and not peer.paths.has_relay(registration.number):
            peer.paths.set_relay(registration.number, via, now)

    def _receive_response(self, datagram: Buffer, via: Via, now: float) -> None:
        index = peek_receiver_index_untrusted(datagram)
        peer = self._context.indexes.waiting.get(index)
        if not isinstance(peer, Peer):
            self._context.drop(DropReason.UNKNOWN_SESSION)
        else:
            peer.receive_response_untrusted(datagram, via, now)

    def _receive_supernode_response(self, datagram: Buffer, via: Via, now: float) -> None:
        index = peek_receiver_index_untrusted(datagram)
        owner = self._context.indexes.waiting.get(index)
        if not isinstance(owner, Registration) or via.relay_id:
            self._context.drop(DropReason.UNKNOWN_SESSION)
        else:
            owner.receive_response_untrusted(datagram, via, now)

    def _receive_cookie(self, datagram: Buffer, via: Via, now: float) -> None:
        owner = self._context.indexes.waiting.get(peek_receiver_index_untrusted(datagram))
        if isinstance(owner, Registration) and via.relay_id:
            owner = None
        if isinstance(owner, Peer | Registration):
            owner.receive_cookie_untrusted(datagram, now)
        else:
            self._context.drop(DropReason.UNKNOWN_SESSION)

    def _receive_version_refusal(self, datagram: Buffer, _via: Via, _now: float) -> None:
        refusal = decode_version_refusal(datagram)
        owner = self._context.indexes.waiting.get(refusal.receiver_index)
        if isinstance(owner, Registration) and refusal.version != PROTOCOL_VERSION:
            self._context.events.append(events.SupernodeVersion(owner.number, refusal.version))

    def _receive_punch(self, _datagram: Buffer, _via: Via, _now: float) -> None:
        """A punch has done its work on the way: it opened the sender's NAT."""

    # Hints

    def _hint(self, datagram: Buffer, via: Via, now: float) -> None:
        if self._hints_sent.take(now):
            hint = encode_unknown_session(DatagramType.TRANSPORT, echo_untrusted(datagram))
            self._context.outbox.send(via, hint)

    def _receive_hint(self, datagram: Buffer, via: Via, now: float) -> None:
        hint = decode_unknown_session(datagram)
        supernode = self._supernodes.at(via)
        if supernode is not None:
            # Whatever a supernode does not know of us, it takes a registration to mend.
            supernode.receive_hint(now)
            return
        index = int.from_bytes(hint.echo[:4], "big")
        counter = int.from_bytes(hint.echo[4:], "big")
        session, owner = self._context.indexes.find_by_their_index(index) or (None, None)
        if (
            isinstance(owner, Peer)
            and session is not None
            and session is owner.sessions.current
            and counter < session.sent_datagrams
        ):
            owner.receive_hint(now)
