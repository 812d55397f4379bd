"""Whether the thread has to wait for a core: then real-time scheduling is worth what it costs.

It costs something where nobody competes. The kernel wakes an ordinary thread on the core of whoever
woke it, which is awake; a real-time thread on the core that it had last, which may sleep and takes
15 µs to come back. A round trip between two idle edges took 213 µs with real-time scheduling and
134 µs without.

So the thread is ordinary, and the kernel's own account says how long it has waited for a core
each time that it had something to do: 3 µs on an idle machine, 30 to 130 µs beside programs that
compute. With real-time scheduling it waits for nobody, whoever else does; whether it still needs
that is found out by going without for a moment, at growing intervals.
"""

import math
import os
from collections.abc import Callable
from typing import Final, NamedTuple

TOO_LONG: Final = 25e-6
"""Seconds of waiting for a core, in the mean over some wake-ups: somebody competes."""

ENOUGH_SLICES: Final = 8
"""Times on a core over which that mean is taken, at least."""

TRIAL_INTERVAL_MIN: Final = 0.5
"""Seconds of real-time scheduling before the first look whether it goes without."""

TRIAL_INTERVAL_MAX: Final = 30.0
"""Seconds between two such looks at most: each may delay a few frames."""

MUCH_TOO_LONG: Final = 0.003
"""Seconds of waiting in all since the last look that need no second one."""

IN_A_ROW: Final = 3
"""Looks that find it so before it counts: anybody may be held up once."""

BUSY: Final = 0.4
"""Share of a core: who needs more is not idle, and a trial would cost it many frames."""

_TRIAL_TIME: Final = 1.0  # s; competition that shows within this was there all the time


class Waits(NamedTuple):
    """What the kernel counts of a thread since it was started; sched(7).

    Attributes:
        ran: seconds on a core.
        waited: seconds that it was ready to run, and did not.
        slices: how often it got a core.
    """

    ran: float
    waited: float
    slices: int


class WaitMeter:
    """Asks the kernel how long the main thread has waited.

    Raises:
        OSError: the kernel does not count that (CONFIG_SCHED_INFO).
    """

    def __init__(self) -> None:
        self._fd = os.open("/proc/self/schedstat", os.O_RDONLY | os.O_CLOEXEC)

    def __call__(self) -> Waits:
        """Return the counts of this moment; takes 2 µs."""
        ran, waited, slices = map(int, os.pread(self._fd, 96, 0).split())
        return Waits(ran * 1e-9, waited * 1e-9, slices)

    def close(self) -> None:
        """Stop asking; harmless the second time."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Competition:
    """Says when real-time scheduling is worth it, from what `WaitMeter` counts."""

    def __init__(self, read: Callable[[], Waits]) -> None:
        self._read = read
        self._since = Waits(0.0, 0.0, 0)
        self._in_a_row = 0
        self._ordinary_since = -math.inf
        self._interval = TRIAL_INTERVAL_MIN
        self._trial_at = math.inf
        self._realtime_since = -math.inf

    def went_ordinary(self, now: float) -> None:
        """Learn that the thread is an ordinary one from now on."""
        self._since = self._read()
        self._in_a_row = 0
        self._ordinary_since = now

    def went_realtime(self, now: float) -> None:
        """Learn that it has real-time scheduling from now on."""
        was_trial = now - self._ordinary_since < _TRIAL_TIME
        longer = min(2 * self._interval, TRIAL_INTERVAL_MAX)
        self._interval = longer if was_trial else TRIAL_INTERVAL_MIN
        self._wait_for_trial(now)

    def _wait_for_trial(self, now: float) -> None:
        self._since = self._read()
        self._realtime_since = now
        self._trial_at = now + self._interval

    def is_trial_due(self, now: float) -> bool:
        """Whether to look if the thread does without real-time scheduling."""
        if now < self._trial_at:
            return False
        ran = self._read().ran - self._since.ran
        is_busy = ran > BUSY * (now - self._realtime_since)
        if is_busy:
            self._wait_for_trial(now)
        return not is_busy

    def is_there(self) -> bool:
        """Look whether an ordinary thread has to wait: lately, and again and again."""
        current = self._read()
        slices = current.slices - self._since.slices
        waited = current.waited - self._since.waited
        if waited > MUCH_TOO_LONG:
            return True
        if slices < ENOUGH_SLICES:
            return False
        self._since = current
        self._in_a_row = self._in_a_row + 1 if waited > TOO_LONG * slices else 0
        return self._in_a_row >= IN_A_ROW
