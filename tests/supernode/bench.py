"""A supernode's engine in virtual time, and edges that say just what a test tells them to."""

import hashlib
import random
from dataclasses import dataclass, replace

from mesh.addresses import Endpoint
from mesh.constants import MAX_AMPLIFICATION
from mesh.crypto.community import CommunityKeys
from mesh.crypto.handshake import SupernodeInitiator
from mesh.crypto.identity import Identity
from mesh.crypto.session import Session
from mesh.crypto.suite import Suite
from mesh.engine import ReceivedDatagrams, SocketId
from mesh.events import Event
from mesh.wire.datagram import DatagramType, encode_relay_header
from mesh.wire.inner import open_control_untrusted, wrap_control
from mesh.wire.messages import (
    AddressMode,
    Members,
    Message,
    Ping,
    Pong,
    RefusedMessage,
    Register,
    Registered,
    combine_digests,
    decode_message,
    encode_message,
    member_digest,
)
from supernode.engine import SupernodeEngine
from supernode.leases import StoredLeases
from supernode.limits import SupernodeLimits

START = 1000.0


def community_keys(name: str = "home") -> CommunityKeys:
    return CommunityKeys.from_root(name, hashlib.blake2s(name.encode()).digest())


@dataclass(frozen=True)
class Sent:
    """One datagram that the engine sent."""

    datagram: bytes
    destination: Endpoint
    socket: SocketId

    @property
    def type(self) -> int:
        return self.datagram[0]


class Bench:
    """Runs one engine; datagrams reach the edge that sits at their destination at once."""

    def __init__(
        self,
        limits: SupernodeLimits | None = None,
        stored: StoredLeases | None = None,
        seed: int = 1,
    ) -> None:
        self.entropy = random.Random(seed).randbytes
        self.identity = Identity.generate(self.entropy)
        self.now = START
        self.limits = limits or SupernodeLimits()
        self.engine = SupernodeEngine(self.identity, self.limits, self.entropy, START, stored)
        self.edges: dict[tuple[Endpoint, SocketId], ScriptedEdge] = {}
        self.sent: list[Sent] = []
        self.events: list[Event] = []
        self.batches_sent = 0
        self._hosts = 0

    def edge(self, community: str = "home", **settings: object) -> "ScriptedEdge":
        """Add an edge at an address of its own."""
        self._hosts += 1
        endpoint = Endpoint(f"198.51.{100 + self._hosts // 250}.{1 + self._hosts % 250}", 4000)
        return ScriptedEdge(self, community_keys(community), endpoint, **settings)  # type: ignore[arg-type]

    def registered(self, community: str = "home", **settings: object) -> "ScriptedEdge":
        """Add an edge and register it."""
        edge = self.edge(community, **settings)
        edge.shake()
        edge.register()
        return edge

    def receive(
        self, data: bytes, source: Endpoint, socket: SocketId = 0, segment_bytes: int = 0
    ) -> list[Sent]:
        """Hand the engine what ``source`` sent; return what it sent in answer."""
        batch = ReceivedDatagrams(memoryview(data), segment_bytes or len(data), source, socket)
        self.engine.receive_datagrams(batch, self.now)
        return self.drain()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, with every timer rung when it is due."""
        end = self.now + seconds
        while (due := self.engine.next_timer_at()) <= end:
            self.now = max(self.now, due)
            self.engine.handle_timers(self.now)
            self.drain()
        self.now = end

    def drain(self) -> list[Sent]:
        self.events += self.engine.events_to_report()
        sent: list[Sent] = []
        for batch in self.engine.datagrams_to_send():
            self.batches_sent += 1
            joined = b"".join(batch.buffers)
            for start in range(0, len(joined), batch.segment_bytes):
                datagram = joined[start : start + batch.segment_bytes]
                sent.append(Sent(datagram, batch.destination, batch.socket))
        self.sent += sent
        for each in sent:
            edge = self.edges.get((each.destination, each.socket))
            if edge is not None:
                edge.inbox.append(each.datagram)
        return sent

    @property
    def drops(self) -> dict[str, int]:
        return self.engine.status_view(self.now)["drops"]


class ScriptedEdge:
    """An edge without a will of its own."""

    def __init__(
        self,
        bench: Bench,
        community: CommunityKeys,
        endpoint: Endpoint,
        *,
        identity: Identity | None = None,
        socket: SocketId = 0,
        suite: Suite = Suite.AESGCM_SHA256,
    ) -> None:
        self.bench = bench
        self.community = community
        self.identity = identity or Identity.generate(bench.entropy)
        self.instance = bench.entropy(8)
        self.suite = suite
        self.inbox: list[bytes] = []
        self.heard: list[Message] = []
        self.sessions: list[Session] = []
        self.relay_id = 0
        self.address = ""
        self._next_index = 0
        self.endpoint = endpoint
        self.socket = socket
        self.move_to(endpoint, socket)

    @property
    def session(self) -> Session:
        return self.sessions[-1]

    def move_to(self, endpoint: Endpoint, socket: SocketId = 0) -> None:
        self.bench.edges.pop((self.endpoint, self.socket), None)
        self.endpoint, self.socket = endpoint, socket
        self.bench.edges[endpoint, socket] = self

    def send(self, datagram: bytes, segment_bytes: int = 0) -> list[Sent]:
        return self.bench.receive(datagram, self.endpoint, self.socket, segment_bytes)

    def initiate(self, cookie: bytes | None = None) -> SupernodeInitiator:
        self._next_index += 1
        return SupernodeInitiator(
            self.identity, self.suite, self._next_index, self.bench.entropy, cookie
        )

    def begin(self) -> tuple[bytes, Session]:
        """Do the handshake up to the confirmation, which is returned and not sent."""
        initiator = self.initiate()
        self.send(initiator.datagram)
        response = self.take(DatagramType.SUPERNODE_RESPONSE)
        assert initiator.receive_response_untrusted(response) == self.bench.identity.public_key
        return initiator.confirm(self.bench.now)

    def shake(self) -> None:
        confirmation, session = self.begin()
        self.sessions.append(session)
        self.send(confirmation)

    def take(self, kind: DatagramType) -> bytes:
        """Remove and return the first datagram of a type that came."""
        found = next(each for each in self.inbox if each[0] == kind)
        self.inbox.remove(found)
        return found

    def seal(self, message: Message, session: Session | None = None) -> bytes:
        return (session or self.session).seal(wrap_control(encode_message(message)))

    def say(self, message: Message, session: Session | None = None) -> list[Message]:
        """Send a message; return what the supernode answered."""
        self.send(self.seal(message, session))
        return self.read()

    def registration(
        self,
        mode: AddressMode = AddressMode.AUTO,
        address: str = "",
        session: Session | None = None,
        *,
        aes: bool = True,
    ) -> Register:
        return Register(
            community=self.community.community_id,
            signature=self.community.sign_registration((session or self.session).handshake_hash),
            instance=self.instance,
            mode=mode,
            address=address,
            subnets=tuple(str(each) for each in self.community.subnet_proposals()),
            aes=aes,
        )

    def register(self, mode: AddressMode = AddressMode.AUTO, address: str = "") -> list[Message]:
        """Register and note what the supernode said of us."""
        messages = self.say(self.registration(mode, address))
        for message in messages:
            if isinstance(message, Registered):
                self.relay_id, self.address = message.relay_id, message.address
        return messages

    def ping(self) -> Pong:
        [pong] = [each for each in self.say(Ping(b"12345678")) if isinstance(each, Pong)]
        return pong

    def roam(self, endpoint: Endpoint, socket: SocketId = 0) -> None:
        """Move, say so, and answer the ping that asks for a proof, if one comes."""
        self.move_to(endpoint, socket)
        for message in self.say(Ping(b"I moved.")):
            if isinstance(message, Ping):
                self.say(Pong(message.token, None, b""))

    def read(self) -> list[Message]:
        """Open every transport datagram that came; return what they say."""
        messages = []
        for datagram in self.inbox:
            if datagram[0] != DatagramType.TRANSPORT:
                continue
            index = int.from_bytes(datagram[4:8], "big")
            session = next(each for each in self.sessions if each.our_index == index)
            plaintext = session.open_untrusted(datagram)
            messages.append(
                self._without_us(decode_message(bytes(open_control_untrusted(plaintext))))
            )
        self.inbox = [each for each in self.inbox if each[0] != DatagramType.TRANSPORT]
        self.heard += messages
        return messages

    def _without_us(self, message: Message) -> Message:
        """Pass over ourselves in a list, as edges do: it is the same for everybody."""
        if not isinstance(message, Members):
            return message
        others = [each for each in message.members if each.key != self.identity.public_key]
        return replace(message, members=tuple(others))

    def envelope(self, to: "ScriptedEdge | int", inner: bytes = b"\x04\0\0\0payload") -> bytes:
        destination = to if isinstance(to, int) else to.relay_id
        return encode_relay_header(self.relay_id, destination) + inner


def refusal_of(messages: list[Message]) -> RefusedMessage:
    [refusal] = [each for each in messages if isinstance(each, RefusedMessage)]
    return refusal


def named_in(messages: list[Message]) -> set[bytes]:
    """Return the keys of the members that ``messages`` name."""
    pages = [each for each in messages if isinstance(each, Members)]
    return {member.key for page in pages for member in page.members}


def digest_of(messages: list[Message], us: "ScriptedEdge", registered: Registered) -> bytes:
    """Return the digest of our view of the membership: what we were told, and ourselves."""
    members = [member for page in messages if isinstance(page, Members) for member in page.members]
    ourselves = type(members[0])(
        us.identity.public_key, registered.endpoint, registered.relay_id, registered.address, True
    )
    return combine_digests(member_digest(each) for each in [*members, ourselves])


def is_within_limit(sent: list[Sent], received_bytes: int) -> bool:
    return sum(len(each.datagram) for each in sent) <= MAX_AMPLIFICATION * received_bytes
