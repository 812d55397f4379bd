"""Admission: buckets per source, load, and bounded memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.addresses import Endpoint
from mesh.constants import SOURCE_HANDSHAKE_BURST
from supernode.admission import MAX_SOURCES, Admission, LoadMeter, SourceBuckets, Verdict
from supernode.token_bucket import TokenBucket

HERE = Endpoint("192.0.2.1", 4000)


def judge(
    admission: Admission,
    source: Endpoint = HERE,
    now: float = 0.0,
    *,
    is_table_filling: bool = False,
    has_cookie: bool = False,
) -> Verdict:
    return admission.judge(
        source, now, is_table_filling=is_table_filling, has_valid_mac2=lambda: has_cookie
    )


def test_a_source_has_its_burst_and_then_must_show_a_cookie() -> None:
    admission = Admission()
    verdicts = [judge(admission) for _ in range(SOURCE_HANDSHAKE_BURST + 1)]
    assert verdicts == [Verdict.ADMIT] * SOURCE_HANDSHAKE_BURST + [Verdict.ASK_COOKIE]


def test_a_source_with_cookies_has_a_bucket_of_its_own_and_no_more() -> None:
    admission = Admission()
    while judge(admission) is Verdict.ADMIT:
        pass
    verdicts = [judge(admission, has_cookie=True) for _ in range(SOURCE_HANDSHAKE_BURST + 1)]
    assert verdicts == [Verdict.ADMIT] * SOURCE_HANDSHAKE_BURST + [Verdict.DROP]


def test_a_source_gets_five_more_per_second() -> None:
    admission = Admission()
    while judge(admission) is Verdict.ADMIT:
        pass
    admitted = [judge(admission, now=1.0) is Verdict.ADMIT for _ in range(6)]
    assert admitted == [True] * 5 + [False]


def test_another_source_is_not_held_responsible() -> None:
    admission = Admission()
    while judge(admission) is Verdict.ADMIT:
        pass
    assert judge(admission, Endpoint("192.0.2.2", 4000)) is Verdict.ADMIT


def test_addresses_of_one_ipv6_prefix_share_a_bucket() -> None:
    admission = Admission()
    for number in range(SOURCE_HANDSHAKE_BURST):
        judge(admission, Endpoint(f"2001:db8::{number:x}", 4000))
    assert judge(admission, Endpoint("2001:db8::ffff", 1)) is Verdict.ASK_COOKIE
    assert judge(admission, Endpoint("2001:db8:0:1::1", 1)) is Verdict.ADMIT


def test_a_link_local_source_with_a_zone_is_a_source() -> None:
    assert judge(Admission(), Endpoint("fe80::1%2", 4000)) is Verdict.ADMIT


def test_a_filling_table_asks_everybody_for_cookies() -> None:
    admission = Admission()
    assert judge(admission, is_table_filling=True) is Verdict.ASK_COOKIE
    assert judge(admission, is_table_filling=True, has_cookie=True) is Verdict.ADMIT


def test_more_than_100_initiations_in_a_second_are_load_until_they_stop() -> None:
    admission = Admission()
    sources = [Endpoint(f"192.0.2.{number}", 1) for number in range(101)]
    verdicts = [judge(admission, source) for source in sources]
    assert verdicts == [Verdict.ADMIT] * 100 + [Verdict.ASK_COOKIE]
    assert judge(admission, sources[0], now=1.5) is Verdict.ASK_COOKIE
    assert judge(admission, sources[0], now=4.0) is Verdict.ADMIT


def test_the_load_of_a_quiet_meter_is_low() -> None:
    assert not LoadMeter().is_high(0.0)


def test_hints_have_a_bucket_that_leaves_handshakes_alone() -> None:
    admission = Admission()
    while admission.may_hint(HERE, 0.0):
        pass
    assert judge(admission) is Verdict.ADMIT


def test_the_table_of_sources_has_a_cap_that_holds() -> None:
    buckets = SourceBuckets(1, 0.0)
    for number in range(MAX_SOURCES + 10):
        buckets.take(Endpoint(f"10.0.{number // 256}.{number % 256}", 1), 0.0)
    assert len(buckets) == MAX_SOURCES


@given(st.lists(st.tuples(st.floats(0.0, 2.0), st.floats(0.0, 30.0)), max_size=50))
def test_a_bucket_never_gives_more_than_burst_and_rate(steps: list[tuple[float, float]]) -> None:
    bucket = TokenBucket(20.0, 5.0, 0.0)
    now = taken = 0.0
    for elapsed, amount in steps:
        now += elapsed
        if bucket.take(amount, now):
            taken += amount
        assert taken <= 20.0 + 5.0 * now + 1e-6


def test_a_bucket_that_refuses_keeps_what_it_has() -> None:
    bucket = TokenBucket(10.0, 1.0, 0.0)
    assert not bucket.take(11.0, 0.0)
    assert bucket.take(10.0, 0.0)


@pytest.mark.parametrize("idle", [1e3, 1e9])
def test_a_bucket_never_holds_more_than_its_burst(idle: float) -> None:
    bucket = TokenBucket(10.0, 1.0, 0.0)
    assert not bucket.take(10.5, idle)
