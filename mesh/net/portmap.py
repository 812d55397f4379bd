"""Keeping ports of ours mapped on the router, from the start to the end; docs/nat.md.

For IPv4 and for IPv6 on its own: find the router, ask PCP, NAT-PMP and UPnP at the same moment,
take the first of them (in this order) that grants a mapping, renew at half of its lifetime, look
every half minute whether the router still knows it, delete it at the end. Whatever changes (our
addresses, the router, its memory) leads back to an earlier point of that sentence.
"""

import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, TypeAlias

import trio

from mesh.addresses import Endpoint
from mesh.net.link import default_gateways, local_networks
from mesh.net.pcp import PcpRouter, PmpRouter
from mesh.net.router import LEASE_LIFETIME, PortMapping, Router, RouterLink, choose_link
from mesh.net.upnp import UpnpRouter, find_upnp
from mesh.wire.portmap import ANNOUNCE_GROUP, ANNOUNCE_PORT, MAX_ANSWER_BYTES

SEARCH_PATIENCE: Final = 0.25  # s; a router is one hop away
CHECK_INTERVAL: Final = 30.0  # s; a restarted router is missed no longer than an idle path is
CHECKS_MISSED: Final = 3  # in a row; Wi-Fi loses some
SHORTEST_PAUSE: Final = 5.0  # s; before a router that was lost or refused is looked for again
LONGEST_PAUSE: Final = 600.0
HINT_INTERVAL: Final = 1.0  # s; announcements are unauthenticated and draw at most one question
FAREWELL_TIMEOUT: Final = 1.0  # s; for deleting mappings at the end

OnChange: TypeAlias = Callable[[tuple[PortMapping, ...]], None]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MappedPorts:
    """Our UDP ports that others should reach; duplicates and zeros are left out by who makes it."""

    ipv4: tuple[int, ...]
    ipv6: tuple[int, ...]


class PortMapper:
    """Keeps ports mapped while `run` runs."""

    def __init__(
        self,
        ports: MappedPorts,
        nonce_key: bytes,
        on_change: OnChange,
        overlay_indexes: Callable[[], Awaitable[Collection[int]]],
    ) -> None:
        """Prepare; nobody is asked before `run`.

        Args:
            ports: ours.
            nonce_key: see `PcpRouter`.
            on_change: told all mappings there are whenever that changes, but not at the end.
            overlay_indexes: says which interfaces lead into our overlay (the TAP, its bridge).
        """
        self._on_change = on_change
        self._told: tuple[PortMapping, ...] = ()
        self._keepers = [
            _Keeper(is_ipv6, wanted, nonce_key, self._tell, overlay_indexes)
            for is_ipv6, wanted in ((False, ports.ipv4), (True, ports.ipv6))
            if wanted
        ]

    @property
    def mappings(self) -> tuple[PortMapping, ...]:
        """What is mapped now."""
        return tuple(mapping for keeper in self._keepers for mapping in keeper.mappings)

    def wake(self) -> None:
        """Look at once whether all is as it was, as after a change of addresses."""
        for keeper in self._keepers:
            keeper.wake()

    async def run(self) -> None:
        """Run until cancelled; then mappings have been deleted, which takes a second at most."""
        async with trio.open_nursery() as nursery:
            for keeper in self._keepers:
                nursery.start_soon(keeper.run)
            nursery.start_soon(self._hear_announcements)

    def _tell(self) -> None:
        if [one.external for one in self._told] != [one.external for one in self.mappings]:
            self._told = self.mappings
            self._on_change(self._told)

    async def _hear_announcements(self) -> None:
        """Look after our mappings as soon as a router says that it has started.

        Only a hint: what it says is not read, since the answer to our own question says it too.
        """
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with trio.socket.from_stdlib_socket(opened) as listener:
            # Other programs listen as well (RFC 6886 section 3.2.1). Bound to the group, so that
            # they do not take from each other what is sent to one machine.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                await listener.bind((ANNOUNCE_GROUP, ANNOUNCE_PORT))
            except OSError as error:
                _log.debug("no announcements of routers are heard: %s", error)
                return
            while True:
                _, source = await listener.recvfrom(MAX_ANSWER_BYTES)
                if source[0] in {keeper.router for keeper in self._keepers}:
                    self.wake()
                    await trio.sleep(HINT_INTERVAL)


class _Keeper:
    """Keeps the ports of one address family mapped.

    Attributes:
        router: the address of the router in use, or "".
    """

    def __init__(
        self,
        is_ipv6: bool,  # noqa: FBT001 - one of two
        ports: Sequence[int],
        nonce_key: bytes,
        tell: Callable[[], None],
        overlay_indexes: Callable[[], Awaitable[Collection[int]]],
    ) -> None:
        self._is_ipv6 = is_ipv6
        self._ports = ports
        self._nonce_key = nonce_key
        self._tell = tell
        self._overlay_indexes = overlay_indexes
        self._wake = trio.Event()
        self._mapped: dict[Endpoint, PortMapping] = {}
        self._had_ports: dict[int, int] = {}
        self.router = ""

    @property
    def mappings(self) -> tuple[PortMapping, ...]:
        """What is mapped now."""
        return tuple(self._mapped.values())

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    async def run(self) -> None:
        """Look for a router, use it until it is lost, look again."""
        pause = SHORTEST_PAUSE
        while True:
            link = await self._find_link()
            was_mapped = link is not None and await self._serve(link)
            pause = SHORTEST_PAUSE if was_mapped else min(2 * pause, LONGEST_PAUSE)
            if await self._was_woken_within(pause):
                pause = SHORTEST_PAUSE

    async def _find_link(self) -> RouterLink | None:
        gateways, local = await default_gateways(), await local_networks()
        return choose_link(gateways, local, await self._overlay_indexes(), is_ipv6=self._is_ipv6)

    async def _was_woken_within(self, seconds: float) -> bool:
        with trio.move_on_after(seconds):
            await self._wake.wait()
        was_woken = self._wake.is_set()
        self._wake = trio.Event()
        return was_woken

    async def _serve(self, link: RouterLink) -> bool:
        """Keep ports mapped on one router until it is lost; whether it granted any."""
        routers = await find_routers(link, self._nonce_key)
        try:
            self.router = link.router
            for router in routers:
                try:
                    if await self._map_all(router, link):
                        await self._keep(router, link)
                        return True
                finally:
                    await self._unmap_all(router)
            return False
        finally:
            self.router = ""
            for router in routers:
                router.close()

    async def _keep(self, router: Router, link: RouterLink) -> None:
        """Return when the router is lost, or no longer ours."""
        missed = 0
        while missed < CHECKS_MISSED:
            was_woken = await self._was_woken_within(CHECK_INTERVAL)
            if was_woken and await self._find_link() != link:
                return
            knows = await router.still_knows(self.mappings)
            if knows is None:
                missed += 1
                continue
            missed = 0
            if not knows:
                _log.info("the router has forgotten our ports; mapping them again")
            if (not knows or self._is_half_over()) and not await self._map_all(router, link):
                return
        _log.info("the router does not answer any more; its port mappings are given up")

    def _is_half_over(self) -> bool:
        ends = min((one.expires_at for one in self.mappings), default=0.0)
        return trio.current_time() >= ends - LEASE_LIFETIME / 2

    async def _map_all(self, router: Router, link: RouterLink) -> bool:
        """Map or renew every port of every address; whether any was granted."""
        for host in link.our_hosts:
            for port in self._ports:
                inside = Endpoint(host, port)
                mapping = await router.map(inside, self._had_ports.get(port, port))
                if mapping is None:
                    self._mapped.pop(inside, None)
                else:
                    self._note(mapping)
        self._tell()
        return bool(self._mapped)

    def _note(self, mapping: PortMapping) -> None:
        before = self._mapped.get(mapping.inside)
        self._mapped[mapping.inside] = mapping
        self._had_ports[mapping.inside.port] = mapping.external.port
        if before is not None and before.external == mapping.external:
            return
        external = mapping.external
        _log.info("the router forwards %s to us (%s)", external, mapping.protocol)
        if not external.is_ipv6 and ip_address(external.host).is_private:
            _log.info("that is a private address: another router is in front of this one")

    async def _unmap_all(self, router: Router) -> None:
        """Give back what was granted, even when we are about to end."""
        with trio.move_on_after(FAREWELL_TIMEOUT, shield=True):
            for mapping in self.mappings:
                await router.unmap(mapping)
        had_any = bool(self._mapped)
        self._mapped.clear()
        if had_any:
            await trio.lowlevel.checkpoint_if_cancelled()  # at the end nobody is to be told
            self._tell()


async def find_routers(link: RouterLink, nonce_key: bytes) -> list[Router]:
    """Return the router as each protocol that it speaks sees it, the best one first.

    All are asked at the same moment. Who calls closes them.
    """
    found: dict[str, Router] = {}
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_try_pcp, link, nonce_key, found)
            if not link.is_ipv6:
                nursery.start_soon(_try_pmp, link, found)
                nursery.start_soon(_try_upnp, link, found)
    except BaseException:
        for router in found.values():
            router.close()
        raise
    order = (PcpRouter.protocol, PmpRouter.protocol, UpnpRouter.protocol)
    return [found[protocol] for protocol in order if protocol in found]


async def _try_pcp(link: RouterLink, nonce_key: bytes, found: dict[str, Router]) -> None:
    with contextlib.suppress(OSError):
        router = PcpRouter(link.our_hosts, link.router, nonce_key)
        await _keep_if_there(router, found)


async def _try_pmp(link: RouterLink, found: dict[str, Router]) -> None:
    with contextlib.suppress(OSError):
        router = PmpRouter(link.our_hosts[0], link.router)
        await _keep_if_there(router, found)


async def _keep_if_there(router: PcpRouter | PmpRouter, found: dict[str, Router]) -> None:
    is_there = False
    try:
        is_there = await router.is_there()
    finally:
        if is_there:
            found[router.protocol] = router
        else:
            router.close()


async def _try_upnp(link: RouterLink, found: dict[str, Router]) -> None:
    router = await find_upnp(link.our_hosts[0], link.router, SEARCH_PATIENCE)
    if router is not None:
        found[router.protocol] = router
