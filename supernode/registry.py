"""Who is registered: edges by community, relay id and session index; protocol section 10.

The digest of a community is kept up to date by exchanging one member's share of the exclusive or.
"""

from collections.abc import Iterator
from dataclasses import replace

from mesh.addresses import EdgeId
from mesh.constants import LOOKUP_BURST, LOOKUP_RATE, REGISTRATION_LIFETIME
from mesh.engine import Entropy
from mesh.errors import RefusalReason, RegistrationRefused
from mesh.wire.messages import Member
from supernode.limits import SupernodeLimits
from supernode.numbering import new_number
from supernode.origin import Origin
from supernode.registration import Candidate, Community, Registration
from supernode.sources import Sources
from supernode.token_bucket import TokenBucket

MOVE_BURST = 5  # endpoint changes at once: each one is told to the whole community
MOVE_RATE = 1.0  # 1/s
FORMER_GRACE = 2.0  # s; in which an edge that has moved hears that we have followed
COMMUNITY_LOOKUP_BURST = 64  # lists at once, besides what each edge may ask for
COMMUNITY_LOOKUP_RATE = 20.0  # 1/s; a list of 1024 members takes 22 ms if it has just changed
COMMUNITY_PUSH_BURST = 8192  # news at once, one for each edge told
COMMUNITY_PUSH_RATE = 4096.0  # 1/s; who is left out sees it by the digest of the next pong


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
        self._sources = Sources(limits)

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

    def check_room(self, candidate: Candidate) -> None:
        """Check that one more edge may register.

        Raises:
            RegistrationRefused: not a member of the only community, or a cap is reached.
        """
        limits = self._limits
        community = candidate.community
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
        self._sources.check_room(candidate.origin.endpoint, community)

    def add(self, candidate: Candidate, member: Member, now: float) -> Registration:
        """Register an edge that is not registered yet; `check_room` has passed."""
        limits = self._limits
        community = self._community(candidate.community, now)
        registration = Registration(
            edge=candidate.edge,
            community=community,
            member=member,
            instance=candidate.instance,
            endpoint=candidate.origin.endpoint,
            socket=candidate.origin.socket,
            session=candidate.session,
            registered_at=now,
            heard_at=now,
            relay_bucket=TokenBucket(limits.relay_burst_bytes, limits.relay_rate_bytes, now),
            lookup_bucket=TokenBucket(LOOKUP_BURST, LOOKUP_RATE, now),
            move_bucket=TokenBucket(MOVE_BURST, MOVE_RATE, now),
        )
        community.edges[candidate.edge] = registration
        community.note_change(member)
        self.by_relay_id[member.relay_id] = registration
        self._by_index[candidate.session.our_index] = registration
        self._sources.add(registration.endpoint, community.id)
        return registration

    def renew(
        self, registration: Registration, candidate: Candidate, member: Member, now: float
    ) -> bool:
        """Take over a new session and say whether what others know of the edge changed.

        What was the current session still opens datagrams that are on their way. The handshake has
        proved where the edge receives.
        """
        if candidate.session is not registration.session:
            if registration.previous is not None:
                del self._by_index[registration.previous.our_index]
            registration.previous = registration.session
            registration.session = candidate.session
            registration.unproved = None
            self._by_index[candidate.session.our_index] = registration
        registration.heard_at = now
        self._set_origin(registration, candidate.origin, now)
        return self._change_member(registration, member)

    def move(self, registration: Registration, origin: Origin, now: float) -> bool:
        """Set where an edge has proved to be; False if what others know of it stays the same."""
        registration.unproved = None
        self._set_origin(registration, origin, now)
        member = replace(registration.member, endpoint=origin.endpoint)
        return self._change_member(registration, member)

    def remove(self, registration: Registration) -> None:
        """Forget a registration, its sessions, and its community if it was the last one."""
        community = registration.community
        del community.edges[registration.edge]
        community.note_change(registration.member)
        del self.by_relay_id[registration.relay_id]
        del self._by_index[registration.session.our_index]
        if registration.previous is not None:
            del self._by_index[registration.previous.our_index]
        self._sources.remove(registration.endpoint, community.id)
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

    def _community(self, community: bytes, now: float) -> Community:
        found = self.communities.get(community)
        if found is None:
            found = self.communities[community] = Community(
                community,
                lookup_bucket=TokenBucket(COMMUNITY_LOOKUP_BURST, COMMUNITY_LOOKUP_RATE, now),
                push_bucket=TokenBucket(COMMUNITY_PUSH_BURST, COMMUNITY_PUSH_RATE, now),
            )
        return found

    def _set_origin(self, registration: Registration, origin: Origin, now: float) -> None:
        if origin == registration.origin:
            return
        registration.former, registration.former_until = registration.origin, now + FORMER_GRACE
        community = registration.community.id
        self._sources.remove(registration.endpoint, community)
        self._sources.add(origin.endpoint, community)
        registration.endpoint, registration.socket = origin

    def _change_member(self, registration: Registration, member: Member) -> bool:
        # The relay id never changes here: an edge that starts anew is removed and added.
        if member == registration.member:
            return False
        registration.community.note_change(registration.member, member)
        registration.member = member
        return True
