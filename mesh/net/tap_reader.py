"""Reads the TAP for an engine: small frames at once and together, super-frames in turn."""

from collections.abc import Callable
from typing import Final

import trio

from mesh.engine import FrameEngine, OutgoingDatagrams
from mesh.errors import DeviceUnavailable
from mesh.net.backlog import Backlog
from mesh.net.bursts import READS_PER_WAKEUP, Bursts
from mesh.net.counters import DriverCounters
from mesh.net.tap import TAP_READ_BYTES, Tap

FRAMES_PER_DRAIN: Final = 32
"""Small frames of a burst that the engine takes before what it made of them is sent."""

BYTES_PER_STEP: Final = 128 * 1024
"""Bytes of super-frames handled before the TAP, and all other sources, are looked at again: half a
millisecond that a ping may have to wait."""


class TapReader:
    """Reads one TAP; `step` whenever it is readable, and again while it returns True."""

    def __init__(
        self,
        tap: Tap,
        engine: FrameEngine,
        drain: Callable[[], None],
        send: Callable[[OutgoingDatagrams], None],
        *,
        counters: DriverCounters,
        on_error: Callable[[OSError | DeviceUnavailable], None],
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        """Prepare to read.

        Args:
            tap: may be deleted at any time.
            engine: takes the frames.
            drain: sends what the engine has made of them.
            send: sends this alone.
            counters: of the driver.
            on_error: told what the TAP says instead of frames.
            clock: the engine's.
        """
        self._tap = tap
        self._clock = clock
        self._counters = counters
        self._engine = engine
        self._drain = drain
        self._send = send
        self._on_error = on_error
        self._backlog = Backlog()
        self._buffers: list[memoryview] = []  # as many as the longest burst so far
        self._bursts = Bursts(self._read, clock=clock)

    def step(self) -> bool:
        """Read what is there and handle a bounded part of it; return whether more waits here."""
        # Hot path.
        if self._backlog:
            self._read(READS_PER_WAKEUP)
        else:
            self._bursts.step()
        return len(self._backlog) > 0

    def _read(self, limit: int) -> int:
        # Hot path.
        backlog, tap, buffers = self._backlog, self._tap, self._buffers
        small: list[memoryview] = []
        reads = 0
        while reads < limit and not backlog.is_full:
            if len(small) == len(buffers):
                buffers.append(memoryview(bytearray(TAP_READ_BYTES)))
            buffer = buffers[len(small)]
            try:
                length = tap.read_into(buffer)
            except (OSError, DeviceUnavailable) as error:
                self._on_error(error)
                break
            if not length:
                break
            reads += 1
            if backlog.must_wait(buffer, length):
                buffers[len(small)] = backlog.add(buffer, length)
                continue
            small.append(buffer[:length])
            if len(small) == FRAMES_PER_DRAIN:
                self._handle_small(small)
                small = []
        if small:
            self._handle_small(small)
        self._counters.frames_read += reads
        self._handle_waiting()
        return reads

    def _handle_small(self, reads: list[memoryview]) -> None:
        # Hot path.
        now = self._clock()
        if len(reads) == 1:
            batch = self._engine.forward_frame(reads[0], now)
            if batch is not None:
                self._send(batch)
                return
            self._engine.receive_frames(reads[0], now)
        else:
            self._engine.receive_burst(reads, now)
        self._drain()

    def _handle_waiting(self) -> None:
        # Hot path.
        backlog = self._backlog
        bytes_left = BYTES_PER_STEP
        while backlog and bytes_left > 0:
            read = backlog.take()
            self._engine.receive_frames(read, self._clock())
            self._drain()
            bytes_left -= len(read)
            backlog.give_back(read)
