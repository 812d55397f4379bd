"""The door for initiations: MACs, load, cookies and numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.addresses import EdgeId, Endpoint
from mesh.constants import COOKIE_LIFETIME
from mesh.core import initiations as initiations_module
from mesh.core.initiations import InitiationGuard
from mesh.crypto.cookie import mac1_key_peer, open_cookie_reply_untrusted
from mesh.crypto.handshake import PeerInitiator
from mesh.crypto.identity import Identity
from mesh.crypto.suite import Suite
from mesh.errors import NotAuthentic, Replayed
from mesh.wire.datagram import COOKIE_REPLY_BYTES
from tests.core.edge_alone import COMMUNITY, HOME, dice
from tests.world import community_keys

US = Identity.generate(dice(1))
THEM = Identity.generate(dice(2))
ALICE, BOB = EdgeId(b"a" * 16), EdgeId(b"b" * 16)
ELSEWHERE = Endpoint("203.0.113.10", 5000)
PER_SECOND = 20


def guard() -> InitiationGuard:
    return InitiationGuard(US.public_key, COMMUNITY, dice(3), PER_SECOND)


def initiation(
    cookie: bytes | None = None, community: object = COMMUNITY, number: int = 1
) -> PeerInitiator:
    return PeerInitiator(
        THEM, community, US.public_key, Suite.AESGCM_SHA256, 5, number, dice(number), cookie,
    )  # type: ignore[arg-type]  # fmt: skip


def loaded(now: float = 0.0) -> InitiationGuard:
    door = guard()
    for _ in range(PER_SECOND):
        assert door.check_untrusted(initiation().datagram, HOME, now) is None
    return door


def cookie_in(reply: bytes | None, initiator: PeerInitiator) -> bytes:
    assert reply is not None
    k1 = mac1_key_peer(COMMUNITY, US.public_key)
    index, cookie = open_cookie_reply_untrusted(reply, k1, initiator.mac1)
    assert index == initiator.our_index
    return cookie


def test_an_initiation_of_another_community_is_not_looked_at() -> None:
    stranger = initiation(community=community_keys("home", "guessed"))
    with pytest.raises(NotAuthentic):
        guard().check_untrusted(stranger.datagram, HOME, 0.0)


@pytest.mark.parametrize("at", [0, 5, 60, 111, 112, 127])
def test_a_change_of_any_byte_that_mac1_covers_is_noticed(at: int) -> None:
    changed = bytearray(initiation().datagram)
    changed[at] ^= 1
    with pytest.raises(NotAuthentic):
        guard().check_untrusted(bytes(changed), HOME, 0.0)


def test_forgeries_do_not_use_up_what_members_may_cost() -> None:
    door = guard()
    forged = initiation().datagram[:-20] + bytes(20)
    for _ in range(1000):
        with pytest.raises(NotAuthentic):
            door.check_untrusted(forged, HOME, 0.0)
    assert door.check_untrusted(initiation().datagram, HOME, 0.0) is None


def test_more_than_20_in_a_second_are_asked_for_a_cookie() -> None:
    reply = loaded().check_untrusted(initiation().datagram, HOME, 0.0)
    assert reply is not None
    assert len(reply) == COOKIE_REPLY_BYTES


def test_a_second_later_nobody_is_asked_any_more() -> None:
    door = loaded()
    assert door.check_untrusted(initiation().datagram, HOME, 0.0) is not None
    assert door.check_untrusted(initiation().datagram, HOME, 1.0) is None


def test_the_cookie_opens_the_door_under_load() -> None:
    door, first = loaded(), initiation()
    cookie = cookie_in(door.check_untrusted(first.datagram, HOME, 0.0), first)
    assert door.check_untrusted(initiation(cookie).datagram, HOME, 0.0) is None


def test_a_cookie_is_good_for_its_own_source_only() -> None:
    door, first = loaded(), initiation()
    cookie = cookie_in(door.check_untrusted(first.datagram, HOME, 0.0), first)
    assert door.check_untrusted(initiation(cookie).datagram, ELSEWHERE, 0.0) is not None


def test_a_cookie_opens_no_door_after_two_lifetimes() -> None:
    door, first = loaded(), initiation()
    cookie = cookie_in(door.check_untrusted(first.datagram, HOME, 0.0), first)
    late = 2 * COOKIE_LIFETIME
    for _ in range(PER_SECOND):
        door.check_untrusted(initiation().datagram, HOME, late)
    assert door.check_untrusted(initiation(cookie).datagram, HOME, late) is not None


def test_a_number_is_accepted_once_and_no_smaller_one_after_it() -> None:
    door = guard()
    door.accept_number(ALICE, 5)
    for number in (5, 4, 0):
        with pytest.raises(Replayed):
            door.accept_number(ALICE, number)
    door.accept_number(ALICE, 6)


def test_numbers_of_different_edges_have_nothing_to_do_with_each_other() -> None:
    door = guard()
    door.accept_number(ALICE, 2**64 - 1)
    door.accept_number(BOB, 0)


@given(st.lists(st.tuples(st.sampled_from([ALICE, BOB]), st.integers(0, 8)), max_size=50))
def test_what_is_accepted_grows_for_every_edge(numbers: list[tuple[EdgeId, int]]) -> None:
    door = guard()
    greatest = {ALICE: -1, BOB: -1}
    for edge, number in numbers:
        if number > greatest[edge]:
            door.accept_number(edge, number)
            greatest[edge] = number
        else:
            with pytest.raises(Replayed):
                door.accept_number(edge, number)


def test_the_edges_that_initiated_longest_ago_are_forgotten_at_the_cap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(initiations_module, "MAX_NUMBERS", 4)
    door = guard()
    edges = [EdgeId(bytes([number]) * 16) for number in range(5)]
    for edge in edges[:4]:
        door.accept_number(edge, 1)
    door.accept_number(edges[0], 2)
    door.accept_number(edges[4], 1)
    assert len(door._numbers) == 4
    with pytest.raises(Replayed):
        door.accept_number(edges[0], 2)
    door.accept_number(edges[1], 1)
