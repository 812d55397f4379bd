"""One remote edge: handshakes, sessions, paths and messages; protocol sections 5, 6 and 12."""

import math
from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

from mesh import events
from mesh.addresses import EdgeId, Endpoint, MacAddress, is_usable_candidate
from mesh.constants import (
    PEER_SILENCE_TIMEOUT,
    PUNCH_TTL,
    REASSEMBLY_TIMEOUT,
)
from mesh.core.context import Context
from mesh.core.frame_sender import FrameSender
from mesh.core.handshakes import PeerHandshake
from mesh.core.mtu_probes import MtuProbes
from mesh.core.nat_kind import Hopeless, hopelessness
from mesh.core.outbox import Via
from mesh.core.path import Path, Source
from mesh.core.paths import PathTable
from mesh.core.peer_guess import PeerGuess
from mesh.core.timers import Timer
from mesh.crypto.handshake import PeerInitiation
from mesh.crypto.identity import edge_id_of
from mesh.crypto.session import Session
from mesh.datapath.fragment import Reassembler
from mesh.datapath.vnet import VnetFields
from mesh.engine import Buffer, SocketId, udp_socket_for
from mesh.events import DropReason, PathKind
from mesh.wire.datagram import PUNCH
from mesh.wire.inner import (
    wrap_control,
)
from mesh.wire.messages import Bye, Hello, Member, Message, Ping, Pong, encode_message

HelloSource: TypeAlias = Callable[[bool], Hello]
"""Makes the hello of this edge, as it is now; the argument says whether it asks for an answer."""

CandidateFilter: TypeAlias = Callable[[Endpoint], bool]
"""Whether an endpoint may be tried: never one inside an overlay of this machine."""

HELLO_RETRY_MIN = 0.25  # s
HELLO_RETRY_DOUBLINGS = 3
CROSSING_GRACE = 1.0  # s
MAX_RENEWED_HELLOS = 4  # to a peer that has said hello before; the next rekey says it again


class Peer:
    """Everything an edge knows about another one.

    Attributes:
        edge_id: 16 bytes.
        static_key: the 32 bytes that ``edge_id`` is the hash of.
        members: as each supernode introduces it that does, by its number.
        name, mac, addresses: as its hello says; empty before that.
        guess: what there is to know about guessing at ports with it.
        last_heard_at: when the last datagram that verified came in, or minus infinity.
    """

    def __init__(
        self,
        static_key: bytes,
        context: Context,
        hello: HelloSource,
        may_be_candidate: CandidateFilter,
        on_first_session: Callable[["Peer", float], None],
    ) -> None:
        config = context.config
        self.static_key = static_key
        self.edge_id: EdgeId = edge_id_of(static_key)
        self.members: dict[int, Member] = {}
        self.name = ""
        self.mac = MacAddress(b"")
        self.addresses: tuple[str, ...] = ()
        self.is_up = False
        self._handshake = PeerHandshake(static_key, self.edge_id, context, self)
        self.sessions = self._handshake.sessions
        self.paths = PathTable(
            context.told_addresses,
            context.shown_addresses,
            may_relay=not config.no_relay,
            may_be_direct=not config.relay_only,
        )
        self.paths.awaits_hello = True
        self.mtu_probes = MtuProbes(context, self.paths)
        self.reassembler = Reassembler()
        self.guess = PeerGuess()
        self.last_heard_at = -math.inf
        self.sender = FrameSender(context)
        self.rx_bytes = self.rx_frames = 0
        self._context = context
        self._hello = hello
        self._may_be_candidate = may_be_candidate
        self._on_first_session = on_first_session
        self._has_had_session = False
        self._hinted_at = -math.inf
        self._alive_since = -math.inf
        self._hellos_unanswered = 0
        self._has_news = False
        self._asked_tokens: dict[bytes, float] = {}
        self._guess_token = b""
        self._rx_frames_seen = 0
        self._reported: tuple[PathKind, Endpoint | None] = (PathKind.NONE, None)

    @property
    def label(self) -> str:
        """What to call it: its name, or the first digits of its id."""
        return self.name or self.edge_id.hex()[:8]

    @property
    def seen_endpoint(self) -> Endpoint | None:
        """Where a supernode sees it by IPv4, if that may be sent to: what nobody merely told."""
        return next(
            (
                member.endpoint
                for member in self.members.values()
                if not member.endpoint.is_ipv6
                and is_usable_candidate(member.endpoint)
                and self._may_be_candidate(member.endpoint)
            ),
            None,
        )

    @property
    def direct_hopeless(self) -> Hopeless | None:
        """Why no direct path to it can be expected, None where one may be found."""
        return hopelessness(
            self._context.our_nat.kind,
            self.guess.nat,
            we_refuse=not self._context.config.hard_punch,
            they_refuse=self.guess.refuses,
        )

    # Introduction

    @property
    def member(self) -> Member | None:
        """As a supernode introduces it, or None when none does (any more)."""
        return next(iter(self.members.values()), None)

    def introduced(
        self, supernode: int, member: Member, relay: Via, now: float, *, loopback: bool
    ) -> None:
        """Learn from a supernode who and where the peer is."""
        self.members[supernode] = member
        self.paths.set_relay(supernode, relay, now)
        self._add_candidate(member.endpoint, Source.INTRODUCED, now, loopback=loopback)
        self._punch(now)
        self.reschedule_probe(now)
        self._report_path()

    def _add_candidate(
        self, endpoint: Endpoint, source: Source, now: float, *, loopback: bool
    ) -> None:
        if is_usable_candidate(endpoint, allow_loopback=loopback) and self._may_be_candidate(
            endpoint
        ):
            self.paths.add_candidate(Via(udp_socket_for(endpoint), endpoint), source, now)

    def sighted(self, endpoint: Endpoint, now: float) -> None:
        """Learn where the peer, or somebody who replays it, has announced it on the LAN."""
        self._add_candidate(endpoint, Source.TOLD, now, loopback=False)
        self.reschedule_probe(now)

    def _punch(self, now: float) -> None:
        """Open our NAT for the peer's handshake and probes (section 12.2).

        It must not arrive: a Linux router that rejects what comes in keeps a conntrack entry of it,
        and then maps what its own edge sends to another port than the one we were told.
        """
        for via in self.paths.punchable():
            if self.paths.may_send(via, now):
                self._context.outbox.send(via, PUNCH, PUNCH_TTL)

    def left(self, supernode: int, now: float) -> None:
        """Learn that a supernode does not know the peer any more, while another one does."""
        self.members.pop(supernode, None)
        self.paths.set_relay(supernode, None, now)
        self.reschedule_probe(now)
        self._report_path()

    def relay_doubted(self, supernode: int, now: float) -> None:
        """Learn that a supernode has left a ping of ours unanswered."""
        self.paths.doubt_relay(supernode, now)
        self.reschedule_probe(now)

    def relay_lost(self, supernode: int, now: float) -> None:
        """Learn that a supernode does not answer us any more."""
        self.paths.relay_lost(supernode, now)
        self._report_path()

    def relay_moved(self, supernode: int, relay: Via, now: float) -> None:
        """Learn that a supernode is reached by another way."""
        self.paths.set_relay(supernode, relay, now)
        self.reschedule_probe(now)
        self._report_path()

    def expelled(self, now: float) -> None:
        """Learn that no supernode that answers knows the peer any more.

        It may only have lost the supernode: it is pinged, and forgotten if it stays silent.
        """
        self.members.clear()
        self.paths.distrust(now)
        self.reschedule_probe(now)
        self._context.timers.set(Timer.PEER_EXPIRY, self.edge_id, now + PEER_SILENCE_TIMEOUT)

    def close(self) -> None:
        """Give back indexes and timers."""
        self._handshake.close()
        self._context.timers.cancel_owner(self.edge_id)

    # Handshakes

    def want_session(self, at: float) -> None:
        """See to it that there is a session, starting at ``at`` unless one comes before."""
        self._handshake.want(at)

    def handle_handshake_timer(self, now: float) -> None:
        """Start a handshake, or start it anew, where there is a reason to."""
        if self._handshake.is_under_way:
            self._handshake.count_failure()
            self._start_handshake(now)
        elif (
            self.sessions.current is None
            or now >= self.sessions.seals_until
            or self._hinted_at > self.last_heard_at
        ):
            self._start_handshake(now)
        self._hinted_at = -math.inf

    def handle_rekey_timer(self, now: float) -> None:
        """Renew a session that has grown old."""
        self._handshake.drop_expired(now)
        if not self._handshake.is_under_way and self._handshake.wants_rekey(now):
            self._start_handshake(now)
        self._handshake.set_rekey_timer(now)

    def _start_handshake(self, now: float) -> None:
        vias = [via for via in self._handshake_vias() if self.paths.may_send(via, now)]
        self._handshake.start(vias, now, peer_has_aes=self._has_aes)

    @property
    def _has_aes(self) -> bool:
        return self.member is not None and self.member.aes

    def _handshake_vias(self) -> list[Via]:
        vias = self.paths.relay_vias
        if not self._handshake.is_repeated:
            vias = vias[:1]
        active = self.paths.active
        if active is not None and not active.is_relay:
            return [*vias, active.via]
        if vias and not self._handshake.is_stuck:
            return vias  # nothing should reach the peer's router before its own punch has left
        return [*vias, *self.paths.introduced()]

    def receive_response_untrusted(self, datagram: Buffer, via: Via, now: float) -> None:
        """Take in the answer to our initiation.

        Raises:
            RemoteError: it does not parse or verify; nothing has changed.
        """
        is_renewal = self.sessions.current is not None and self._handshake.wants_rekey(now)
        if self._handshake.receive_response_untrusted(datagram, now):
            self._session_changed(via, now, is_renewal=is_renewal)

    def respond(self, initiation: PeerInitiation, via: Via, now: float) -> None:
        """Answer an initiation that verified and is no replay."""
        self._context.outbox.send(via, self._handshake.respond(initiation, now))

    def _session_changed(self, via: Via, now: float, *, is_renewal: bool) -> None:
        if not is_renewal:
            # A session that is not merely a younger one: the peer may have started anew elsewhere.
            self.paths.doubt_all(now)
            self.paths.awaits_hello = True
            self._alive_since = now
        self._heard(via, now)
        self._hellos_unanswered = 0
        current = self.sessions.current
        if current is not None and current.is_initiator:
            self.say_hello(now, extra=via)
        self.paths.distrust(now)
        self.reschedule_probe(now)
        if not self._has_had_session:
            self._has_had_session = True
            self._on_first_session(self, now)

    def receive_cookie_untrusted(self, datagram: Buffer, now: float) -> None:
        """Take in a cookie, and start again with it.

        Raises:
            RemoteError: it does not parse, or was not made for our initiation.
        """
        if self._handshake.receive_cookie_untrusted(datagram):
            self._start_handshake(now)

    def receive_hint(self, now: float) -> None:
        """React to an unauthenticated "unknown session": verify within a second (section 6.5)."""
        if not self._handshake.is_under_way and now - self._hinted_at > 1.0:
            self._hinted_at = now
            self.paths.distrust(now)
            self.reschedule_probe(now)
            self._handshake.want(now + 1.0)

    # Datagrams that verified

    def heard(self, session: Session, via: Via, now: float, *, is_newest: bool) -> None:
        """Note a datagram that opened under ``session``; hot path: usually two comparisons."""
        self.last_heard_at = now
        if session is self.sessions.next:
            self._handshake.confirm_next(now)
            has_restarted, self._handshake.has_restarted = self._handshake.has_restarted, False
            self._session_changed(via, now, is_renewal=not has_restarted)
        if not is_newest:
            return
        if via.relay_id:
            if self.paths.heard_by_relay(via, now):
                self.reschedule_probe(now)
            return
        path = self.paths.find(via)
        if path is None or not path.is_validated:
            self._heard(via, now)
        else:
            path.last_heard_at = now

    def _heard(self, via: Via, now: float) -> None:
        self.last_heard_at = now
        is_direct = not via.relay_id and self._may_be_candidate(via.endpoint)
        if is_direct and self.guess.admits(via, now):
            self.paths.heard_from(via, now)
            self.reschedule_probe(now)

    def receive_ping(self, message: Ping, via: Via, now: float) -> None:
        """Answer a ping by the way it came, telling where it was seen from."""
        if not self.guess.admits(via, now):
            return
        seen_from = None if via.relay_id else via.endpoint
        self._send_by((via,), Pong(token=message.token, endpoint=seen_from, digest=b""), now)
        if via.relay_id:
            if self.paths.asked_by_relay(now):
                self.reschedule_probe(now)
            return
        path = self.paths.find(via)
        if path is not None and path.is_validated and self.rx_frames != self._rx_frames_seen:
            self._rx_frames_seen = self.rx_frames
            self.paths.expect_more(path, now)
            self.reschedule_probe(now)
        elif path is not None and not path.is_validated:
            # The peer's way to us is open, so ours to it should be: do not wait for the schedule.
            self._heard(via, now)

    def receive_pong(self, message: Pong, via: Via, now: float) -> None:
        """Take in a pong: it validates the way it came by, if its ping took the same."""
        rtt = self.paths.receive_pong(via, message.token, now)
        if rtt is None:
            if self.mtu_probes.receive_pong(message.token, via, now):
                self._probe_mtu(now)
                self.reschedule_probe(now)
            elif message.token != self._guess_token:  # its way is a candidate, and pinged anew
                self._context.drop(DropReason.REPLAYED)
            return
        self.mtu_probes.path_answered(via, now)
        if self._asked_tokens.pop(message.token, None) is not None:
            kind = PathKind.RELAY if via.relay_id else PathKind.DIRECT
            self._context.events.append(
                events.ProbeAnswered(self.edge_id, message.token, kind, via.endpoint, rtt)
            )
        self.reschedule_probe(now)
        self._report_path()

    def receive_hello(self, hello: Hello, now: float, *, loopback: bool) -> None:
        """Learn the peer's name, addresses and candidates; probe those that may be tried."""
        if not hello.answer:
            self._hello_answered(now)
        self.guess.receive_told(hello.nat)
        self.name, self.mac, self.addresses = hello.name, hello.mac, hello.addresses
        for endpoint in hello.candidates:
            self._add_candidate(endpoint, Source.TOLD, now, loopback=loopback)
        self._punch(now)  # before our answer, which lets the peer ping us
        if now < self._context.unseen_until:
            self._context.timers.set_no_later_than(
                Timer.HELLO, self.edge_id, self._context.unseen_until
            )
        else:
            self.paths.receive_hello(now)
        self.reschedule_probe(now)
        if not self.is_up:
            self.is_up = True
            self._context.events.append(events.PeerUp(self.edge_id, self.label))
            self._report_path()

    # Messages

    def say_hello(self, now: float, *, extra: Via | None = None, answer: bool = True) -> None:
        """Tell who and where we are; repeated until the peer's own hello arrives."""
        if self.sessions.current is None:
            return
        vias = dict.fromkeys(self.paths.control_vias(now))
        if extra is not None:
            vias[extra] = None
        self._send_by(tuple(vias), self._hello(answer), now)
        if answer and (not self.is_up or self._hellos_unanswered < MAX_RENEWED_HELLOS):
            doublings = min(self._hellos_unanswered, HELLO_RETRY_DOUBLINGS)
            interval = HELLO_RETRY_MIN * 2**doublings
            self._hellos_unanswered += 1
            self._context.timers.set(Timer.HELLO, self.edge_id, now + interval)
        elif answer:  # given up; the next news begin anew
            self._hellos_unanswered = 0

    def tell_news(self, now: float) -> None:
        """Say hello again, something in it being new; once the last one has been answered.

        That answer may be to one that did not hold the news, so it is not taken for one to them.
        """
        self._has_news = self.sessions.current is not None
        if self.is_up and not self._hellos_unanswered:
            self._say_news(now)

    def _hello_answered(self, now: float) -> None:
        self._hellos_unanswered = 0
        self._context.timers.cancel(Timer.HELLO, self.edge_id)
        if self._has_news:
            self._say_news(now)

    def _say_news(self, now: float) -> None:
        self._has_news = False
        self.say_hello(now)

    def may_say_bye(self, session: Session) -> bool:
        """Whether a goodbye under ``session`` is one of the peer's present life.

        Sessions of an earlier start still open what is on its way; a goodbye held back from then
        must not end this one. The grace is for two handshakes that crossed each other.
        """
        return session.created_at >= self._alive_since - CROSSING_GRACE

    def say_bye(self, now: float) -> None:
        """Tell that we go."""
        self._send_by(self.paths.control_vias(now), Bye(), now)

    def ping_once(self, via: Via, token: bytes, now: float) -> None:
        """Ping by a way that is no candidate: whatever the peer sends back there makes it one."""
        self._guess_token = token
        self._send_by((via,), Ping(token), now)

    def send_message(self, message: Message, now: float) -> None:
        """Send a message by the ways that are in use."""
        self._send_by(self.paths.control_vias(now), message, now)

    def _send_by(self, vias: tuple[Via, ...], message: Message, now: float) -> None:
        session = self.sessions.current
        if session is None or now >= self.sessions.seals_until or not vias:
            return
        datagram = session.seal(wrap_control(encode_message(message)))
        for via in vias:
            self._context.outbox.send(via, datagram)

    # Probing

    def reschedule_probe(self, now: float) -> None:
        """Set the probe timer to what the paths want; nothing is pinged without a session."""
        at = math.inf
        if self.sessions.current is not None:
            self.mtu_probes.watch(now)
            at = min(self.paths.next_ping_at(), self.paths.punch_at)
            if now < self.sessions.seals_until:  # else nothing can be sent, and would stay due
                at = min(at, self.mtu_probes.next_at())
        self._context.timers.set(Timer.PROBE, self.edge_id, max(at, now))

    def handle_probe_timer(self, now: float) -> None:
        """Ping what is due; look whether the peer has gone silent."""
        for via in self.paths.punches_due(now):
            self._context.outbox.send(via, PUNCH, PUNCH_TTL)
        for path in self.paths.pings_due(now):
            self._ping(path, now)
        self._probe_mtu(now)
        self.reschedule_probe(now)
        self._report_path()
        if self._is_silent(now):
            self.want_session(now)
            self._hinted_at = now

    def _is_silent(self, now: float) -> bool:
        active = self.paths.active
        return (
            not self._handshake.is_under_way
            and self.sessions.current is not None
            and now - max(self.last_heard_at, self.sessions.current.created_at)
            > PEER_SILENCE_TIMEOUT
            and active is not None
            and active.unanswered > 2
        )

    def _ping(self, path: Path, now: float) -> bytes:
        token = self._context.entropy(8)
        self._send_by((path.via,), Ping(token=token, pad=b""), now)
        self.paths.ping_sent(path, token, now)
        if self.sender.has_sent_large:
            self.sender.has_sent_large = self.mtu_probes.confirm(path, now)
        return token

    def _probe_mtu(self, now: float) -> None:
        session = self.sessions.current
        if session is None or now >= self.sessions.seals_until:
            return
        doubtful = self.mtu_probes.send_due(session, now)
        if doubtful is not None:
            self._ping(doubtful, now)
        found = self.mtu_probes.news()
        if found:
            event = events.PathMeasured(self.edge_id, self.label, found)
            self._context.events.append(event)

    def datagram_too_large(self, via: Via, datagram_bytes: int, now: float) -> None:
        """Learn that our interface takes no datagram of this size where ``via`` leads."""
        if self.mtu_probes.receive_too_large(via, datagram_bytes, now):
            self.reschedule_probe(now)

    def probe(self, token: bytes, now: float) -> bool:
        """Ping the path in use for somebody who asks; whether there was one."""
        path = self.paths.active
        if path is None or self.sessions.current is None:
            return False
        self._send_by((path.via,), Ping(token=token, pad=b""), now)
        self.paths.ping_sent(path, token, now)
        self._asked_tokens[token] = now
        while len(self._asked_tokens) > 64:
            del self._asked_tokens[next(iter(self._asked_tokens))]
        self.reschedule_probe(now)
        return True

    def network_changed(self, now: float) -> None:
        """React to new local addresses: tell them, and look at every path anew."""
        self.tell_news(now)
        self.paths.distrust(now)
        self.paths.start_round(now)
        self.mtu_probes.network_changed(now)
        self.reschedule_probe(now)

    def send_failed(self, via: Via, now: float) -> None:
        """Take frames off a way that the kernel refused."""
        self.paths.withdraw(via, now)
        self.reschedule_probe(now)
        self._report_path()

    def refused(self, via: Via, now: float) -> bool:
        """Doubt a way of which ICMP says that it is closed; see `PathTable.refused`."""
        may_be_lost = self.paths.refused(via, now)
        self.reschedule_probe(now)
        return may_be_lost

    def has_sealed_untrusted(self, datagram: bytes) -> bool:
        """Whether this is, whole and unchanged, a datagram that we have sealed for the peer."""
        session = self.sessions.current
        return session is not None and session.has_sealed_untrusted(datagram)

    def sockets_gone(self, sockets: Collection[SocketId], now: float) -> None:
        """Learn that extra sockets of ours are not to be used any more."""
        self.paths.forget_sockets(sockets, now)
        self.reschedule_probe(now)
        self._report_path()

    def _report_path(self) -> None:
        active = self.paths.active
        kind = PathKind.NONE if active is None else active.kind
        endpoint = None if active is None else active.via.endpoint
        if self.is_up and (kind, endpoint) != self._reported:
            self._reported = (kind, endpoint)
            rtt = None if active is None else active.rtt
            self._context.events.append(
                events.PathChanged(self.edge_id, self.label, kind, endpoint, rtt)
            )

    # Frames

    def send_frame(self, read: memoryview, fields: VnetFields, now: float) -> None:  # Hot path.
        """Send one frame or super-frame by the ways in use.

        Args:
            read: one TAP read, virtio-net header and frame; it is written over.
            fields: of that header, as `decode_vnet` returns them.
            now: the time.
        """
        session = self.sessions.current
        if session is None or now >= self.sessions.seals_until:
            self._context.drop(DropReason.NO_SESSION)
            self.want_session(now)
            return
        vias = self._frame_vias(now)
        if not vias:
            self._context.drop(DropReason.NO_PATH)
            return
        self.sender.send(session, read, fields, vias)

    def send_alike(
        self, reads: Sequence[memoryview], fields: VnetFields, now: float
    ) -> bool:  # Hot path.
        """Send frames of one size with equal virtio-net headers, if they can leave as one run.

        Returns:
            Whether they were sent; else nothing was done.
        """
        session = self.sessions.current
        if session is None or now >= self.sessions.seals_until:
            return False
        vias = self._frame_vias(now)
        return len(vias) == 1 and self.sender.send_alike(session, reads, fields, vias)

    def _frame_vias(self, now: float) -> tuple[Via, ...]:  # Hot path.
        paths = self.paths
        was_fresh = now < paths.fresh_until
        vias = paths.vias(now)
        if not was_fresh:
            self.sender.frame_bytes_max = self.mtu_probes.frame_bytes(vias)
            self.reschedule_probe(now)
        return vias

    def schedule_reassembly(self, now: float) -> None:
        """See to it that incomplete frames do not stay."""
        self._context.timers.set_no_later_than(
            Timer.REASSEMBLY, self.edge_id, now + REASSEMBLY_TIMEOUT
        )
