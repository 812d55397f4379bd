"""Opening a stream to a supernode: going one way to its end; section 19."""

import socket
import ssl
from collections.abc import Callable

import trio

from mesh.addresses import Endpoint
from mesh.engine import Transport
from mesh.net.proxy import Proxy
from mesh.net.stream import prepare_connection
from mesh.net.stream_layers import TlsLayer, WebSocketLayer
from mesh.net.stream_opening import Opening
from mesh.net.stream_way import StreamWay
from mesh.net.tunnel import open_tunnel

MakeTlsContext = Callable[[], ssl.SSLContext]


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
            await opening.push(WebSocketLayer(way.host_header, way.path))
        await opening.exchange_preambles(is_first=True)
    except BaseException:
        opening.close()
        raise
    return opening, endpoint


def _endpoint_of(address: tuple[str, int] | tuple[str, int, int, int]) -> Endpoint:
    host = address[0].partition("%")[0]
    scope = address[3] if len(address) == 4 else 0
    return Endpoint(f"{host}%{scope}" if scope else host, address[1])
