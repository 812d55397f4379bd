"""A connection on its way to become a stream: layer upon layer, then the preambles; section 19."""

import socket

import trio

from mesh.net.port import PortClosed
from mesh.net.stream import close_connection
from mesh.net.stream_layers import Layer, LayerStack
from mesh.wire.stream import PREAMBLE

_READ_BYTES = 16384


class Opening:
    """Shakes hands on one connection; whoever makes it limits the time.

    Attributes:
        layers: those on the connection so far.
    """

    def __init__(self, connection: socket.socket) -> None:
        """Own a connected, non-blocking socket until somebody takes it over."""
        self.connection = connection
        self.layers = LayerStack()
        self._content = b""

    def close(self) -> None:
        """Give the connection up."""
        close_connection(self.connection)

    async def peek(self, wanted: int) -> bytes:
        """Return at least ``wanted`` bytes of content without taking them.

        Raises:
            PortClosed: it ended before.
            OSError: the network ended it.
        """
        while len(self._content) < wanted:
            self._content += await self._receive()
        return self._content

    async def take(self, wanted: int) -> bytes:
        """Return ``wanted`` bytes of content.

        Raises:
            PortClosed: it ended before.
            OSError: the network ended it.
        """
        await self.peek(wanted)
        taken, self._content = self._content[:wanted], self._content[wanted:]
        return taken

    def take_rest(self) -> bytes:
        """Return what has arrived and nobody has taken."""
        rest, self._content = self._content, b""
        return rest

    async def push(self, layer: Layer) -> None:
        """Put a layer on top and wait until it is ready.

        Raises:
            PortClosed: the other side does not want to, or ended.
            OSError: the network ended it.
        """
        below = self.take_rest()
        owed = self.layers.wrap(layer.owed())
        if owed:
            await self._send(owed)
        self.layers.push(layer)
        try:
            self._content = layer.receive(below) if below else b""
        finally:
            await self._send_owed()
        while not layer.is_ready:
            self._content += await self._receive()

    async def send(self, content: bytes) -> None:
        """Send content.

        Raises:
            OSError: the network ended it.
        """
        await self._send(self.layers.wrap(content))

    async def exchange_preambles(self, *, is_first: bool) -> None:
        """Send ours and check theirs, in the order that says who asked for the stream.

        Raises:
            PortClosed: theirs is another one.
            OSError: the network ended it.
        """
        if is_first:
            await self.send(PREAMBLE)
        theirs = await self.take(len(PREAMBLE))
        if theirs != PREAMBLE:
            raise PortClosed("it speaks something else, or another version")
        if not is_first:
            await self.send(PREAMBLE)

    async def _receive(self) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self.connection)
            try:
                received = self.connection.recv(_READ_BYTES)
            except BlockingIOError:
                continue
            if not received:
                raise PortClosed("the other side closed it")
            try:
                return self.layers.receive(received)
            finally:
                await self._send_owed()

    async def _send_owed(self) -> None:
        owed = self.layers.owed()
        if owed:
            await self._send(owed)

    async def _send(self, sending: bytes) -> None:
        while sending:
            try:
                sent = self.connection.send(sending)
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self.connection)
            else:
                sending = sending[sent:]
