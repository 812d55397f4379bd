"""The token bucket: a burst, then a rate, and never more than both allow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.allowance import Allowance


def taken(allowance: Allowance, now: float, wanted: int = 1000) -> int:
    return sum(allowance.take(now) for _ in range(wanted))


@pytest.mark.parametrize("now", [0.0, 1e6])
def test_a_new_bucket_holds_its_burst(now: float) -> None:
    assert taken(Allowance(burst=5, rate=2), now) == 5


def test_an_empty_bucket_fills_at_its_rate() -> None:
    allowance = Allowance(burst=10, rate=2)
    taken(allowance, 1.0)
    assert taken(allowance, 1.4) == 0
    assert taken(allowance, 1.5) == 1
    assert taken(allowance, 4.5) == 6


def test_what_is_refused_costs_nothing() -> None:
    allowance = Allowance(burst=1, rate=1)
    assert taken(allowance, 0.0) == 1
    for step in range(1, 8):
        assert not allowance.take(step / 8)
    assert allowance.take(1.0)


def test_a_bucket_that_rests_holds_no_more_than_its_burst() -> None:
    allowance = Allowance(burst=3, rate=100)
    taken(allowance, 0.0)
    assert taken(allowance, 3600.0) == 3


@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.lists(st.integers(0, 64), min_size=1, max_size=200),
)
def test_no_window_of_time_sees_more_than_the_burst_and_the_rate_allow(
    burst: int, rate: int, steps: list[int]
) -> None:
    allowance = Allowance(burst, rate)
    now, passed_at = 0.0, []
    for step in steps:
        now += step / 64  # exact in binary, so that no rounding blurs the bound
        if allowance.take(now):
            passed_at.append(now)
    for first, start in enumerate(passed_at):
        for last in range(first, len(passed_at)):
            assert last - first + 1 <= burst + (passed_at[last] - start) * rate + 1e-6


def test_what_is_given_back_can_be_taken_again_and_no_more_than_the_burst() -> None:
    allowance = Allowance(burst=2, rate=0.1)
    assert taken(allowance, 0.0) == 2
    allowance.give_back()
    assert taken(allowance, 0.0) == 1
    for _ in range(5):
        allowance.give_back()
    assert taken(allowance, 0.0) == 2
