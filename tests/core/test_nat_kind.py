"""What is concluded from where a socket was seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.addresses import Endpoint
from mesh.core.nat_kind import (
    Hopeless,
    NatFiltering,
    NatKind,
    NatMapping,
    NatPorts,
    Role,
    from_told,
    hopelessness,
    is_hopeless,
    judge,
    role_between,
    to_told,
)

EASY = NatKind(NatMapping.INDEPENDENT, NatFiltering.PORT, NatPorts.PRESERVED)
RANDOM = NatKind(NatMapping.DEPENDENT, NatFiltering.PORT, NatPorts.RANDOM)
SEQUENTIAL = NatKind(NatMapping.DEPENDENT, NatFiltering.PORT, NatPorts.SEQUENTIAL, step=1)


def at(*ports: int) -> list[Endpoint]:
    return [Endpoint("192.0.2.1", port) for port in ports]


@pytest.mark.parametrize(
    ("ports", "mapping", "choice", "step"),
    [
        ((), NatMapping.UNKNOWN, NatPorts.UNKNOWN, 0),
        ((4000,), NatMapping.UNKNOWN, NatPorts.UNKNOWN, 0),
        ((4000, 4000, 4000), NatMapping.INDEPENDENT, NatPorts.PRESERVED, 0),
        ((9000, 9000, 9000), NatMapping.INDEPENDENT, NatPorts.CHANGED, 0),
        ((9000, 20100, 41000), NatMapping.DEPENDENT, NatPorts.RANDOM, 0),
        ((9000, 9001, 9002), NatMapping.DEPENDENT, NatPorts.SEQUENTIAL, 1),
        ((9000, 9002, 9004), NatMapping.DEPENDENT, NatPorts.SEQUENTIAL, 2),
        ((9000, 9001, 9006), NatMapping.DEPENDENT, NatPorts.SEQUENTIAL, 1),
        ((9000, 9400, 9402), NatMapping.DEPENDENT, NatPorts.SEQUENTIAL, 2),
        ((9010, 9008, 9006), NatMapping.DEPENDENT, NatPorts.SEQUENTIAL, -2),
        ((9000, 9001, 9500), NatMapping.DEPENDENT, NatPorts.RANDOM, 0),
        ((4000, 4000, 4001), NatMapping.DEPENDENT, NatPorts.SEQUENTIAL, 1),
        ((4000, 4001, 4001), NatMapping.DEPENDENT, NatPorts.RANDOM, 0),
    ],
)
def test_ports_tell_the_kind(
    ports: tuple[int, ...], mapping: NatMapping, choice: NatPorts, step: int
) -> None:
    assert judge(4000, at(*ports), NatFiltering.PORT) == NatKind(
        mapping, NatFiltering.PORT, choice, step
    )


def test_a_pool_of_addresses_is_no_sequence() -> None:
    seen = [Endpoint("192.0.2.1", 9000), Endpoint("192.0.2.2", 9001)]
    assert judge(4000, seen, NatFiltering.PORT).ports is NatPorts.RANDOM


def test_roles_and_hope() -> None:
    assert role_between(RANDOM, EASY) is Role.OURS
    assert role_between(EASY, SEQUENTIAL) is Role.THEIRS
    for ours, theirs in ((EASY, EASY), (RANDOM, SEQUENTIAL), (NatKind(), RANDOM)):
        assert role_between(ours, theirs) is Role.NOBODY
    assert is_hopeless(RANDOM, SEQUENTIAL)
    assert not is_hopeless(RANDOM, EASY)
    assert not is_hopeless(NatKind(), NatKind())


LOOSE = NatKind(NatMapping.INDEPENDENT, NatFiltering.ADDRESS, NatPorts.PRESERVED)


@pytest.mark.parametrize(
    ("ours", "theirs", "here", "there", "reason"),
    [
        (RANDOM, SEQUENTIAL, False, False, Hopeless.BOTH_HARD),
        (RANDOM, EASY, False, False, None),
        (RANDOM, EASY, True, False, Hopeless.REFUSED_HERE),
        (EASY, RANDOM, True, True, Hopeless.REFUSED_HERE),
        (EASY, SEQUENTIAL, False, True, Hopeless.REFUSED_THERE),
        (LOOSE, RANDOM, True, True, None),
        (RANDOM, LOOSE, True, True, None),
        (EASY, EASY, True, True, None),
        (NatKind(), RANDOM, True, True, None),
    ],
)
def test_hope_ends_with_two_hard_ones_or_a_refusal(
    ours: NatKind, theirs: NatKind, *, here: bool, there: bool, reason: Hopeless | None
) -> None:
    assert hopelessness(ours, theirs, we_refuse=here, they_refuse=there) is reason


@pytest.mark.parametrize("kind", [EASY, RANDOM, SEQUENTIAL])
@pytest.mark.parametrize("refuses", [True, False])
def test_what_a_peer_is_told_it_understands(kind: NatKind, refuses: bool) -> None:  # noqa: FBT001
    understood, does_refuse = from_told(to_told(kind, refuses=refuses))
    assert (understood.mapping, understood.filtering, understood.ports) == (
        kind.mapping,
        kind.filtering,
        kind.ports,
    )
    assert does_refuse is refuses


def test_what_is_not_known_is_not_told_unless_we_refuse() -> None:
    assert to_told(NatKind(), refuses=False) == ()
    assert from_told(to_told(NatKind(), refuses=True)) == (NatKind(), True)


@given(st.lists(st.integers(0, 255), max_size=4).map(tuple))
def test_a_peer_may_say_anything(told: tuple[int, ...]) -> None:
    kind, _ = from_told(told)
    assert kind.step == 0
    assert role_between(EASY, kind) in Role
