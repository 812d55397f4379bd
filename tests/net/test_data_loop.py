"""The bare loop: what it waits for is called, trio's tasks have turns, errors find their task.

No waiting for the clock but for what a pipe, a thread or a deadline brings.
"""

import itertools
import math
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mesh.net.data_loop import PULSE_INTERVAL, Alarm, DataLoop, current_data_loop


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's ends, to read from and to write to."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def run(scene: Callable[[DataLoop], Awaitable[object]]) -> object:
    """Run a scene as the guest of a loop, for 10 s at most."""

    async def guarded() -> object:
        loop = current_data_loop()
        assert loop is not None
        with trio.fail_after(10):
            return await scene(loop)

    return DataLoop().run(guarded)


def test_it_returns_what_the_program_returns() -> None:
    async def scene(_: DataLoop) -> int:
        await trio.lowlevel.checkpoint()
        return 5

    assert run(scene) == 5


def test_it_raises_what_the_program_raises() -> None:
    async def scene(_: DataLoop) -> None:
        await trio.sleep(0.001)
        raise LookupError("as it should be")

    with pytest.raises(LookupError):
        run(scene)


def test_trio_alone_has_no_loop() -> None:
    async def scene() -> DataLoop | None:
        return current_data_loop()

    assert trio.run(scene) is None


def test_a_step_is_called_whenever_there_is_something_to_read(pipe: tuple[int, int]) -> None:
    read: list[bytes] = []

    async def scene(loop: DataLoop) -> None:
        all_read = trio.Event()

        def step() -> None:
            read.append(os.read(pipe[0], 1))
            if len(read) == 3:
                all_read.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(loop.read, pipe[0], step)
            await wait_all_tasks_blocked()
            os.write(pipe[1], b"ab")
            await trio.to_thread.run_sync(os.write, pipe[1], b"c")
            await all_read.wait()
            nursery.cancel_scope.cancel()

    run(scene)
    assert read == [b"a", b"b", b"c"]


def test_an_error_of_a_step_is_raised_by_its_task(pipe: tuple[int, int]) -> None:
    calls: list[int] = []

    async def scene(loop: DataLoop) -> None:
        def step() -> None:
            calls.append(1)
            raise LookupError("as it should be")

        os.write(pipe[1], b"a")
        with pytest.raises(LookupError):
            await loop.read(pipe[0], step)
        await trio.sleep(0.01)  # it is still readable, and nobody is called any more

    run(scene)
    assert calls == [1]


def test_a_descriptor_that_is_closed_ends_its_reading(pipe: tuple[int, int]) -> None:
    async def scene(loop: DataLoop) -> None:
        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await loop.read(pipe[0], lambda: None)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            loop.stop_reading(pipe[0])
        loop.stop_reading(pipe[0])  # harmless

    run(scene)


def test_a_step_may_end_the_reading_of_another(pipe: tuple[int, int]) -> None:
    other = os.dup(pipe[0])
    called: list[int] = []

    async def scene(loop: DataLoop) -> None:
        async def read(mine: int, theirs: int) -> None:
            def step() -> None:
                called.append(mine)
                loop.stop_reading(theirs)
                os.read(mine, 1)

            with pytest.raises(trio.ClosedResourceError):
                await loop.read(mine, step)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, pipe[0], other)
            nursery.start_soon(read, other, pipe[0])
            await wait_all_tasks_blocked()
            os.write(pipe[1], b"a")  # both are readable
            await wait_all_tasks_blocked(0.01)
            loop.stop_reading(called[0])

    run(scene)
    os.close(other)
    assert len(called) == 1


def test_an_alarm_rings_when_its_time_has_come_and_not_before() -> None:
    rung: list[float] = []

    async def scene(loop: DataLoop) -> tuple[float, float]:
        done = trio.Event()

        def ring() -> None:
            rung.append(trio.current_time())
            alarm.deadline = math.inf
            done.set()

        first, second = trio.current_time() + 0.02, trio.current_time() + 0.03
        alarm = Alarm(ring, first)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(loop.keep, alarm)
            await done.wait()
            done = trio.Event()
            alarm.deadline = second
            await done.wait()
            nursery.cancel_scope.cancel()
        return first, second

    first, second = run(scene)  # type: ignore[misc]
    assert len(rung) == 2
    assert rung[0] >= first
    assert rung[1] >= second


def test_an_alarm_that_always_rings_starves_nobody(pipe: tuple[int, int]) -> None:
    async def scene(loop: DataLoop) -> int:
        rings = 0
        read = trio.Event()

        def ring() -> None:
            nonlocal rings
            rings += 1

        def step() -> None:
            os.read(pipe[0], 1)
            read.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(loop.keep, Alarm(ring, -math.inf))
            nursery.start_soon(loop.read, pipe[0], step)
            await trio.sleep(0.005)
            os.write(pipe[1], b"a")
            await read.wait()
            nursery.cancel_scope.cancel()
        return rings

    assert run(scene)


def test_an_alarm_that_always_rings_does_not_silence_another_one() -> None:
    async def scene(loop: DataLoop) -> None:
        rung = trio.Event()
        async with trio.open_nursery() as nursery:
            await wait_all_tasks_blocked()
            nursery.start_soon(loop.keep, Alarm(lambda: None, -math.inf))
            await trio.sleep(0.001)
            nursery.start_soon(loop.keep, Alarm(rung.set, trio.current_time()))
            await rung.wait()
            nursery.cancel_scope.cancel()

    run(scene)


def test_an_error_of_an_alarm_is_raised_by_its_task() -> None:
    async def scene(loop: DataLoop) -> None:
        def ring() -> None:
            raise LookupError("as it should be")

        with pytest.raises(LookupError):
            await loop.keep(Alarm(ring, -math.inf))

    run(scene)


def test_a_step_that_always_has_something_to_do_starves_neither_tasks_nor_alarms(
    pipe: tuple[int, int],
) -> None:
    async def scene(loop: DataLoop) -> None:
        rung = trio.Event()
        async with trio.open_nursery() as nursery:
            os.write(pipe[1], b"a")
            nursery.start_soon(loop.read, pipe[0], lambda: None)  # never reads it
            nursery.start_soon(loop.keep, Alarm(rung.set, -math.inf))
            await rung.wait()
            await trio.sleep(0.005)
            nursery.cancel_scope.cancel()

    run(scene)


def test_threads_and_signals_reach_the_program() -> None:
    async def scene(_: DataLoop) -> None:
        with trio.open_signal_receiver(signal.SIGUSR1) as signals:
            here = threading.get_ident()
            there = await trio.to_thread.run_sync(threading.get_ident)
            assert here != there
            os.kill(os.getpid(), signal.SIGUSR1)
            assert await anext(signals) == signal.SIGUSR1

    run(scene)


def test_what_the_loop_calls_may_wake_tasks_and_start_them(pipe: tuple[int, int]) -> None:
    async def scene(loop: DataLoop) -> str:
        send, receive = trio.open_memory_channel[str](1)
        async with trio.open_nursery() as nursery:

            def step() -> None:
                os.read(pipe[0], 1)
                nursery.start_soon(send.send, "from a task started by a step")

            nursery.start_soon(loop.read, pipe[0], step)
            os.write(pipe[1], b"a")
            word = await receive.receive()
            nursery.cancel_scope.cancel()
        return word

    assert run(scene) == "from a task started by a step"


def test_a_step_that_is_not_done_is_called_again_without_anything_to_read(
    pipe: tuple[int, int],
) -> None:
    called: list[str] = []

    async def scene(loop: DataLoop) -> None:
        done = trio.Event()

        def step() -> bool:
            if not called:
                os.read(pipe[0], 1)
            called.append("step")
            if len(called) == 5:
                done.set()
            return len(called) < 5

        async with trio.open_nursery() as nursery:
            nursery.start_soon(loop.read, pipe[0], step)
            os.write(pipe[1], b"a")
            await done.wait()
            await wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()

    run(scene)
    assert called == ["step"] * 5


def test_the_pulse_comes_again_and_again_while_something_happens(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    pulses: list[float] = []

    async def scene(loop: DataLoop) -> None:
        finished = trio.Event()

        def step() -> None:
            os.read(reading, 1)
            if len(pulses) < 10:
                os.write(writing, b"x")
            else:
                finished.set()

        loop.pulse = lambda: pulses.append(trio.current_time())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(loop.read, reading, step)
            os.write(writing, b"x")
            await finished.wait()
            nursery.cancel_scope.cancel()

    run(scene)
    gaps = [later - earlier for earlier, later in itertools.pairwise(pulses)]
    assert min(gaps) >= 0.9 * PULSE_INTERVAL  # it asks the clock before, this test afterwards
