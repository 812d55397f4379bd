"""Real-time scheduling: taken up, given up by a thread that never sleeps, and taken up again."""

import os
import subprocess
import sys
import textwrap

import pytest


def is_granted() -> bool:
    """Whether the kernel lets us have real-time scheduling, asked by a process of its own."""
    attempt = "import os; os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))"
    done = subprocess.run([sys.executable, "-c", attempt], check=False, capture_output=True)
    return done.returncode == 0 and len(os.sched_getaffinity(0)) > 1


def run_program(body: str, options: str = "always=True") -> list[str]:
    """Run ``body`` in a task beside `RealtimeScheduling.run` and return the words it printed."""
    program = f"""
import os, resource, threading, time, trio
from mesh.net.scheduling import BUSY_TIMEOUT, PENALTY, RealtimeScheduling

def policy():
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK

def say(word):
    print(word, flush=True)

def compute(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass

async def main():
    scheduling = RealtimeScheduling({options})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scheduling.run)
        await trio.testing.wait_all_tasks_blocked()
{textwrap.indent(textwrap.dedent(body), " " * 8)}
        nursery.cancel_scope.cancel()
    say("real" if policy() == os.SCHED_RR else "ordinary")

import trio.testing
trio.run(main)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout.split()


SAY_POLICY = 'say("real" if policy() == os.SCHED_RR else "ordinary")'

needs_grant = pytest.mark.skipif(not is_granted(), reason="the kernel grants no real-time share")


@needs_grant
def test_it_is_on_while_it_runs_and_off_afterwards() -> None:
    assert run_program(f"{SAY_POLICY}\nsay(scheduling.is_on)") == ["real", "True", "ordinary"]


@needs_grant
def test_a_thread_that_never_sleeps_loses_it_and_gets_it_back_later() -> None:
    body = f"""
    compute(BUSY_TIMEOUT * 3)
    {SAY_POLICY}
    say(scheduling.is_on)
    await trio.sleep(PENALTY * 1.5)
    {SAY_POLICY}
    compute(BUSY_TIMEOUT * 3)
    {SAY_POLICY}
    """
    assert run_program(body) == ["ordinary", "False", "real", "ordinary", "ordinary"]


@needs_grant
def test_threads_that_are_started_meanwhile_are_ordinary_ones() -> None:
    body = f"""
    other = threading.Thread(target=lambda: {SAY_POLICY})
    other.start()
    other.join()
    """
    assert run_program(body) == ["ordinary", "ordinary"]


@needs_grant
def test_it_comes_with_competition() -> None:
    body = """
    import subprocess, sys
    say(scheduling.is_on)
    others = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(2 * os.cpu_count())
    ]
    deadline = time.monotonic() + 30
    while not scheduling.is_on and time.monotonic() < deadline:
        for _ in range(16):
            await trio.sleep(0.0005)
        scheduling.look()
    say(scheduling.is_on)
    for each in others:
        each.kill()
    """
    assert run_program(body, options="") == ["False", "True", "ordinary"]


def test_on_a_single_core_it_is_not_even_asked_for() -> None:
    kept = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(kept)})  # the child inherits it
    try:
        words = run_program(f"{SAY_POLICY}\nsay(scheduling.is_on)")
    finally:
        os.sched_setaffinity(0, kept)
    assert words == ["ordinary", "False", "ordinary"]
