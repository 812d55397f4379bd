"""mesh.net.stream_queue: what waits for a stream, and what is dropped."""

from hypothesis import given
from hypothesis import strategies as st

from mesh.constants import STREAM_QUEUE_BYTES, STREAM_QUEUE_TIME, STREAM_QUICK_BYTES
from mesh.net.counters import DriverCounters
from mesh.net.stream_queue import StreamQueue

BULK = bytes(1400)
frames = st.lists(st.tuples(st.integers(3, 9000), st.floats(0.0, 0.2)), max_size=200)


def test_what_is_put_in_time_is_taken_in_order() -> None:
    counters = DriverCounters()
    queue = StreamQueue(counters)
    for number in range(5):
        queue.put(bytes([number]) * 1000, 0.0)
    assert queue.take(3000, 0.1) == b"".join(bytes([number]) * 1000 for number in range(3))
    assert queue.take(9000, 0.1) == bytes([3]) * 1000 + bytes([4]) * 1000
    assert (queue.take(9000, 0.1), len(queue), counters.queue_full) == (b"", 0, 0)


def test_small_datagrams_go_ahead_of_large_ones() -> None:
    queue = StreamQueue(DriverCounters())
    queue.put(BULK, 0.0)
    queue.put(b"q" * STREAM_QUICK_BYTES, 0.0)
    assert queue.take(1, 0.0) == b"q" * STREAM_QUICK_BYTES
    assert queue.take(1, 0.0) == BULK


def test_the_oldest_give_way_when_there_is_no_room() -> None:
    counters = DriverCounters()
    queue = StreamQueue(counters)
    for number in range(100):
        queue.put(bytes([number]) * 1000, 0.0)
    taken = queue.take(1 << 20, 0.0)
    assert taken[-1] == 99
    assert counters.queue_full == 100 - len(taken) // 1000
    assert 0 < len(taken) <= STREAM_QUEUE_BYTES


def test_small_ones_do_not_take_the_room_of_the_large() -> None:
    counters = DriverCounters()
    queue = StreamQueue(counters)
    queue.put(BULK, 0.0)
    for _ in range(10_000):
        queue.put(b"q" * 100, 0.0)
    assert queue.take(1 << 20, 0.0).endswith(BULK)
    assert counters.queue_full > 9000


def test_what_has_waited_too_long_is_dropped() -> None:
    counters = DriverCounters()
    queue = StreamQueue(counters)
    queue.put(BULK, 0.0)
    queue.put(b"fresh" * 100, STREAM_QUEUE_TIME)
    assert queue.take(9000, STREAM_QUEUE_TIME + 0.01) == b"fresh" * 100
    assert counters.queue_full == 1


@given(frames)
def test_nothing_is_held_beyond_the_limit_and_nothing_goes_uncounted(
    puts: list[tuple[int, float]],
) -> None:
    counters = DriverCounters()
    queue, now, taken = StreamQueue(counters), 0.0, 0
    for number, (size, pause) in enumerate(puts):
        now += pause
        queue.put(bytes(size), now)
        assert len(queue) <= STREAM_QUEUE_BYTES
        if number % 3 == 0:
            taken += len(queue.take(4000, now))
    total = sum(size for size, _ in puts)
    rest = queue.take(1 << 20, now)
    assert len(queue) == 0
    assert taken + len(rest) <= total
    assert (taken + len(rest) == total) == (counters.queue_full == 0)
