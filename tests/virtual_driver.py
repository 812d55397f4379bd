"""A driver in virtual time that runs any engine as mesh/engine.py says, and checks its promises.

What a kernel-facing driver may do, this one does on purpose: it reuses the buffers it lent (after
scribbling over them), joins datagrams of one source into a batch or does not, calls the timers
early now and then, and runs each engine on a clock of its own. An exception out of an engine fails
the test.
"""

import math
import random
from collections.abc import Callable
from typing import TypeVar

from mesh.addresses import Endpoint
from mesh.constants import MAX_DATAGRAM_BYTES
from mesh.engine import (
    Engine,
    FrameEngine,
    FrameIovec,
    OutgoingDatagrams,
    ReceivedDatagrams,
    SocketId,
    WellKnownSocket,
)
from mesh.events import Event
from tests.virtual_clock import VirtualClock
from tests.virtual_network import Host, Packet, SendError, TooLargeError

T = TypeVar("T")

Refusal = tuple[OutgoingDatagrams, SendError, list[bytes]]

VNET_HEADER_BYTES = 10
PLAIN_VNET_HEADER = bytes(VNET_HEADER_BYTES)
MAX_BATCH_BYTES = 65507
COALESCE_PROBABILITY = 0.7
EARLY_TIMER_PROBABILITY = 0.03
QUOTED_BYTES = 520  # what a Linux router quotes of a UDP payload
WAKE_UP_WITHIN = 0.0001  # s; what arrives meanwhile is handed over together
MAX_TIMER_CALLS_PER_SECOND = 2000  # fifty peers at their liveliest need some 500


class VirtualDriver:
    """One engine on one host.

    Attributes:
        udp_port: what the engine is bound to.
        events: what the engine reported, with world times.
        frames: what it wrote to its TAP: world time, virtio-net header, frame.
        is_running: until it crashes or stops.
        handed: how many datagrams the engine was given, and `batches` in how many batches.
    """

    def __init__(
        self,
        engine: Engine,
        host: Host,
        *,
        clock: VirtualClock,
        dice: random.Random,
        clock_offset: float = 0.0,
        udp_port: int = 0,
        on_event: Callable[[Event], object] = id,
    ) -> None:
        self.engine = engine
        self.host = host
        self.events: list[tuple[float, Event]] = []
        self.frames: list[tuple[float, bytes, bytes]] = []
        self.handed = 0
        self.batches = 0
        self._on_event = on_event
        self._clock = clock
        self._dice = dice
        self._offset = clock_offset
        self._engine_time = clock_offset + clock.now
        self._inbox: list[Packet] = []
        self._lent = bytearray(MAX_BATCH_BYTES + VNET_HEADER_BYTES)
        self._timer_at = math.inf
        self._timer_calls = 0
        self._timer_window_at = clock.now
        self._streams: dict[int, Callable[[bytes], None]] = {}
        self.is_running = True
        self._suspended_at = math.inf
        self.udp_port = host.listen(self, udp_port)
        self._extra_ports: dict[SocketId, int] = {}

    def start(self) -> None:
        """Collect what the engine wants before anything has happened to it."""
        self._drain()
        self._schedule_timer()

    def step(self, call: Callable[[float], T]) -> T:
        """Call into the engine with its own time, then drain what it has to say."""
        result = call(self._now())
        self._drain()
        self._settle()
        return result

    def write_frame(self, frame: bytes, vnet_header: bytes = PLAIN_VNET_HEADER) -> None:
        """Let the host's kernel send a frame into the TAP."""
        self._lend(vnet_header + frame, self._receive_read)

    def _receive_read(self, read: memoryview, now: float) -> None:
        """Take the short way if there is one, as the real driver does for a lone frame."""
        engine: FrameEngine = self.engine  # type: ignore[assignment]
        batch = engine.forward_frame(read, now)
        if batch is None:
            engine.receive_frames(read, now)
        else:
            self._tell_refusals(self._send([batch]))

    def _receive_datagrams(self, batch: ReceivedDatagrams, now: float) -> None:
        deliver = getattr(self.engine, "deliver_datagram", None)
        iovec = deliver(batch, now) if deliver is not None else None
        if iovec:
            self._write(iovec)
        elif iovec is None:
            self.engine.receive_datagrams(batch, now)

    def receive_packet(self, packet: Packet) -> None:
        """Queue a datagram; the engine is woken a moment later, as a process is."""
        if self._suspended_at < math.inf:
            return
        if not self._inbox:
            self._clock.after(self._dice.uniform(0, WAKE_UP_WITHIN), self._wake_up)
        self._inbox.append(packet)

    def add_stream(self, socket: int, send: Callable[[bytes], None]) -> None:
        """Have one more socket: a stream."""
        self._streams[socket] = send

    def receive_from_stream(self, socket: int, source: Endpoint, datagram: bytes) -> None:
        """Take a datagram off a stream."""
        if not self.is_running:
            return
        self._lend(
            datagram,
            lambda view, now: self._receive_datagrams(
                ReceivedDatagrams(view, len(datagram), source, socket), now
            ),
        )

    def close_stream(self, socket: int) -> None:
        """Let a stream end."""
        if self._streams.pop(socket, None) is not None and self.is_running:
            self.step(lambda now: self.engine.socket_closed(socket, now))

    def receive_refusal(self, packet: Packet) -> None:
        """Tell an edge of an ICMP error; a supernode does not ask for them."""
        receive = getattr(self.engine, "receive_unreachable", None)
        if receive is not None and self.is_running:
            socket = self._socket_of(packet.source)
            quoted = packet.payload[:QUOTED_BYTES]
            self.step(lambda now: receive(socket, packet.destination, quoted, now))

    def add_socket(self, socket: SocketId, udp_port: int = 0) -> int:
        """Open one more port, known to the engine by this number; return it."""
        self._extra_ports[socket] = self.host.listen(self, udp_port)
        return self._extra_ports[socket]

    def remove_socket(self, socket: SocketId) -> None:
        """Close such a port."""
        self.host.close(self._extra_ports.pop(socket))

    @property
    def extra_sockets(self) -> set[SocketId]:
        """The ports that were added and are open."""
        return set(self._extra_ports)

    def suspend(self) -> None:
        """Stop as a machine does whose lid is closed: what arrives is lost."""
        self._suspended_at = self._clock.now

    def resume(self, *, clock_ran: bool) -> None:
        """Go on; the engine's clock ran meanwhile, as in a stopped process, or stood still."""
        if not clock_ran:
            self._offset -= self._clock.now - self._suspended_at
        self._suspended_at = math.inf
        self._timer_at = math.inf
        self._schedule_timer()

    def crash(self) -> None:
        """Stop without a word, as kill -9 does."""
        self.is_running = False
        for socket in self.extra_sockets:
            self.remove_socket(socket)
        self.host.close(self.udp_port)

    def stop(self) -> None:
        """Say goodbye, then stop."""
        self.engine.stop(self._now())
        self._drain()
        self.crash()

    def _settle(self) -> None:
        """Call the timers early now and then, and see when they are due."""
        if self._dice.random() < EARLY_TIMER_PROBABILITY:
            self.engine.handle_timers(self._now())
            self._drain()
        self._schedule_timer()

    def _now(self) -> float:
        self._engine_time = max(self._engine_time, self._clock.now + self._offset)
        return self._engine_time

    def _wake_up(self) -> None:
        packets, self._inbox = self._inbox, []
        start = 0
        while start < len(packets) and self.is_running:
            end = self._end_of_batch(packets, start)
            self._receive_batch(packets[start:end])
            start = end

    def _end_of_batch(self, packets: list[Packet], start: int) -> int:
        """Join what UDP_GRO would: one flow, equal lengths, the last one possibly shorter."""
        first = packets[start]
        segment_bytes = len(first.payload)
        total = segment_bytes
        end = start + 1
        while end < len(packets) and self._dice.random() < COALESCE_PROBABILITY:
            packet = packets[end]
            total += len(packet.payload)
            if (
                packet.source != first.source
                or packet.destination != first.destination
                or not 0 < len(packet.payload) <= segment_bytes
                or total > MAX_BATCH_BYTES
            ):
                break
            end += 1
            if len(packet.payload) < segment_bytes:
                break
        return end

    def _receive_batch(self, packets: list[Packet]) -> None:
        first = packets[0]
        socket = self._socket_of(first.destination)
        self.handed += len(packets)
        self.batches += 1
        self._lend(
            b"".join(packet.payload for packet in packets),
            lambda view, now: self._receive_datagrams(
                ReceivedDatagrams(view, len(first.payload), Endpoint(*first.source), socket), now
            ),
        )

    def _socket_of(self, ours: Endpoint) -> SocketId:
        for socket, udp_port in self._extra_ports.items():
            if udp_port == ours.port:
                return socket
        return WellKnownSocket.UDP_IPV6 if ours.is_ipv6 else WellKnownSocket.UDP_IPV4

    def _lend(self, content: bytes, receive: Callable[[memoryview, float], None]) -> None:
        """Hand in a borrowed buffer, and spoil it once what the call put out has been drained.

        Not before: a relay hands out pieces of the very buffer it was lent.
        """
        size = len(content)
        lent = memoryview(self._lent)[:size]
        lent[:] = content
        receive(lent, self._now())
        self._drain()
        lent[:] = b"\xa5" * size
        self._settle()

    def _drain(self) -> None:
        self._drain_events()
        refused = self._send(self.engine.datagrams_to_send())
        self._drain_frames()
        self._tell_refusals(refused)

    def _tell_refusals(self, refused: list[Refusal]) -> None:
        for batch, error, unsent in refused:
            where, now = (batch.socket, Endpoint(*batch.destination)), self._now()
            if isinstance(error, TooLargeError):
                self.engine.receive_too_large(*where, batch.segment_bytes, now)
            else:
                self.engine.receive_send_error(*where, error.number, now)
                receive = getattr(self.engine, "receive_unsent", None)
                if receive is not None:
                    receive(*where, unsent, now)
        if refused:
            self._drain()

    def _drain_events(self) -> None:
        for event in self.engine.events_to_report():
            self.events.append((self._clock.now, event))
            self._on_event(event)

    def _send(self, batches: list[OutgoingDatagrams]) -> list[Refusal]:
        refused = []
        for batch in batches:
            content = b"".join(batch.buffers)
            destination = Endpoint(*batch.destination)
            if batch.socket not in {*WellKnownSocket, *self._extra_ports}:
                self._send_by_stream(batch, content)
                continue
            expected = WellKnownSocket.UDP_IPV6 if destination.is_ipv6 else WellKnownSocket.UDP_IPV4
            known = (expected, *self._extra_ports)
            assert batch.socket in known, f"{destination} is not reached through {batch.socket}"
            udp_port = self._extra_ports.get(batch.socket, self.udp_port)
            assert content, "an empty batch"
            assert 0 < batch.segment_bytes <= MAX_DATAGRAM_BYTES, batch.segment_bytes
            try:
                for start in range(0, len(content), batch.segment_bytes):
                    payload = content[start : start + batch.segment_bytes]
                    self.host.send(
                        udp_port,
                        destination,
                        payload,
                        batch.ttl,
                        dont_fragment=batch.dont_fragment,
                    )
            except SendError as error:
                size = batch.segment_bytes
                unsent = [content[at : at + size] for at in range(0, len(content), size)]
                refused.append((batch, error, unsent))
        return refused

    def _send_by_stream(self, batch: OutgoingDatagrams, content: bytes) -> None:
        send = self._streams.get(batch.socket)
        if send is not None:  # else it has ended: an error that means nothing to an engine
            for start in range(0, len(content), batch.segment_bytes):
                send(content[start : start + batch.segment_bytes])

    def _drain_frames(self) -> None:
        frames_to_write = getattr(self.engine, "frames_to_write", None)
        for iovec in frames_to_write() if frames_to_write else ():
            self._write(iovec)

    def _write(self, iovec: FrameIovec) -> None:
        content = b"".join(iovec)
        header, frame = content[:VNET_HEADER_BYTES], content[VNET_HEADER_BYTES:]
        assert frame, "a virtio-net header without a frame"
        self.frames.append((self._clock.now, header, frame))

    def _schedule_timer(self) -> None:
        deadline = self.engine.next_timer_at()
        if deadline == self._timer_at or not self.is_running:
            return
        self._timer_at = deadline
        if deadline < math.inf:
            self._clock.at(deadline - self._offset, lambda: self._handle_timers(deadline))

    def _handle_timers(self, deadline: float) -> None:
        """Call the engine at the very moment it asked for, unless it changed its mind."""
        if not self.is_running or deadline != self._timer_at or self._suspended_at < math.inf:
            return
        self._timer_at = math.inf
        self._engine_time = max(self._engine_time, deadline)
        self._check_for_spinning()
        self.engine.handle_timers(self._now())
        self._drain()
        self._schedule_timer()

    def _check_for_spinning(self) -> None:
        if self._clock.now > self._timer_window_at + 1.0:
            self._timer_window_at = self._clock.now
            self._timer_calls = 0
        self._timer_calls += 1
        assert self._timer_calls < MAX_TIMER_CALLS_PER_SECOND, "the engine's timers spin"
