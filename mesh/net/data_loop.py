"""A bare epoll loop for the data path, with trio as its guest for everything else.

A wake-up by way of trio's scheduler costs about 14 µs more than one by ``epoll_wait`` alone, and a
round trip between two edges has four of them. So the sockets and the TAP, and the timers of the
engines, are waited for here, in the main thread; what they bring is handled by plain calls. Trio
runs on top (its *guest mode*): it waits for its own files in a thread, and this loop gives it a
turn whenever one of its tasks has something to do. All code still runs in the one main thread, one
call at a time.

```
   main thread                                    thread of trio
   epoll_wait ◀── TAP, UDP sockets, alarms        epoll_wait ◀── control socket, netlink, streams
      │    ▲                                          │
      │    └───────────── eventfd ◀───────────────────┘
      ├─▶ driver: read, engine, send, write
      └─▶ a turn of trio's tasks
```
"""

import collections
import math
import os
import select
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn, TypeVar

import outcome
import trio

T = TypeVar("T")

Step = Callable[[], object]

PULSE_INTERVAL: Final = 0.005
"""Seconds between two calls of `DataLoop.pulse`, at least."""

_MAX_WAIT: Final = 3600.0  # s; what epoll takes is an int of milliseconds


class Alarm:
    """Calls its owner back at a time.

    Attributes:
        deadline: when, by trio's clock; ``math.inf`` for never. The owner moves it at any time.
    """

    __slots__ = ("deadline", "ring")

    def __init__(self, ring: Step, deadline: float) -> None:
        self.ring = ring
        self.deadline = deadline


class DataLoop:
    """One per program; `run` is its life.

    Attributes:
        pulse: called when something has happened, every `PULSE_INTERVAL` at most; or None.
    """

    def __init__(self) -> None:
        """Open what the loop needs; nothing is waited for before `run`."""
        self._epoll = select.epoll()
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._steps: dict[int, Step] = {}
        self._unfinished: dict[int, Step] = {}
        self._readers: dict[int, trio.lowlevel.Task] = {}
        self._alarms: dict[Alarm, trio.lowlevel.Task] = {}
        self._soon: collections.deque[Step] = collections.deque()
        self._pulse_at = -math.inf
        self.pulse: Step | None = None
        self._result: outcome.Outcome[object] | None = None

    def run(self, program: Callable[..., Awaitable[T]], *arguments: object) -> T:
        """Run ``program`` as `trio.run` would, and return what it returns; only once."""
        self._watch(self._wakeup, lambda: os.eventfd_read(self._wakeup))
        trio.lowlevel.start_guest_run(
            program,
            *arguments,
            run_sync_soon_threadsafe=self._call_from_thread,
            run_sync_soon_not_threadsafe=self._soon.append,
            done_callback=self._finish,
        )
        _current.set(self)
        while self._result is None:
            self._turn()
        self._epoll.close()
        os.close(self._wakeup)
        finished: T = self._result.unwrap()  # type: ignore[assignment]
        return finished

    # For tasks of the guest

    async def read(self, fd: int, step: Step) -> NoReturn:
        """Call ``step`` whenever ``fd`` is readable, and again while it returns True.

        Raises:
            trio.ClosedResourceError: `stop_reading` was called.
            Exception: whatever ``step`` raised, which was the last call.
        """

        def guarded() -> None:  # Hot path.
            try:
                if step() is True:
                    self._unfinished[fd] = guarded
                elif fd in self._unfinished:
                    del self._unfinished[fd]
            except Exception as error:  # noqa: BLE001 - raised again by the task
                self._end_reading(fd, error)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._forget(fd)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.checkpoint_if_cancelled()
        self._watch(fd, guarded)
        self._readers[fd] = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)
        raise AssertionError("only errors end this")

    def stop_reading(self, fd: int) -> None:
        """End the `read` of a descriptor that is about to be closed; harmless without one."""
        if fd in self._readers:
            self._end_reading(fd, trio.ClosedResourceError("closed while being read"))

    async def keep(self, alarm: Alarm) -> NoReturn:
        """Ring ``alarm`` whenever its deadline is over, until cancelled.

        Raises:
            Exception: whatever its ``ring`` raised, which was the last call.
        """

        def abort(_: object) -> trio.lowlevel.Abort:
            del self._alarms[alarm]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.checkpoint_if_cancelled()
        self._alarms[alarm] = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)
        raise AssertionError("only errors end this")

    # The loop

    def _turn(self) -> None:
        # Hot path.
        steps, unfinished = self._steps, self._unfinished
        wait = 0.0 if self._soon or unfinished else self._time_to_alarm()
        for fd, _ in self._epoll.poll(wait):
            step = steps.get(fd)
            if step is not None and fd not in unfinished:  # a step before may have ended it
                step()
        if unfinished:
            for step in tuple(unfinished.values()):
                step()
        now = trio.current_time()
        for alarm in self._alarms:
            if alarm.deadline <= now:
                self._ring_due(now)
                break  # it has gone through all of them, and may have changed the table
        if now >= self._pulse_at:
            self._pulse_at = now + PULSE_INTERVAL
            if self.pulse is not None:
                self.pulse()
        for _ in range(len(self._soon)):  # what comes up meanwhile lets the data path go first
            self._soon.popleft()()

    def _time_to_alarm(self) -> float:
        deadline = math.inf
        for alarm in self._alarms:
            deadline = min(deadline, alarm.deadline)
        return min(max(0.0, deadline - trio.current_time()), _MAX_WAIT)

    def _ring_due(self, now: float) -> None:
        """Ring every alarm that is due, so that none waits for one that always is."""
        for alarm in tuple(self._alarms):
            if alarm in self._alarms and alarm.deadline <= now:
                self._ring(alarm)

    def _ring(self, alarm: Alarm) -> None:
        try:
            alarm.ring()
        except Exception as error:  # noqa: BLE001 - raised again by the task
            trio.lowlevel.reschedule(self._alarms.pop(alarm), outcome.Error(error))

    def _call_from_thread(self, call: Step) -> None:
        self._soon.append(call)
        os.eventfd_write(self._wakeup, 1)

    def _finish(self, result: outcome.Outcome[object]) -> None:
        self._result = result

    def _watch(self, fd: int, step: Step) -> None:
        self._epoll.register(fd, select.EPOLLIN)
        self._steps[fd] = step

    def _forget(self, fd: int) -> None:
        self._epoll.unregister(fd)
        self._steps.pop(fd, None)
        self._unfinished.pop(fd, None)
        self._readers.pop(fd, None)

    def _end_reading(self, fd: int, error: Exception) -> None:
        task = self._readers[fd]
        self._forget(fd)
        trio.lowlevel.reschedule(task, outcome.Error(error))


_current: trio.lowlevel.RunVar[DataLoop | None] = trio.lowlevel.RunVar("data_loop", None)


def current_data_loop() -> DataLoop | None:
    """Return the loop that trio is a guest of, or None where it runs by itself."""
    return _current.get()
