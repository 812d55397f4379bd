"""What a supernode says to edges that have proved their key; docs/protocol.md section 10."""

from collections.abc import Callable, Iterable

from mesh.constants import PROTOCOL_VERSION
from mesh.crypto.community import verify_registration
from mesh.crypto.identity import edge_id_of
from mesh.crypto.session import Session
from mesh.engine import Entropy, OutgoingDatagrams
from mesh.errors import RefusalReason, RegistrationRefused
from mesh.events import DropReason, EdgeGone, EdgeRegistered, Event
from mesh.wire.inner import wrap_control
from mesh.wire.messages import (
    TOKEN_BYTES,
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
    encode_message,
)
from supernode.leases import AddressRequest, Leases
from supernode.origin import Origin
from supernode.registration import Candidate, Community, Registration
from supernode.registry import Registry


class Registrar:
    """Registers edges, introduces them to each other and forgets them.

    Args:
        registry: who is registered.
        leases: who holds which address.
        entropy: for relay ids.
        send: takes what is to be sent.
        report: told what happened; told of a lease before `send` gets the answer that promises it.
        count_drop: told why a message came to nothing.

    Attributes:
        probes: the observation ports that edges are told of.
    """

    def __init__(
        self,
        registry: Registry,
        leases: Leases,
        entropy: Entropy,
        *,
        send: Callable[[OutgoingDatagrams], None],
        report: Callable[[Event], None],
        count_drop: Callable[[DropReason, int], None],
    ) -> None:
        self._registry = registry
        self._leases = leases
        self._entropy = entropy
        self._send = send
        self._report = report
        self._count_drop = count_drop
        self.probes: tuple[int, ...] = ()

    def handle_register(
        self, session: Session, origin: Origin, message: Register, now: float
    ) -> bool:
        """Register the edge that proved its key in ``session``, or tell it why not.

        Returns:
            Whether it is registered now.
        """
        candidate = Candidate(
            edge=edge_id_of(session.their_static),
            community=message.community,
            instance=message.instance,
            origin=origin,
            session=session,
        )
        try:
            registration, is_news = self._register(candidate, message, now)
        except RegistrationRefused as refusal:
            self._tell(session, origin, RefusedMessage(refusal.reason, refusal.detail), now)
            return False
        self._welcome(registration, now)
        if is_news:
            self._introduce(registration, now)
        return True

    def handle_guest_ping(self, session: Session, origin: Origin, ping: Ping, now: float) -> None:
        """Tell an edge that has not registered where it is seen: it measures its way to us."""
        answer = Pong(ping.token, origin.endpoint, b"", self.probes)
        self._tell(session, origin, answer, now)

    def handle_bad_request(self, session: Session, origin: Origin, now: float) -> None:
        """Tell a guest that what it sent is no registration that we understand."""
        self._tell(session, origin, RefusedMessage(RefusalReason.BAD_REQUEST, ""), now)

    def handle_message(
        self,
        registration: Registration,
        session: Session,
        origin: Origin,
        message: Message,
        now: float,
        *,
        is_newest: bool,
    ) -> None:
        """Do what a registered edge asks for in a message that verified under ``session``.

        Args:
            registration: the edge.
            session: its current session or the one before.
            origin: where the message came from, which nothing vouches for.
            message: what it says.
            now: the present moment.
            is_newest: whether nothing newer of the edge has been opened.
        """
        is_elsewhere = is_newest and self._is_newly_at(registration, origin, now)
        if is_elsewhere or (isinstance(message, Ping) and origin == registration.unproved):
            self._tell(registration.session, origin, Ping(registration.proof_token), now)
        match message:
            case Ping():
                self._answer_ping(registration, origin, message, now)
            case Pong():
                self._take_proof(registration, origin, message, now)
            case Leave():
                self._forget([registration], "left", now)
            case Lookup() | Register() if origin != registration.origin:
                self._count_drop(DropReason.UNKNOWN_SENDER, 1)
            case Lookup() | Register() if not _may_ask(registration, now):
                self._count_drop(DropReason.RATE_LIMITED, 1)
            case Lookup():
                self._send_members(registration, now)
            case Register():
                # Repeated since our answer was lost; the session before says nothing new.
                if session is registration.session:
                    self.handle_register(session, origin, message, now)
            case _:
                self._count_drop(DropReason.UNKNOWN_MESSAGE, 1)

    def expire(self, now: float) -> None:
        """Forget the edges that have been silent for too long."""
        self._forget(self._registry.silent(now), "silent", now)

    def say_goodbye(self, now: float) -> None:
        """Tell every edge that we stop (section 10.6)."""
        body = wrap_control(encode_message(Shutdown()))
        for each in self._registry:
            self._seal_for(each.session, each.origin, body, now)

    def _answer_ping(
        self, registration: Registration, origin: Origin, ping: Ping, now: float
    ) -> None:
        # An edge told of another endpoint counts itself there, and we do not before it is proved:
        # our digest would only make it ask for a list.
        digest = registration.community.digest if origin == registration.origin else b""
        self._tell(registration.session, origin, Pong(ping.token, origin.endpoint, digest), now)

    # Roaming.

    def _is_newly_at(self, registration: Registration, origin: Origin, now: float) -> bool:
        """Note where the newest datagram came from; True if the edge has to prove itself there.

        An edge that moves more often than once a second stays where it was for the moment: each
        move costs a datagram to every member.
        """
        if origin == registration.origin:
            registration.unproved = None
            return False
        if origin == registration.unproved:
            return False
        if not registration.move_bucket.take(1, now):
            self._count_drop(DropReason.RATE_LIMITED, 1)
            return False
        registration.unproved = origin
        registration.proof_token = self._entropy(TOKEN_BYTES)
        return True

    def _take_proof(
        self, registration: Registration, origin: Origin, pong: Pong, now: float
    ) -> None:
        """Follow an edge that answered our ping where it answered from, and tell the others."""
        is_proof = origin == registration.unproved and pong.token == registration.proof_token
        if is_proof and self._registry.move(registration, origin, now):
            self._introduce(registration, now)

    # Registration.

    def _register(
        self, candidate: Candidate, message: Register, now: float
    ) -> tuple[Registration, bool]:
        """Return the registration and whether the others need to hear of it.

        Raises:
            RegistrationRefused: nothing has changed then.
        """
        session = candidate.session
        if message.version != PROTOCOL_VERSION:
            raise RegistrationRefused(RefusalReason.VERSION)
        if not verify_registration(message.community, session.handshake_hash, message.signature):
            raise RegistrationRefused(RefusalReason.NOT_A_MEMBER)
        bound = self._registry.by_index(session.our_index)
        if bound is not None and bound.community.id != message.community:
            raise RegistrationRefused(RefusalReason.BAD_REQUEST, "one community per session")
        known = self._registry.find(candidate.community, candidate.edge)
        if known is None:
            self._registry.check_room(candidate)
        request = AddressRequest(message.mode, message.address, message.subnets)
        address = self._leases.grant(candidate.community, candidate.edge, request, now)
        if known is not None and known.instance != candidate.instance:
            self._tell(known.session, known.origin, ReplacedMessage(), now)
            self._registry.remove(known)
            known = None
        relay_id = known.relay_id if known else self._registry.new_relay_id(self._entropy)
        endpoint = candidate.origin.endpoint
        member = Member(session.their_static, endpoint, relay_id, address, message.aes)
        if known is not None:
            return known, self._registry.renew(known, candidate, member, now)
        self._report(EdgeRegistered(candidate.community, candidate.edge, endpoint, address))
        return self._registry.add(candidate, member, now), True

    def _welcome(self, registration: Registration, now: float) -> None:
        community = registration.community
        answer = Registered(
            relay_id=registration.relay_id,
            endpoint=registration.endpoint,
            address=registration.member.address,
            members=len(community.edges),
            digest=community.digest,
            probes=self.probes,
        )
        self._tell(registration.session, registration.origin, answer, now)
        self._send_members(registration, now)

    def _send_members(self, registration: Registration, now: float) -> None:
        for page in registration.community.pages():
            self._seal_for(registration.session, registration.origin, page, now)

    # What the others hear.

    def _introduce(self, registration: Registration, now: float) -> None:
        """Tell the others of an edge that is new or has changed.

        Nobody looked anything up: ``pages`` is 0, so that nobody takes this for a complete list.
        """
        community = registration.community
        news = Members((registration.member,), community.digest, page=0, pages=0)
        self._push(community, _others(community, registration), news, now)

    def _forget(self, leaving: list[Registration], why: str, now: float) -> None:
        # All of them first: an edge about to be forgotten needs no news of the others.
        for registration in leaving:
            community = registration.community.id
            self._registry.remove(registration)
            self._leases.release(community, registration.edge, now)
            self._report(EdgeGone(community, registration.edge, why))
        for registration in leaving:
            community_left = registration.community
            news = Gone(registration.edge, community_left.digest)
            self._push(community_left, community_left.edges.values(), news, now)

    def _push(
        self, community: Community, edges: Iterable[Registration], message: Message, now: float
    ) -> None:
        body = wrap_control(encode_message(message))
        for each in edges:
            if community.push_bucket.take(1, now):
                self._seal_for(each.session, each.origin, body, now)
            else:  # it sees by the digest of the next pong that it missed something
                self._count_drop(DropReason.RATE_LIMITED, 1)

    def _tell(self, session: Session, origin: Origin, message: Message, now: float) -> None:
        self._seal_for(session, origin, wrap_control(encode_message(message)), now)

    def _seal_for(self, session: Session, origin: Origin, body: bytes, now: float) -> None:
        if session.is_expired(now):
            self._count_drop(DropReason.EXPIRED_SESSION, 1)
            return
        datagram = session.seal(body)
        self._send(OutgoingDatagrams((datagram,), len(datagram), origin.endpoint, origin.socket))


def _may_ask(registration: Registration, now: float) -> bool:
    """Charge an edge and its community for a list of members, if both have some left."""
    community = registration.community
    return registration.lookup_bucket.take(1, now) and community.lookup_bucket.take(1, now)


def _others(community: Community, but: Registration) -> Iterable[Registration]:
    return [each for each in community.edges.values() if each is not but]
