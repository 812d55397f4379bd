"""What is known of registered edges and of their communities; docs/protocol.md section 10."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mesh.addresses import EdgeId, Endpoint
from mesh.constants import MAX_MEMBERS_PER_MESSAGE
from mesh.crypto.session import Session
from mesh.engine import SocketId
from mesh.wire.inner import wrap_control
from mesh.wire.messages import Member, Members, combine_digests, encode_message, member_digest
from supernode.origin import Origin
from supernode.token_bucket import TokenBucket


@dataclass(slots=True, eq=False)
class Community:
    """The registered edges of one community.

    Attributes:
        id: 32 bytes.
        lookup_bucket: for lists that its edges ask for: a list of many costs much.
        push_bucket: for datagrams that bring news to its edges, one for each edge told.
        edges: by EdgeId.
        digest: of the membership (section 10.4), 8 bytes.
        relayed_bytes: relayed between its edges since it came.
    """

    id: bytes
    lookup_bucket: TokenBucket
    push_bucket: TokenBucket
    edges: dict[EdgeId, "Registration"] = field(default_factory=dict)
    digest: bytes = bytes(8)
    relayed_bytes: int = 0
    _pages: list[bytes] | None = None

    def note_change(self, *members: Member) -> None:
        """Take members that came, went, or are told differently (before, after) into account."""
        self.digest = combine_digests((self.digest, *map(member_digest, members)))
        self._pages = None

    def pages(self) -> Sequence[bytes]:
        """Return the list of all members, one page at least, encoded and ready to be sealed.

        It names everybody and so is the same for everybody: an edge passes over itself. Encoding
        500 members takes 11 ms, which is done once per change and not once per edge that asks.
        """
        if self._pages is None:
            self._pages = self._encode_pages()
        return self._pages

    def _encode_pages(self) -> list[bytes]:
        members = [each.member for each in self.edges.values()]
        starts = range(0, len(members), MAX_MEMBERS_PER_MESSAGE) or range(1)
        parts = [tuple(members[start : start + MAX_MEMBERS_PER_MESSAGE]) for start in starts]
        return [
            wrap_control(encode_message(Members(part, self.digest, page, len(parts))))
            for page, part in enumerate(parts)
        ]


@dataclass(slots=True, eq=False)
class Registration:
    """One registered edge; changed only through `Registry` and by the relay's counters.

    An edge has shown by a handshake, or by an answer to a ping, that it receives at its endpoint.
    A datagram that verifies does not show that: an edge may forge its source to turn lists and
    pushes on somebody, and who sees the datagram on its way may copy it from elsewhere to divert
    what is relayed. So a new origin stays unproved until the ping sent there is answered.

    Attributes:
        edge: its EdgeId.
        community: where it is registered.
        member: what the others are told of it.
        instance: 8 bytes, random per start of the edge.
        endpoint: where it receives.
        socket: what it is heard on there.
        session: the current one: sealed under, and the only one that moves the endpoint.
        previous: the one before, still opened under.
        registered_at: since when, renewals not counted.
        heard_at: when anything last verified.
        unproved: where its newest datagram came from, if that is not where it receives.
        proof_token: what the ping to ``unproved`` asks to be repeated.
        former: where it was before it moved: envelopes from there count until ``former_until``.
    """

    edge: EdgeId
    community: Community
    member: Member
    instance: bytes
    endpoint: Endpoint
    socket: SocketId
    session: Session
    registered_at: float
    heard_at: float
    relay_bucket: TokenBucket
    lookup_bucket: TokenBucket
    move_bucket: TokenBucket
    previous: Session | None = None
    unproved: Origin | None = None
    proof_token: bytes = b""
    relayed_bytes: int = 0
    relayed_datagrams: int = 0
    former: Origin | None = None
    former_until: float = 0.0

    @property
    def relay_id(self) -> int:
        """What names it in relay envelopes."""
        return self.member.relay_id

    @property
    def origin(self) -> Origin:
        """Where it has proved to receive."""
        return Origin(self.endpoint, self.socket)

    def session_of(self, index: int) -> Session:
        """Return its session of that index of ours; it has one."""
        previous = self.previous
        if previous is not None and previous.our_index == index:
            return previous
        return self.session


@dataclass(frozen=True, slots=True)
class Candidate:
    """An edge about to be registered: it has proved its key and its membership.

    Attributes:
        edge: its EdgeId.
        community: 32 bytes.
        instance: 8 bytes.
        origin: where its ``register`` came from, which is where its handshake did.
        session: the session that it came in.
    """

    edge: EdgeId
    community: bytes
    instance: bytes
    origin: Origin
    session: Session
