"""An edge's end of a stream, for tests of supernodes that take streams."""

import functools
from pathlib import Path

from mesh.addresses import Endpoint
from mesh.net.proxy import Proxy
from mesh.net.stream_connect import make_tls_context, open_way
from mesh.net.stream_way import read_stream_way
from mesh.wire.stream import frame_datagrams


class StreamSocket:
    """Looks like the datagram socket of `tests.supernode.socket_edge.SocketEdge`."""

    def __init__(self, url: str, authority: Path | None = None, proxy: Proxy | None = None) -> None:
        self._way = read_stream_way(url)
        self._make_context = functools.partial(make_tls_context, authority and str(authority))
        self._proxy = proxy

    async def connect(self, _endpoint: Endpoint) -> None:
        """Open the stream, by its URL."""
        self.opening, _ = await open_way(self._way, self._proxy, self._make_context)

    async def send(self, datagram: bytes) -> None:
        """Send one datagram."""
        await self.opening.send(b"".join(frame_datagrams([datagram], len(datagram))))

    async def recv(self, _size: int) -> bytes:
        """Receive one datagram."""
        length = int.from_bytes(await self.opening.take(2), "big")
        return await self.opening.take(length)

    def close(self) -> None:
        """Close it."""
        self.opening.close()
