"""Candidates become paths by pongs, are trusted for a while, and are left when they fail."""

import itertools
import math

import pytest

from mesh.addresses import Endpoint
from mesh.constants import (
    HEARTBEAT_INTERVAL,
    IDLE_HEARTBEAT_INTERVAL,
    MAX_CANDIDATES,
    PATH_TIMEOUT,
    PROBE_OFFSETS,
    PROBE_ROUND_INTERVAL,
    PUNCH_LEAD,
    TRUST_LIFETIME,
)
from mesh.core.outbox import Via
from mesh.core.path import Source
from mesh.core.paths import EXPECTED_WITHIN, PathTable
from mesh.core.told_addresses import ToldAddresses
from mesh.core.trust import RELAY_PATIENCE

RELAY = Via(0, Endpoint("203.0.113.1", 7777), 42)
WAN = Via(0, Endpoint("198.51.100.7", 4000))
OTHER_WAN = Via(0, Endpoint("198.51.100.8", 4000))
LAN = Via(0, Endpoint("192.168.1.7", 4000))

TOKENS = (number.to_bytes(8, "big") for number in itertools.count())


def table(*, relay: bool = True, may_relay: bool = True, may_be_direct: bool = True) -> PathTable:
    paths = PathTable(
        ToldAddresses(), ToldAddresses(512, 64.0), may_relay=may_relay, may_be_direct=may_be_direct
    )
    if relay:
        paths.set_relay(0, RELAY, 0.0)
    return paths


def ping_and_pong(paths: PathTable, via: Via, now: float, rtt: float) -> None:
    path = paths.find(via)
    assert path is not None
    token = next(TOKENS)
    paths.ping_sent(path, token, now)
    assert paths.receive_pong(via, token, now + rtt) == pytest.approx(rtt)


def ping_times(paths: PathTable, via: Via, until: float) -> list[float]:
    """Let the table run with no answers at all; return when it pinged ``via``."""
    times = []
    while (now := paths.next_ping_at()) <= until:
        for path in paths.pings_due(now):
            paths.ping_sent(path, next(TOKENS), now)
            if path.via == via:
                times.append(now)
    return times


def test_frames_take_the_relay_until_a_direct_path_is_validated() -> None:
    paths = table()
    paths.add_candidate(WAN, Source.INTRODUCED, 0.0)
    assert paths.vias(0.0) == (RELAY,)
    ping_and_pong(paths, WAN, 0.1, 0.02)
    assert paths.vias(0.2) == (WAN,)


def test_a_pong_proves_only_the_way_its_ping_went() -> None:
    paths = table()
    wan = paths.add_candidate(WAN, Source.TOLD, 0.0)
    paths.add_candidate(OTHER_WAN, Source.TOLD, 0.0)
    assert wan is not None
    paths.ping_sent(wan, b"12345678", 0.0)
    assert paths.receive_pong(OTHER_WAN, b"12345678", 0.1) is None
    assert paths.receive_pong(WAN, b"87654321", 0.1) is None
    assert paths.vias(0.1) == (RELAY,)


def test_a_pong_counts_once() -> None:
    paths = table()
    wan = paths.add_candidate(WAN, Source.TOLD, 0.0)
    assert wan is not None
    paths.ping_sent(wan, b"12345678", 0.0)
    assert paths.receive_pong(WAN, b"12345678", 0.1) is not None
    assert paths.receive_pong(WAN, b"12345678", 0.2) is None


def test_in_doubt_frames_go_both_ways_and_a_pong_ends_the_doubt() -> None:
    paths = table()
    paths.add_candidate(WAN, Source.TOLD, 0.0)
    ping_and_pong(paths, WAN, 0.0, 0.02)
    doubt_at = 0.02 + TRUST_LIFETIME
    assert paths.vias(doubt_at - 0.01) == (WAN,)
    assert paths.vias(doubt_at + 0.01) == (WAN, RELAY)
    ping_and_pong(paths, WAN, doubt_at + 0.1, 0.02)
    assert paths.vias(doubt_at + 0.2) == (WAN,)


def test_a_silent_path_is_dropped_and_frames_return_to_the_relay() -> None:
    paths = table()
    paths.add_candidate(WAN, Source.SEEN, 0.0)
    ping_and_pong(paths, WAN, 0.0, 0.02)
    now = 0.1
    while now < PATH_TIMEOUT + 10:
        for path in paths.pings_due(now):
            paths.ping_sent(path, next(TOKENS), now)
        paths.vias(now)
        now += 0.25
    assert paths.vias(now) == (RELAY,)
    path = paths.find(WAN)
    assert path is not None
    assert not path.is_validated


def test_a_path_in_use_is_pinged_often_and_an_idle_one_just_within_nat_timers() -> None:
    paths = table()
    paths.add_candidate(WAN, Source.TOLD, 0.0)
    paths.vias(0.0)
    ping_and_pong(paths, WAN, 0.0, 0.01)
    path = paths.find(WAN)
    assert path is not None
    assert path.next_ping_at == pytest.approx(0.01 + HEARTBEAT_INTERVAL)
    ping_and_pong(paths, WAN, 100.0, 0.01)
    assert path.next_ping_at == pytest.approx(100.01 + IDLE_HEARTBEAT_INTERVAL)


def test_an_idle_path_that_is_used_again_is_pinged_at_once() -> None:
    paths = table()
    paths.add_candidate(WAN, Source.TOLD, 0.0)
    ping_and_pong(paths, WAN, 0.0, 0.01)
    assert paths.vias(20.0) == (WAN, RELAY)
    assert [p.via for p in paths.pings_due(20.0)].count(WAN) == 1


def test_a_candidate_is_pinged_on_schedule_and_again_every_round() -> None:
    paths = table()
    paths.add_candidate(WAN, Source.TOLD, 0.0)
    paths.start_round(0.0)
    times = ping_times(paths, WAN, PROBE_ROUND_INTERVAL + 1.0)
    assert times[: len(PROBE_OFFSETS)] == pytest.approx(PROBE_OFFSETS)
    assert times[len(PROBE_OFFSETS)] == pytest.approx(PROBE_ROUND_INTERVAL)


def test_small_gains_are_no_reason_to_move() -> None:
    paths = table()
    for via in (WAN, OTHER_WAN):
        paths.add_candidate(via, Source.TOLD, 0.0)
    ping_and_pong(paths, WAN, 0.0, 0.050)
    ping_and_pong(paths, OTHER_WAN, 0.1, 0.046)
    assert paths.vias(0.2) == (WAN,)


def test_a_clearly_faster_path_is_taken() -> None:
    paths = table()
    for via in (WAN, OTHER_WAN):
        paths.add_candidate(via, Source.TOLD, 0.0)
    ping_and_pong(paths, WAN, 0.0, 0.050)
    ping_and_pong(paths, OTHER_WAN, 0.1, 0.020)
    assert paths.vias(0.2) == (OTHER_WAN,)


def test_the_lan_wins_a_tie() -> None:
    paths = table()
    for via in (WAN, LAN):
        paths.add_candidate(via, Source.TOLD, 0.0)
    ping_and_pong(paths, WAN, 0.0, 0.002)
    ping_and_pong(paths, LAN, 0.1, 0.003)
    assert paths.vias(0.2) == (LAN,)


def test_a_send_error_takes_frames_off_the_path_at_once() -> None:
    paths = table()
    paths.add_candidate(WAN, Source.TOLD, 0.0)
    ping_and_pong(paths, WAN, 0.0, 0.01)
    assert paths.vias(0.5) == (WAN,)
    paths.withdraw(WAN, 0.6)
    assert paths.vias(0.6) == (RELAY,)


def test_relay_only_takes_no_candidates() -> None:
    paths = table(may_be_direct=False)
    assert paths.add_candidate(WAN, Source.TOLD, 0.0) is None
    paths.heard_from(WAN, 0.0)
    assert len(paths) == 0


def test_without_relay_frames_wait_for_a_direct_path_but_messages_do_not() -> None:
    paths = table(may_relay=False)
    assert paths.vias(0.0) == ()
    assert paths.control_vias(0.0) == (RELAY,)
    paths.add_candidate(WAN, Source.TOLD, 0.0)
    ping_and_pong(paths, WAN, 0.0, 0.01)
    assert paths.vias(10.0) == (WAN,)


def test_candidates_have_a_cap_and_proved_ones_stay() -> None:
    paths = table()
    paths.add_candidate(WAN, Source.TOLD, 0.0)
    ping_and_pong(paths, WAN, 0.0, 0.01)
    for port in range(1, 200):
        paths.add_candidate(Via(0, Endpoint("198.51.100.9", port)), Source.SEEN, 1.0)
    assert len(paths) == MAX_CANDIDATES
    assert paths.find(WAN) is not None


def test_told_candidates_do_not_displace_seen_ones() -> None:
    paths = table()
    for port in range(1, MAX_CANDIDATES + 1):
        paths.add_candidate(Via(0, Endpoint("198.51.100.9", port)), Source.SEEN, 1.0)
    assert paths.add_candidate(WAN, Source.TOLD, 2.0) is None


def test_datagrams_from_an_unproved_source_cannot_cause_a_flood_of_pings() -> None:
    paths = table()
    pings = 0
    for millisecond in range(1000):
        now = millisecond / 1000
        paths.heard_from(WAN, now)
        for path in paths.pings_due(now):
            paths.ping_sent(path, next(TOKENS), now)
            pings += path.via == WAN
    assert pings <= 7


def test_a_new_relay_replaces_the_old_one() -> None:
    paths = table()
    moved = Via(0, RELAY.endpoint, 43)
    paths.set_relay(0, moved, 1.0)
    assert paths.vias(1.0) == (moved,)
    paths.set_relay(0, None, 2.0)
    assert paths.vias(2.0) == ()


SPARE = Via(0, Endpoint("203.0.113.2", 7777), 43)


def two_relays() -> PathTable:
    """A table with two relays, of which the first is in use and both have just answered."""
    paths = table()
    paths.set_relay(1, SPARE, 0.0)
    ping_and_pong(paths, RELAY, 0.0, 0.020)
    ping_and_pong(paths, SPARE, 0.0, 0.022)
    assert paths.vias(0.1) == (RELAY,)
    return paths


def answer_pings(paths: PathTable, until: float, *, silent: Via | None = None) -> None:
    """Let frames flow and answer pings, but those to ``silent``."""
    while (now := paths.next_ping_at()) <= until:
        for path in paths.pings_due(now):
            token = next(TOKENS)
            paths.ping_sent(path, token, now)
            if path.via != silent:
                paths.receive_pong(path.via, token, now + 0.02)
        paths.vias(now + 0.02)


def test_the_faster_relay_is_used_where_the_gain_is_worth_a_change() -> None:
    paths = two_relays()
    ping_and_pong(paths, SPARE, 0.2, 0.001)
    assert paths.vias(0.3) == (RELAY,)
    for step in range(20):
        ping_and_pong(paths, SPARE, 0.3 + step / 100, 0.001)
    assert paths.vias(0.6) == (SPARE,)


def test_a_relay_that_dies_silently_is_doubled_within_a_second_and_left_later() -> None:
    paths = two_relays()
    answer_pings(paths, 5.0)
    assert paths.vias(5.0) == (RELAY,)
    answer_pings(paths, 5.9, silent=RELAY)
    assert paths.vias(5.9) == (RELAY, SPARE)
    answer_pings(paths, 5.9 + RELAY_PATIENCE - 1.0, silent=RELAY)
    assert paths.vias(5.9 + RELAY_PATIENCE - 1.0) == (RELAY, SPARE)
    answer_pings(paths, 5.9 + RELAY_PATIENCE + 2.5, silent=RELAY)
    assert paths.vias(5.9 + RELAY_PATIENCE + 2.5) == (SPARE,)


def test_an_only_relay_is_not_doubted() -> None:
    paths = table()
    ping_and_pong(paths, RELAY, 0.0, 0.02)
    answer_pings(paths, 30.0, silent=RELAY)
    assert paths.vias(30.0) == (RELAY,)


def test_a_relay_whose_supernode_is_doubted_is_doubled_at_once_if_it_is_in_use() -> None:
    paths = two_relays()
    paths.doubt_relay(0, 0.2)
    assert paths.vias(0.2) == (RELAY, SPARE)
    assert paths.next_ping_at() <= 1.0
    idle = two_relays()
    before = idle.next_ping_at()
    idle.doubt_relay(1, 0.2)
    assert idle.vias(0.2) == (RELAY,)
    assert idle.next_ping_at() == before


def test_a_relay_whose_supernode_is_lost_is_left_without_a_ping_and_may_come_back() -> None:
    paths = two_relays()
    paths.relay_lost(0, 50.0)
    assert paths.vias(50.0)[0] == SPARE
    paths.relay_lost(1, 51.0)
    paths.set_relay(0, RELAY, 52.0)
    assert paths.vias(52.0)[0] == RELAY


def test_the_last_relay_is_kept_even_if_its_supernode_is_lost() -> None:
    paths = table()
    paths.relay_lost(0, 1.0)
    assert paths.vias(1.0) == (RELAY,)


def test_a_direct_path_in_doubt_is_doubled_by_one_relay_only() -> None:
    paths = two_relays()
    paths.add_candidate(WAN, Source.INTRODUCED, 0.2)
    ping_and_pong(paths, WAN, 0.2, 0.02)
    assert paths.vias(1.0) == (WAN,)
    assert len(paths.vias(0.3 + TRUST_LIFETIME)) == 2
    assert paths.vias(0.3 + TRUST_LIFETIME)[0] == WAN


def test_a_relay_that_was_withdrawn_leaves_the_other() -> None:
    paths = two_relays()
    paths.set_relay(0, None, 1.0)
    assert paths.vias(1.0) == (SPARE,)
    assert paths.relay_vias == [SPARE]


def test_who_only_receives_asks_when_the_senders_pings_stop() -> None:
    paths = table()
    paths.add_candidate(WAN, Source.TOLD, 0.0)
    ping_and_pong(paths, WAN, 0.0, 0.01)
    path = paths.find(WAN)
    assert path is not None
    for step in range(1, 5):
        paths.expect_more(path, 0.5 * step)
        assert path.next_ping_at > 0.5 * step + 0.49, "pings that go on are answer enough"
    assert path.next_ping_at == pytest.approx(3.0)
    paths.expect_more(path, 1.0)
    assert path.next_ping_at == pytest.approx(1.0 + EXPECTED_WITHIN)


def test_a_punch_goes_before_each_later_round_to_where_the_supernode_saw_an_unproved_peer() -> None:
    paths = table()
    paths.add_candidate(WAN, Source.INTRODUCED, 0.0)
    paths.add_candidate(LAN, Source.TOLD, 0.0)
    paths.start_round(0.0)
    assert paths.punch_at == PROBE_ROUND_INTERVAL - PUNCH_LEAD
    assert paths.punches_due(paths.punch_at - 0.1) == []
    assert paths.punches_due(paths.punch_at) == [WAN]
    assert paths.punch_at == math.inf
    paths.start_round(PROBE_ROUND_INTERVAL)
    assert paths.punch_at == 2 * PROBE_ROUND_INTERVAL - PUNCH_LEAD
    ping_and_pong(paths, WAN, PROBE_ROUND_INTERVAL, PROBE_ROUND_INTERVAL + 0.02)
    assert paths.punches_due(paths.punch_at) == []
