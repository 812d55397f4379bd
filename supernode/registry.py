"""Who is registered: edges by community, relay id and session index; protocol section 10.

The digest of a community is kept up to date by exchanging one member's share of the exclusive or.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from mesh.addresses import EdgeId, Endpoint
from mesh.constants import (
    LOOKUP_BURST,
    LOOKUP_RATE,
    MAX_MEMBERS_PER_MESSAGE,
    REGISTRATION_LIFETIME,
)
from mesh.crypto.session import Session
from mesh.engine import Entropy, SocketId
from mesh.errors import RefusalReason, RegistrationRefused
from mesh.wire.messages import Member, Members, combine_digests, member_digest
from supernode.limits import SupernodeLimits
from supernode.numbering import new_number
from supernode.token_bucket import TokenBucket

MOVE_BURST = 5  # endpoint changes at once: each one is told to the whole community
MOVE_RATE = 1.0  # 1/s


@dataclass(slots=True, eq=False)
class Community:
    """The registered edges of one community.

    Attributes:
        id: 32 bytes.
        edges: by EdgeId.
        digest: of the membership (section 10.4), 8 bytes.
        relayed_bytes: relayed between its edges since it came.
    """

    id: bytes
    edges: dict[EdgeId, "Registration"] = field(default_factory=dict)
    digest: bytes = bytes(8)
    relayed_bytes: int = 0

    def pages_for(self, edge: EdgeId) -> Iterator[Members]:
        """Yield every member but ``edge`` in pages; one empty page where there is nobody else."""
        others = [each.member for each in self.edges.values() if each.edge != edge]
        pages = max(1, -(-len(others) // MAX_MEMBERS_PER_MESSAGE))
        for page in range(pages):
            start = page * MAX_MEMBERS_PER_MESSAGE
            members = tuple(others[start : start + MAX_MEMBERS_PER_MESSAGE])
            yield Members(members, self.digest, page, pages)


@dataclass(slots=True, eq=False)
class Registration:
    """One registered edge; changed only through `Registry` and by the relay's counters.

    Attributes:
        edge: its EdgeId.
        community: where it is registered.
        member: what the others are told of it.
        instance: 8 bytes, random per start of the edge.
        socket: what it was last heard on; ``endpoint`` goes with it.
        session: the current one: sealed under, and the only one that moves the endpoint.
        previous: the one before, still opened under.
        registered_at: since when, renewals not counted.
        heard_at: when anything last verified.
        proof_token: what a ping to a new endpoint asked to be repeated, or empty: see `is_proved`.
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
    proof_token: bytes = b""
    relayed_bytes: int = 0
    relayed_datagrams: int = 0

    @property
    def is_proved(self) -> bool:
        """Whether the edge has shown that it receives at its endpoint.

        A handshake shows it; a datagram that verifies does not, since its source may be forged by
        the edge itself, to have a list of a thousand members sent to somebody else.
        """
        return not self.proof_token

    @property
    def relay_id(self) -> int:
        """What names it in relay envelopes."""
        return self.member.relay_id

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
        endpoint: where its ``register`` came from.
        socket: what that arrived on.
        session: the session that it came in.
    """

    edge: EdgeId
    community: bytes
    instance: bytes
    endpoint: Endpoint
    socket: SocketId
    session: Session


class Registry:
    """All registrations of a supernode.

    Attributes:
        by_relay_id: for the relay; not to be changed by others.
        communities: those with registered edges, by id.
    """

    def __init__(self, limits: SupernodeLimits) -> None:
        self._limits = limits
        self.by_relay_id: dict[int, Registration] = {}
        self.communities: dict[bytes, Community] = {}
        self._by_index: dict[int, Registration] = {}

    def __len__(self) -> int:
        return len(self.by_relay_id)

    def __iter__(self) -> Iterator[Registration]:
        return iter(self.by_relay_id.values())

    def find(self, community: bytes, edge: EdgeId) -> Registration | None:
        """Return the registration of an edge in a community."""
        found = self.communities.get(community)
        return found.edges.get(edge) if found is not None else None

    def by_index(self, index: int) -> Registration | None:
        """Return the registration that a session index of ours belongs to."""
        return self._by_index.get(index)

    def check_room(self, community: bytes) -> None:
        """Check that one more edge may register.

        Raises:
            RegistrationRefused: not a member of the only community, or a cap is reached.
        """
        limits = self._limits
        found = self.communities.get(community)
        if limits.only_community is not None and community != limits.only_community:
            raise RegistrationRefused(
                RefusalReason.NOT_A_MEMBER, "this supernode serves one other community only"
            )
        if len(self) >= limits.max_edges or (
            found is None and len(self.communities) >= limits.max_communities
        ):
            raise RegistrationRefused(RefusalReason.SUPERNODE_FULL)
        if found is not None and len(found.edges) >= limits.max_edges_per_community:
            raise RegistrationRefused(RefusalReason.COMMUNITY_FULL)

    def add(self, candidate: Candidate, member: Member, now: float) -> Registration:
        """Register an edge that is not registered yet; `check_room` has passed."""
        community = self.communities.setdefault(candidate.community, Community(candidate.community))
        registration = Registration(
            edge=candidate.edge,
            community=community,
            member=member,
            instance=candidate.instance,
            endpoint=candidate.endpoint,
            socket=candidate.socket,
            session=candidate.session,
            registered_at=now,
            heard_at=now,
            relay_bucket=TokenBucket(
                self._limits.relay_burst_bytes, self._limits.relay_rate_bytes, now
            ),
            lookup_bucket=TokenBucket(LOOKUP_BURST, LOOKUP_RATE, now),
            move_bucket=TokenBucket(MOVE_BURST, MOVE_RATE, now),
        )
        community.edges[candidate.edge] = registration
        community.digest = combine_digests((community.digest, member_digest(member)))
        self.by_relay_id[member.relay_id] = registration
        self._by_index[candidate.session.our_index] = registration
        return registration

    def renew(
        self, registration: Registration, candidate: Candidate, member: Member, now: float
    ) -> bool:
        """Take over a new session and say whether what others know of the edge changed.

        What was the current session still opens datagrams that are on their way.
        """
        if candidate.session is not registration.session:
            if registration.previous is not None:
                del self._by_index[registration.previous.our_index]
            registration.previous = registration.session
            registration.session = candidate.session
            registration.proof_token = b""
            self._by_index[candidate.session.our_index] = registration
        registration.heard_at = now
        registration.endpoint = candidate.endpoint
        registration.socket = candidate.socket
        return self._change_member(registration, member)

    def move(
        self, registration: Registration, endpoint: Endpoint, socket: SocketId, proof_token: bytes
    ) -> bool:
        """Set where an edge is, unproved; False if what others know of it stays the same."""
        registration.endpoint = endpoint
        registration.socket = socket
        registration.proof_token = proof_token
        return self._change_member(registration, replace(registration.member, endpoint=endpoint))

    def remove(self, registration: Registration) -> None:
        """Forget a registration, its sessions, and its community if it was the last one."""
        community = registration.community
        del community.edges[registration.edge]
        community.digest = combine_digests((community.digest, member_digest(registration.member)))
        del self.by_relay_id[registration.relay_id]
        del self._by_index[registration.session.our_index]
        if registration.previous is not None:
            del self._by_index[registration.previous.our_index]
        if not community.edges:
            del self.communities[community.id]

    def silent(self, now: float) -> list[Registration]:
        """Return the registrations whose edges have been silent for too long (section 10.5)."""
        return [each for each in self if now - each.heard_at >= REGISTRATION_LIFETIME]

    def new_relay_id(self, entropy: Entropy) -> int:
        """Return a random relay id that nobody has and that is not zero."""
        return new_number(entropy, self.by_relay_id.__contains__)

    def is_index_taken(self, index: int) -> bool:
        """Whether a session of a registration has this index of ours."""
        return index in self._by_index

    def _change_member(self, registration: Registration, member: Member) -> bool:
        # The relay id never changes here: an edge that starts anew is removed and added.
        if member == registration.member:
            return False
        community = registration.community
        community.digest = combine_digests(
            (community.digest, member_digest(registration.member), member_digest(member))
        )
        registration.member = member
        return True
