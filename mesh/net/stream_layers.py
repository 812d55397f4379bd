"""What lies between a TCP connection and a stream of frames: TLS, WebSocket, both or neither.

Layers do no I/O and never wait: bytes in, bytes out, so that a stream can be a port of the driver,
which must not block. (Streams of trio and connections of trio-websocket wait while they send, and
what waits there could not be dropped any more.)
"""

import itertools
import ssl
from typing import Final, Protocol

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
)
from wsproto.utilities import ProtocolError

from mesh.net.port import PortClosed

WEBSOCKET_SUBPROTOCOL: Final = "mesh"

_READ_BYTES: Final = 65536
_FRAMES_FREE: Final = 32
_FRAME_BYTES: Final = 64
"""A WebSocket whose frames are smaller on average, beyond a few, has no datagrams for us: each
costs 10 µs and more, however small, and 64 KiB of empty ones would stop everything for 0.1 s."""
_NOT_A_WEBSOCKET: Final = (
    b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: close\r\n"
    b"Content-Length: 0\r\n\r\n"
)


class Layer(Protocol):
    """One layer of a stream."""

    is_ready: bool
    """Whether its handshake is over, so that `wrap` may be called."""

    def receive(self, received: bytes) -> bytes:
        """Take in what the layer below received; return what the layer above receives.

        Raises:
            PortClosed: it ended, or what was received makes no sense; `owed` may have a last word.
        """
        ...

    def wrap(self, content: bytes) -> bytes:
        """Return what the layer below is to send for ``content``."""
        ...

    def owed(self) -> bytes:
        """Return, and forget, what the layer below is to send for the layer's own purposes."""
        ...


class LayerStack:
    """The layers of one stream, from the connection upwards; none at first."""

    def __init__(self) -> None:
        self._layers: list[Layer] = []

    def push(self, layer: Layer) -> None:
        """Put a layer on top."""
        self._layers.append(layer)

    def receive(self, received: bytes) -> bytes:
        """Pass what the connection received up through all layers.

        Raises:
            PortClosed: one of them ended.
        """
        for layer in self._layers:
            received = layer.receive(received)
        return received

    def wrap(self, content: bytes) -> bytes:
        """Return what the connection is to send for ``content``."""
        return self._down(content, len(self._layers))

    def owed(self) -> bytes:
        """Return, and forget, what the connection is to send for the layers' own purposes."""
        parts = [self._down(layer.owed(), height) for height, layer in enumerate(self._layers)]
        return b"".join(parts)

    def _down(self, content: bytes, height: int) -> bytes:
        for layer in reversed(self._layers[:height]):
            if not content:
                break
            content = layer.wrap(content)
        return content


class TlsLayer:
    """TLS, on either side.

    Args:
        context: with a certificate on the server's side.
        server_name: what the certificate has to be for, on the client's side; else None.
    """

    def __init__(self, context: ssl.SSLContext, server_name: str | None = None) -> None:
        self.is_ready = False
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._in, self._out, server_side=server_name is None, server_hostname=server_name
        )
        if server_name is not None:
            self.receive(b"")  # the client speaks first

    def receive(self, received: bytes) -> bytes:
        """See `Layer`."""
        self._in.write(received)
        parts: list[bytes] = []
        try:
            if not self.is_ready:
                self._tls.do_handshake()
                self.is_ready = True
            while part := self._tls.read(_READ_BYTES):
                parts.append(part)
        except ssl.SSLWantReadError:
            return b"".join(parts)
        except ssl.SSLError as error:
            verified = getattr(error, "verify_message", "")
            raise PortClosed(f"TLS: {verified or error.reason or error}") from error
        raise PortClosed("TLS ended")

    def wrap(self, content: bytes) -> bytes:
        """See `Layer`."""
        self._tls.write(content)
        return self._out.read()

    def owed(self) -> bytes:
        """See `Layer`."""
        return self._out.read()


class WebSocketLayer:
    """A WebSocket whose binary messages, joined, are the content.

    Attributes:
        forwarded_for: the header ``X-Forwarded-For`` of the request, on the server's side.
    """

    def __init__(self, host: str | None = None, target: str = "/") -> None:
        """Make one side.

        Args:
            host: what the client asks for (``Host``); None on the server's side.
            target: the path that the client asks for.
        """
        self.is_ready = False
        self.forwarded_for = ""
        is_client = host is not None
        self._socket = WSConnection(ConnectionType.CLIENT if is_client else ConnectionType.SERVER)
        self._owed = b""
        if host is not None:
            request = Request(host, target, subprotocols=[WEBSOCKET_SUBPROTOCOL])
            self._owed = self._socket.send(request)

    def receive(self, received: bytes) -> bytes:
        """See `Layer`."""
        if not received:  # TLS had nothing for us; to h11 this would be the end
            return b""
        try:
            self._socket.receive_data(received)
            events = self._socket.events()
            most = _FRAMES_FREE + len(received) // _FRAME_BYTES
            content = b"".join(map(self._take, itertools.islice(events, most)))
            is_flood = next(events, None) is not None
        except (ProtocolError, ValueError) as error:  # ValueError: headers that are not ASCII
            if not self.is_ready:
                self._owed = _NOT_A_WEBSOCKET
            raise PortClosed(f"not a WebSocket: {error}") from error
        if is_flood:
            raise PortClosed("a WebSocket of very many, very small frames")
        return content

    def _take(self, event: Event) -> bytes:
        """Return what of ``event`` is content."""
        match event:
            case BytesMessage():
                return bytes(event.data)
            case Ping():
                self._owed += self._socket.send(event.response())
            case Request():
                self._answer(event)
            case AcceptConnection():
                self._accepted(event)
            case RejectConnection():
                raise PortClosed(f"the web server answered with status {event.status_code}")
            case CloseConnection():
                self._owed += self._socket.send(event.response())
                raise PortClosed("the WebSocket was closed")
            case _:
                pass
        return b""

    def _answer(self, request: Request) -> None:
        if WEBSOCKET_SUBPROTOCOL not in request.subprotocols:
            self._owed += self._socket.send(RejectConnection(status_code=400))
            raise PortClosed("a WebSocket for something else")
        for name, value in request.extra_headers:
            if name.lower() == b"x-forwarded-for":
                self.forwarded_for = value.decode("latin-1")
        self._owed += self._socket.send(AcceptConnection(subprotocol=WEBSOCKET_SUBPROTOCOL))
        self.is_ready = True

    def _accepted(self, event: AcceptConnection) -> None:
        if event.subprotocol != WEBSOCKET_SUBPROTOCOL:
            raise PortClosed("a WebSocket of something else")
        self.is_ready = True

    def wrap(self, content: bytes) -> bytes:
        """See `Layer`."""
        return self._socket.send(BytesMessage(data=content))

    def owed(self) -> bytes:
        """See `Layer`."""
        owed, self._owed = self._owed, b""
        return owed
