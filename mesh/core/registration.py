"""Our registration with one supernode; docs/protocol.md sections 5.2 and 10.

Theory of operation. An *attempt* is one XX handshake with a ``register`` behind it; it runs beside
the session in use, so that renewing a registration never interrupts it:

    (none) ─start─▶ INITIATED ─response, pin checked─▶ CONFIRMED ─registered─▶ session replaced
                       │  ▲                               │
                       └──┴───── retry timer, refused ────┘

A registration is *connected* from ``registered`` until five pings in a row draw no pong. Anything
that is not authenticated (hints, version refusals) makes it ask again and changes nothing else.
"""

from mesh import events
from mesh.addresses import EdgeId, Endpoint
from mesh.constants import (
    HANDSHAKE_RETRY_JITTER,
    RETURN_AFTER_SHUTDOWN,
    SUPERNODE_HEARTBEAT_INTERVAL,
    SUPERNODE_RETRY_INTERVAL,
)
from mesh.core.config import SupernodeConfig
from mesh.core.contact import Contact
from mesh.core.context import Context
from mesh.core.leased import is_acceptable
from mesh.core.membership import Membership
from mesh.core.nat_observer import NatObserver
from mesh.core.outbox import Via
from mesh.core.siblings import NO_NEWS, News, Siblings
from mesh.core.timers import Timer
from mesh.core.tries import Tries
from mesh.crypto.session import Session
from mesh.engine import Buffer, SocketId, Transport
from mesh.errors import RefusalReason
from mesh.events import DropReason
from mesh.wire.inner import open_control_untrusted, wrap_control
from mesh.wire.messages import (
    Gone,
    Leave,
    Lookup,
    Member,
    Members,
    Message,
    Ping,
    Pong,
    RefusedMessage,
    Register,
    Registered,
    ReplacedMessage,
    Shutdown,
    decode_message,
    encode_message,
)

RETURN_JITTER = 1.0  # all hear of a shutdown at the same moment
REFUSED_RETRY_INTERVAL = 30.0  # s; a refusal seldom changes by itself


class Registration:
    """Keeps one edge registered with one supernode.

    Attributes:
        contact: where the supernode is, and how it is reached.
        is_connected: whether it takes us for registered, as far as we know.
        membership: the other members.
        nat_observer: finds out the kind of our NAT with this supernode's help.
    """

    def __init__(
        self,
        number: int,
        config: SupernodeConfig,
        context: Context,
        our_id: EdgeId,
        siblings: Siblings,
    ) -> None:
        self.number = number
        self.config = config
        self.membership = Membership(our_id)
        self.contact = Contact(number, context, lambda via: siblings.is_way_of_another(self, via))
        self.is_connected = False
        self._context = context
        self._siblings = siblings
        self._pin = config.fingerprint
        self._tries = Tries(
            number,
            context,
            self.contact.ways,
            self,
            is_served=siblings.are_serving,
            register=self._make_register,
        )
        self.nat_observer = NatObserver(context, number, self.send_ping)
        self._known_address = ""  # ours as the supernode tells it, taken or not
        self._has_registered = False
        self._is_stopped = False

    @property
    def fingerprint(self) -> str:
        """The supernode's key, or empty before it was named or proved."""
        return self._pin

    # Attempts

    def set_endpoints(self, endpoints: list[Endpoint], now: float) -> None:
        """Learn where the supernode's name leads to; none if it does not resolve."""
        self.contact.ways.set_endpoints(endpoints)
        if self.is_connected:
            self.contact.tell_relay_id()
            self._siblings.changed(self, now)
        elif not endpoints and not self._is_stopped:
            self.contact.ways.asked(now)  # a proxy may know the name

    def set_stream(self, via: Via, transport: Transport, now: float) -> None:
        """Learn that a stream has been opened: say by it what UDP did not bring an answer to."""
        self.contact.ways.set_stream(via, transport)
        if self._is_stopped:
            return
        if self.is_connected:
            self.contact.tell_relay_id()
            self._siblings.changed(self, now)
            self.contact.ping_by(via)
        elif not self._tries.try_by(via):
            self.start(now)

    def stream_ended(self, socket: SocketId, now: float) -> None:
        """Learn that a socket is gone; if it led to this supernode, turn to UDP."""
        stream = self.contact.ways.stream_ended(socket)
        if stream is None:
            return
        was_used = stream == self.contact.via
        if was_used:
            self._lose(now)
            self.contact.via = None
        self.contact.tell_relay_id()
        if was_used or self._tries.uses(stream):
            self.start(now)

    def handle_stream_timer(self, now: float) -> None:
        """Ask for a stream: UDP has not brought an answer."""
        if not self.is_connected and not self._is_stopped:
            self.contact.ways.want_stream(now)

    def start_if_idle(self, at: float, now: float) -> None:
        """Start an attempt at ``at`` unless one is under way or none is needed."""
        if self.is_connected or self._tries.is_under_way:
            return
        if at <= now:
            self.start(now)
        elif not self._is_stopped:
            self._context.timers.set_no_later_than(Timer.REGISTER, self.number, at)

    def start(self, now: float) -> None:
        """Start an attempt, dropping the one under way."""
        if self._is_stopped:
            self._tries.abandon()
        else:
            self._tries.start(self._current_via, now)

    def handle_register_timer(self, now: float) -> None:
        """Repeat what drew no answer, try another way, or start anew."""
        if self._is_stopped:
            self._tries.abandon()
        else:
            self._tries.retry(self._current_via, now)

    @property
    def _current_via(self) -> Via | None:
        return self.contact.via if self.is_connected else None

    def receive_response_untrusted(self, datagram: Buffer, via: Via, now: float) -> None:
        """Take in message 2 of the handshake: check the pin, confirm, register.

        An impostor may answer first: one that proves another key is reported and ignored, and the
        attempt goes on waiting.

        Raises:
            RemoteError: it does not parse or verify; nothing has changed.
        """
        proved = self._tries.receive_response_untrusted(datagram)
        if proved is None:
            self._context.drop(DropReason.UNKNOWN_SESSION)
            return
        if self._pin and proved != self._pin:
            self._context.drop(DropReason.NOT_AUTHENTIC)
            self._report(events.SupernodeKeyMismatch(self.number, self._pin, proved))
            return
        if not self._pin:
            self._pin = proved
            self._report(events.SupernodeSeen(self.number, proved))
        if self._siblings.are_serving_by(proved, self):
            self._tries.abandon()  # named twice: it would take us for one edge that moves about
            self._retry_later(now)
            return
        self._tries.confirm(via, now)

    def _make_register(self, session: Session) -> Register:
        config = self._context.config
        return Register(
            community=config.community.community_id,
            signature=config.community.sign_registration(session.handshake_hash),
            instance=self._context.instance,
            mode=config.address_mode,
            address=self._context.lease.address or config.address,
            subnets=config.subnets,
            aes=config.has_aes,
        )

    def receive_cookie_untrusted(self, datagram: Buffer, now: float) -> None:
        """Take in a cookie: the supernode is under load and wants to see it before it works.

        Raises:
            RemoteError: it does not parse, or was not made for our initiation.
        """
        if self._tries.receive_cookie_untrusted(datagram):
            self.start(now)

    # The session

    def receive_transport_untrusted(
        self, datagram: Buffer, session: Session, via: Via, now: float
    ) -> News:
        """Open one datagram of the supernode and act on its message.

        Raises:
            RemoteError: it does not verify or parse.
        """
        message = decode_message(open_control_untrusted(session.open_untrusted(datagram)))
        match message:
            case Registered():
                return self._receive_registered(message, session, now)
            case RefusedMessage():
                self._receive_refused(message, now)
            case Pong():
                self._receive_pong(message, session, via, now)
            case Members():
                changed, gone = self.membership.receive_members(message)
                self._digest_seen(message.digest, now)
                return News(changed, gone, is_list=message.pages > 0)
            case Gone():
                gone_id = EdgeId(message.id)
                self.membership.forget(gone_id)
                self._digest_seen(message.digest, now)
                return News([], [gone_id], is_list=False)
            case _:
                self._receive_rare(message, session, via, now)
        return NO_NEWS

    def _receive_rare(self, message: Message, session: Session, via: Via, now: float) -> None:
        match message:
            case ReplacedMessage() if session is self.contact.session:
                self._is_stopped = True
                self.contact.ways.want_no_stream()
                self._lose(now)
                self._report(events.Replaced(self.number))
            case Shutdown() if session is not self.contact.previous:
                self._lose(now)
                after = self._context.jitter(RETURN_AFTER_SHUTDOWN, RETURN_JITTER)
                self._context.timers.set(Timer.REGISTER, self.number, now + after)
            case Ping():
                pong = Pong(token=message.token, endpoint=None, digest=b"")
                self._context.outbox.send(via, session.seal(wrap_control(encode_message(pong))))
            case _:
                self._context.drop(DropReason.UNKNOWN_MESSAGE)

    def _receive_registered(self, message: Registered, session: Session, now: float) -> News:
        via = self._tries.succeeded(session)
        if via is None:
            return NO_NEWS  # the answer to a register that we repeated
        self.contact.established(session, via, message.relay_id, now)
        self.contact.note_seen_as(message.endpoint)
        leased = message.address
        if not is_acceptable(leased, self._context.config):
            if leased:
                self._report(events.LeaseDistrusted(self.number, leased))
            leased = ""
        is_first, self._has_registered = not self._has_registered, True
        is_news = self._context.lease.take(self.number, leased) or not self.is_connected
        in_use = self._context.lease.address
        if leased not in {"", in_use, self._known_address}:
            self._report(events.LeasesDiffer(self.number, leased, in_use))
        self.is_connected = True
        self._known_address = message.address
        self._siblings.changed(self, now)
        self._update_ourselves()
        self.nat_observer.registered(via, message.probes, message.endpoint, now)
        self._digest_seen(message.digest, now)
        # The first ping measures.
        self._context.timers.set(Timer.SUPERNODE_HEARTBEAT, self.number, now)
        if is_news:
            self._report(events.Registered(self.number, in_use, message.endpoint, is_first))
        # The list of members may have overtaken this answer.
        return News(list(self.membership.members), [], is_list=True)

    def _update_ourselves(self) -> None:
        seen_as = self.contact.seen_as
        if seen_as is not None:
            config = self._context.config
            self.membership.set_ourselves(
                Member(
                    key=config.identity.public_key,
                    endpoint=seen_as,
                    relay_id=self.contact.relay_id,
                    address=self._known_address,
                    aes=config.has_aes,
                )
            )

    def _receive_refused(self, message: RefusedMessage, now: float) -> None:
        reason = RefusalReason(message.reason)
        self._report(events.Refused(self.number, reason, message.detail))
        self._tries.abandon()
        self._retry_later(now)

    def _retry_later(self, now: float) -> None:
        interval = self._context.jitter(REFUSED_RETRY_INTERVAL, HANDSHAKE_RETRY_JITTER)
        self._context.timers.set(Timer.REGISTER, self.number, now + interval)

    # Heartbeat

    def handle_heartbeat_timer(self, now: float) -> None:
        """Ping the supernode; take silence for its death, age for a reason to renew."""
        session, liveness = self.contact.session, self.contact.liveness
        if not self.is_connected or session is None:
            return
        if liveness.is_lost or session.is_expired(now):
            self._lose(now)
            self._report(events.SupernodeLost(self.number, liveness.silent_for(now)))
            self.start(now)
            return
        if not self._tries.is_under_way and self._wants_handshake(session, now):
            self.start(now)
        is_gone = liveness.is_shaky or (liveness.is_silent and liveness.is_doubtful)
        if is_gone and self.contact.transport is Transport.UDP:
            self.contact.ways.want_stream(now)
        self._ping(now)
        if liveness.is_silent:
            self._siblings.doubted(self, now)

    def _wants_handshake(self, session: Session, now: float) -> bool:
        liveness = self.contact.liveness
        if liveness.is_doubtful or session.wants_rekey(now):
            return True
        return liveness.is_shaky and len(self.contact.vias) > 1  # it may answer elsewhere

    def _ping(self, now: float) -> None:
        self.contact.ping(now)
        self._context.timers.set(
            Timer.SUPERNODE_HEARTBEAT, self.number, now + SUPERNODE_RETRY_INTERVAL
        )

    def handle_udp_probe_timer(self, now: float) -> None:
        """See whether UDP works again while a stream is in use."""
        if self.is_connected:
            self.contact.probe_udp(now)

    def _receive_pong(self, message: Pong, session: Session, via: Via, now: float) -> None:
        if self.contact.receive_pong(message, via, now):
            self._note_pong(message, now)
            return
        if self._is_answer_about_nat(message, via, now):
            return
        is_current = self.is_connected and session is self.contact.session
        if is_current and self.contact.receive_probe_answer(message, via, now):
            self.nat_observer.moved(via)
            self._siblings.moved(self, now)
            self._note_pong(message, now)

    def _is_answer_about_nat(self, pong: Pong, via: Via, now: float) -> bool:
        token, endpoint = pong.token, pong.endpoint
        if self.nat_observer.receive_pong(token, via, endpoint, now):
            return True
        return self._context.our_nat.on_seen(token, endpoint, now)

    def _note_pong(self, message: Pong, now: float) -> None:
        if message.endpoint is not None and self.contact.note_seen_as(message.endpoint):
            self._update_ourselves()
        if self.contact.seen_as is not None:
            self.nat_observer.seen(self.contact.seen_as, now)
        if len(message.digest) == 8:
            self._digest_seen(message.digest, now)
        self._siblings.changed(self, now)
        self._context.timers.set(
            Timer.SUPERNODE_HEARTBEAT, self.number, now + SUPERNODE_HEARTBEAT_INTERVAL
        )

    def send_ping(self, via: Via, ping: Ping) -> None:
        """Send a ping under our session from any socket of ours to any port of the supernode."""
        if self.is_connected:
            self.contact.send_by(via, ping)

    def receive_hint(self, now: float) -> None:
        """React to an unauthenticated "unknown session": ask at once (section 6.5).

        A second of silence then starts a handshake beside the session: a forged hint and a lost
        datagram must not take a working registration away. One hint per heartbeat is taken.
        """
        if self.is_connected and self.contact.liveness.take_hint(now):
            self._ping(now)

    def receive_send_error(self, via: Via, now: float) -> None:
        """React to a fatal send error towards the supernode: verify soon."""
        self._tries.way_failed(via, now)
        if via == self._current_via:
            self._context.timers.set_no_later_than(
                Timer.SUPERNODE_HEARTBEAT, self.number, now + SUPERNODE_RETRY_INTERVAL
            )
            self._siblings.doubted(self, now)

    def network_changed(self, now: float) -> None:
        """React to new local addresses: tell the supernode where we are now."""
        self.contact.ways.probe_soon(now)
        if self.contact.transport is not Transport.UDP:
            self.contact.udp_seen_as = None
        if self.is_connected:
            self._context.timers.set_no_later_than(Timer.SUPERNODE_HEARTBEAT, self.number, now)
        else:
            self._tries.forget_failures()
            self.start(now)

    def _lose(self, now: float) -> None:
        self.is_connected = False
        self.contact.liveness.forget_pings()
        self._context.timers.cancel(Timer.SUPERNODE_HEARTBEAT, self.number)
        self._context.timers.cancel(Timer.MEMBERSHIP, self.number)
        self._context.timers.cancel(Timer.UDP_PROBE, self.number)
        self._siblings.changed(self, now)

    # Membership

    def _digest_seen(self, digest: bytes, now: float) -> None:
        self.membership.receive_digest(digest, now)
        if self.is_connected:
            self._context.timers.set(Timer.MEMBERSHIP, self.number, self.membership.lookup_at)

    def handle_membership_timer(self, now: float) -> None:
        """Ask for the full list where our view still differs."""
        if not self.is_connected:
            return
        self.membership.compare(now)
        if self.membership.lookup_at <= now and self.contact.send(Lookup()):
            self.membership.lookup_sent(now)
        self._context.timers.set(Timer.MEMBERSHIP, self.number, self.membership.lookup_at)

    # Leaving

    def leave(self, now: float) -> None:
        """Tell the supernode that we go, and stop."""
        self._is_stopped = True
        if self.is_connected:
            self.contact.send(Leave())
        self.contact.ways.want_no_stream()
        self._lose(now)
        self._tries.abandon()

    def _report(self, event: events.Event) -> None:
        self._context.events.append(event)
