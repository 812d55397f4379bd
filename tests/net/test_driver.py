import errno
import logging
import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mesh.addresses import EdgeId, Endpoint
from mesh.engine import OutgoingDatagrams, ReceivedDatagrams, SocketId
from mesh.errors import ConfigError, StateError
from mesh.events import Event, LeaseGranted, PeerDown, PeerUp
from mesh.net.bursts import READS_PER_WAKEUP
from mesh.net.data_loop import DataLoop
from mesh.net.driver import STREAM_READS_PER_TURN, Driver, OnEvent
from mesh.net.port import PortClosed
from mesh.net.udp import UdpPort, open_udp

LEASE = LeaseGranted(bytes(32), EdgeId(bytes(16)), "10.20.0.2/22")
UP = PeerUp(EdgeId(bytes(16)), "peer")
DOWN = PeerDown(EdgeId(bytes(16)), "peer")


Run = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.fixture(params=["trio", "data loop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a test's coroutine in trio alone, and in trio as the guest of a data loop."""
    return trio.run if request.param == "trio" else DataLoop().run


class ScriptedEngine:
    """An engine that answers datagrams as told, checks the rules of the border and keeps notes."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.errors: list[tuple[Endpoint, int]] = []
        self.too_large: list[tuple[Endpoint, int]] = []
        self.closed: list[SocketId] = []
        self.timers_at: list[float] = []
        self.timer_at = math.inf
        self.stopped = False
        self.outbox: list[OutgoingDatagrams] = []
        self.events: list[Event] = []
        self._lent: list[bytearray] = []
        self._last_now = -math.inf

    def say(self, text: bytes, destination: Endpoint, socket_id: SocketId = 0) -> None:
        """Queue a datagram in a buffer that is overwritten at the next call into the engine."""
        buffer = bytearray(text)
        self._lent.append(buffer)
        self.outbox.append(OutgoingDatagrams([buffer], len(text), destination, socket_id))

    def receive_datagrams(self, batch: ReceivedDatagrams, now: float) -> None:
        self._enter(now)
        self.received.append(bytes(batch.buffer))

    def handle_timers(self, now: float) -> None:
        self._enter(now)
        self.timers_at.append(now)
        self.timer_at = math.inf

    def next_timer_at(self) -> float:
        return self.timer_at

    def datagrams_to_send(self) -> list[OutgoingDatagrams]:
        taken, self.outbox = self.outbox, []
        return taken

    def events_to_report(self) -> list[Event]:
        taken, self.events = self.events, []
        return taken

    def receive_send_error(
        self, _: SocketId, destination: Endpoint, errno: int, now: float
    ) -> None:
        self._enter(now)
        self.errors.append((destination, errno))

    def receive_too_large(
        self, _: SocketId, destination: Endpoint, datagram_bytes: int, now: float
    ) -> None:
        self._enter(now)
        self.too_large.append((destination, datagram_bytes))

    def socket_closed(self, socket: SocketId, now: float) -> None:
        self._enter(now)
        self.closed.append(socket)

    def stop(self, now: float) -> None:
        self._enter(now)
        self.stopped = True

    def _enter(self, now: float) -> None:
        assert now >= self._last_now
        assert not self.stopped
        self._last_now = now
        for buffer in self._lent:  # lent until now
            buffer[:] = b"X" * len(buffer)
        self._lent.clear()


class EchoEngine(ScriptedEngine):
    """Sends everything back."""

    def receive_datagrams(self, batch: ReceivedDatagrams, now: float) -> None:
        super().receive_datagrams(batch, now)
        self.say(bytes(batch.buffer), batch.source, batch.socket)


@asynccontextmanager
async def running(
    engine: ScriptedEngine,
    on_event: OnEvent | None = None,
    store_first: tuple[type[Event], ...] = (),
) -> AsyncIterator[tuple[Driver, UdpPort]]:
    """Run a driver with one loopback socket while the block runs."""
    port = open_udp(socket.AF_INET, "127.0.0.1")
    driver = Driver(engine, {port.socket_id: port}, on_event=on_event, store_first=store_first)
    async with trio.open_nursery() as nursery:
        await nursery.start(driver.run)
        with trio.fail_after(10):
            yield driver, port
        nursery.cancel_scope.cancel()


async def open_client() -> trio.socket.SocketType:
    client = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    await client.bind(("127.0.0.1", 0))
    return client


def test_a_datagram_reaches_the_engine_and_its_answer_comes_back(run: Run) -> None:
    async def main() -> None:
        engine = EchoEngine()
        async with running(engine) as (driver, port):
            with await open_client() as client:
                for text in (b"one", b"two"):
                    await client.sendto(text, port.local)
                    assert await client.recv(100) == text
        assert driver.counters.datagram_batches_received == 2
        assert driver.counters.datagram_batches_sent == 2

    run(main)


def test_a_port_added_while_running_is_read_and_written_until_it_is_removed(run: Run) -> None:
    async def main() -> None:
        engine = EchoEngine()
        async with running(engine) as (driver, _):
            added = open_udp(socket.AF_INET, "127.0.0.1", socket_id=driver.new_socket_id())
            driver.add_port(added)
            with await open_client() as client:
                await client.sendto(b"one", added.local)
                assert await client.recv(100) == b"one"
            driver.remove_port(added.socket_id)
            driver.remove_port(added.socket_id)
            assert added.fileno() == -1
            driver.step(lambda _: engine.say(b"x", Endpoint("127.0.0.1", 9), added.socket_id))
            await wait_all_tasks_blocked()
        assert driver.counters.send_errors == {"ENOTCONN": 1}
        assert engine.closed == []

    run(main)


def test_a_port_may_be_removed_before_its_task_has_had_a_turn(run: Run) -> None:
    async def main() -> None:
        engine = EchoEngine()
        async with running(engine) as (driver, port):
            for _ in range(3):
                added = open_udp(socket.AF_INET, "127.0.0.1", socket_id=driver.new_socket_id())
                driver.add_port(added)
                driver.remove_port(added.socket_id)
            await wait_all_tasks_blocked()
            with await open_client() as client:
                await client.sendto(b"still here", port.local)
                assert await client.recv(100) == b"still here"
        assert engine.closed == []

    run(main)


def test_the_engine_is_told_of_a_port_that_came_to_its_end(run: Run) -> None:
    class EndingPort(UdpPort):
        def receive_into(self, buffer: memoryview) -> ReceivedDatagrams | None:
            if super().receive_into(buffer) is not None:
                raise PortClosed
            return None

    async def main() -> None:
        engine = EchoEngine()
        async with running(engine) as (driver, _):
            bound = open_udp(socket.AF_INET, "127.0.0.1")
            ending = EndingPort(bound._socket, 9)
            driver.add_port(ending)
            with await open_client() as client:
                await client.sendto(b"the end", ending.local)
                await wait_all_tasks_blocked(0.01)
            assert engine.closed == [9]
            assert ending.fileno() == -1

    run(main)


class FloodedStream:
    """A stream that always has something to be read."""

    def __init__(self, number: SocketId, reads: list[SocketId]) -> None:
        self.socket_id = number
        self._reads = reads
        self._is_closed = False

    async def wait_readable(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._is_closed:
            raise trio.ClosedResourceError

    def receive_into(self, buffer: memoryview) -> ReceivedDatagrams | None:
        self._reads.append(self.socket_id)
        return ReceivedDatagrams(buffer[:1], 1, Endpoint("192.0.2.1", 0), self.socket_id)

    def send(self, batch: OutgoingDatagrams) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._is_closed = True


def test_many_streams_have_few_reads_before_others_get_their_turn(run: Run) -> None:
    async def main() -> None:
        reads: list[SocketId] = []
        per_turn = []
        async with running(ScriptedEngine()) as (driver, _):
            for number in range(2000, 2040):
                driver.add_port(FloodedStream(number, reads))
            for _ in range(100):
                before = len(reads)
                await trio.lowlevel.checkpoint()
                per_turn.append(len(reads) - before)
        assert max(per_turn) <= STREAM_READS_PER_TURN
        assert {*reads} == {*range(2000, 2040)}

    run(main)


@pytest.mark.parametrize(("has_errors", "expected"), [(True, 1), (False, 0)])
def test_icmp_is_heard_although_there_are_datagrams_too(
    monkeypatch: pytest.MonkeyPatch, *, has_errors: bool, expected: int
) -> None:
    class BusyPort(UdpPort):
        def receive_into(self, buffer: memoryview) -> ReceivedDatagrams | None:
            if engine.received:
                self.has_errors = has_errors
                return None
            return ReceivedDatagrams(buffer[:1], 1, Endpoint("192.0.2.1", 9), 9)

    async def main() -> None:
        port.hears_icmp = True
        assert driver._receive_datagrams(port, memoryview(bytearray(1)), 32) == 1

    engine = ScriptedEngine()
    taken = []
    with open_udp(socket.AF_INET, "127.0.0.1") as bound:
        port = BusyPort(bound._socket, 9)
        driver = Driver(engine, {9: port})
        monkeypatch.setattr(driver, "_take_unreachable", taken.append)
        trio.run(main)
    assert taken == [port] * expected


def test_a_burst_larger_than_one_wake_up_is_answered_completely_and_in_order(run: Run) -> None:
    async def main() -> None:
        engine = EchoEngine()
        async with running(engine) as (_, port):
            with await open_client() as client:
                sent = [str(number).encode() for number in range(5 * READS_PER_WAKEUP)]
                for text in sent:
                    await client.sendto(text, port.local)
                assert [await client.recv(100) for _ in sent] == sent

    run(main)


def test_timers_are_handled_although_datagrams_never_stop(run: Run) -> None:
    async def main() -> None:
        engine = EchoEngine()
        async with running(engine) as (driver, port):
            # Every answer is a new datagram to ourselves: the socket is never empty again.
            for _ in range(100):
                driver.step(lambda _: engine.say(b"ball", port.local))
            driver.step(lambda now: setattr(engine, "timer_at", now + 0.01))
            while not engine.timers_at:
                await trio.lowlevel.checkpoint()
            assert len(engine.received) > READS_PER_WAKEUP

    run(main)


def test_an_empty_datagram_is_no_batch_and_stops_nothing(run: Run) -> None:
    async def main() -> None:
        engine = EchoEngine()
        async with running(engine) as (_, port):
            with await open_client() as client:
                await client.sendto(b"", port.local)
                await client.sendto(b"next", port.local)
                assert await client.recv(100) == b"next"
        assert engine.received == [b"next"]

    run(main)


def test_a_timer_rings_at_its_moment_and_an_earlier_one_earlier() -> None:
    async def main() -> None:
        engine = ScriptedEngine()
        async with running(engine) as (driver, _):
            start = trio.current_time()
            driver.step(lambda now: setattr(engine, "timer_at", now + 5.0))
            await trio.sleep(4.0)
            assert engine.timers_at == []
            await trio.sleep(1.5)
            driver.step(lambda now: setattr(engine, "timer_at", now + 3.0))
            driver.step(lambda now: setattr(engine, "timer_at", now + 1.0))
            await trio.sleep(1.1)
        assert [at - start for at in engine.timers_at] == pytest.approx([5.0, 6.5])

    trio.run(main, clock=MockClock(autojump_threshold=0.05))


def test_a_timer_that_was_put_off_does_not_ring_early() -> None:
    async def main() -> None:
        engine = ScriptedEngine()
        async with running(engine) as (driver, _):
            start = trio.current_time()
            driver.step(lambda now: setattr(engine, "timer_at", now + 1.0))
            driver.step(lambda now: setattr(engine, "timer_at", now + 4.0))
            await trio.sleep(5.0)
        assert [at - start for at in engine.timers_at] == pytest.approx([4.0])

    trio.run(main, clock=MockClock(autojump_threshold=0.05))


def test_a_step_returns_its_result_and_drains(run: Run) -> None:
    async def main() -> None:
        engine = ScriptedEngine()
        async with running(engine) as (driver, _):
            with await open_client() as client:
                destination = Endpoint(*client.getsockname())

                def call(now: float) -> float:
                    engine.say(b"hello", destination)
                    return now

                assert driver.step(call) <= trio.current_time()
                assert await client.recv(100) == b"hello"

    run(main)


def test_a_step_before_the_run_is_drained_by_it_and_one_after_it_does_no_harm(run: Run) -> None:
    told: list[Event] = []

    async def main() -> None:
        engine = ScriptedEngine()
        port = open_udp(socket.AF_INET, "127.0.0.1")
        driver = Driver(engine, {0: port}, on_event=told.append)
        with await open_client() as client:
            destination = Endpoint(*client.getsockname())
            driver.step(lambda _: (engine.say(b"early", destination), engine.events.append(UP)))
            assert told == []
            async with trio.open_nursery() as nursery:
                await nursery.start(driver.run)
                with trio.fail_after(5):
                    assert await client.recv(100) == b"early"
                nursery.cancel_scope.cancel()
        assert told == [UP]
        driver.step(lambda _: engine.events.append(DOWN))
        assert told == [UP]

    run(main)


def test_a_refused_send_is_reported_counted_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refused = Endpoint("255.255.255.255", 9)  # EACCES: the socket may not broadcast

    async def main() -> None:
        engine = ScriptedEngine()
        async with running(engine) as (driver, _):
            with await open_client() as client:
                destination = Endpoint(*client.getsockname())
                for _ in range(5):
                    driver.step(lambda _: engine.say(b"lost", refused))
                driver.step(lambda _: (engine.say(b"x", refused), engine.say(b"ok", destination)))
                assert await client.recv(100) == b"ok"
            assert engine.errors == [(refused, errno.EACCES)] * 6
            assert driver.counters.send_errors == {"EACCES": 6}
            assert driver.counters.drops() == {"send_error": 6}

    with caplog.at_level(logging.INFO):
        trio.run(main)
    [record] = caplog.records
    assert "255.255.255.255:9" in record.getMessage()


def test_a_probe_larger_than_the_interface_is_no_error_but_an_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loopback = Endpoint("127.0.0.1", 9)
    probe = OutgoingDatagrams([bytes(65_530)], 65_530, loopback, 0, dont_fragment=True)

    async def main() -> None:
        engine = ScriptedEngine()
        async with running(engine) as (driver, _):
            driver.step(lambda _: engine.outbox.append(probe))
            assert engine.too_large == [(loopback, 65_530)]
            assert not engine.errors
            assert not driver.counters.send_errors
            driver.step(lambda _: engine.outbox.append(probe._replace(dont_fragment=False)))
            assert engine.errors == [(loopback, errno.EMSGSIZE)]

    with caplog.at_level(logging.INFO):
        trio.run(main)
    assert len(caplog.records) == 1


def test_an_engine_that_answers_every_error_with_another_send_does_not_hang_the_driver(
    run: Run,
) -> None:
    refused = Endpoint("255.255.255.255", 9)

    class StubbornEngine(ScriptedEngine):
        def receive_send_error(
            self, socket: SocketId, destination: Endpoint, errno: int, now: float
        ) -> None:
            super().receive_send_error(socket, destination, errno, now)
            self.say(b"again", destination)

    async def main() -> None:
        engine = StubbornEngine()
        async with running(engine) as (driver, _):
            driver.step(lambda _: engine.say(b"x", refused))
            assert 1 <= len(engine.errors) <= 5

    run(main)


def test_a_socket_that_the_machine_lacks_is_a_send_error(run: Run) -> None:
    async def main() -> None:
        engine = ScriptedEngine()
        async with running(engine) as (driver, _):
            driver.step(lambda _: engine.say(b"x", Endpoint("2001:db8::1", 9), 1))
            assert engine.errors == [(Endpoint("2001:db8::1", 9), errno.EAFNOSUPPORT)]

    run(main)


def test_an_unreachable_port_does_not_stop_the_reader(run: Run) -> None:
    async def main() -> None:
        engine = EchoEngine()
        async with running(engine) as (driver, port):
            with await open_client() as client:
                with await open_client() as gone:
                    nowhere = Endpoint(*gone.getsockname())
                for _ in range(3):
                    driver.step(lambda _: engine.say(b"x", nowhere))
                await client.sendto(b"still here", port.local)
                assert await client.recv(100) == b"still here"

    run(main)


def test_an_icmp_error_that_a_read_reports_is_counted_and_survived(run: Run) -> None:
    async def main() -> None:
        engine = ScriptedEngine()
        async with running(engine) as (driver, port):
            with await open_client() as gone:
                nowhere = gone.getsockname()
            # Only a connected socket hears of ICMP errors for what it sent.
            port._socket.connect(nowhere)
            port._socket.send(b"x")
            while not driver.counters.receive_errors:
                await trio.lowlevel.checkpoint()
            with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back:
                await back.bind(nowhere)
                await back.sendto(b"still here", port.local)
                while not engine.received:
                    await trio.lowlevel.checkpoint()
            assert driver.counters.receive_errors == {"ECONNREFUSED": 1}

    run(main)


def test_events_are_told_in_order_and_may_take_their_time() -> None:
    told: list[Event] = []

    async def on_event(event: Event) -> None:
        if event is UP:
            await trio.sleep(1)
        told.append(event)

    async def main() -> None:
        engine = ScriptedEngine()
        async with running(engine, on_event) as (driver, _):
            driver.step(lambda _: engine.events.extend([UP, DOWN]))
            driver.step(lambda _: engine.events.append(LEASE))
            await trio.sleep(2)
            assert told == [UP, DOWN, LEASE]

    trio.run(main, clock=MockClock(autojump_threshold=0.05))


def test_a_lease_is_stored_before_the_answer_leaves(run: Run) -> None:
    stored = trio.Event()
    order: list[str] = []

    async def on_event(event: Event) -> None:
        assert event is LEASE
        await stored.wait()
        order.append("stored")

    async def main() -> None:
        engine = ScriptedEngine()
        async with running(engine, on_event, (LeaseGranted,)) as (driver, _):
            with await open_client() as client:
                destination = Endpoint(*client.getsockname())
                driver.step(
                    lambda _: (engine.events.append(LEASE), engine.say(b"granted", destination))
                )
                # The engine's buffers are reused meanwhile, and other datagrams do not wait.
                driver.step(engine.handle_timers)
                driver.step(lambda _: engine.say(b"other", destination))
                assert await client.recv(100) == b"other"
                assert order == []
                stored.set()
                assert await client.recv(100) == b"granted"
                assert order == ["stored"]

    run(main)


def test_what_cannot_be_stored_is_not_promised_and_the_driver_goes_on(
    caplog: pytest.LogCaptureFixture, run: Run
) -> None:
    async def on_event(event: Event) -> None:
        raise StateError("the disk is full")

    async def main() -> None:
        engine = ScriptedEngine()
        async with running(engine, on_event, (LeaseGranted,)) as (driver, _):
            with await open_client() as client:
                destination = Endpoint(*client.getsockname())
                driver.step(
                    lambda _: (engine.events.append(LEASE), engine.say(b"granted", destination))
                )
                await wait_all_tasks_blocked()
                driver.step(lambda _: engine.say(b"other", destination))
                assert await client.recv(100) == b"other"

    run(main)
    assert "the disk is full" in caplog.text


def test_what_a_listener_to_events_raises_ends_the_run_as_it_is(run: Run) -> None:
    def on_event(event: Event) -> None:
        raise ConfigError("--supernode", "", "shows another key")

    async def main() -> None:
        engine = ScriptedEngine()
        engine.events.append(UP)
        with open_udp(socket.AF_INET, "127.0.0.1") as port:
            driver = Driver(engine, {0: port}, on_event=on_event)
            with pytest.raises(ConfigError, match="another key"):
                await driver.run()
        assert engine.stopped

    run(main)


def test_cancelling_stops_the_engine_sends_its_goodbyes_and_closes_the_socket(run: Run) -> None:
    told: list[Event] = []

    async def on_event(event: Event) -> None:
        await trio.lowlevel.checkpoint()
        told.append(event)

    async def main() -> None:
        with await open_client() as client:
            destination = Endpoint(*client.getsockname())

            class PoliteEngine(ScriptedEngine):
                def stop(self, now: float) -> None:
                    super().stop(now)
                    self.say(b"bye", destination)
                    self.events.append(DOWN)

            engine = PoliteEngine()
            async with running(engine, on_event) as (_, port):
                pass
            assert engine.stopped
            assert port.fileno() == -1
            with trio.fail_after(5):
                assert await client.recv(100) == b"bye"
        assert told == [DOWN]

    run(main)


def test_a_listener_that_hangs_does_not_keep_the_program_from_ending() -> None:
    async def on_event(event: Event) -> None:
        await trio.sleep_forever()

    async def main() -> None:
        engine = ScriptedEngine()
        engine.events.append(UP)
        async with running(engine, on_event):
            await wait_all_tasks_blocked()
        assert engine.stopped

    trio.run(main, clock=MockClock(autojump_threshold=0.05))


def test_an_engine_that_fails_to_stop_does_not_keep_the_program_from_ending() -> None:
    class BrokenEngine(ScriptedEngine):
        def stop(self, _: float) -> None:
            raise ZeroDivisionError

    async def main() -> None:
        port = open_udp(socket.AF_INET, "127.0.0.1")
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                await nursery.start(Driver(BrokenEngine(), {0: port}).run)
                nursery.cancel_scope.cancel()

    with pytest.raises(ExceptionGroup) as caught:
        trio.run(main)
    assert caught.group_contains(ZeroDivisionError)


class FullPort(UdpPort):
    """A socket whose buffer is full, which loopback cannot be brought to."""

    def send(self, _: OutgoingDatagrams) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


def test_a_full_socket_buffer_drops_and_counts_but_is_no_error(run: Run) -> None:
    async def main() -> None:
        engine = ScriptedEngine()
        bound = open_udp(socket.AF_INET, "127.0.0.1")
        driver = Driver(engine, {0: FullPort(bound._socket, 0)})
        async with trio.open_nursery() as nursery:
            await nursery.start(driver.run)
            driver.step(lambda _: engine.say(b"x", bound.local))
            nursery.cancel_scope.cancel()
        assert driver.counters.send_would_block == 1
        assert driver.counters.drops() == {"send_error": 1}
        assert engine.errors == []

    run(main)
