"""A supernode that says exactly what a test tells it to, and nothing by itself."""

from mesh.addresses import Endpoint
from mesh.crypto.cookie import MAC1_KEY_SUPERNODE, CookieSecret
from mesh.crypto.handshake import SupernodeInitiation
from mesh.crypto.identity import Identity
from mesh.crypto.session import Session
from mesh.wire.datagram import DatagramType, encode_relay_header
from mesh.wire.inner import wrap_control
from mesh.wire.messages import (
    Member,
    Members,
    Message,
    Ping,
    Pong,
    Register,
    Registered,
    combine_digests,
    decode_message,
    encode_message,
    member_digest,
)
from tests.core.edge_alone import SUPERNODE, Target, dice

OUR_RELAY_ID = 0x0ED6E001
SEEN_AS = Endpoint("198.51.100.1", 4242)


def member_of(identity: Identity, relay_id: int, endpoint: Endpoint, address: str = "") -> Member:
    """Return how a supernode introduces an edge."""
    return Member(identity.public_key, endpoint, relay_id, address, aes=True)


def digest_of(*members: Member) -> bytes:
    """Return what a supernode's digest should be, by the words of section 10.4."""
    return combine_digests(map(member_digest, members))


class ScriptedSupernode:
    """Takes in what the target sends when asked to, and keeps it for the test to look at.

    Attributes:
        initiations: every one received.
        confirmations: likewise.
        messages: what the target said under any of our sessions.
        session: the latest one that a confirmation completed, or None.
        others: datagrams that the target sent elsewhere, and where.
    """

    def __init__(self, target: Target, *, seed: int = 40, endpoint: Endpoint = SUPERNODE) -> None:
        self.identity = Identity.generate(dice(seed))
        self.endpoint = endpoint
        self.initiations: list[bytes] = []
        self.confirmations: list[bytes] = []
        self.messages: list[Message] = []
        self.others: list[tuple[bytes, Endpoint]] = []
        self.session: Session | None = None
        self.members: tuple[Member, ...] = ()
        self._target = target
        self._entropy = dice(seed + 1)
        self._cookies = CookieSecret(self._entropy)
        self._pending: list[SupernodeInitiation] = []
        self._sessions: list[Session] = []
        self._last_index = 0x500

    # What the target sends

    def collect(self, now: float = 0.0) -> None:
        """Take in what the target has sent; answer nothing."""
        for datagram, destination in self._target.sent():
            if destination != self.endpoint or datagram[0] == DatagramType.RELAY:
                self.others.append((datagram, destination))
            elif datagram[0] == DatagramType.SUPERNODE_INITIATION:
                self.initiations.append(datagram)
            elif datagram[0] == DatagramType.SUPERNODE_CONFIRMATION:
                self._confirmed(datagram, now)
            elif datagram[0] == DatagramType.TRANSPORT:
                self._opened(datagram)
            else:
                self.others.append((datagram, destination))

    def _confirmed(self, datagram: bytes, now: float) -> None:
        self.confirmations.append(datagram)
        if datagram not in self.confirmations[:-1]:
            self.session = self._pending[-1].receive_confirmation_untrusted(datagram, now)
            self._sessions.append(self.session)

    def _opened(self, datagram: bytes) -> None:
        index = int.from_bytes(datagram[4:8], "big")
        [session] = [session for session in self._sessions if session.our_index == index]
        self.messages.append(decode_message(session.open_untrusted(datagram)[4:]))

    def take(self, kind: type[Message]) -> list[Message]:
        """Return, and forget, the messages of one kind."""
        found = [message for message in self.messages if isinstance(message, kind)]
        self.messages = [message for message in self.messages if not isinstance(message, kind)]
        return found

    # What it says

    def deliver(self, datagram: bytes, now: float, source: Endpoint | None = None) -> None:
        """Hand the target a datagram, from our endpoint unless told otherwise."""
        self._target.receive(datagram, source or self.endpoint, now)

    def respond(self, now: float) -> None:
        """Answer the latest initiation with a response, and take in what that brings about."""
        initiation = SupernodeInitiation.receive_untrusted(self.initiations[-1], self.identity)
        self._pending.append(initiation)
        self._last_index += 1
        self.deliver(initiation.respond(self._last_index, self._entropy), now)
        self.collect(now)

    def cookie_reply(self, now: float) -> bytes:
        """Return a cookie for the latest initiation."""
        source = Endpoint("198.51.100.1", 4242)
        return self._cookies.reply(self.initiations[-1], source, MAC1_KEY_SUPERNODE, now)

    def has_cookie(self, initiation: bytes, now: float) -> bool:
        """Whether an initiation shows the cookie that we gave."""
        return self._cookies.has_valid_mac2(initiation, SEEN_AS, now)

    def seal(self, message: Message) -> bytes:
        """Return a message under the latest session."""
        assert self.session is not None
        return self.session.seal(wrap_control(encode_message(message)))

    def say(self, message: Message, now: float) -> None:
        """Say something and take in what that brings about."""
        self.deliver(self.seal(message), now)
        self.collect(now)

    def ourselves(self, address: str = "") -> Member:
        """Return the target as we introduce it."""
        return member_of(self._target.identity, OUR_RELAY_ID, SEEN_AS, address)

    def digest(self, address: str = "") -> bytes:
        """Return the digest of the target and all other members."""
        return digest_of(self.ourselves(address), *self.members)

    def registered(self, address: str = "") -> Registered:
        """Return the answer to a register."""
        members = len(self.members) + 1
        return Registered(OUR_RELAY_ID, SEEN_AS, address, members, self.digest(address))

    def take_in(self, now: float, address: str = "") -> None:
        """Go through a whole registration, from the target's initiation to the list of members."""
        self._target.engine.set_supernode_endpoints(0, [self.endpoint], now)
        self.collect(now)
        self.respond(now)
        assert self.take(Register)
        self.say(self.registered(address), now)
        self.say(Members(self.members, self.digest(address), page=0, pages=1), now)

    def answer_pings(self, now: float, address: str = "") -> int:
        """Answer what the target has asked; return how often it had."""
        pings = [ping for ping in self.take(Ping) if isinstance(ping, Ping)]
        for ping in pings:
            self.say(Pong(ping.token, SEEN_AS, self.digest(address)), now)
        return len(pings)

    def relay(self, datagram: bytes, source: int, now: float) -> None:
        """Hand the target an envelope."""
        self.deliver(encode_relay_header(source, OUR_RELAY_ID) + datagram, now)
