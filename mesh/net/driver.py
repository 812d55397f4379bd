"""The trio shell around any engine: sockets, TAP and clock in, batches out (architecture.md).

One nursery: a reader per socket, one for the TAP, a timer, a reporter of events. In a program that
has a `DataLoop` these tasks only stand for what that loop calls directly. Every engine call is
synchronous and followed by a drain in the order of `mesh.engine`. What the engine hands out is
lent until the next call into it, so nothing here awaits between a call and the end of its drain.
"""

import errno
import functools
import itertools
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeAlias, TypeVar, cast

import trio

from mesh.addresses import Endpoint
from mesh.engine import (
    Engine,
    FrameEngine,
    FrameIovec,
    OutgoingDatagrams,
    ReceivedDatagrams,
    SocketId,
)
from mesh.errors import DeviceUnavailable, MeshError, StateError
from mesh.events import Event
from mesh.net.bursts import Bursts
from mesh.net.counters import DriverCounters, count_error
from mesh.net.data_loop import Alarm, DataLoop, current_data_loop
from mesh.net.log_limit import LogLimit
from mesh.net.port import Port, PortClosed
from mesh.net.tap import Tap
from mesh.net.tap_reader import TapReader
from mesh.net.udp import RECEIVE_BUFFER_BYTES, UdpPort

T = TypeVar("T")

OnEvent: TypeAlias = Callable[[Event], Awaitable[None] | None]
"""What to do about one event; called from a task of the driver, one event at a time, in order."""

SendErrors: TypeAlias = dict[tuple[SocketId, Endpoint, int], tuple[int, list[bytes]]]
"""The errno of what could not be sent, and copies of the datagrams where frames may be in them, by
socket, destination and, where a datagram that nobody may fragment was larger than the interface
takes, its bytes; else 0."""

BYTES_PER_WAKEUP: Final = 256 * 1024
"""Bytes read of one source before all others, timers included, get their turn: 32 super-frames, or
reads full of joined datagrams, would take 5 ms, and so long a ping would wait."""

STREAM_READS_PER_TURN: Final = 4
"""Reads of all streams before everything else has its turn: each takes up to 64 KiB through TLS and
WebSocket, 10 ms at worst."""

GOODBYE_TIMEOUT: Final = 2.0
"""Seconds that ``on_event`` has at the end for what is still to be reported."""

FIRST_ADDED_SOCKET_ID: Final = 1000
"""Numbers below are for the sockets that a driver is made with."""

MAX_UNSENT: Final = 64
"""Datagrams of refused sends for one destination; one batch more at most is given back."""

_ERROR_ROUNDS: Final = 3

_log = logging.getLogger(__name__)


class Driver:
    """Moves bytes between one engine, its sockets and its TAP until it is cancelled.

    The engine must have been made with ``trio.current_time()`` as its clock. The driver owns the
    ports and the TAP from `run` on and closes them when it ends.

    Attributes:
        counters: see `DriverCounters`.
    """

    def __init__(
        self,
        engine: Engine,
        sockets: Mapping[SocketId, Port],
        tap: Tap | None = None,
        *,
        on_event: OnEvent | None = None,
        store_first: tuple[type[Event], ...] = (),
    ) -> None:
        """Prepare; nothing is read or sent before `run`.

        Args:
            engine: a `FrameEngine` if there is a ``tap``.
            sockets: ports by the numbers under which the engine knows them.
            tap: the interface, or None for a supernode.
            on_event: told every event, in order; may be async and may take its time. A `MeshError`
                that it raises ends `run`, which raises it again.
            store_first: event types (``LeaseGranted``...) that ``on_event`` must have finished with
                before the datagrams of the same step leave. They do not wait for other events. If
                it raises `StateError` for one of them, those datagrams are dropped and `run` goes
                on: nothing is promised that is not stored.
        """
        self.counters = DriverCounters()
        self._engine = engine
        self._ports: dict[SocketId, Port] = dict(sockets)
        self._socket_ids = itertools.count(FIRST_ADDED_SOCKET_ID)
        # One for all: what is read is taken in and drained before anything else is read.
        self._buffer = memoryview(bytearray(RECEIVE_BUFFER_BYTES))
        self._tap = tap
        self._frame_engine = cast("FrameEngine", engine) if tap is not None else None
        for port in self._ports.values():
            self._prepare(port)
        self._on_event = on_event
        self._store_first = store_first
        self._data_loop: DataLoop | None = None
        self._stream_turns = trio.Semaphore(STREAM_READS_PER_TURN)
        self._log_limit = LogLimit()
        self._failure: MeshError | None = None
        self._running = trio.CancelScope()
        self._timer: trio.CancelScope | Alarm = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._events_in, self._events_out = trio.open_memory_channel[Event](math.inf)
        self._reporting = trio.CancelScope(shield=True)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled; then stop the engine, send its goodbyes and close everything.

        Raises:
            DeviceUnavailable: the TAP was deleted while running.
            MeshError: what ``on_event`` raised.
        """
        try:
            async with trio.open_nursery() as outer:
                outer.start_soon(self._report_events)
                try:
                    await self._run_readers(task_status)
                finally:
                    self._say_goodbye()
        finally:
            self._close()
        if self._failure is not None:
            raise self._failure

    def step(self, call: Callable[[float], T]) -> T:
        """Run one engine call with the current time, then drain the engine's outputs.

        For what does not come from a socket: control commands, new supernode addresses. Example:
        ``driver.step(lambda now: engine.probe(peer, token, now))``. Outputs of a step before `run`
        are drained when it starts; those of a step after its end are not.
        """
        result = call(trio.current_time())
        if self._nursery is not None:
            self._drain()
        return result

    def new_socket_id(self) -> SocketId:
        """Return a number for a port to be added; none is given twice."""
        return next(self._socket_ids)

    def add_port(self, port: Port) -> None:
        """Own one more port from now on, under a number that no other has; not before `run`."""
        self._ports[port.socket_id] = port
        self._prepare(port)
        if self._nursery is not None:
            self._nursery.start_soon(self._read_socket, port)

    def _prepare(self, port: Port) -> None:
        """Have ICMP errors told where paths depend on it; a supernode's edges fall silent."""
        if self._frame_engine is not None and isinstance(port, UdpPort):
            port.hear_icmp()

    def remove_port(self, socket_id: SocketId) -> None:
        """Close a port that the engine does not need any more; harmless the second time."""
        port = self._ports.pop(socket_id, None)
        if port is not None:
            if self._data_loop is not None and isinstance(port, UdpPort):
                self._data_loop.stop_reading(port.fileno())
            port.close()

    # Tasks

    async def _run_readers(self, task_status: trio.TaskStatus[None]) -> None:
        self._data_loop = current_data_loop()
        with self._running:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for port in self._ports.values():
                    nursery.start_soon(self._read_socket, port)
                if self._tap is not None:
                    nursery.start_soon(self._read_tap, self._tap)
                nursery.start_soon(self._keep_time)
                task_status.started()
                self._drain()  # what the engine had to say at its birth

    async def _read_socket(self, port: Port) -> None:
        if self._ports.get(port.socket_id) is not port:
            return  # removed before this task had its first turn
        read = functools.partial(self._receive_datagrams, port, self._buffer)
        try:
            if isinstance(port, UdpPort):
                await self._read(port, Bursts(read).step)
            else:
                await self._read_stream(port, read)
        except trio.ClosedResourceError:
            return  # removed
        except PortClosed:
            self.remove_port(port.socket_id)
            self.step(lambda now: self._engine.socket_closed(port.socket_id, now))

    async def _read_stream(self, port: Port, read: Callable[[int], int]) -> None:
        turns = self._stream_turns
        while True:
            await port.wait_readable()
            try:
                turns.acquire_nowait()
            except trio.WouldBlock:
                await turns.acquire()
            try:
                read(1)
                await trio.lowlevel.checkpoint()  # the turn ends when all others have had theirs
            finally:
                turns.release()

    async def _read_tap(self, tap: Tap) -> None:
        if self._frame_engine is not None:
            reader = TapReader(
                tap,
                self._frame_engine,
                self._drain,
                self._send_alone,
                counters=self.counters,
                on_error=self._note_tap_error,
            )
            await self._read(tap, reader.step)

    async def _read(self, source: Port | Tap, step: Callable[[], bool | None]) -> None:
        """Call ``step`` for ever: when ``source`` is readable, and while it says it is not done."""
        if self._data_loop is not None and isinstance(source, UdpPort | Tap):
            await self._data_loop.read(source.fileno(), step)
        is_waiting = True
        while True:
            if is_waiting:
                await source.wait_readable()
            else:
                await trio.lowlevel.checkpoint()
            is_waiting = not step()

    async def _keep_time(self) -> None:
        """Call the engine's timers when they are due; `_drain` moves the alarm forward."""
        if self._data_loop is not None:
            self._timer = Alarm(self._ring, self._engine.next_timer_at())
            await self._data_loop.keep(self._timer)
        while True:
            with trio.CancelScope(deadline=self._engine.next_timer_at()) as self._timer:
                await trio.sleep_forever()
            self._ring()
            await trio.lowlevel.checkpoint()  # an engine with always something due starves nobody

    def _ring(self) -> None:
        now = trio.current_time()
        if self._engine.next_timer_at() <= now:
            self._engine.handle_timers(now)
            self._drain()
        self._timer.deadline = self._engine.next_timer_at()

    async def _report_events(self) -> None:
        """Tell ``on_event``; outlives the readers to report what the end brought."""
        with self._reporting:
            async for event in self._events_out:
                try:
                    await self._report(event)
                except MeshError as error:
                    self._fail(error)

    async def _report(self, event: Event) -> None:
        if self._on_event is not None:
            awaitable = self._on_event(event)
            if awaitable is not None:
                await awaitable

    async def _send_when_stored(self, events: list[Event], held: list[OutgoingDatagrams]) -> None:
        try:
            for event in events:
                await self._report(event)
        except StateError as error:
            self._log_rarely("store", logging.ERROR, f"not stored, so not answered: {error}")
            return
        except MeshError as error:
            self._fail(error)
            return
        self._send(held)

    # Input

    def _receive_datagrams(self, port: Port, buffer: memoryview, limit: int) -> int:
        # Hot path.
        bytes_left = BYTES_PER_WAKEUP
        for reads in range(limit):
            if bytes_left <= 0:
                return reads
            try:
                batch = port.receive_into(buffer)
            except OSError as error:  # an ICMP error for an earlier send; the next may succeed
                count_error(self.counters.receive_errors, error)
                continue
            if batch is None:
                if isinstance(port, UdpPort) and port.hears_icmp and (not reads or port.has_errors):
                    self._take_unreachable(port)  # what else made it readable?
                return reads
            self.counters.datagram_batches_received += 1
            bytes_left -= len(batch.buffer)
            if batch.segment_bytes:  # an empty datagram says nothing
                self._take_in(batch, trio.current_time())
        return limit

    def _take_in(self, batch: ReceivedDatagrams, now: float) -> None:
        # Hot path.
        engine = self._frame_engine
        iovec = engine.deliver_datagram(batch, now) if engine is not None else None
        if iovec:
            self._write((iovec,))
            return
        if iovec is None:
            self._engine.receive_datagrams(batch, now)
        self._drain()

    def _take_unreachable(self, port: UdpPort) -> None:
        if self._frame_engine is None:
            return
        for destination, number, quoted in port.take_unreachable():
            count_error(self.counters.receive_errors, OSError(number, ""))
            now = trio.current_time()
            self._frame_engine.receive_unreachable(port.socket_id, destination, quoted, now)
            self._drain()

    # Output

    def _drain(self) -> None:
        """Take all outputs; send errors go back in, whose outputs are taken again, a few times."""
        # Hot path.
        for _ in range(_ERROR_ROUNDS):
            errors = self._drain_once()
            if not errors:
                break
            self._tell_errors(errors)
        timer_at = self._engine.next_timer_at()
        if timer_at < self._timer.deadline:  # noqa: PLR1730 - setting it costs more than asking
            self._timer.deadline = timer_at  # a later one is found out when this one rings

    def _tell_errors(self, errors: SendErrors) -> None:
        now = trio.current_time()
        for (socket, destination, too_large), (number, unsent) in errors.items():
            if too_large:
                self._engine.receive_too_large(socket, destination, too_large, now)
                continue
            self._engine.receive_send_error(socket, destination, number, now)
            if self._frame_engine is not None:
                self._frame_engine.receive_unsent(socket, destination, unsent, now)

    def _send_alone(self, batch: OutgoingDatagrams) -> None:
        # Hot path.
        errors = self._send((batch,))
        if errors:
            self._tell_errors(errors)
            self._drain()

    def _drain_once(self) -> SendErrors:
        """Take events, datagrams and frames, in this order; return the errnos of failed sends."""
        # Hot path.
        engine = self._engine
        events = engine.events_to_report()
        storing = self._queue(events) if events else []
        datagrams = engine.datagrams_to_send()
        errors: SendErrors = {}
        if storing and self._nursery is not None:
            self._nursery.start_soon(self._send_when_stored, storing, _kept(datagrams))
        elif datagrams:
            errors = self._send(datagrams)
        if self._frame_engine is not None:
            frames = self._frame_engine.frames_to_write()
            if frames:
                self._write(frames)
        return errors

    def _queue(self, events: list[Event]) -> list[Event]:
        """Queue events for `_report_events`; return those to be stored first."""
        storing: list[Event] = []
        for event in events:
            if isinstance(event, self._store_first) and self._nursery is not None:
                storing.append(event)
            else:
                self._events_in.send_nowait(event)
        return storing

    def _send(self, datagrams: Sequence[OutgoingDatagrams]) -> SendErrors:
        # Hot path.
        ports = self._ports
        errors: SendErrors = {}
        for batch in datagrams:
            try:
                ports[batch.socket].send(batch)
            except BlockingIOError:
                self.counters.send_would_block += 1
            except KeyError:
                self._note_send_error(errors, batch, _no_such_socket(batch.socket))
            except OSError as error:
                self._note_send_error(errors, batch, error)
            else:
                self.counters.datagram_batches_sent += 1
        return errors

    def _write(self, frames: Sequence[FrameIovec]) -> None:
        # Hot path.
        tap = self._tap
        if tap is None or self._failure is not None:
            return
        for iovec in frames:
            try:
                tap.write(iovec)
            except (OSError, DeviceUnavailable) as error:
                self._note_tap_error(error)
            else:
                self.counters.frames_written += 1

    def _note_send_error(
        self, errors: SendErrors, batch: OutgoingDatagrams, error: OSError
    ) -> None:
        if batch.dont_fragment and error.errno == errno.EMSGSIZE:  # what it was sent to find out
            errors[batch.socket, batch.destination, batch.segment_bytes] = errno.EMSGSIZE, []
            return
        name = count_error(self.counters.send_errors, error)
        key = batch.socket, batch.destination, 0
        _, unsent = errors.setdefault(key, (error.errno or errno.EIO, []))
        if self._frame_engine is not None and len(unsent) < MAX_UNSENT:
            unsent += _cut(batch)
        if error.errno == errno.ENOTCONN:  # every stream ends one day
            return
        self._log_rarely(
            f"send {name}",
            logging.WARNING,
            f"cannot send to {batch.destination}: {error.strerror}",
        )

    def _note_tap_error(self, error: OSError | DeviceUnavailable) -> None:
        if isinstance(error, DeviceUnavailable):
            self._fail(error)
            return
        name = count_error(self.counters.tap_errors, error)
        what = "it is down" if error.errno == errno.EIO else str(error.strerror)
        interface = self._tap.name if self._tap is not None else ""
        self._log_rarely(
            f"tap {name}", logging.WARNING, f"{interface} does not take frames: {what}"
        )

    def _log_rarely(self, reason: str, level: int, line: str) -> None:
        held_back = self._log_limit.ask(reason, trio.current_time())
        if held_back is not None:
            suffix = f" ({held_back} more like this)" if held_back else ""
            _log.log(level, "%s%s", line, suffix)

    # The end

    def _fail(self, error: MeshError) -> None:
        """End `run` with ``error``; the first one wins."""
        if self._failure is None:
            self._failure = error
        self._running.cancel()

    def _say_goodbye(self) -> None:
        """Stop the engine, send what it has to say, and let the reporter finish."""
        self._nursery = None
        try:
            self._engine.stop(trio.current_time())
            self._drain_once()  # an engine that has stopped is not told of send errors
        finally:
            self._events_in.close()
            self._reporting.deadline = trio.current_time() + GOODBYE_TIMEOUT

    def _close(self) -> None:
        self._events_in.close()
        self._events_out.close()
        for port in self._ports.values():
            port.close()
        if self._tap is not None:
            self._tap.close()


def _no_such_socket(socket: SocketId) -> OSError:
    if socket >= FIRST_ADDED_SOCKET_ID:
        return OSError(errno.ENOTCONN, "the stream has ended")
    return OSError(errno.EAFNOSUPPORT, "no such socket")  # the machine does not have the family


def _cut(batch: OutgoingDatagrams) -> list[bytes]:
    """Copy lent datagrams, one by one."""
    joined, size = b"".join(batch.buffers), batch.segment_bytes
    return [joined[start : start + size] for start in range(0, len(joined), size)]


def _kept(datagrams: list[OutgoingDatagrams]) -> list[OutgoingDatagrams]:
    """Copy lent datagrams, which the engine may overwrite in its next call."""
    return [batch._replace(buffers=(b"".join(batch.buffers),)) for batch in datagrams]
