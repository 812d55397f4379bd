from hypothesis import given
from hypothesis import strategies as st

from mesh.net.rate_limit import RateLimit


def test_a_source_has_its_burst_then_its_rate() -> None:
    limit = RateLimit(100, 100.0, 3, 1.0)
    assert [limit.allows("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert limit.allows("a", 1.0)
    assert not limit.allows("a", 1.0)


def test_one_source_does_not_use_up_the_share_of_another() -> None:
    limit = RateLimit(100, 100.0, 1, 1.0)
    limit.allows("a", 0.0)
    assert not limit.allows("a", 0.0)
    assert limit.allows("b", 0.0)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 10_000)), max_size=300))
def test_all_sources_together_never_exceed_the_common_bucket(
    arrivals: list[tuple[float, int]],
) -> None:
    limit = RateLimit(10, 5.0, 3, 1.0)
    now = 0.0
    allowed = 0
    for gap, source in arrivals:
        now += gap
        allowed += limit.allows(str(source), now)
        assert allowed <= 10 + 5.0 * now + 1e-6


def test_the_table_of_sources_has_a_cap() -> None:
    limit = RateLimit(10, 5.0, 3, 1.0)
    for number in range(20_000):
        limit.allows(str(number), 0.0)
    assert len(limit._of_source) <= 4096
