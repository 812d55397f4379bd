"""What a supernode does about streams: listens, lets in so many, shuts out who registers nothing.

One port takes raw streams, WebSockets and, with a certificate, TLS with either inside: what a
connection begins with says what it is (docs/protocol.md section 19). A connection costs memory
before anything about it is proved, so there is a cap on all of them, one on those from one source,
and a time by which hands are shaken, and another by which an edge has registered.
"""

import contextlib
import errno
import ipaddress
import logging
import resource
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from mesh.addresses import Endpoint
from mesh.constants import SOURCE_HANDSHAKE_BURST, SOURCE_HANDSHAKE_RATE
from mesh.engine import SocketId, Transport
from mesh.errors import ConfigError
from mesh.net.counters import DriverCounters
from mesh.net.port import PortClosed
from mesh.net.stream import StreamPort, close_connection, prepare_connection
from mesh.net.stream_layers import TlsLayer, WebSocketLayer
from mesh.net.stream_opening import Opening
from mesh.wire.stream import PREAMBLE
from supernode.admission import SourceBuckets
from supernode.origin import source_key

OPENING_TIMEOUT: Final = 10.0  # s; for all handshakes below the first datagram
GUEST_TIMEOUT: Final = 15.0  # s; for registering, and for moving to another stream

_BACKLOG: Final = 128
_OTHER_DESCRIPTORS: Final = 256
_RESPITE: Final = 0.2  # s; before accepting again when there are no file descriptors left
_OUT_OF_RESOURCES: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

_log = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How streams are taken.

    Attributes:
        max_streams: connections at one time, in all.
        max_streams_per_source: those from one IPv4 address or IPv6 /64.
        tls: with the certificate, or None: no TLS.
        trusted_proxies: whose ``X-Forwarded-For`` is believed, for counting by source only.
    """

    max_streams: int
    max_streams_per_source: int
    tls: ssl.SSLContext | None = None
    trusted_proxies: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class StreamHost:
    """What streams are opened for: the driver and the engine of a supernode.

    Attributes:
        new_socket_id: returns a number for a stream.
        add: owns a stream from now on.
        remove: closes a stream and tells the engine.
        in_use: returns the sockets on which edges are registered.
        counters: where drops are counted.
    """

    new_socket_id: Callable[[], SocketId]
    add: Callable[[StreamPort], None]
    remove: Callable[[SocketId], None]
    in_use: Callable[[], AbstractSet[SocketId]]
    counters: DriverCounters


class StreamServer:
    """Takes streams on any number of listening sockets.

    Attributes:
        refused: connections closed for want of room, or for not beginning as streams do.
    """

    def __init__(self, host: StreamHost, settings: StreamSettings) -> None:
        self.refused = 0
        self._host = host
        self._settings = settings
        self._open = 0
        self._by_source: Counter[bytes] = Counter()
        self._buckets = SourceBuckets(SOURCE_HANDSHAKE_BURST, SOURCE_HANDSHAKE_RATE)
        self._opened_at: dict[SocketId, float] = {}
        self._unproved: dict[trio.CancelScope, SocketId | None] = {}  # the oldest first

    def __len__(self) -> int:
        """Return how many connections there are, those shaking hands included."""
        return self._open

    async def serve(self, listening: socket.socket) -> None:
        """Accept until cancelled; closes the socket then."""
        with contextlib.closing(listening):
            async with trio.open_nursery() as nursery:
                while True:
                    await trio.lowlevel.wait_readable(listening)
                    try:
                        connection, address = listening.accept()
                    except BlockingIOError:
                        continue
                    except OSError as error:  # that of the connection, or we are out of something
                        if error.errno in _OUT_OF_RESOURCES:
                            await trio.sleep(_RESPITE)
                        continue
                    source = Endpoint(address[0], 0)
                    if self._open >= self._settings.max_streams and not self._make_room(source):
                        self.refused += 1
                        connection.close()
                        continue
                    self._open += 1
                    nursery.start_soon(self._take, connection, source)

    def _make_room(self, newcomer: Endpoint) -> bool:
        """Close the oldest stream that has brought no edge, if there is one.

        Not for who opens more than one source may, nor for whom only a proxy knows.
        """
        if self._is_trusted(newcomer) or not self._may_open(newcomer):
            return False
        in_use = self._host.in_use()
        for scope, socket_id in self._unproved.items():
            if socket_id is None or socket_id not in in_use:
                del self._unproved[scope]
                scope.cancel()
                return True
        return False

    async def _take(self, connection: socket.socket, source: Endpoint) -> None:
        """See one connection from its first byte to its last."""
        scope = trio.CancelScope()
        self._unproved[scope] = None
        try:
            with scope, contextlib.ExitStack() as held:
                held.callback(close_connection, connection)
                if not self._is_trusted(source):
                    held.enter_context(self._counted(source))
                port = await self._open_port(connection, source, held)
                self._unproved[scope] = port.socket_id
                await self._keep(port)
            self.refused += scope.cancelled_caught
        except (PortClosed, OSError):
            self.refused += 1
        finally:
            self._unproved.pop(scope, None)
            self._open -= 1

    async def _open_port(
        self, connection: socket.socket, source: Endpoint, held: contextlib.ExitStack
    ) -> StreamPort:
        """Shake hands.

        Raises:
            PortClosed: it is no stream, or there is no room for it.
            OSError: the network ended it.
        """
        prepare_connection(connection)
        opening = Opening(connection)
        with trio.move_on_after(OPENING_TIMEOUT):
            if (await opening.peek(2)).startswith(b"\x16\x03") and self._settings.tls is not None:
                await opening.push(TlsLayer(self._settings.tls))
            transport, websocket = Transport.TCP, None
            if (await opening.peek(2)).startswith(b"GE"):
                transport, websocket = Transport.WEBSOCKET, WebSocketLayer()
                await opening.push(websocket)
            if self._is_trusted(source):
                source = _forwarded(websocket, source)
                held.enter_context(self._counted(source))
            if not PREAMBLE.startswith((await opening.peek(2))[:2]):
                raise PortClosed("no stream of ours")
            await opening.exchange_preambles(is_first=False)
            return StreamPort(
                connection,
                opening.layers,
                socket_id=self._host.new_socket_id(),
                remote=source,
                transport=transport,
                counters=self._host.counters,
                received=opening.take_rest(),
            )
        raise PortClosed("too slow")

    async def _keep(self, port: StreamPort) -> None:
        """Run a stream until it ends, by itself or for want of an edge (`close_guests`)."""
        self._host.add(port)
        self._opened_at[port.socket_id] = trio.current_time()
        try:
            await port.keep_writing()
        finally:
            del self._opened_at[port.socket_id]
            self._host.remove(port.socket_id)

    async def close_guests(self) -> None:
        """Close streams on which no edge is registered, until cancelled."""
        while True:
            await trio.sleep(GUEST_TIMEOUT / 3)
            opened_before = trio.current_time() - GUEST_TIMEOUT
            in_use = self._host.in_use()
            for socket_id, opened_at in tuple(self._opened_at.items()):
                if opened_at < opened_before and socket_id not in in_use:
                    self._host.remove(socket_id)

    def _is_trusted(self, source: Endpoint) -> bool:
        address = ipaddress.ip_address(source.host.partition("%")[0])
        return any(address in network for network in self._settings.trusted_proxies)

    @contextlib.contextmanager
    def _counted(self, source: Endpoint) -> Iterator[None]:
        """Hold one of the places of a source; there is no end to those of our own machine.

        Raises:
            PortClosed: it has as many as it may, or opens them faster than it may.
        """
        if _is_loopback(source):
            yield
            return
        if not self._may_open(source):
            raise PortClosed("too many streams from one source, or at once")
        key = source_key(source)
        self._by_source[key] += 1
        try:
            yield
        finally:
            self._by_source[key] -= 1
            if not self._by_source[key]:
                del self._by_source[key]

    def _may_open(self, source: Endpoint) -> bool:
        """Charge a source for one more stream; whether it may have it."""
        if _is_loopback(source):
            return True
        is_full = self._by_source[source_key(source)] >= self._settings.max_streams_per_source
        return not is_full and self._buckets.take(source, trio.current_time())


def _is_loopback(source: Endpoint) -> bool:
    return ipaddress.ip_address(source.host.partition("%")[0]).is_loopback


def _forwarded(websocket: WebSocketLayer | None, proxy: Endpoint) -> Endpoint:
    """Return whom a trusted proxy connects: the last of those it names, which it added itself."""
    named = "" if websocket is None else websocket.forwarded_for.rpartition(",")[2].strip()
    try:
        return Endpoint(str(ipaddress.ip_address(named)), 0)
    except ValueError:
        return proxy


def listen(endpoint: Endpoint, where: str) -> socket.socket:
    """Return a socket that listens for streams.

    Args:
        endpoint: numeric; port 0 for any.
        where: the option that an error names.

    Raises:
        ConfigError: the port is taken or not ours to take, or the address is none of ours.
    """
    family = socket.AF_INET6 if endpoint.is_ipv6 else socket.AF_INET
    try:
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setblocking(False)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if endpoint.is_ipv6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            host, _, zone = endpoint.host.partition("%")
            listening.bind((host, endpoint.port, 0, int(zone or 0)) if zone else tuple(endpoint))
            listening.listen(_BACKLOG)
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        raise ConfigError(where, "", f"TCP {endpoint}: {error.strerror}") from error
    return listening


def server_tls_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """Return what shows a certificate (PEM, the chain behind it) to edges.

    Raises:
        ConfigError: they cannot be read, or do not belong together.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ConfigError("--tls-cert", "", f"{certificate} and its key: {reason}") from error
    return context


def allow_descriptors(streams: int) -> None:
    """Have the kernel grant files for so many streams as far as it does; it begins at 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = streams + _OTHER_DESCRIPTORS
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def listen_beside(udp: Sequence[Endpoint]) -> list[socket.socket]:
    """Return sockets for streams on the ports of UDP; one that cannot be had is warned of."""
    listening = []
    for endpoint in udp:
        try:
            listening.append(listen(endpoint, "--listen"))
        except ConfigError as error:
            _log.warning("UDP only, no streams: %s", error)
    return listening
