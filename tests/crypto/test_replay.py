import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.constants import REPLAY_WINDOW_DATAGRAMS
from mesh.crypto.replay import ReplayWindow

NEAR_THE_EDGES = st.one_of(
    st.integers(0, 3 * REPLAY_WINDOW_DATAGRAMS),
    st.integers(0, 8),
    st.integers(-8, 8).map(lambda offset: REPLAY_WINDOW_DATAGRAMS + offset),
    st.integers(-8, 8).map(lambda offset: 2 * REPLAY_WINDOW_DATAGRAMS + offset),
    st.integers(2**64 - 2 * REPLAY_WINDOW_DATAGRAMS, 2**64 - 1),
)


class NaiveWindow:
    """Section 6.3 in the words of a set."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.highest = -1

    def take(self, counter: int) -> bool:
        if counter in self.seen or counter <= self.highest - REPLAY_WINDOW_DATAGRAMS:
            return False
        self.seen.add(counter)
        self.highest = max(self.highest, counter)
        return True


def take(window: ReplayWindow, counter: int) -> bool:
    if not window.check(counter):
        return False
    window.commit(counter)
    return True


@given(st.lists(NEAR_THE_EDGES, max_size=60))
def test_the_window_equals_a_naive_set(counters: list[int]) -> None:
    window, naive = ReplayWindow(), NaiveWindow()
    for counter in counters:
        assert take(window, counter) == naive.take(counter)
        assert window.highest == naive.highest


@given(
    st.lists(
        st.tuples(st.integers(-REPLAY_WINDOW_DATAGRAMS - 5, 5000), st.integers(1, 30)), max_size=30
    )
)
def test_the_window_equals_a_naive_set_over_runs_that_jump(runs: list[tuple[int, int]]) -> None:
    window, naive = ReplayWindow(), NaiveWindow()
    for jump, length in runs:
        start = max(0, naive.highest + jump)
        for counter in range(start, start + length):
            assert take(window, counter) == naive.take(counter)


def test_every_counter_of_a_full_window_is_taken_once_in_any_order() -> None:
    window = ReplayWindow()
    top = 10 * REPLAY_WINDOW_DATAGRAMS + 17
    assert take(window, top)
    below = range(top - REPLAY_WINDOW_DATAGRAMS + 1, top)
    assert all(take(window, counter) for counter in below)
    assert not any(take(window, counter) for counter in below)
    assert not take(window, top - REPLAY_WINDOW_DATAGRAMS)


@pytest.mark.parametrize("start", [0, 1, 17, REPLAY_WINDOW_DATAGRAMS - 1])
@pytest.mark.parametrize("jump", [1, 2, 40, 2048, 4095, 4096, 4097, 9000])
def test_after_a_jump_over_a_full_window_what_was_skipped_is_taken_once(
    start: int, jump: int
) -> None:
    window, naive = ReplayWindow(), NaiveWindow()
    top = start + REPLAY_WINDOW_DATAGRAMS + 20
    for counter in range(start, top + 1):
        assert take(window, counter) == naive.take(counter)
    assert take(window, top + jump) == naive.take(top + jump)
    for _ in range(2):
        for counter in range(start, top + jump + 1):
            assert take(window, counter) == naive.take(counter)


def test_checking_changes_nothing() -> None:
    window = ReplayWindow()
    assert window.check(5)
    assert window.check(5)
    assert window.highest == -1


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 5000)), max_size=20))
def test_runs_marked_at_once_equal_a_naive_set(runs: list[tuple[int, int]]) -> None:
    window, naive = ReplayWindow(), NaiveWindow()
    for gap, length in runs:
        assert take(window, window.highest + 1 + gap) == naive.take(naive.highest + 1 + gap)
        first = window.highest + 1
        window.commit_run(first + length)
        for counter in range(first, first + length):
            naive.take(counter)
        assert window.highest == naive.highest
        for counter in (*range(max(0, first - 5), first + 5), *range(first + length - 3, first)):
            expected = counter not in naive.seen and counter > (
                naive.highest - REPLAY_WINDOW_DATAGRAMS
            )
            assert window.check(counter) == expected


def test_an_empty_run_marks_nothing() -> None:
    window = ReplayWindow()
    take(window, 7)
    window.commit_run(8)
    window.commit_run(0)
    assert window.highest == 7
    assert not window.check(7)
    assert window.check(6)
