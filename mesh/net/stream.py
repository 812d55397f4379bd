"""A stream as a port of the driver: datagrams in frames on one connection, never waiting.

What is sent goes into a short queue (`mesh.net.stream_queue`) and from there into the kernel, which
is let hold little that is not on its way yet: what it has taken nobody can drop any more.
"""

import contextlib
import errno
import os
import socket
from typing import Final

import trio

from mesh.addresses import Endpoint
from mesh.constants import MAX_DATAGRAM_BYTES
from mesh.engine import OutgoingDatagrams, ReceivedDatagrams, SocketId, Transport
from mesh.errors import MalformedMessage
from mesh.net.counters import DriverCounters
from mesh.net.port import PortClosed
from mesh.net.stream_layers import LayerStack
from mesh.net.stream_queue import StreamQueue
from mesh.wire.stream import StreamDecoder, frame_datagrams

WRITE_BYTES: Final = 16384
"""About so much is taken from the queue at once (the size of a TLS record), and about so much may
be unsent in the kernel: 1.3 ms at 100 Mbit/s, 13 ms at 10 Mbit/s, each."""

_MAX_PENDING_BYTES: Final = 4 * WRITE_BYTES
"""More is owed only to somebody who asks (WebSocket pings, TLS key updates) and does not read."""

_READ_BYTES: Final = 65536
_TCP_USER_TIMEOUT: Final = 18  # linux/tcp.h; Python's socket module names them from 3.12 on, partly
_TCP_NOTSENT_LOWAT: Final = 25
_SHORT_QUEUES: Final = b"bbr"
"""The congestion control that leaves the routers' queues short: on 20 Mbit/s with a buffer of
200 ms a ping beside a transfer by Reno took 26 ms, with Reno below as well 57 ms, and 122 ms over
UDP."""

_SILENCE_MS: Final = 10_000  # unacknowledged for so long, the connection is dead


class StreamPort:
    """One stream; what `mesh.net.driver` wants of a port.

    `keep_writing` has to run in a task of whoever made it: it sends what did not fit at once.

    Attributes:
        socket_id: the number that engine and driver know it by.
        transport: what the stream is.
        local_host: the address of this machine that it runs from, without a zone.
    """

    def __init__(
        self,
        connection: socket.socket,
        layers: LayerStack,
        *,
        socket_id: SocketId,
        remote: Endpoint,
        transport: Transport,
        counters: DriverCounters,
        received: bytes = b"",
    ) -> None:
        """Own a connected, non-blocking socket whose hands are shaken from now on.

        Args:
            connection: see `prepare_connection`.
            layers: all ready.
            socket_id: its number.
            remote: what the engine is told as the source of what arrives.
            transport: what to call it.
            counters: where drops are counted.
            received: content that arrived behind the preamble already.
        """
        self.socket_id = socket_id
        self.transport = transport
        self.local_host = str(connection.getsockname()[0]).partition("%")[0]
        self._socket = connection
        self._layers = layers
        self._remote = remote
        self._queue = StreamQueue(counters)
        self._pending = b""
        self._is_blocked = False
        self._has_pending = trio.Event()
        self._decoder = StreamDecoder()
        self._decoder.feed(received)
        self._may_have_batch = bool(received)

    def __repr__(self) -> str:
        return f"<StreamPort {self.socket_id}, {self.transport} with {self._remote}>"

    # Receiving

    async def wait_readable(self) -> None:
        """Wait until there is something to be read, or the end."""
        if self._may_have_batch:
            await trio.lowlevel.checkpoint()
        else:
            await trio.lowlevel.wait_readable(self._socket)

    def receive_into(self, buffer: memoryview) -> ReceivedDatagrams | None:
        """Read one batch into ``buffer`` (64 KiB); None if there is no whole datagram.

        Raises:
            PortClosed: the other side or the network ended it, or it sends what makes no sense.
        """
        # Hot path.
        try:
            length, segment_bytes = self._decoder.next_batch_into(buffer)
            if not length:
                self._decoder.feed(self._read())
                length, segment_bytes = self._decoder.next_batch_into(buffer)
        except BlockingIOError:
            length = 0
        except OSError as error:
            raise PortClosed(error.strerror) from error
        except MalformedMessage as error:
            raise PortClosed(str(error)) from error
        self._may_have_batch = length > 0
        if not length:
            return None
        return ReceivedDatagrams(buffer[:length], segment_bytes, self._remote, self.socket_id)

    def _read(self) -> bytes:
        received = self._socket.recv(_READ_BYTES)
        if not received:
            raise PortClosed("the other side closed it")
        content = self._layers.receive(received)
        owed = self._layers.owed()
        if owed:
            if len(self._pending) + len(owed) > _MAX_PENDING_BYTES:
                raise PortClosed("the other side asks much and reads nothing")
            self._pending += owed
            self._flush()
        return content

    # Sending

    def send(self, batch: OutgoingDatagrams) -> None:
        """Send the datagrams of ``batch``, or drop what has no room or comes to no end in time.

        Raises:
            OSError: EMSGSIZE, they are larger than a stream carries: the other side would end it.
        """
        # Hot path.
        if batch.segment_bytes > MAX_DATAGRAM_BYTES:  # UDP carries more, so whoever relays may
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        now = trio.current_time()
        queue = self._queue
        for frame in frame_datagrams(batch.buffers, batch.segment_bytes):
            queue.put(frame, now)
            if not self._is_blocked and len(queue) >= WRITE_BYTES:
                self._flush()
        if not self._is_blocked:
            self._flush()

    def _flush(self) -> None:
        """Give the kernel what it takes.

        An error is not reported from here: whoever reads learns of it, and ends the port.
        """
        # Hot path.
        now = trio.current_time()
        self._is_blocked = False
        try:
            while True:
                if not self._pending:
                    content = self._queue.take(WRITE_BYTES, now)
                    if not content:
                        return
                    self._pending = self._layers.wrap(content)
                sent = self._socket.send(self._pending)
                self._pending = self._pending[sent:]
        except BlockingIOError:
            self._is_blocked = True
            self._has_pending.set()
        except OSError:
            self._is_blocked = True  # for good
            self._pending = b""
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    async def keep_writing(self) -> None:
        """Send what the kernel did not take at once; ends when the port is closed."""
        while self._socket.fileno() >= 0:
            await self._has_pending.wait()
            self._has_pending = trio.Event()
            try:
                while self._pending:
                    await trio.lowlevel.wait_writable(self._socket)
                    self._flush()
            except (trio.ClosedResourceError, OSError):
                return

    def close(self) -> None:
        """Close it; harmless the second time."""
        close_connection(self._socket)
        self._has_pending.set()


def prepare_connection(connection: socket.socket) -> None:
    """Make a TCP connection one for datagrams: nothing waits in it if that can be helped."""
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, WRITE_BYTES)
    connection.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, _SILENCE_MS)
    with contextlib.suppress(OSError):  # not every kernel has it, or lets everybody use it
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _SHORT_QUEUES)


def close_connection(connection: socket.socket) -> None:
    """Close a socket that a task may be waiting for; harmless the second time."""
    if connection.fileno() >= 0:
        with contextlib.suppress(RuntimeError):  # outside trio.run nobody can be waiting
            trio.lowlevel.notify_closing(connection)
        connection.close()
