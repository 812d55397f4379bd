"""Asking a router by UPnP IGD: the search is ours, the SOAP is the miniupnpc library's.

The library blocks, so it works in a thread, for one call at a time per router. It is imported only
where a router answers; a machine without the package does without UPnP.
"""

import contextlib
import logging
import secrets
import socket
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Any, Final, TypeAlias, TypeVar

import trio

from mesh.addresses import Endpoint
from mesh.errors import MalformedMessage, MeshError
from mesh.net.router import LEASE_LIFETIME, PortMapping, usable_mapping
from mesh.wire.ssdp import MAX_SSDP_BYTES, SSDP_GROUP, SSDP_PORT, decode_location, is_on, searches

T = TypeVar("T")

CALL_TIMEOUT: Final = 8.0  # s; SOAP takes some routers seconds
_DESCRIPTION: Final = "mesh-edge"  # what the router's table shows
_OTHER_PORTS: Final = range(20000, 60000)
_OTHER_PORTS_TRIED: Final = 2

_Device: TypeAlias = Any
"""A `miniupnpc.UPnP`: the library has no types."""

_log = logging.getLogger(__name__)


class _UpnpError(MeshError):
    """The router refused, or does not speak what it claims to."""


class UpnpRouter:
    """A router that speaks UPnP IGD; IPv4 only."""

    protocol = "upnp"

    def __init__(self, device: _Device, our_host: str) -> None:
        """Use a device that `find_upnp` has found."""
        self._device = device
        self._our_host = our_host
        # The library's object is for one thread; one that we gave up on may still be in it.
        self._one_call = trio.CapacityLimiter(1)

    async def map(self, inside: Endpoint, wanted_port: int) -> PortMapping | None:
        """See `Router.map`; another port if the wanted one is somebody else's."""
        others = [secrets.choice(_OTHER_PORTS) for _ in range(_OTHER_PORTS_TRIED)]
        for port in (wanted_port, *others):
            for lifetime in (LEASE_LIFETIME, 0):  # some know only mappings for ever (error 725)
                if await self._add(inside, port, lifetime):
                    return await self._mapping(inside, port)
        return None

    async def unmap(self, mapping: PortMapping) -> None:
        """See `Router.unmap`."""
        with contextlib.suppress(_UpnpError):
            await self._call(lambda it: it.deleteportmapping(mapping.external.port, "UDP"))

    async def still_knows(self, mappings: Iterable[PortMapping]) -> bool | None:
        """See `Router.still_knows`: there is no clock, so each mapping is looked up."""
        try:
            host = await self._external_host()
            for one in mappings:
                if one.external.host != host or await self._inside_of(one) != one.inside:
                    return False
        except _UpnpError:
            return None
        return True

    def close(self) -> None:
        """Nothing is held open."""

    async def _add(self, inside: Endpoint, port: int, lifetime: int) -> bool:
        arguments = (port, "UDP", inside.host, inside.port, _DESCRIPTION, "", lifetime)
        try:
            await self._call(lambda it: it.addportmapping(*arguments))
        except _UpnpError as error:
            _log.debug("UPnP: port %d for %d s: %s", port, lifetime, error)
            return False
        return True

    async def _mapping(self, inside: Endpoint, port: int) -> PortMapping | None:
        try:
            external = Endpoint(await self._external_host(), port)
        except _UpnpError:
            return None
        now = trio.current_time()
        # Ours is the lifetime even of a mapping for ever: it is renewed, and deleted at the end.
        return usable_mapping(self.protocol, inside, external, LEASE_LIFETIME, now)

    async def _inside_of(self, mapping: PortMapping) -> Endpoint | None:
        """Return where the router says that a mapping leads."""
        port = mapping.external.port
        found = await self._call(lambda it: it.getspecificportmapping(port, "UDP"))
        return Endpoint(*found[:2]) if found else None

    async def _external_host(self) -> str:
        said = await self._call(lambda it: it.externalipaddress())
        try:
            return str(ip_address(str(said)))
        except ValueError:
            raise _UpnpError("the router has no external address") from None

    async def _call(self, call: Callable[[_Device], T]) -> T:
        return await _in_thread(lambda: call(self._device), self._one_call)


async def find_upnp(our_host: str, router: str, patience: float) -> UpnpRouter | None:
    """Look for UPnP on the router itself, and ask for its description.

    Args:
        our_host: our IPv4 address towards it.
        router: its IPv4 address; nobody else's answer counts.
        patience: seconds to wait for an answer to the search; the description may take longer.
    """
    location = None
    with trio.move_on_after(patience):
        with contextlib.suppress(OSError):
            location = await _find_location(our_host, router)
    if location is None:
        return None
    try:
        device = await _in_thread(lambda: _open(location, router), trio.CapacityLimiter(1))
    except ImportError:
        _log.info("the router speaks UPnP, but the Python package miniupnpc is not installed")
        return None
    except _UpnpError as error:
        _log.debug("UPnP: %s: %s", location, error)
        return None
    return UpnpRouter(device, our_host)


async def _find_location(our_host: str, router: str) -> str:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with trio.socket.from_stdlib_socket(opened) as asker:
        await asker.bind((our_host, 0))
        asker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(our_host))
        for search in searches():
            for host in (router, SSDP_GROUP):
                with contextlib.suppress(OSError):
                    await asker.sendto(search, (host, SSDP_PORT))
        while True:
            try:
                answer, source = await asker.recvfrom(MAX_SSDP_BYTES + 1)
                if source[0] == router:
                    return decode_location(answer, router)
            except (MalformedMessage, ConnectionError):
                continue


def _open(location: str, router: str) -> _Device:
    import miniupnpc  # noqa: PLC0415 - optional, and only where a router answers

    device = miniupnpc.UPnP()
    control = str(device.selectigd(location))
    if not is_on(control, router):  # the description may name anybody
        raise _UpnpError(f"its control is elsewhere: {control[:100]!r}")
    return device


async def _in_thread(call: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
    def run() -> T:
        try:
            return call()
        except ImportError:
            raise
        except Exception as error:  # the library raises nothing more specific
            raise _UpnpError(str(error)) from error

    with trio.move_on_after(CALL_TIMEOUT):
        return await trio.to_thread.run_sync(run, limiter=limiter, abandon_on_cancel=True)
    raise _UpnpError(f"no answer within {CALL_TIMEOUT:.0f} s")
