"""The timer table agrees with a dict of deadlines."""

import math

from hypothesis import given
from hypothesis import strategies as st

from mesh.core.timers import Timer, TimerKey, TimerTable


def test_an_empty_table_has_no_deadline() -> None:
    assert TimerTable().next_at() == math.inf


def test_timers_fire_in_the_order_of_their_deadlines_and_once() -> None:
    table = TimerTable()
    table.set(Timer.PROBE, "b", 2.0)
    table.set(Timer.PROBE, "a", 1.0)
    table.set(Timer.HELLO, "a", 3.0)

    assert list(table.pop_due(2.5)) == [TimerKey(Timer.PROBE, "a"), TimerKey(Timer.PROBE, "b")]
    assert list(table.pop_due(2.5)) == []
    assert table.next_at() == 3.0


def test_moving_a_timer_leaves_no_trace_of_the_earlier_deadline() -> None:
    table = TimerTable()
    table.set(Timer.REKEY, 1, 1.0)
    table.set(Timer.REKEY, 1, 5.0)

    assert list(table.pop_due(4.0)) == []
    assert table.next_at() == 5.0


def test_set_no_later_than_never_postpones() -> None:
    table = TimerTable()
    table.set(Timer.HELLO, 1, 1.0)
    table.set_no_later_than(Timer.HELLO, 1, 2.0)
    assert table.due_at(Timer.HELLO, 1) == 1.0
    table.set_no_later_than(Timer.HELLO, 1, 0.5)
    assert table.due_at(Timer.HELLO, 1) == 0.5


def test_a_timer_set_while_others_fire_is_seen_in_the_same_round() -> None:
    table = TimerTable()
    table.set(Timer.HELLO, 1, 1.0)
    fired = []
    for key in table.pop_due(2.0):
        fired.append(key.timer)
        if key.timer is Timer.HELLO:
            table.set(Timer.PROBE, 1, 1.5)

    assert fired == [Timer.HELLO, Timer.PROBE]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(Timer)[:3]),
            st.integers(0, 3),
            st.one_of(st.just(math.inf), st.floats(0, 100)),
        ),
        max_size=200,
    )
)
def test_the_table_equals_a_dict(steps: list[tuple[Timer, int, float]]) -> None:
    table = TimerTable()
    naive: dict[TimerKey, float] = {}
    for timer, owner, at in steps:
        table.set(timer, owner, at)
        naive[TimerKey(timer, owner)] = at
        naive = {key: due for key, due in naive.items() if due != math.inf}
        assert table.next_at() == min(naive.values(), default=math.inf)
    assert len(table) == len(naive)
    fired = list(table.pop_due(math.inf))
    assert sorted(naive[key] for key in fired) == [naive[key] for key in fired]
    assert set(fired) == set(naive)


def test_a_timer_moved_often_does_not_fill_the_memory() -> None:
    table = TimerTable()
    for step in range(10_000):
        table.set(Timer.PROBE, 1, float(step))

    assert len(table._heap) < 100
