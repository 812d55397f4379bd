"""Streams to supernodes: which ways are tried, when, and that one stays open while it is wanted.

A supernode that UDP does not reach is tried by all ways that may lead to it, one after the other
in quick succession; the first that ends at a supernode is taken. What speaks with it is the engine,
to which a stream is a socket like any other.
"""

import enum
import logging
import ssl
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import trio

from mesh.addresses import Endpoint
from mesh.cli.settings import StreamSettings
from mesh.cli.supernodes import WEB_PORT, SupernodeTarget
from mesh.core.edge import EdgeEngine
from mesh.engine import SocketId, Transport
from mesh.errors import ConfigError
from mesh.net.counters import DriverCounters
from mesh.net.driver import Driver
from mesh.net.port import PortClosed
from mesh.net.proxy import is_proxied
from mesh.net.stream_way import DEFAULT_PATH, StreamWay

if TYPE_CHECKING:
    from mesh.net.stream import StreamPort
    from mesh.net.stream_opening import Opening

HOSTS_TRIED: Final = 4  # of a supernode that has many addresses
STAGGER: Final = 0.4  # s; before the next way is tried beside the ones before
WAY_TIMEOUT: Final = 8.0  # s
FIRST_PAUSE: Final = 0.5  # s; before a way is tried again; doubled each time
RESPITE: Final = 0.1  # s; before a stream that has ended is followed by another
LONGEST_PAUSE: Final = 5.0  # s
TELL_AFTER: Final = 5.0  # s; after the last way was begun, before the user is told

_log = logging.getLogger(__name__)


def ways_to(target: SupernodeTarget, transport: Transport | None) -> tuple[StreamWay, ...]:
    """Return the ways to try, in this order: those named, then what may be there.

    That is TCP on the port of UDP, TCP on port 443, and WebSockets where web servers are. A
    supernode that was found, and not named, was found by UDP: no other way is guessed.
    """
    ways = [*target.ways]
    if target.is_kept and target.has_udp:
        hosts = tuple(dict.fromkeys(place.host for place in target.host_ports))[:HOSTS_TRIED]
        ways += [StreamWay(Transport.TCP, *place) for place in target.host_ports[:HOSTS_TRIED]]
        ways += [StreamWay(Transport.TCP, host, WEB_PORT) for host in hosts]
        ways += [_web_way(host, is_tls=True) for host in hosts]
        ways += [_web_way(host, is_tls=False) for host in hosts]
    wanted = [way for way in ways if transport in {None, way.transport}]
    return tuple(dict.fromkeys(wanted))


def has_udp(target: SupernodeTarget, settings: StreamSettings) -> bool:
    """Whether a supernode is to be reached by UDP if that can be."""
    return target.has_udp and settings.transport in {None, Transport.UDP}


def _web_way(host: str, *, is_tls: bool) -> StreamWay:
    return StreamWay(Transport.WEBSOCKET, host, WEB_PORT if is_tls else 80, is_tls, DEFAULT_PATH)


class StreamOpener:
    """Goes ways to supernodes, through a proxy where there is one."""

    def __init__(self, settings: StreamSettings) -> None:
        """Note what the user asked for; files are read when they are needed.

        Raises:
            ConfigError: the file of authorities cannot be used.
        """
        self._settings = settings
        if settings.tls_ca is not None:
            self._tls  # noqa: B018 - a wrong file is to be told at once

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        from mesh.net.stream_connect import make_tls_context  # noqa: PLC0415 - 30 ms

        ca_file = self._settings.tls_ca
        try:
            return make_tls_context(None if ca_file is None else str(ca_file))
        except OSError as error:
            raise ConfigError("tls-ca", "", f"{ca_file}: {error}") from error

    async def open(self, way: StreamWay) -> "tuple[Opening, Endpoint]":
        """Go one way to its end.

        Raises:
            PortClosed: somebody on the way refuses.
            OSError: there is no such way.
        """
        from mesh.net.stream_connect import open_way  # noqa: PLC0415 - 30 ms, rarely needed

        proxy = self._settings.proxy
        if proxy is not None and not is_proxied(way.host, self._settings.no_proxy):
            proxy = None
        return await open_way(way, proxy, lambda: self._tls)


class Need(enum.Enum):
    """Why a stream is wanted."""

    NO_UDP_WANTED = "the user says so"
    NO_UDP_ANSWER = "the engine says so"
    NO_ADDRESS = "the name does not resolve here; a proxy may know it"


@dataclass(frozen=True, slots=True)
class StreamUser:
    """Whom streams are kept for: the driver and the engine of an edge.

    Attributes:
        new_socket_id: returns a number for a stream.
        use: takes the number of a supernode, a stream to it, and what it is connected with.
        remove: closes a stream, telling the engine.
        counters: where drops are counted.
    """

    new_socket_id: Callable[[], SocketId]
    use: "Callable[[int, StreamPort, Endpoint], None]"
    remove: Callable[[SocketId], None]
    counters: DriverCounters


class StreamKeeper:
    """Keeps a stream to one supernode open while it is wanted.

    Args:
        number: of the supernode.
        name: for the log.
        ways: what to try, in this order.
        open_way: see `StreamOpener.open`.
        user: what has use of a stream.
        is_always_wanted: UDP is not to be used: there is a stream from the beginning.
    """

    def __init__(
        self,
        number: int,
        name: str,
        ways: Iterable[StreamWay],
        open_way: "Callable[[StreamWay], Awaitable[tuple[Opening, Endpoint]]]",
        user: StreamUser,
        *,
        is_always_wanted: bool = False,
    ) -> None:
        self._number = number
        self._name = name
        self._ways = tuple(ways)
        self._open_way = open_way
        self._user = user
        self._needs: set[Need] = set()
        self._wanted = trio.Event()
        self._opening = trio.CancelScope()
        self._trying = trio.CancelScope()
        self._is_told = False
        self._port: StreamPort | None = None
        if is_always_wanted:
            self.want(Need.NO_UDP_WANTED)

    def want(self, need: Need) -> None:
        """Open a stream, and another one whenever it ends."""
        self._needs.add(need)
        self._wanted.set()

    def unwant(self, need: Need) -> None:
        """Close the stream, or give up opening one, unless there is another need for it."""
        if need not in self._needs:
            return
        self._needs.remove(need)
        if self._needs:
            return
        self._wanted = trio.Event()
        self._opening.cancel()
        self._end()

    def addresses_changed(self, hosts: Container[str]) -> None:
        """Try at once; a stream from an address that is gone would take 10 s to notice."""
        self._trying.cancel()
        if self._port is not None and self._port.local_host not in hosts:
            self._end()

    def _end(self) -> None:
        if self._port is not None:
            self._user.remove(self._port.socket_id)

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            await self._wanted.wait()
            if not self._ways:
                await trio.sleep_forever()
            found = None
            with trio.CancelScope() as self._opening:
                found = await self._open_some_way()
            if found is not None:
                await self._keep(*found)

    async def _keep(self, way: StreamWay, opening: "Opening", endpoint: Endpoint) -> None:
        """Let the stream be used until it ends."""
        from mesh.net.stream import StreamPort  # noqa: PLC0415 - see above

        port = StreamPort(
            opening.connection,
            opening.layers,
            socket_id=self._user.new_socket_id(),
            remote=endpoint,
            transport=way.transport,
            counters=self._user.counters,
            received=opening.take_rest(),
        )
        _log.info("%s: reached by way of %s", self._name, way)
        self._port = port
        self._is_told = False
        # The one that led there is the first to be tried when the stream has ended.
        self._ways = tuple(sorted(self._ways, key=lambda other: other != way))
        self._user.use(self._number, port, endpoint)
        try:
            await port.keep_writing()
        finally:
            self._port = None
        await trio.sleep(RESPITE)

    async def _open_some_way(self) -> "tuple[StreamWay, Opening, Endpoint]":
        """Try all ways until one leads there, and all over again when the networks change."""
        while True:
            with trio.CancelScope() as self._trying:
                return await _race(self._ways, self._open_way, self._tell)

    def _tell(self, problems: Mapping[StreamWay, str]) -> None:
        if not self._is_told:
            self._is_told = True
            tried = "; ".join(f"{way}: {problem}" for way, problem in problems.items())
            _log.warning("%s: no way leads there: %s; trying on", self._name, tried)


async def _race(
    ways: Iterable[StreamWay],
    open_way: "Callable[[StreamWay], Awaitable[tuple[Opening, Endpoint]]]",
    tell: Callable[[Mapping[StreamWay, str]], None],
) -> "tuple[StreamWay, Opening, Endpoint]":
    """Go the ways one after the other, each beside those before and again when it has failed.

    Args:
        ways: in the order in which they are begun.
        open_way: goes one.
        tell: told what is wrong with each when none has led there for a while.

    Returns:
        The first way that leads there, and what it led to.
    """
    found: list[tuple[StreamWay, Opening, Endpoint]] = []
    problems: dict[StreamWay, str] = {}

    async def go(way: StreamWay, has_failed: trio.Event) -> None:
        pause = FIRST_PAUSE
        while True:
            problems[way] = "no answer"
            try:
                with trio.move_on_after(WAY_TIMEOUT):
                    opening, endpoint = await open_way(way)
                    if found:
                        opening.close()
                    else:
                        found.append((way, opening, endpoint))
                        nursery.cancel_scope.cancel()
            except (PortClosed, OSError) as error:
                problems[way] = _sentence(error)
                _log.debug("%s: %s", way, problems[way])
            has_failed.set()
            await trio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    try:
        async with trio.open_nursery() as nursery:
            for way in ways:
                has_failed = trio.Event()
                nursery.start_soon(go, way, has_failed)
                with trio.move_on_after(STAGGER):
                    await has_failed.wait()
            await trio.sleep(TELL_AFTER)
            tell(problems)
    except BaseException:  # given up in the very moment in which one led there
        for _, opening, _ in found:
            opening.close()
        raise
    return found[0]


def _sentence(error: Exception) -> str:
    """Return what a person should read; trio hides the reason behind "all attempts failed"."""
    cause = error.__cause__
    while isinstance(cause, ExceptionGroup):
        cause = cause.exceptions[0]
    told = cause if isinstance(error, OSError) and isinstance(cause, OSError) else error
    return getattr(told, "strerror", None) or str(told)


def stream_keepers(
    targets: Sequence[SupernodeTarget],
    names: Sequence[str],
    settings: StreamSettings,
    driver: Driver,
    engine: EdgeEngine,
) -> list[StreamKeeper]:
    """Return one keeper per supernode of an edge, in their order.

    Args:
        targets: the supernodes.
        names: what to call each in the log.
        settings: what the user asked for.
        driver: of the edge; streams are its ports.
        engine: of the edge.

    Raises:
        ConfigError: the file of authorities cannot be used.
    """

    def use(number: int, port: "StreamPort", endpoint: Endpoint) -> None:
        socket, transport = port.socket_id, port.transport
        driver.add_port(port)
        driver.step(
            lambda now: engine.set_supernode_stream(number, socket, endpoint, transport, now)
        )

    def remove(socket: SocketId) -> None:
        driver.remove_port(socket)
        driver.step(lambda now: engine.socket_closed(socket, now))

    user = StreamUser(driver.new_socket_id, use, remove, driver.counters)
    opener = StreamOpener(settings)
    return [
        StreamKeeper(
            number,
            names[number],
            ways_to(target, settings.transport),
            opener.open,
            user,
            is_always_wanted=not has_udp(target, settings),
        )
        for number, target in enumerate(targets)
    ]
