"""What is a reason to move from one direct path to another, and what is noise."""

import pytest

from mesh.addresses import Endpoint
from mesh.core.choice import TIE_GRACE, is_better
from mesh.core.outbox import Via
from mesh.core.path import Path, Source

NOW = 1000.0


def path(host: str, *rtts: float, relay_id: int = 0) -> Path:
    """Return a way that was proved a moment ago and took these times."""
    proved = Path(Via(0, Endpoint(host, 4000), relay_id), Source.TOLD)
    proved.is_validated = True
    proved.last_pong_at = NOW - 0.1
    for rtt in rtts:
        proved.took(rtt)
    return proved


def steady(host: str, rtt: float) -> Path:
    return path(host, *[rtt] * 20)


WAN = "198.51.100.7"
WAN6 = "2001:db8::7"
LAN = "192.168.1.7"


@pytest.mark.parametrize(
    ("new", "old", "moves"),
    [
        (0.094, 0.100, False),  # less than a tenth
        (0.006, 0.010, False),  # less than 5 ms
        (0.088, 0.100, True),
        (0.004, 0.010, True),
    ],
)
def test_a_gain_has_a_least_size(new: float, old: float, moves: bool) -> None:  # noqa: FBT001
    assert is_better(steady(WAN, new), steady("198.51.100.8", old), NOW) == moves


def test_a_gain_that_is_within_the_noise_is_none() -> None:
    shaking = path(WAN, *[0.100, 0.140] * 20)
    assert shaking.rtt_deviation > 0.015
    assert not is_better(steady("198.51.100.8", 0.106), shaking, NOW)
    assert is_better(steady("198.51.100.8", 0.050), shaking, NOW)


@pytest.mark.parametrize(("preferred", "other"), [(LAN, WAN), (WAN6, WAN), (LAN, WAN6)])
def test_ties_go_to_the_lan_and_then_to_ipv6(preferred: str, other: str) -> None:
    assert is_better(steady(preferred, 0.012), steady(other, 0.010), NOW)
    assert not is_better(steady(other, 0.010), steady(preferred, 0.012), NOW)


def test_a_path_that_was_in_doubt_lately_wins_no_tie() -> None:
    doubted = steady(WAN6, 0.010)
    doubted.doubted_at = NOW - 1
    assert not is_better(doubted, steady(WAN, 0.010), NOW)
    doubted.doubted_at = NOW - TIE_GRACE
    assert is_better(doubted, steady(WAN, 0.010), NOW)


def test_a_path_in_doubt_is_kept_for_a_while_and_then_left() -> None:
    doubted = steady(WAN, 0.010)
    doubted.is_in_doubt = True
    doubted.kept_until = NOW + 1
    assert not is_better(steady(WAN6, 0.010), doubted, NOW)
    assert is_better(steady(WAN6, 0.500), doubted, NOW + 1)


def test_any_trusted_direct_path_is_better_than_the_relay_and_no_other_is() -> None:
    relay = path("203.0.113.1", 0.001, relay_id=7)
    direct = steady(WAN, 0.300)
    assert is_better(direct, relay, NOW)
    direct.is_in_doubt = True
    assert not is_better(direct, relay, NOW)
