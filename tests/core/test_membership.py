"""The view of the community equals a naive set, whatever pages come in whatever order."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mesh.addresses import Endpoint
from mesh.constants import DIGEST_GRACE, LOOKUP_INTERVAL
from mesh.core import membership as membership_module
from mesh.core.membership import Membership
from mesh.crypto.identity import edge_id_of
from mesh.wire.messages import Member, Members
from tests.core.scripted_supernode import digest_of

NO_DIGEST = bytes(8)


def member(number: int, port: int = 1000) -> Member:
    key = number.to_bytes(32, "big")
    return Member(key, Endpoint("198.51.100.7", port), number + 1, "", aes=True)


OURSELVES = member(0xFFFF)
OUR_ID = edge_id_of(OURSELVES.key)
OTHER_DIGEST = digest_of(OURSELVES, member(1000))


def new() -> Membership:
    membership = Membership(OUR_ID)
    membership.set_ourselves(OURSELVES)
    return membership


def push(*members: Member) -> Members:
    return Members(members, NO_DIGEST, page=0, pages=0)


def pages_of(members: list[Member], page_members: int) -> list[Members]:
    pages = [members[at : at + page_members] for at in range(0, len(members), page_members)] or [[]]
    return [
        Members(tuple(page), NO_DIGEST, page=number, pages=len(pages))
        for number, page in enumerate(pages)
    ]


def is_content(membership: Membership, *others: Member) -> bool:
    """Whether a supernode that knows these members gives no reason to look them up."""
    membership.receive_digest(digest_of(OURSELVES, *others), 100.0)
    return membership.lookup_at == float("inf")


members_at_ports = st.dictionaries(st.integers(0, 30), st.integers(1, 3), max_size=25).map(
    lambda ports: [member(number, port) for number, port in ports.items()]
)


class AnyNews(RuleBasedStateMachine):
    """Pushes, departures and whole lists, against a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.membership = new()
        self.naive: dict[bytes, Member] = {}

    @rule(members=members_at_ports)
    def told_of_some(self, members: list[Member]) -> None:
        changed, gone = self.membership.receive_members(push(*members[:10]))
        assert set(changed) == {
            edge_id_of(m.key) for m in members[:10] if self.naive.get(m.key) != m
        }
        assert gone == []
        self.naive.update((m.key, m) for m in members[:10])

    @rule(number=st.integers(0, 30))
    def told_of_a_departure(self, number: int) -> None:
        left = member(number)
        assert self.membership.forget(edge_id_of(left.key)) == self.naive.pop(left.key, None)

    @rule(members=members_at_ports, size=st.integers(1, 10), order=st.randoms())
    def told_all(self, members: list[Member], size: int, order: random.Random) -> None:
        pages = pages_of(members, size)
        order.shuffle(pages)
        dropped = [gone for page in pages for gone in self.membership.receive_members(page)[1]]
        listed = {m.key for m in members}
        assert set(dropped) == {edge_id_of(key) for key in self.naive if key not in listed}
        self.naive = {m.key: m for m in members}

    @rule()
    def told_of_ourselves(self) -> None:
        assert self.membership.receive_members(push(OURSELVES)) == ([], [])

    @invariant()
    def the_views_are_equal(self) -> None:
        known = {m.key: m for m in self.membership.members.values()}
        assert known == self.naive
        assert is_content(self.membership, *self.naive.values())


TestAnyNews = AnyNews.TestCase


@given(members_at_ports, members_at_ports)
def test_the_digests_are_equal_only_where_the_members_are(
    ours: list[Member], theirs: list[Member]
) -> None:
    membership = new()
    for one in ours:
        membership.receive_members(push(one))
    assert is_content(membership, *theirs) == (set(ours) == set(theirs))


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_lost_page_drops_nobody_and_the_next_list_makes_up_for_it(lost: int) -> None:
    everybody = [member(number) for number in range(9)]
    membership = new()
    membership.receive_members(push(member(99)))
    pages = pages_of(everybody, 3)
    for page in pages[:lost] + pages[lost + 1 :]:
        assert membership.receive_members(page)[1] == []
    membership.receive_digest(digest_of(OURSELVES, *everybody), 1.0)
    membership.lookup_sent(1.0 + DIGEST_GRACE)
    dropped = [gone for page in pages for gone in membership.receive_members(page)[1]]
    assert dropped == [edge_id_of(member(99).key)]
    assert set(membership.members.values()) == set(everybody)


def test_a_push_within_a_list_is_not_dropped_by_the_list() -> None:
    membership = new()
    first, second = pages_of([member(1), member(2)], 1)
    membership.receive_members(first)
    membership.receive_members(push(member(3)))
    assert membership.receive_members(second)[1] == []
    assert is_content(membership, member(1), member(2), member(3))


def test_a_departure_within_a_list_stays_one() -> None:
    membership = new()
    first, second = pages_of([member(1), member(2)], 1)
    membership.receive_members(first)
    membership.forget(edge_id_of(member(1).key))
    membership.receive_members(second)
    assert is_content(membership, member(2))


def test_an_empty_list_drops_everybody() -> None:
    membership = new()
    membership.receive_members(push(member(1), member(2)))
    [empty] = pages_of([], 10)
    assert len(membership.receive_members(empty)[1]) == 2
    assert is_content(membership)


def test_a_page_that_comes_twice_changes_nothing() -> None:
    membership = new()
    first, second = pages_of([member(1), member(2)], 1)
    membership.receive_members(first)
    assert membership.receive_members(first) == ([], [])
    assert len(membership.members) == 1
    membership.receive_members(second)
    assert is_content(membership, member(1), member(2))


def test_a_difference_is_looked_up_after_a_moment_and_then_every_two_seconds() -> None:
    membership = new()
    membership.receive_digest(OTHER_DIGEST, 10.0)
    assert membership.lookup_at == 10.0 + DIGEST_GRACE
    membership.receive_digest(OTHER_DIGEST, 10.5)
    assert membership.lookup_at == 10.0 + DIGEST_GRACE
    membership.lookup_sent(11.0)
    assert membership.lookup_at == 11.0 + LOOKUP_INTERVAL


def test_a_difference_that_settles_itself_is_not_looked_up() -> None:
    membership = new()
    membership.receive_digest(digest_of(OURSELVES, member(1)), 10.0)
    membership.receive_members(push(member(1)))
    membership.compare(10.5)
    assert membership.lookup_at == float("inf")


def test_differences_that_come_and_go_are_looked_up_no_more_often() -> None:
    membership = new()
    membership.receive_digest(OTHER_DIGEST, 10.0)
    membership.lookup_sent(11.0)
    membership.receive_digest(digest_of(OURSELVES), 11.1)
    membership.receive_digest(OTHER_DIGEST, 11.2)
    assert membership.lookup_at == 11.0 + LOOKUP_INTERVAL


def test_before_the_supernode_has_told_a_digest_there_is_nothing_to_look_up() -> None:
    membership = new()
    membership.receive_members(push(member(1)))
    membership.compare(10.0)
    assert membership.lookup_at == float("inf")


def test_the_members_have_a_cap_and_known_ones_are_still_updated_at_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(membership_module, "MAX_MEMBERS", 8)
    membership = new()
    for number in range(20):
        membership.receive_members(push(member(number)))
    assert len(membership.members) == 8
    changed, _ = membership.receive_members(push(member(3, port=2000)))
    assert changed == [edge_id_of(member(3).key)]


def test_a_list_of_more_pages_than_members_is_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership_module, "MAX_PAGES", 8)
    membership = new()
    membership.receive_members(push(member(1)))
    for page in range(9):
        assert membership.receive_members(Members((), NO_DIGEST, page=page, pages=9))[1] == []
    assert membership._pages_missing is None


def test_a_list_that_never_ends_is_remembered_in_part_only() -> None:
    dice = random.Random(4)
    membership = new()
    for _ in range(2000):
        members = tuple(
            Member(dice.randbytes(32), Endpoint("198.51.100.7", 9), 1, "", aes=True)
            for _ in range(10)
        )
        membership.receive_members(Members(members, bytes(8), page=0, pages=2))
    assert len(membership._listed) <= 4096 + 10
