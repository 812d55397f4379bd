"""The router in front of us, and what the protocols that ask it for a port have in common."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final, Protocol

from mesh.addresses import Endpoint, is_usable_candidate
from mesh.net.link import Gateway, LocalAddress

LEASE_LIFETIME: Final = 7200  # s; what is asked for, and believed at most: RFC 6886 section 3.3
MIN_LIFETIME: Final = 60  # s; a router that grants less is asked again no sooner than this allows
MAX_ADDRESSES: Final = 4  # of ours that get pinholes; privacy extensions make many

_PRIVATE_IPV4: Final = tuple(
    map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
)  # RFC 1918; 100.64.0.0/10 is the provider's, whose routers do not map for customers
_PRIVATE_IPV6: Final = IPv6Network("fc00::/7")


@dataclass(frozen=True, slots=True)
class RouterLink:
    """A router that may be asked, and our addresses towards it.

    Attributes:
        router: its private address, with ``%index`` if that is link-local.
        our_hosts: one IPv4 address, or up to four global IPv6 ones.
    """

    router: str
    our_hosts: tuple[str, ...]

    @property
    def is_ipv6(self) -> bool:
        """Whether pinholes are wanted rather than mappings."""
        return ":" in self.router


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A port that a router forwards to us.

    Attributes:
        protocol: ``pcp``, ``nat-pmp`` or ``upnp``.
        inside: our address and UDP port.
        external: where others send to.
        expires_at: on trio's clock.
    """

    protocol: str
    inside: Endpoint
    external: Endpoint
    expires_at: float


class Router(Protocol):
    """A router as one of the protocols sees it; no method raises for what a router does."""

    protocol: str

    async def map(self, inside: Endpoint, wanted_port: int) -> PortMapping | None:
        """Map, or renew; None if the router refuses, is silent, or offers nothing usable."""
        ...

    async def unmap(self, mapping: PortMapping) -> None:
        """Delete a mapping; whether that worked nobody learns."""
        ...

    async def still_knows(self, mappings: Iterable[PortMapping]) -> bool | None:
        """Whether the router has kept its mappings; None if it does not answer."""
        ...

    def close(self) -> None:
        """Close sockets."""
        ...


def choose_link(
    gateways: Iterable[Gateway],
    local: Collection[LocalAddress],
    excluded: Collection[int],
    *,
    is_ipv6: bool,
) -> RouterLink | None:
    """Return the router of the default route if it is ours to ask.

    That is one with a private (IPv6: link-local or private) address on an interface that is no
    overlay and not in ``excluded`` (interface indexes): anything else is a provider's machine, or
    leads into a tunnel.
    """
    gateway = next((one for one in gateways if (":" in one.host) is is_ipv6), None)
    if gateway is None or gateway.index in excluded or not _is_private(gateway.host):
        return None
    here = [one for one in local if one.index == gateway.index and one.is_up]
    if any(one.is_overlay for one in here):
        return None
    ours = _global_ipv6(here) if is_ipv6 else _ipv4_beside(gateway.host, here)
    return RouterLink(gateway.host, tuple(ours[:MAX_ADDRESSES])) if ours else None


def usable_mapping(
    protocol: str, inside: Endpoint, external: Endpoint, lifetime: int, now: float
) -> PortMapping | None:
    """Return what a router offers as a `PortMapping`, or None if others could not use it.

    Nobody has authenticated it: it may claim loopback, a multicast group or a lifetime of a
    century.
    """
    is_family_right = external.is_ipv6 is inside.is_ipv6
    if not is_family_right or lifetime <= 0 or not is_usable_candidate(external):
        return None
    if ip_address(external.host).is_link_local:
        return None
    return PortMapping(
        protocol, inside, external, now + max(MIN_LIFETIME, min(lifetime, LEASE_LIFETIME))
    )


def _is_private(host: str) -> bool:
    address = ip_address(host.partition("%")[0])
    if address.version == 6:
        return address.is_link_local or address in _PRIVATE_IPV6
    return any(address in network for network in _PRIVATE_IPV4)


def _ipv4_beside(router: str, here: Iterable[LocalAddress]) -> list[str]:
    """Return our address in the router's network."""
    address = ip_address(router)
    return [str(one.address.ip) for one in here if address in one.address.network][:1]


def _global_ipv6(here: Iterable[LocalAddress]) -> list[str]:
    addresses = [one.address.ip for one in here if one.address.version == 6]
    return [str(ip) for ip in addresses if not ip.is_link_local and ip not in _PRIVATE_IPV6]
