"""When the kernel lets the edge's thread run: ahead of programs that compute, but not for ever.

An edge waits most of the time, and what it then has to do takes microseconds. On a machine whose
cores are busy (a game, a compiler, or just both ends of a bulk transfer) it is that waiting for a
core that a ping feels: milliseconds at each of four wake-ups per round trip. With real-time
scheduling it runs as soon as there is something to do, as the kernel's own network code does.

What keeps that from starving the machine:

- It is one thread, and only where there is more than one core.
- A thread that has not slept for `BUSY_TIMEOUT` (RLIMIT_RTTIME, sched_setscheduler(2)), be it that
  somebody floods it, goes back to ordinary scheduling for `PENALTY`.
- Threads and processes that it starts are ordinary ones.
- The kernel keeps a share (5 % by default) for everybody else.
"""

import contextlib
import os
import resource
import signal
from types import FrameType
from typing import Final

import trio

BUSY_TIMEOUT: Final = 0.2
"""Seconds of computing without a pause after which real-time scheduling is given up."""

PENALTY: Final = 1.0
"""Seconds until it is taken up again."""

# Any real-time priority comes before all ordinary threads; the lowest leaves audio and the
# kernel's own real-time threads first.
_PRIORITY: Final = 1


class RealtimeScheduling:
    """Real-time scheduling of the calling thread, which has to be the main one.

    Attributes:
        is_on: whether the thread has it at the moment.
    """

    def __init__(self) -> None:
        """Change nothing before `run`."""
        self.is_on = False
        self._old_limits = resource.getrlimit(resource.RLIMIT_RTTIME)

    async def run(self) -> None:
        """Have real-time scheduling until cancelled, if the kernel grants it."""
        if len(os.sched_getaffinity(0)) < 2 or not self._turn_on():
            return
        earlier = signal.signal(signal.SIGXCPU, self._give_up)
        try:
            while True:
                await trio.sleep(PENALTY)
                if not self.is_on:
                    self._turn_on()
        finally:
            self._turn_off()
            resource.setrlimit(resource.RLIMIT_RTTIME, self._old_limits)
            signal.signal(signal.SIGXCPU, earlier)

    def _turn_on(self) -> bool:
        # Not granted: no CAP_SYS_NICE (containers), or a control group without a real-time share.
        with contextlib.suppress(OSError, ValueError):
            # The kernel raises the soft limit by a second whenever it is passed.
            soft = round(BUSY_TIMEOUT * 1e6)
            resource.setrlimit(resource.RLIMIT_RTTIME, (soft, self._old_limits[1]))
            policy = os.SCHED_RR | os.SCHED_RESET_ON_FORK
            os.sched_setscheduler(0, policy, os.sched_param(_PRIORITY))
            self.is_on = True
        return self.is_on

    def _turn_off(self) -> None:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        self.is_on = False

    def _give_up(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._turn_off()
