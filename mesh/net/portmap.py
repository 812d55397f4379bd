"""Keeping ports of ours mapped on the router, from the start to the end; docs/nat.md.

For IPv4 and for IPv6 on its own: find the router, ask PCP, NAT-PMP and UPnP at the same moment,
take the first of them (in this order) that grants a mapping; `mesh.net.port_keeper` does the rest.
"""

import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

import trio

from mesh.net.link import default_gateways, local_networks
from mesh.net.pcp import PcpRouter, PmpRouter
from mesh.net.port_keeper import PortKeeper
from mesh.net.router import PortMapping, Router, RouterLink, choose_link
from mesh.net.upnp import UpnpRouter, find_upnp
from mesh.wire.portmap import ANNOUNCE_GROUP, ANNOUNCE_PORT, MAX_ANSWER_BYTES

SEARCH_PATIENCE: Final = 0.25  # s; a router is one hop away
HINT_INTERVAL: Final = 1.0  # s; announcements are unauthenticated and draw at most one question

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
        self._nonce_key = nonce_key
        self._overlay_indexes = overlay_indexes
        self._keepers = [
            PortKeeper(wanted, partial(self._find_link, is_ipv6), self._find_routers, self._tell)
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

    async def _find_link(self, is_ipv6: bool) -> RouterLink | None:  # noqa: FBT001 - its only one
        gateways, local = await default_gateways(), await local_networks()
        return choose_link(gateways, local, await self._overlay_indexes(), is_ipv6=is_ipv6)

    async def _find_routers(self, link: RouterLink) -> list[Router]:
        return await find_routers(link, self._nonce_key)

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
