"""Real-time scheduling is asked for where an ordinary thread waits for a core, and given back."""

import time

import pytest

from mesh.net.waits import (
    ENOUGH_SLICES,
    IN_A_ROW,
    MUCH_TOO_LONG,
    TOO_LONG,
    TRIAL_INTERVAL_MAX,
    TRIAL_INTERVAL_MIN,
    Competition,
    WaitMeter,
    Waits,
)


class Counts:
    """What the kernel would count."""

    def __init__(self) -> None:
        self.ran = self.waited = 0.0
        self.slices = 0

    def __call__(self) -> Waits:
        return Waits(self.ran, self.waited, self.slices)

    def run(self, slices: int, wait: float) -> None:
        """Let the thread run so often, each time after having waited so long."""
        self.slices += slices
        self.waited += slices * wait


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def competition(counts: Counts) -> Competition:
    competition = Competition(counts)
    competition.went_ordinary(0.0)
    return competition


def looks(competition: Competition, counts: Counts, wait: float, times: int) -> list[bool]:
    found = []
    for _ in range(times):
        counts.run(ENOUGH_SLICES, wait)
        found.append(competition.is_there())
    return found


def test_a_thread_that_gets_a_core_at_once_stays_ordinary(
    competition: Competition, counts: Counts
) -> None:
    assert not any(looks(competition, counts, TOO_LONG / 3, 1000))


def test_waiting_again_and_again_counts(competition: Competition, counts: Counts) -> None:
    assert looks(competition, counts, 2 * TOO_LONG, IN_A_ROW) == [False] * (IN_A_ROW - 1) + [True]


def test_being_held_up_once_does_not(competition: Competition, counts: Counts) -> None:
    for _ in range(100):
        found = looks(competition, counts, 10 * TOO_LONG, IN_A_ROW - 1)
        found += looks(competition, counts, 0.0, 1)
        assert not any(found)


def test_waiting_for_milliseconds_needs_no_second_look(
    competition: Competition, counts: Counts
) -> None:
    counts.run(2, MUCH_TOO_LONG)
    assert competition.is_there()


def test_few_slices_say_nothing_until_they_are_enough(
    competition: Competition, counts: Counts
) -> None:
    looks(competition, counts, 2 * TOO_LONG, IN_A_ROW - 1)
    counts.run(ENOUGH_SLICES - 1, 2 * TOO_LONG)
    assert not competition.is_there()
    counts.run(1, 2 * TOO_LONG)
    assert competition.is_there()


def test_what_was_waited_before_it_went_ordinary_is_forgotten(
    competition: Competition, counts: Counts
) -> None:
    looks(competition, counts, 2 * TOO_LONG, IN_A_ROW - 1)
    counts.run(100, 1.0)
    competition.went_ordinary(5.0)
    assert not any(looks(competition, counts, 0.0, 10))


def test_while_the_competition_lasts_trials_get_rarer(competition: Competition) -> None:
    now, intervals = 10.0, []
    competition.went_realtime(now)
    for _ in range(8):
        began = now
        while not competition.is_trial_due(now):
            now += 0.1
        intervals.append(round(now - began, 1))
        competition.went_ordinary(now)
        now += 0.1  # the same competitors show at once
        competition.went_realtime(now)
    assert intervals[0] == pytest.approx(TRIAL_INTERVAL_MIN, abs=0.11)
    assert intervals[1] == pytest.approx(2 * TRIAL_INTERVAL_MIN, abs=0.11)
    assert intervals[-1] == pytest.approx(TRIAL_INTERVAL_MAX, abs=0.11)


def test_a_thread_that_has_much_to_do_is_not_tried(
    competition: Competition, counts: Counts
) -> None:
    competition.went_realtime(100.0)
    counts.ran = 2 * TRIAL_INTERVAL_MIN
    assert not competition.is_trial_due(100.0 + 2 * TRIAL_INTERVAL_MIN)
    quiet_at = 100.0 + 4 * TRIAL_INTERVAL_MIN
    assert competition.is_trial_due(quiet_at)


def test_a_trial_that_went_well_makes_the_next_competition_a_new_one(
    competition: Competition,
) -> None:
    competition.went_realtime(100.0)
    competition.went_ordinary(102.0)
    competition.went_realtime(102.1)
    assert not competition.is_trial_due(102.1 + TRIAL_INTERVAL_MIN)
    competition.went_ordinary(110.0)
    competition.went_realtime(150.0)
    assert competition.is_trial_due(150.0 + TRIAL_INTERVAL_MIN)


def test_the_kernel_counts_slices() -> None:
    meter = WaitMeter()
    try:
        before = meter()
        assert before.slices > 0
        assert before.waited >= 0.0
        assert 0.0 < before.ran <= time.process_time()
        assert meter() >= before
    finally:
        meter.close()
        meter.close()
