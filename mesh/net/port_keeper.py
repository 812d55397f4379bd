"""One address family's ports on the router: mapped, renewed, looked after, given back.

Whatever changes (our addresses, the router, its memory) leads back to an earlier point of `run`.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from typing import Final

import trio

from mesh.addresses import Endpoint
from mesh.net.router import LEASE_LIFETIME, PortMapping, Router, RouterLink

CHECK_INTERVAL: Final = 30.0  # s; a restarted router is missed no longer than an idle path is
CHECKS_MISSED: Final = 3  # in a row; Wi-Fi loses some
SHORTEST_PAUSE: Final = 5.0  # s; before a router that was lost or refused is looked for again
LONGEST_PAUSE: Final = 600.0
FAREWELL_TIMEOUT: Final = 1.0  # s; for deleting mappings at the end

_log = logging.getLogger(__name__)


class PortKeeper:
    """Keeps the ports of one address family mapped while `run` runs.

    Attributes:
        router: the address of the router in use, or "".
    """

    def __init__(
        self,
        ports: Sequence[int],
        find_link: Callable[[], Awaitable[RouterLink | None]],
        find_routers: Callable[[RouterLink], Awaitable[list[Router]]],
        tell: Callable[[], None],
    ) -> None:
        """Prepare; nobody is asked before `run`.

        Args:
            ports: our UDP ports.
            find_link: says which router may be asked, and from which addresses.
            find_routers: asks it by every protocol; returns those that answer, best first. They are
                closed here.
            tell: called whenever `mappings` may have changed, but not at the end.
        """
        self._ports = ports
        self._find_link = find_link
        self._find_routers = find_routers
        self._tell = tell
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

    async def _was_woken_within(self, seconds: float) -> bool:
        with trio.move_on_after(seconds):
            await self._wake.wait()
        was_woken = self._wake.is_set()
        self._wake = trio.Event()
        return was_woken

    async def _serve(self, link: RouterLink) -> bool:
        """Keep ports mapped on one router until it is lost; whether it granted any."""
        routers = await self._find_routers(link)
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
            # Silence is looked into soon: a restarted router may speak UPnP at another port.
            pause = SHORTEST_PAUSE if missed else CHECK_INTERVAL
            was_woken = await self._was_woken_within(pause)
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
