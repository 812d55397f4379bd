"""When the kernel lets the edge's thread run: ahead of programs that compute, but not for ever.

An edge waits most of the time, and what it then has to do takes microseconds. On a machine whose
cores are busy (a game, a compiler, or just both ends of a bulk transfer) it is that waiting for a
core that a ping feels: milliseconds at each of four wake-ups per round trip. With real-time
scheduling it runs as soon as there is something to do, as the kernel's own network code does. It
has that while it would have to wait (`mesh.net.waits`).

What keeps that from starving the machine:

- It is one thread, and only where there is more than one core.
- A thread that has not slept for `BUSY_TIMEOUT` (RLIMIT_RTTIME, sched_setscheduler(2)), be it that
  somebody floods it, goes back to ordinary scheduling for `PENALTY`.
- Threads and processes that it starts are ordinary ones.
- The kernel keeps a share (5 % by default) for everybody else.
"""

import contextlib
import math
import os
import resource
import signal
from types import FrameType
from typing import Final

import trio

from mesh.net.data_loop import current_data_loop
from mesh.net.waits import Competition, WaitMeter

BUSY_TIMEOUT: Final = 0.2
"""Seconds of computing without a pause after which real-time scheduling is given up."""

PENALTY: Final = 1.0
"""Seconds until it is taken up again."""

START_TIME: Final = 3.0
"""Seconds of ordinary scheduling at first: programs that start compete, and the first ones to have
started must not starve the others."""

# Any real-time priority comes before all ordinary threads; the lowest leaves audio and the
# kernel's own real-time threads first.
_PRIORITY: Final = 1


class RealtimeScheduling:
    """Real-time scheduling of the calling thread, which has to be the main one.

    Attributes:
        is_on: whether the thread has it at the moment.
    """

    def __init__(self, *, always: bool = False) -> None:
        """Change nothing before `run`.

        Args:
            always: have it whether the thread would have to wait or not.
        """
        self.is_on = False
        self._always = always
        self._not_before = -math.inf
        self._competition: Competition | None = None
        self._old_limits = resource.getrlimit(resource.RLIMIT_RTTIME)

    async def run(self) -> None:
        """Have real-time scheduling where it is worth it until cancelled, if the kernel grants it.

        A kernel that does not count how long threads wait has it all the time.
        """
        if len(os.sched_getaffinity(0)) < 2 or not self._turn_on():
            return
        earlier = signal.signal(signal.SIGXCPU, self._give_up)
        loop = current_data_loop()
        with contextlib.ExitStack() as stack:
            if not self._always:
                self._watch_waits(stack)
            if loop is not None:
                loop.pulse = self.look
            try:
                while True:
                    await trio.sleep(PENALTY)
                    self.look()
            finally:
                if loop is not None:
                    loop.pulse = None
                self._turn_off()
                resource.setrlimit(resource.RLIMIT_RTTIME, self._old_limits)
                signal.signal(signal.SIGXCPU, earlier)

    def _watch_waits(self, stack: contextlib.ExitStack) -> None:
        with contextlib.suppress(OSError, ValueError):
            meter = WaitMeter()
            stack.callback(meter.close)
            meter()
            self._competition = Competition(meter)
            self._turn_off()
            now = trio.current_time()
            self._not_before = now + START_TIME
            self._competition.went_ordinary(now)

    def look(self) -> None:
        """Take real-time scheduling up, or see whether it goes without; cheap, called often."""
        now, competition = trio.current_time(), self._competition
        if self.is_on:
            if competition is not None and competition.is_trial_due(now):
                self._turn_off()
                competition.went_ordinary(now)
        elif now < self._not_before:
            if competition is not None:
                competition.went_ordinary(now)  # what was waited until now does not count
        elif competition is None or competition.is_there():
            self._turn_on()
            if competition is not None:
                competition.went_realtime(now)

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
        now = trio.current_time()
        self._not_before = now + PENALTY
        if self._competition is not None:
            self._competition.went_ordinary(now)
