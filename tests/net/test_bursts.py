"""Lone arrivals are read once, bursts in runs, and a flood of small frames is let come together."""

from mesh.net.bursts import (
    BURST_GAP,
    FEW_READS,
    FLOOD_WAKEUPS,
    MAX_FLOOD_WAKEUPS,
    PAUSE,
    READS_PER_WAKEUP,
    Bursts,
)


class Source:
    """A source that has so many things to read at each wake-up, on a clock of its own."""

    def __init__(self, *, while_pausing: int = 0) -> None:
        self.now = 0.0
        self.waiting = 0
        self.limits: list[int] = []
        self.pauses: list[float] = []
        self._while_pausing = while_pausing
        self.bursts = Bursts(self._read, clock=lambda: self.now, sleep=self._sleep)

    def wake(self, waiting: int, *, after: float) -> None:
        """Bring ``waiting`` things, ``after`` seconds after the last read."""
        self.now += after
        self.waiting = waiting
        self.bursts.step()

    def _read(self, limit: int) -> int:
        self.limits.append(limit)
        return min(limit, self.waiting)

    def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        self.waiting += self._while_pausing


AT_ONCE = BURST_GAP / 10
LATER = BURST_GAP * 10


def test_a_lone_arrival_is_read_once() -> None:
    source = Source()
    for _ in range(3):
        source.wake(1, after=LATER)
    assert source.limits == [1, 1, 1]


def test_a_source_that_is_readable_again_at_once_is_read_until_it_is_empty() -> None:
    source = Source()
    source.wake(1, after=LATER)
    source.wake(10, after=AT_ONCE)
    source.wake(1, after=LATER)  # what was a burst is worth a second look
    source.wake(1, after=LATER)
    assert source.limits == [1, READS_PER_WAKEUP, READS_PER_WAKEUP, 1]


def test_a_flood_of_single_frames_is_let_come_together() -> None:
    source = Source(while_pausing=20)
    for _ in range(FLOOD_WAKEUPS + 1):
        source.wake(1, after=AT_ONCE)
    assert source.pauses == []
    for _ in range(3):
        source.wake(1, after=AT_ONCE)
    # What a pause brought is a batch, which is no reason to pause again before it gets few again.
    assert source.pauses == [PAUSE]
    for _ in range(100 * (FLOOD_WAKEUPS + 1)):
        source.wake(1, after=AT_ONCE)
    assert len(source.pauses) > 90


def test_batches_are_no_reason_to_pause() -> None:
    source = Source()
    for _ in range(1000):
        source.wake(FEW_READS + 1, after=AT_ONCE)
    assert source.pauses == []


def test_wake_ups_that_are_further_apart_are_no_reason_to_pause() -> None:
    source = Source()
    for _ in range(1000):
        source.wake(1, after=2 * BURST_GAP)
    assert source.pauses == []


def test_a_fast_conversation_is_paused_less_and_less_often() -> None:
    source = Source(while_pausing=0)
    wakeups = 10 * MAX_FLOOD_WAKEUPS
    for _ in range(wakeups):
        source.wake(1, after=AT_ONCE)
    assert 1 <= len(source.pauses) <= 10 + wakeups / MAX_FLOOD_WAKEUPS
