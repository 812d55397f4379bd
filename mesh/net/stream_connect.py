"""Opening a stream to a supernode: which ways there are, and going one of them; section 19."""

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import trio

from mesh.addresses import Endpoint
from mesh.engine import Transport
from mesh.net.proxy import Proxy, open_tunnel
from mesh.net.stream import prepare_connection
from mesh.net.stream_layers import TlsLayer, WebSocketLayer
from mesh.net.stream_opening import Opening

DEFAULT_PATH = "/mesh"
"""What is asked of a web server that was named without a path."""

_DEFAULT_PORTS = {"ws": 80, "wss": 443}
MakeTlsContext = Callable[[], ssl.SSLContext]


@dataclass(frozen=True, slots=True)
class StreamWay:
    """One way to a supernode by stream.

    Attributes:
        transport: TCP or WEBSOCKET.
        host: a name or numeric address.
        port: TCP.
        is_tls: whether inside TLS (``wss``).
        path: what to ask a web server for.
    """

    transport: Transport
    host: str
    port: int
    is_tls: bool = False
    path: str = ""

    def __str__(self) -> str:
        scheme = "wss" if self.is_tls else self.transport.value
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}{self.path}"


def read_stream_way(text: str) -> StreamWay:
    """Read ``tcp://HOST:PORT``, ``ws://HOST[:PORT][/PATH]`` or ``wss://HOST[:PORT][/PATH]``.

    Raises:
        ValueError: it is something else.
    """
    wanted = "tcp://HOST:PORT, ws://HOST[:PORT][/PATH] or wss://HOST[:PORT][/PATH]"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"{text!r} is not {wanted}") from None
    port = _DEFAULT_PORTS.get(parts.scheme) if port is None else port
    is_bad_path = parts.scheme == "tcp" and parts.path not in {"", "/"}
    odd = parts.query or parts.fragment or parts.username or is_bad_path
    if parts.scheme not in {"tcp", "ws", "wss"} or not host or not port or odd:
        raise ValueError(f"{text!r} is not {wanted}")
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError(f"{text!r} has characters that no such URL has")
    if parts.scheme == "tcp":
        return StreamWay(Transport.TCP, host, port)
    path = DEFAULT_PATH if parts.path in {"", "/"} else parts.path
    return StreamWay(Transport.WEBSOCKET, host, port, parts.scheme == "wss", path)


def make_tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """Return what checks certificates: the machine's authorities, and those in ``ca_file``.

    Raises:
        OSError: the file cannot be read, or holds no certificates.
    """
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


async def open_way(
    way: StreamWay, proxy: Proxy | None, make_context: MakeTlsContext
) -> tuple[Opening, Endpoint]:
    """Go one way to its end; whoever calls limits the time and closes the opening.

    Returns:
        The opening, its preambles exchanged, and what it is connected with: the supernode, or the
        proxy on the way to it.

    Raises:
        PortClosed: somebody on the way refuses.
        OSError: there is no such way.
    """
    first = (way.host, way.port) if proxy is None else (proxy.host, proxy.port)
    stream = await trio.open_tcp_stream(*first)
    connection = socket.socket(fileno=stream.socket.detach())
    opening = Opening(connection)
    try:
        prepare_connection(connection)
        endpoint = _endpoint_of(connection.getpeername())
        if proxy is not None:
            if proxy.is_tls:
                await opening.push(TlsLayer(make_context(), proxy.host))
            await open_tunnel(opening, proxy, way.host, way.port)
        if way.is_tls:
            await opening.push(TlsLayer(make_context(), way.host))
        if way.transport is Transport.WEBSOCKET:
            await opening.push(WebSocketLayer(_host_header(way), way.path))
        await opening.exchange_preambles(is_first=True)
    except BaseException:
        opening.close()
        raise
    return opening, endpoint


def _host_header(way: StreamWay) -> str:
    host = f"[{way.host}]" if ":" in way.host else way.host
    return (
        host if way.port == _DEFAULT_PORTS["wss" if way.is_tls else "ws"] else f"{host}:{way.port}"
    )


def _endpoint_of(address: tuple[str, int] | tuple[str, int, int, int]) -> Endpoint:
    host = address[0].partition("%")[0]
    scope = address[3] if len(address) == 4 else 0
    return Endpoint(f"{host}%{scope}" if scope else host, address[1])
