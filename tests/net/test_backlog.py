"""Super-frames wait and take turns; small frames pass them, but for those of a flow that waits."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from mesh.engine import Buffer
from mesh.errors import DeviceUnavailable
from mesh.net.backlog import LONG_READ_BYTES, MAX_WAITING, Backlog, flow_of
from mesh.net.bursts import READS_PER_WAKEUP
from mesh.net.counters import DriverCounters
from mesh.net.tap import TAP_READ_BYTES
from mesh.net.tap_reader import BYTES_PER_STEP, FRAMES_PER_DRAIN, TapReader

SMALL, LONG = 100, 60_000


def frame(flow: int, number: int, size: int, ethertype: bytes = b"\x08\x00") -> bytes:
    """Return a TAP read whose addresses and ports, of either IP version, say ``flow``."""
    start = bytes(10) + b"\x02" * 12 + ethertype
    addresses = bytes(8) + bytes([flow]) * 46
    return (start + addresses + number.to_bytes(4, "big")).ljust(size, b"\0")


def number_of(read: Buffer) -> tuple[int, int]:
    """Return a frame's flow and number."""
    return read[40], int.from_bytes(read[78:82], "big")


class FakeTap:
    """A queue of reads, and errors."""

    def __init__(self, reads: Sequence[bytes | Exception] = ()) -> None:
        self.reads = list(reads)

    def read_into(self, buffer: memoryview) -> int:
        if not self.reads:
            return 0
        read = self.reads.pop(0)
        if isinstance(read, Exception):
            raise read
        buffer[: len(read)] = read
        return len(read)


class Scene:
    """A reader with a TAP and an engine that notes what it is given and when it is drained."""

    def __init__(self, *reads: bytes | Exception) -> None:
        self.tap = FakeTap(reads)
        self.taken: list[tuple[int, int]] = []
        self.taken_at_drains: list[int] = []
        self.errors: list[Exception] = []
        self.counters = DriverCounters()
        self.reader = TapReader(
            self.tap,  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            lambda: self.taken_at_drains.append(len(self.taken)),
            id,
            counters=self.counters,
            on_error=self.errors.append,
            clock=lambda: 0.0,
        )

    def receive_frames(self, read: memoryview, now: float) -> None:
        assert now == 0.0
        self.taken.append(number_of(read))
        read[:] = bytes(len(read))  # an engine may write over it

    def forward_frame(self, read: memoryview, now: float) -> None:
        """Know no short way."""

    def receive_burst(self, reads: Sequence[memoryview], now: float) -> None:
        assert len(reads) > 1
        for read in reads:
            self.receive_frames(read, now)

    def run(self) -> list[tuple[int, int]]:
        """Step until nothing is left; return the order in which the engine got the frames."""
        while self.tap.reads or self.reader.step():
            if self.tap.reads:
                self.reader.step()
        return self.taken


def test_a_small_frame_passes_super_frames_of_other_flows() -> None:
    bulk = [frame(1, n, LONG) for n in range(10)]
    order = Scene(*bulk, frame(2, 0, SMALL)).run()
    # One lone read at first, and then everything that is there.
    assert order.index((2, 0)) <= 1 + BYTES_PER_STEP // LONG + 1
    assert [one for one in order if one[0] == 1] == [(1, n) for n in range(10)]


def test_a_small_frame_waits_behind_its_own_flow() -> None:
    bulk = [frame(1, n, LONG) for n in range(10)]
    order = Scene(*bulk, frame(1, 10, SMALL), frame(2, 0, SMALL)).run()
    assert [one for one in order if one[0] == 1] == [(1, n) for n in range(11)]


def test_bulk_flows_take_turns() -> None:
    first = [frame(1, n, LONG) for n in range(8)]
    second = [frame(2, n, LONG) for n in range(8)]
    order = Scene(*first, *second).run()
    assert {flow for flow, _ in order[4:8]} == {1, 2}


def test_small_frames_of_a_burst_are_drained_together() -> None:
    scene = Scene(*(frame(1, n, SMALL) for n in range(FRAMES_PER_DRAIN + 1)))
    scene.run()
    # Alone, for a lone read is no burst; then all at once.
    assert scene.taken_at_drains[:2] == [1, FRAMES_PER_DRAIN + 1]


def test_what_waits_is_handled_in_bounded_steps() -> None:
    scene = Scene(*(frame(1, n, LONG) for n in range(20)))
    scene.reader.step()
    done = len(scene.taken)
    while scene.reader.step():
        assert len(scene.taken) - done <= BYTES_PER_STEP // LONG + 1
        done = len(scene.taken)
    assert len(scene.taken) == 20


def test_no_more_than_so_many_wait_and_none_is_lost() -> None:
    scene = Scene(*(frame(1, n, LONG) for n in range(3 * MAX_WAITING)))
    most = 0
    while scene.reader.step() or scene.tap.reads:
        most = max(most, 3 * MAX_WAITING - len(scene.tap.reads) - len(scene.taken))
    assert most <= MAX_WAITING
    assert scene.taken == [(1, n) for n in range(3 * MAX_WAITING)]


def test_errors_are_told_and_end_the_step() -> None:
    gone = DeviceUnavailable("gone", "join again")
    scene = Scene(frame(1, 0, LONG), OSError(5, "down"), frame(1, 1, SMALL), gone)
    scene.run()
    assert [type(error) for error in scene.errors] == [OSError, DeviceUnavailable]
    assert scene.taken == [(1, 0), (1, 1)]
    assert scene.counters.frames_read == 2


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([SMALL, LONG]), st.sampled_from("46x")),
        max_size=3 * READS_PER_WAKEUP,
    )
)
def test_frames_of_one_flow_never_change_places_and_all_arrive(
    kinds: list[tuple[int, int, str]],
) -> None:
    ethertypes = {"4": b"\x08\x00", "6": b"\x86\xdd", "x": b"\x08\x00"}
    reads = [
        frame(flow, n, size, ethertypes[family]) for n, (flow, size, family) in enumerate(kinds)
    ]
    order = Scene(*reads).run()
    assert sorted(n for _, n in order) == list(range(len(reads)))
    by_flow: dict[bytes, list[int]] = {}
    for _, n in order:
        by_flow.setdefault(flow_of(memoryview(reads[n])), []).append(n)
    for numbers in by_flow.values():
        assert numbers == sorted(numbers)


@given(st.binary(max_size=200))
def test_any_bytes_have_a_flow(read: bytes) -> None:
    assert isinstance(flow_of(memoryview(read)), bytes)


def test_buffers_are_used_again_and_not_kept_for_ever() -> None:
    backlog = Backlog()
    for n in range(MAX_WAITING):
        buffer = memoryview(bytearray(TAP_READ_BYTES))
        read = frame(n % 7, n, LONG)
        buffer[: len(read)] = read
        assert len(backlog.add(buffer, len(read))) == TAP_READ_BYTES
    assert backlog.is_full
    while backlog:
        backlog.give_back(backlog.take())
    assert len(backlog._spare) < 10
    assert LONG > LONG_READ_BYTES
