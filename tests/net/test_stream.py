"""mesh.net.stream: a stream as a port, on real connections over loopback."""

import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mesh.addresses import Endpoint
from mesh.constants import MAX_DATAGRAM_BYTES, STREAM_QUEUE_BYTES, STREAM_QUEUE_TIME
from mesh.engine import OutgoingDatagrams, Transport
from mesh.net.counters import DriverCounters
from mesh.net.port import PortClosed
from mesh.net.stream import StreamPort, prepare_connection
from mesh.net.stream_layers import LayerStack

SOURCE = Endpoint("192.0.2.1", 0)
BUFFER = memoryview(bytearray(65536))


def connected() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection; what nobody reads fills it soon."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        ours = socket.create_connection(listening.getsockname())
        theirs, _ = listening.accept()
    prepare_connection(ours)
    theirs.setblocking(False)
    return ours, theirs


@asynccontextmanager
async def open_port(
    counters: DriverCounters | None = None, received: bytes = b""
) -> AsyncIterator[tuple[StreamPort, socket.socket]]:
    ours, theirs = connected()
    port = StreamPort(
        ours,
        LayerStack(),
        socket_id=1000,
        remote=SOURCE,
        transport=Transport.TCP,
        counters=counters or DriverCounters(),
        received=received,
    )
    with theirs, trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(port.keep_writing)
            yield port, theirs
            port.close()


def batch(*datagrams: bytes) -> OutgoingDatagrams:
    return OutgoingDatagrams(datagrams, len(datagrams[0]), SOURCE, 1000)


async def receive_all(port: StreamPort) -> list[tuple[bytes, int, Endpoint, int]]:
    """Everything that is there; waits for the first."""
    found = []
    await port.wait_readable()
    while (received := port.receive_into(BUFFER)) is not None:
        found.append((bytes(received.buffer), *received[1:]))
    return found


async def read_from(theirs: socket.socket, wanted: int) -> bytes:
    read = b""
    while len(read) < wanted:
        await trio.lowlevel.wait_readable(theirs)
        read += theirs.recv(wanted - len(read))
    return read


def test_datagrams_are_framed_and_frames_become_batches() -> None:
    async def main() -> None:
        async with open_port() as (port, theirs):
            port.send(batch(b"one", b"two", b"3"))
            assert await read_from(theirs, 13) == b"\0\3one\0\3two\0\x013"
            theirs.send(b"\0\3one\0\3two\0\x013\0\4long")
            assert await receive_all(port) == [
                (b"onetwo3", 3, SOURCE, 1000),
                (b"long", 4, SOURCE, 1000),
            ]

    trio.run(main)


def test_what_came_behind_the_preamble_is_there_without_waiting() -> None:
    async def main() -> None:
        async with open_port(received=b"\0\5early\0\4ha") as (port, theirs):
            assert await receive_all(port) == [(b"early", 5, SOURCE, 1000)]
            theirs.send(b"lf")
            assert await receive_all(port) == [(b"half", 4, SOURCE, 1000)]

    trio.run(main)


def test_the_end_is_told_after_what_came_before_it() -> None:
    async def main() -> None:
        async with open_port() as (port, theirs):
            theirs.send(b"\0\3one")
            theirs.close()
            await port.wait_readable()
            assert port.receive_into(BUFFER) is not None
            await port.wait_readable()
            with pytest.raises(PortClosed):
                port.receive_into(BUFFER)

    trio.run(main)


def test_a_length_that_no_datagram_has_ends_it() -> None:
    async def main() -> None:
        async with open_port() as (port, theirs):
            theirs.send(b"\xff\xff")
            await port.wait_readable()
            with pytest.raises(PortClosed, match="65535"):
                port.receive_into(BUFFER)

    trio.run(main)


def test_a_datagram_that_would_end_the_stream_is_refused_and_the_others_go_on() -> None:
    async def main() -> None:
        async with open_port() as (port, theirs):
            with pytest.raises(OSError, match="too long") as refusal:
                port.send(batch(b"x" * (MAX_DATAGRAM_BYTES + 1)))
            assert refusal.value.errno == errno.EMSGSIZE
            port.send(batch(b"x" * MAX_DATAGRAM_BYTES))
            framed = await read_from(theirs, MAX_DATAGRAM_BYTES + 2)
            assert framed[:2] == MAX_DATAGRAM_BYTES.to_bytes(2, "big")

    trio.run(main)


def test_sending_to_who_is_gone_neither_raises_nor_waits_and_the_reader_learns_it() -> None:
    async def main() -> None:
        async with open_port() as (port, theirs):
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset
            theirs.close()
            for _ in range(3):
                port.send(batch(b"x" * 1000))
            await port.wait_readable()
            with pytest.raises(PortClosed):
                port.receive_into(BUFFER)

    trio.run(main)


def test_a_reader_that_stalls_costs_datagrams_and_not_memory_or_time() -> None:
    counters = DriverCounters()

    async def main() -> None:
        async with open_port(counters) as (port, theirs):
            for _ in range(100):
                port.send(batch(*[b"old" * 400] * 20))
            assert len(port._queue) + len(port._pending) <= 2 * STREAM_QUEUE_BYTES
            assert counters.queue_full > 1000
            await trio.sleep(STREAM_QUEUE_TIME * 1.5)
            port.send(batch(b"new"))
            # All that comes before the new one was on its way already: the queue has gone stale.
            read = 0
            while True:
                await trio.lowlevel.wait_readable(theirs)
                part = theirs.recv(1 << 20)
                read += len(part)
                if part.endswith(b"\0\3new"):
                    break
            assert read < 2_400_000 / 2

    trio.run(main)


def test_closing_ends_all_who_wait_and_may_be_repeated() -> None:
    async def main() -> None:
        async with open_port() as (port, _):
            async with trio.open_nursery() as nursery:

                async def read() -> None:
                    with pytest.raises(trio.ClosedResourceError):
                        await port.wait_readable()

                nursery.start_soon(read)
                await wait_all_tasks_blocked()
                port.close()
            port.close()

    trio.run(main)
