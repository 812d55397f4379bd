"""The check itself: sockets, talks, connections and questions to the router, all at once.

It takes `TIME_LIMIT` seconds at most, changes nothing on the machine, and gives back what the
router granted. A running edge does not notice: other sockets, another identity.
"""

import contextlib
import os
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, NamedTuple

import trio

from mesh.addresses import Endpoint
from mesh.cli.netcheck.facts import Answer, Facts, NatFacts, RouterFacts, StreamFacts, WayFacts
from mesh.cli.netcheck.reached import (
    answer_of,
    is_afar,
    key_of,
    local_facts,
    nat_facts,
    router_facts,
)
from mesh.cli.settings import StreamSettings
from mesh.cli.streams import StreamOpener, ways_to
from mesh.cli.supernodes import SupernodeTarget, resolve
from mesh.core.check import HAIRPIN_BYTES, CheckEngine, Target
from mesh.core.conversation import Conversation, Depth
from mesh.engine import SocketId, Transport, WellKnownSocket
from mesh.net.driver import Driver
from mesh.net.link import Gateway, LocalAddress, default_gateways, local_networks
from mesh.net.port import PortClosed
from mesh.net.portmap import find_routers
from mesh.net.proxy import no_proxy_from_environment, proxy_from_environment
from mesh.net.router import PortMapping, Router, RouterLink, choose_link
from mesh.net.stream_opening import Opening
from mesh.net.stream_way import StreamWay
from mesh.net.udp import UdpPort, open_udp_pair
from mesh.net.upnp import UpnpRouter

TIME_LIMIT: Final = 5.0  # s; for everything
RESOLVE_PATIENCE: Final = 1.5  # s
TALK_PATIENCE: Final = 3.2  # s; talks end by themselves before
CONNECT_PATIENCE: Final = 1.5  # s
PREAMBLE_PATIENCE: Final = 0.8  # s
MAPPING_PATIENCE: Final = 2.5  # s; SOAP takes some routers seconds
UNMAP_PATIENCE: Final = 0.7  # s; what is granted is given back even when time is over
HTTPS_PORT: Final = 443
MAX_WAYS: Final = 8
MAX_STREAMS: Final = 8  # per supernode
STREAM_PATIENCE: Final = 2.5  # s; TCP, TLS and HTTP, one behind the other
_LOOK_INTERVAL: Final = 0.02  # s


class Way(NamedTuple):
    """A supernode and one address of it."""

    target: SupernodeTarget
    endpoint: Endpoint


@dataclass
class _Connects:
    """What became of the connections to one way."""

    tcp: Answer = Answer.UNTRIED
    tcp_443: Answer = Answer.UNTRIED


async def measure(source: str, targets: Sequence[SupernodeTarget]) -> Facts:
    """Find out what there is to find out.

    Args:
        source: where the supernodes come from, in words.
        targets: the supernodes; those that have no name or address that resolves are left out.

    Raises:
        MeshError: a socket cannot be opened.
    """
    started_at = trio.current_time()
    found: dict[int, list[Way]] = {}
    with trio.move_on_after(RESOLVE_PATIENCE):
        await _resolve_all(targets, found)
    ways = [way for number in sorted(found) for way in found[number]]
    facts = await _Measurement(source, ways[:MAX_WAYS], targets).run()
    return replace(facts, took_s=round(trio.current_time() - started_at, 3))


async def _resolve_all(targets: Sequence[SupernodeTarget], found: dict[int, list[Way]]) -> None:
    """Find the first IPv4 and the first IPv6 address of each supernode."""

    async def resolve_one(number: int, target: SupernodeTarget) -> None:
        endpoints: list[Endpoint] = []
        for place in target.host_ports:
            with contextlib.suppress(OSError):
                endpoints += await resolve(place)
        firsts = [next((e for e in endpoints if e.is_ipv6 is v6), None) for v6 in (False, True)]
        found[number] = [Way(target, endpoint) for endpoint in firsts if endpoint is not None]

    async with trio.open_nursery() as nursery:
        for number, target in enumerate(targets):
            nursery.start_soon(resolve_one, number, target)


class _Measurement:
    """One check under way."""

    def __init__(
        self, source: str, ways: Sequence[Way], targets: Sequence[SupernodeTarget]
    ) -> None:
        self._source = source
        self._ways = ways
        self._connects = [_Connects() for _ in ways]
        proxy, _ = proxy_from_environment(os.environ)
        settings = StreamSettings(proxy=proxy, no_proxy=no_proxy_from_environment(os.environ))
        self._opener = StreamOpener(settings)
        # Plain TCP to the address itself is tried anyway.
        self._streams: dict[tuple[str, StreamWay], Answer] = {
            (str(target), way): Answer.SILENT
            for target in targets[:MAX_WAYS]
            for way in ways_to(target, None)[:MAX_STREAMS]
            if proxy is not None or way in target.ways or way.transport is Transport.WEBSOCKET
        }
        self._offers: list[tuple[RouterLink, str, PortMapping | None]] = []
        self._local: list[LocalAddress] = []
        self._gateways: list[Gateway] = []
        self._hears_hairpin: bool | None = None

    async def run(self) -> Facts:
        """Run to the end."""
        self._local, self._gateways = await local_networks(), await default_gateways()
        with contextlib.ExitStack() as held:
            pairs = [open_udp_pair(), open_udp_pair()]
            for port in (port for pair in pairs for port in pair.values()):
                held.enter_context(port)
            ports = {number: port.local.port for number, port in pairs[0].items()}
            checks = self._make_checks()
            with trio.move_on_after(TIME_LIMIT - RESOLVE_PATIENCE):
                async with trio.open_nursery() as nursery:
                    for way, connects in zip(self._ways, self._connects, strict=True):
                        nursery.start_soon(_connect, way, connects)
                    for name, stream_way in self._streams:
                        nursery.start_soon(self._try_stream, name, stream_way)
                    nursery.start_soon(self._ask_routers, ports)
                    await self._talk(checks, pairs)
            return self._facts(checks[0], ports)

    # Supernodes

    def _make_checks(self) -> list[CheckEngine]:
        """Return the check, and another one beside it to be a neighbour behind the same router."""
        full = [Target(way.endpoint, way.target.fingerprint) for way in self._ways]
        knocks = [
            Target(Endpoint(way.endpoint.host, HTTPS_PORT), way.target.fingerprint, Depth.KNOCK)
            for way in self._ways
        ]
        beside = [
            target._replace(depth=Depth.SEEN)
            for target in full
            if not target.endpoint.is_ipv6 and is_afar(target.endpoint, self._local)
        ][:1]
        now, token = trio.current_time(), os.urandom(HAIRPIN_BYTES)
        return [CheckEngine(all_of, os.urandom, now, token) for all_of in (full + knocks, beside)]

    async def _talk(
        self, checks: Sequence[CheckEngine], pairs: Sequence[dict[SocketId, UdpPort]]
    ) -> None:
        drivers = [Driver(check, pair) for check, pair in zip(checks, pairs, strict=True)]
        with trio.move_on_after(TALK_PATIENCE):
            async with trio.open_nursery() as nursery:
                for driver in drivers:
                    await nursery.start(driver.run)
                while not all(check.is_seen for check in checks):  # noqa: ASYNC110 - see below
                    await trio.sleep(_LOOK_INTERVAL)
                self._try_hairpin(checks, drivers)
                # Nothing tells when: an engine is asked. Twenty milliseconds are soon enough.
                while not all(check.is_done for check in checks):  # noqa: ASYNC110
                    await trio.sleep(_LOOK_INTERVAL)
                nursery.cancel_scope.cancel()
        if self._hears_hairpin is not None:
            self._hears_hairpin = any(check.hears_hairpin for check in checks)

    def _try_hairpin(self, checks: Sequence[CheckEngine], drivers: Sequence[Driver]) -> None:
        """Have both checks send to where the other one is seen, as peers behind one NAT would."""
        seen = [_first_seen(check) for check in checks]
        ours = {str(one.address.ip) for one in self._local}
        if any(endpoint is None or endpoint.host in ours for endpoint in seen):
            return  # nobody answered, or there is no NAT
        self._hears_hairpin = False
        for check, driver, to in zip(checks, drivers, reversed(seen), strict=True):
            if to is not None:
                driver.step(partial(check.try_hairpin, to))

    async def _try_stream(self, name: str, way: StreamWay) -> None:
        with trio.move_on_after(STREAM_PATIENCE):
            self._streams[name, way] = await try_stream(self._opener, way)

    # The router

    async def _ask_routers(self, ports: dict[SocketId, int]) -> None:
        async with trio.open_nursery() as nursery:
            for is_ipv6, number in (
                (False, WellKnownSocket.UDP_IPV4),
                (True, WellKnownSocket.UDP_IPV6),
            ):
                link = choose_link(self._gateways, self._local, (), is_ipv6=is_ipv6)
                if link is not None and number in ports:
                    nursery.start_soon(self._ask_router, link, ports[number])

    async def _ask_router(self, link: RouterLink, port: int) -> None:
        """Ask by each protocol, one behind the other: they share one table of ports."""
        routers = await find_routers(link, os.urandom(32))
        inside = Endpoint(link.our_hosts[0], port)
        try:
            for router in routers:
                mapping = await _ask_and_give_back(router, inside)
                self._offers.append((link, router.protocol, mapping))
        finally:
            for router in routers:
                router.close()

    # All of it

    def _facts(self, check: CheckEngine, ports: dict[SocketId, int]) -> Facts:
        count = len(self._ways)
        talks, knocks = check.conversations[:count], check.conversations[count:]
        nat = self._nat(talks, ports.get(WellKnownSocket.UDP_IPV4, 0), is_ipv6=False)
        return Facts(
            source=self._source,
            supernodes=tuple(
                _way_facts(*parts)
                for parts in zip(self._ways, talks, knocks, self._connects, strict=True)
            ),
            nat=replace(nat, hairpin=self._hears_hairpin),
            ipv6=self._nat(talks, ports.get(WellKnownSocket.UDP_IPV6, 0), is_ipv6=True),
            port_mapping=self._port_mapping(talks),
            local=local_facts(self._local, self._gateways),
            streams=tuple(
                StreamFacts(name, str(way), answer) for (name, way), answer in self._streams.items()
            ),
        )

    def _nat(self, talks: Sequence[Conversation], port: int, *, is_ipv6: bool) -> NatFacts:
        ours = {str(one.address.ip) for one in self._local}
        afar = [
            talk
            for talk in talks
            if talk.endpoint.is_ipv6 is is_ipv6 and is_afar(talk.endpoint, self._local)
        ]
        return nat_facts(afar, ours, port)

    def _port_mapping(self, talks: Sequence[Conversation]) -> tuple[RouterFacts, ...]:
        seen = {talk.seen_as.host for talk in talks if talk.seen_as is not None}
        outside = {
            is_ipv6: {host for host in seen if (":" in host) is is_ipv6}
            for is_ipv6 in (False, True)
        }
        return tuple(router_facts(*offer, outside[offer[0].is_ipv6]) for offer in self._offers)


def _first_seen(check: CheckEngine) -> Endpoint | None:
    talks = [talk for talk in check.conversations if not talk.endpoint.is_ipv6]
    return next((talk.seen_as for talk in talks if talk.seen_as is not None), None)


def _way_facts(way: Way, talk: Conversation, knock: Conversation, connects: _Connects) -> WayFacts:
    udp = answer_of(talk)
    return WayFacts(
        supernode=str(way.target),
        endpoint=str(way.endpoint),
        family="ipv6" if way.endpoint.is_ipv6 else "ipv4",
        udp=udp,
        rtt_ms=None if talk.rtt is None else round(1000 * talk.rtt, 3),
        key=key_of(talk),
        fingerprint=talk.fingerprint,
        seen_as="" if talk.seen_as is None else str(talk.seen_as),
        mtu=None if talk.seen_as is None else talk.mtu,
        tcp=connects.tcp,
        udp_443=answer_of(knock),
        tcp_443=connects.tcp_443,
    )


async def _ask_and_give_back(router: Router, inside: Endpoint) -> PortMapping | None:
    mapping = None
    try:
        with trio.move_on_after(MAPPING_PATIENCE):
            mapping = await router.map(inside, inside.port)
    finally:
        given = mapping
        if given is None and router.protocol != UpnpRouter.protocol:
            # It may only have been slow. By UPnP one could take away another machine's port.
            given = PortMapping(router.protocol, inside, inside, 0.0)
        if given is not None:
            with trio.CancelScope(deadline=trio.current_time() + UNMAP_PATIENCE, shield=True):
                await router.unmap(given)
    return mapping


async def _connect(way: Way, connects: _Connects) -> None:
    """Try TCP at the supernode's port and at that of the web."""
    async with trio.open_nursery() as nursery:

        async def usual() -> None:
            connects.tcp = await try_tcp(way.endpoint)

        async def web() -> None:
            connects.tcp_443 = await try_tcp(Endpoint(way.endpoint.host, HTTPS_PORT))

        nursery.start_soon(usual)
        nursery.start_soon(web)


async def try_tcp(endpoint: Endpoint) -> Answer:
    """Return what is behind a TCP port, within about two seconds."""
    host, _, zone = endpoint.host.partition("%")
    family = socket.AF_INET6 if endpoint.is_ipv6 else socket.AF_INET
    address = (
        (host, endpoint.port, 0, int(zone or 0)) if endpoint.is_ipv6 else (host, endpoint.port)
    )
    try:
        connection = trio.socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        return Answer.NO_ROUTE
    with connection:
        try:
            with trio.fail_after(CONNECT_PATIENCE):
                await connection.connect(address)
        except trio.TooSlowError:
            return Answer.SILENT
        except ConnectionError:
            return Answer.REFUSED
        except OSError:
            return Answer.NO_ROUTE
        return await _who_answers(connection)


async def try_stream(opener: StreamOpener, way: StreamWay) -> Answer:
    """Return what is at the end of a way; whoever calls limits the time."""
    try:
        opening, _ = await opener.open(way)
    except PortClosed:
        return Answer.OPEN
    except OSError as error:
        is_refused = isinstance(error, ConnectionError | ssl.SSLError) or isinstance(
            error.__cause__, ConnectionError
        )
        return Answer.REFUSED if is_refused else Answer.NO_ROUTE
    opening.close()
    return Answer.ANSWERED


async def _who_answers(connection: trio.socket.SocketType) -> Answer:
    opening = Opening(socket.socket(fileno=connection.detach()))
    try:
        with trio.move_on_after(PREAMBLE_PATIENCE):
            await opening.exchange_preambles(is_first=True)
            return Answer.ANSWERED
    except (PortClosed, OSError):
        pass
    finally:
        opening.close()
    return Answer.OPEN
