"""The overlay on this machine: addresses and routes of the TAP, and clashes with other networks."""

import logging
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface

from mesh.cli.settings import JoinSettings
from mesh.errors import ConfigError, DeviceUnavailable
from mesh.net import link
from mesh.net.link import LocalAddress

_log = logging.getLogger(__name__)

RELAYED_PACKET_BYTES = 1380
"""The largest IP packet that fits one relayed datagram on links of 1500 bytes: 1452 (IPv6 and UDP)
less relay header (12), transport header and tag (32), inner header (4) and Ethernet header (14)
leaves 1390; the rest is room for a VLAN tag and a TCP option that comes late."""

TCP_HEADERS_IPV4 = 40  # bytes; RFC 9293 section 3.7.1: options do not count
TCP_HEADERS_IPV6 = 60  # bytes; RFC 8200 section 8.3
MIN_IPV6_MTU = 1280  # bytes; RFC 8200 section 5; Linux has no IPv6 below


def advmss_ipv4(mtu: int) -> int:
    """Return the TCP segment size to advertise, so that TCP over the relay avoids fragments."""
    return min(mtu, RELAYED_PACKET_BYTES) - TCP_HEADERS_IPV4


def advmss_ipv6(mtu: int) -> int:
    """Return the same for IPv6."""
    return min(mtu, RELAYED_PACKET_BYTES) - TCP_HEADERS_IPV6


def networks_of(addresses: Iterable[LocalAddress]) -> list[tuple[str, IPv4Network]]:
    """Return interface and network of every IPv4 address."""
    return [
        (local.interface, local.address.network)
        for local in addresses
        if isinstance(local.address, IPv4Interface)
    ]


def order_proposals(
    proposals: Sequence[IPv4Network], local: Sequence[tuple[str, IPv4Network]]
) -> list[IPv4Network]:
    """Return ``proposals`` with those that overlap a network of this machine last (15.1)."""
    return sorted(proposals, key=lambda one: any(one.overlaps(other) for _, other in local))


def clash_warning(address: str, local: Sequence[tuple[str, IPv4Network]]) -> str | None:
    """Return what to tell the user if ``address`` (CIDR or "") lies in a network of ours."""
    if not address:
        return None
    ours = IPv4Interface(address).network
    for interface, theirs in local:
        if ours.overlaps(theirs):
            return (
                f"the community's network {ours} overlaps {theirs} on {interface}: one hides the"
                " other; choose a free one for the whole community with --address CIDR"
            )
    return None


class Overlay:
    """The TAP's addresses and routes; `apply` may be called again when the lease changes."""

    def __init__(self, settings: JoinSettings, index: int, ula: IPv6Interface) -> None:
        """Prepare for the interface ``index``; nothing is configured before `apply`."""
        self._index = index
        self._mtu = settings.mtu
        self._has_broadcast_routes = settings.broadcast_routes
        self._ula = ula
        self._address = ""
        self._has_ula = False

    async def apply(self, address: str) -> None:
        """Configure the leased or fixed ``address`` (CIDR, or "" for none) beside the ULA.

        Raises:
            ConfigError: the kernel refuses the IPv4 address.
        """
        if self._address and self._address != address:
            await link.remove_address(self._index, self._address)
        self._address = address
        await self.restore()

    async def restore(self) -> None:
        """Configure everything; again after the interface was down, which loses half of it.

        An interface that is down now gets the rest when it comes back, and one that is gone ends
        the program elsewhere.

        Raises:
            ConfigError: the kernel refuses the IPv4 address.
        """
        try:
            if self._address:
                await link.add_address(self._index, self._address, advmss=advmss_ipv4(self._mtu))
            await self._add_ula()
            if self._has_broadcast_routes:
                await link.add_broadcast_routes(self._index)
        except DeviceUnavailable as error:
            _log.warning("%s", error)

    async def _add_ula(self) -> None:
        if self._mtu < MIN_IPV6_MTU:
            return
        try:
            await link.add_ipv6(
                self._index, self._ula.with_prefixlen, advmss=advmss_ipv6(self._mtu)
            )
        except ConfigError as error:  # the machine has IPv6 switched off
            _log.info("no IPv6 address on the overlay: %s", error)
        else:
            self._has_ula = True

    def was_stripped(self, addresses: Iterable[LocalAddress]) -> bool:
        """Whether the kernel has taken the ULA, and so our routes: the interface was down.

        Down and up again may be over before the watcher of links has looked.
        """
        ours = {one.address.ip for one in addresses if one.index == self._index}
        return self._has_ula and self._ula.ip not in ours

    def shown_address(self) -> str:
        """Return the address to show: the IPv4 one, else the ULA."""
        return self._address or self._ula.with_prefixlen

    def networks(self) -> list[str]:
        """Return the overlay's networks, in which no endpoint can be a path."""
        ipv4 = [str(IPv4Interface(self._address).network)] if self._address else []
        return [*ipv4, str(self._ula.network)]
