"""Every kind of NAT with every kind, in virtual time: which pairs are direct, and that all work."""

import itertools
from collections.abc import Callable

import pytest

from mesh.events import PathKind
from tests.virtual_nat import (
    ADDRESS_RESTRICTED,
    FULL_CONE,
    HOME_ROUTER,
    PORT_RESTRICTED,
    REJECTING_ROUTER,
    SYMMETRIC,
    SYMMETRIC_SEQUENTIAL,
)
from tests.virtual_topology import Router
from tests.world import World

CARRIER_NETWORK = "100.64.0.0/24"


def _double(world: World, carrier: Callable[[World], Router]) -> Router:
    return world.add_nat(HOME_ROUTER, behind=carrier(world))


KINDS: dict[str, Callable[[World], Router | None]] = {
    "open": lambda _world: None,
    "full cone": lambda world: world.add_nat(FULL_CONE),
    "address-restricted": lambda world: world.add_nat(ADDRESS_RESTRICTED),
    "port-restricted": lambda world: world.add_nat(HOME_ROUTER),
    "port changed": lambda world: world.add_nat(PORT_RESTRICTED),
    "rejecting": lambda world: world.add_nat(REJECTING_ROUTER),
    "firewall": lambda world: world.add_firewall(),
    "double": lambda world: _double(
        world, lambda w: w.add_nat(PORT_RESTRICTED, network=CARRIER_NETWORK)
    ),
    "sequential": lambda world: world.add_nat(SYMMETRIC_SEQUENTIAL),
    "symmetric": lambda world: world.add_nat(SYMMETRIC),
    "double symmetric": lambda world: _double(
        world, lambda w: w.add_nat(SYMMETRIC, network=CARRIER_NETWORK)
    ),
}
HARD = {"sequential", "symmetric", "double symmetric"}
STRICT = KINDS.keys() - {"open", "full cone", "address-restricted"}
PAIRS = list(itertools.combinations_with_replacement(KINDS, 2))
RELAYED = [pair for pair in PAIRS if {*pair} <= HARD]
GUESSED = [pair for pair in PAIRS if HARD & {*pair} and {*pair} <= STRICT and pair not in RELAYED]
PLAIN = [pair for pair in PAIRS if pair not in RELAYED and pair not in GUESSED]


class Meeting:
    """Two edges of these kinds; `direct_after` is None where they stayed on the relay."""

    def __init__(self, ours: str, theirs: str, *, seed: int = 1, wait: float = 15.0) -> None:
        self.world = world = World(seed)
        world.add_supernode()
        self.a = world.add_edge("a", KINDS[ours](world))
        self.b = world.add_edge("b", KINDS[theirs](world))
        self.first_ping = world.run_until_all_are_joined() and world.ping(self.a, self.b)
        self.direct_after: float | None = None
        while world.clock.now < wait and self.direct_after is None:
            world.run_for(0.02)
            if self.a.is_direct_to(self.b) and self.b.is_direct_to(self.a):
                self.direct_after = world.clock.now
        self.last_ping = world.ping(self.a, self.b)
        world.check_frames()


def test_the_three_groups_are_all_pairs() -> None:
    assert len(PLAIN) + len(GUESSED) + len(RELAYED) == len(PAIRS) == 66
    assert (len(GUESSED), len(RELAYED)) == (15, 6)


@pytest.mark.parametrize(("ours", "theirs"), PLAIN)
def test_pairs_that_need_no_guessing_are_direct_at_once(ours: str, theirs: str) -> None:
    meeting = Meeting(ours, theirs)
    assert meeting.direct_after is not None
    assert meeting.direct_after < 3.0
    assert meeting.last_ping < 0.1


@pytest.mark.parametrize(("ours", "theirs"), GUESSED)
def test_pairs_that_take_guessing_are_direct_within_five_seconds(ours: str, theirs: str) -> None:
    meetings = [Meeting(ours, theirs, seed=seed) for seed in range(3)]
    found = [each for each in meetings if each.direct_after is not None]
    # One of fifty attempts at random ports misses; so do all three of a pair in one of 10^5 tries.
    assert len(found) >= 2
    assert all(each.direct_after < 5.0 for each in found if each.direct_after)
    assert all(each.last_ping < 0.1 for each in found)


@pytest.mark.parametrize(("ours", "theirs"), RELAYED)
def test_pairs_of_hard_ones_work_through_the_relay(ours: str, theirs: str) -> None:
    meeting = Meeting(ours, theirs)
    assert meeting.direct_after is None
    assert meeting.a.path_kind(meeting.b) is PathKind.RELAY
    assert meeting.last_ping < 0.2
