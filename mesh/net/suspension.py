"""Noticing that the machine was suspended, which its monotonic clock leaves out."""

import time
from collections.abc import Callable
from typing import Final

import trio

POLL_INTERVAL: Final = 1.0
"""Seconds between looks; no more pass from waking up to noticing."""

LEAST_SUSPENSION: Final = 1.0
"""Seconds; what is shorter nobody has noticed, and clocks are not read at the same moment."""


def suspended_so_far() -> float:
    """Return the seconds that the machine has been suspended since it was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


async def watch_suspensions(
    notify: Callable[[float], None],
    *,
    suspended: Callable[[], float] = suspended_so_far,
    poll_interval: float = POLL_INTERVAL,
) -> None:
    """Tell ``notify`` after each suspension how many seconds it took, until cancelled."""
    known = suspended()
    while True:
        await trio.sleep(poll_interval)
        now = suspended()
        if now - known >= LEAST_SUSPENSION:
            notify(now - known)
        known = now
