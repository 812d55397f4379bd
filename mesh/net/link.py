"""Addresses, routes and link state through netlink: the only file that knows pyroute2."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import TypeAlias

import trio


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """An address of this machine.

    Attributes:
        interface: the interface's name.
        index: its index.
        address: the address with its prefix length.
        is_overlay: whether the interface is a tunnel (tun, tap, WireGuard): never a candidate.
        is_up: whether the interface is up.
        is_multicast: whether it can multicast.
    """

    interface: str
    index: int
    address: IPv4Interface | IPv6Interface
    is_overlay: bool
    is_up: bool
    is_multicast: bool


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The watched interface was set down."""


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The watched interface is up again: its addresses are intact, IPv6 ones and routes are not."""


@dataclass(frozen=True, slots=True)
class LinkGone:
    """The watched interface was deleted."""


@dataclass(frozen=True, slots=True)
class AddressesChanged:
    """An address or default route of another interface came or went."""


LinkChange: TypeAlias = LinkDown | LinkUp | LinkGone | AddressesChanged


async def configure_link(index: int, *, mtu: int, mac: bytes, txqlen: int = 500) -> None:
    """Set MAC, MTU and queue length (frames), then set the interface up.

    Raises:
        ConfigError: the kernel refuses the MTU or MAC.
        DeviceUnavailable: the interface is gone, or no CAP_NET_ADMIN.
    """
    raise NotImplementedError


async def add_address(index: int, cidr: str, *, advmss: int = 0) -> None:
    """Add an IPv4 address with its broadcast address, and ``advmss`` on its connected route.

    Raises:
        ConfigError: the kernel refuses the address.
        DeviceUnavailable: the interface is gone, or no CAP_NET_ADMIN.
    """
    raise NotImplementedError


async def add_ipv6(index: int, cidr: str, *, advmss: int = 0) -> None:
    """Add an IPv6 address without duplicate address detection, ``advmss`` on its connected route.

    Raises:
        ConfigError: the kernel refuses the address (IPv6 is disabled).
        DeviceUnavailable: the interface is gone, or no CAP_NET_ADMIN.
    """
    raise NotImplementedError


async def remove_address(index: int, cidr: str) -> None:
    """Remove an address and its connected route; harmless if it is not there."""
    raise NotImplementedError


async def add_broadcast_routes(index: int) -> None:
    """Route 255.255.255.255, 224.0.0.0/4 and ff02::/16 to the interface ahead of others."""
    raise NotImplementedError


async def remove_broadcast_routes(index: int) -> None:
    """Remove what `add_broadcast_routes` added; harmless if it is not there."""
    raise NotImplementedError


async def local_networks(exclude_indexes: Collection[int] = ()) -> list[LocalAddress]:
    """Return the addresses of this machine, loopback left out."""
    raise NotImplementedError


async def watch_links(
    notify: Callable[[LinkChange], None],
    *,
    tap_index: int = 0,
    poll_interval: float = 30.0,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Tell ``notify`` of changes until cancelled; those of ``tap_index`` and of all others.

    Netlink tells at once; every ``poll_interval`` seconds the addresses are compared as well.
    """
    raise NotImplementedError
