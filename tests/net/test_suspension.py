"""A machine that was suspended is noticed by the clock that goes on meanwhile."""

import trio
import trio.testing

from mesh.net.suspension import suspended_so_far, watch_suspensions


def test_each_suspension_is_told_once_and_drift_never() -> None:
    so_far = iter([100.0, 100.0, 100.2, 160.2, 160.3, 160.1, 760.1])
    told: list[float] = []

    async def main() -> None:
        with trio.CancelScope() as scope:

            def suspended() -> float:
                try:
                    return next(so_far)
                except StopIteration:
                    scope.cancel()
                    return 760.1

            await watch_suspensions(told.append, suspended=suspended)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert [round(each, 3) for each in told] == [60.0, 600.0]


def test_the_machines_own_clocks_are_read() -> None:
    before = suspended_so_far()
    assert before > -1.0
    assert abs(suspended_so_far() - before) < 0.1
