"""How often to read a source that has become readable, and when to let more come together first.

A source that is quiet is read once per wake-up: the read that finds nothing costs a system call and
an exception, which a lone ping would pay. A source that is readable again at once brings a burst,
and is read until it is empty.

A flood of small frames needs the opposite of haste. A thread with real-time scheduling wakes for
each single one of them, before the program that sends them can send the next, and the work that a
batch shares is done for every frame: 39 instead of 62 thousand small frames per second. So, as
network cards moderate their interrupts: after a number of wake-ups in close succession that each
found only a few, there is a pause before the next read. Where that finds no more than one it was a
conversation, which pauses slow down, and it takes twice as many to pause again.
"""

import math
import time
from collections.abc import Callable
from typing import Final

import trio

READS_PER_WAKEUP: Final = 32
"""Reads of one source before all others, timers included, get their turn."""

BURST_GAP: Final = 0.0001
"""Seconds: a source readable again this soon is worth reading until it is empty."""

FEW_READS: Final = 4
"""Fewer in one go are not worth a wake-up while a flood lasts."""

FLOOD_WAKEUPS: Final = 8
"""So many wake-ups for few in close succession are a flood, until proved otherwise..."""

MAX_FLOOD_WAKEUPS: Final = 1024
"""...so many at most, however often it was not."""

PAUSE: Final = 0.0001
"""Seconds; less than anybody feels, and tens of frames in a flood."""


class Bursts:
    """The habits of one source."""

    __slots__ = (
        "_clock",
        "_few",
        "_flood_wakeups",
        "_is_burst",
        "_last_read_at",
        "_read",
        "_sleep",
    )

    def __init__(
        self,
        read: Callable[[int], int],
        *,
        clock: Callable[[], float] = trio.current_time,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Prepare to read.

        Args:
            read: told how often it may read; returns how often it found something.
            clock: in seconds.
            sleep: stops the whole thread for so many seconds.
        """
        self._read = read
        self._clock = clock
        self._sleep = sleep
        self._is_burst = False
        self._last_read_at = -math.inf
        self._few = 0
        self._flood_wakeups = FLOOD_WAKEUPS

    def step(self) -> None:  # Hot path.
        """Read a source that is readable."""
        is_soon = self._clock() - self._last_read_at < BURST_GAP
        is_flood = is_soon and self._few >= self._flood_wakeups
        if is_flood:
            self._sleep(PAUSE)
        reads = self._read(READS_PER_WAKEUP if is_soon or self._is_burst else 1)
        self._is_burst = reads > 1
        if not is_soon or reads > FEW_READS:
            self._few = 0
        elif not is_flood:
            self._few += 1
        elif reads <= 1:
            self._few = 0
            self._flood_wakeups = min(2 * self._flood_wakeups, MAX_FLOOD_WAKEUPS)
        self._last_read_at = self._clock()
