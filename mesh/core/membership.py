"""The members of the community as the supernode tells them; docs/protocol.md section 10.4.

News come as pushes, which a network may lose. Every answer of the supernode carries a digest of the
whole membership, so a view that differs for more than a moment asks for the full list.
"""

import math
from collections.abc import Iterable

from mesh.addresses import EdgeId
from mesh.constants import DIGEST_GRACE, LOOKUP_INTERVAL
from mesh.crypto.identity import edge_id_of
from mesh.wire.messages import Member, Members, combine_digests, member_digest

MAX_MEMBERS = 4096  # what a supernode can make an edge remember
MAX_PAGES = MAX_MEMBERS  # of a list; even with one member each


class Membership:
    """Our view of one community on one supernode, ourselves left out of ``members``.

    Attributes:
        members: by edge id.
        lookup_at: when to ask for the full list, or ``math.inf``.
    """

    def __init__(self, our_id: EdgeId) -> None:
        self._our_id = our_id
        self._our_digest = bytes(8)
        self._digests: dict[EdgeId, bytes] = {}
        self._pages_missing: set[int] | None = None
        self._listed: set[EdgeId] = set()
        self._their_digest: bytes | None = None
        self._asked_at = -math.inf
        self.members: dict[EdgeId, Member] = {}
        self.lookup_at = math.inf

    def set_ourselves(self, member: Member) -> None:
        """Note how the supernode knows us: we are part of the digest."""
        self._our_digest = member_digest(member)

    def receive_members(self, message: Members) -> tuple[list[EdgeId], list[EdgeId]]:
        """Take in a push or a page of a list.

        Returns:
            The ids that are new or told differently, and the ids that a complete list left out.
        """
        changed = [edge_id for edge_id in map(self._note, message.members) if edge_id is not None]
        if message.pages == 0:
            if self._pages_missing is not None:
                self._listed.update(changed)  # not to be dropped by the list that is under way
            return changed, []
        if message.pages > MAX_PAGES:
            return changed, []
        if self._pages_missing is None or len(self._listed) > 2 * MAX_MEMBERS:
            self._pages_missing = set(range(message.pages))
            self._listed = set()
        named = (edge_id_of(member.key) for member in message.members)
        self._listed.update(edge_id for edge_id in named if edge_id in self.members)
        self._pages_missing.discard(message.page)
        if self._pages_missing:
            return changed, []
        dropped = [edge_id for edge_id in self.members if edge_id not in self._listed]
        self._pages_missing = None
        self._listed = set()
        for edge_id in dropped:
            self.forget(edge_id)
        return changed, dropped

    def _note(self, member: Member) -> EdgeId | None:
        edge_id = edge_id_of(member.key)
        if edge_id == self._our_id or self.members.get(edge_id) == member:
            return None
        if edge_id not in self.members and len(self.members) >= MAX_MEMBERS:
            return None
        self.members[edge_id] = member
        self._digests[edge_id] = member_digest(member)
        return edge_id

    def forget(self, edge_id: EdgeId) -> Member | None:
        """Forget a member; return it if it was one."""
        self._digests.pop(edge_id, None)
        return self.members.pop(edge_id, None)

    def receive_digest(self, digest: bytes, now: float) -> None:
        """Compare the supernode's digest with our view, and plan a lookup where they differ."""
        self._their_digest = digest
        self.compare(now)

    def compare(self, now: float) -> None:
        """Plan or cancel the lookup, after either side changed."""
        if self._their_digest is None or self._their_digest == self._digest():
            self.lookup_at = math.inf
        elif self.lookup_at == math.inf:
            self.lookup_at = max(now + DIGEST_GRACE, self._asked_at + LOOKUP_INTERVAL)

    def lookup_sent(self, now: float) -> None:
        """Note that the list was asked for; ask again if that does not settle it."""
        self._asked_at = now
        self._pages_missing = None
        self._listed = set()
        self.lookup_at = now + LOOKUP_INTERVAL

    def _digest(self) -> bytes:
        every: Iterable[bytes] = (self._our_digest, *self._digests.values())
        return combine_digests(every)
