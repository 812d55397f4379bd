"""Addresses and routes through netlink: the only file that knows pyroute2.

Every call opens a netlink socket of its own in a worker thread (1 ms) and changes only what belongs
to the interface it is given: a route that somebody else made is never replaced or removed.
"""

import errno
import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from typing import Any, Final, TypeAlias, TypeVar

import trio
from pyroute2 import IPRoute
from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTM_NEWROUTE

from mesh.addresses import format_mac
from mesh.errors import ConfigError, DeviceUnavailable

T = TypeVar("T")

_Netlink: TypeAlias = Any
"""An IPRoute or one of its messages: pyroute2 makes their methods and fields at run time."""

# linux/if.h, linux/if_addr.h, linux/rtnetlink.h
_IFF_UP: Final = 0x1
_IFF_RUNNING: Final = 0x40
_IFF_LOOPBACK: Final = 0x8
_IFF_MULTICAST: Final = 0x1000
_IFA_F_NODAD: Final = 0x02
_IFA_F_TENTATIVE: Final = 0x40
_IFA_F_NOPREFIXROUTE: Final = 0x200
_RT_SCOPE_LINK: Final = 253
_RT_TABLE_MAIN: Final = 254
_RT_TABLE_LOCAL: Final = 255
_RTN_MULTICAST: Final = 5

_IPV6_CONNECTED_METRIC: Final = 256  # what the kernel gives its own connected routes

_OVERLAY_KINDS: Final = frozenset({"tun", "wireguard"})  # TAP devices are of kind "tun", too

_BROADCAST_IPV4: Final = ("255.255.255.255/32", "224.0.0.0/4")

# The kernel routes ff00::/8 in table local, which it asks before all others, at metric 256. Ours
# stands there as well and decides for programs that name no interface; who does name one (neighbour
# discovery, DHCPv6, mDNS) is not affected.
_MULTICAST_IPV6: Final = {
    "family": socket.AF_INET6,
    "dst": "ff02::/16",
    "table": _RT_TABLE_LOCAL,
    "type": _RTN_MULTICAST,
    "priority": 1,
}

_MISSING: Final = {errno.ESRCH, errno.ENOENT, errno.EADDRNOTAVAIL, errno.ENODEV}


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """An address of this machine.

    Attributes:
        interface: the interface's name.
        index: its index.
        address: the address with its prefix length.
        is_overlay: whether the interface is a tunnel (tun, tap, WireGuard): never a candidate.
        is_up: whether the interface is up and has a carrier.
        is_multicast: whether it can multicast.
    """

    interface: str
    index: int
    address: IPv4Interface | IPv6Interface
    is_overlay: bool
    is_up: bool
    is_multicast: bool


@dataclass(frozen=True, slots=True)
class Gateway:
    """The router that a default route leads to.

    Attributes:
        host: its address, with ``%index`` if that is link-local IPv6.
        index: of the interface that it is on.
    """

    host: str
    index: int


async def configure_link(
    index: int, *, mtu: int, mac: bytes, txqlen: int = 500, gso_max_segs: int = 0
) -> None:
    """Set MAC, MTU and queue length (frames), then set the interface up.

    Args:
        index: of the interface.
        mtu: bytes.
        mac: 6 bytes.
        txqlen: how many frames and super-frames may wait to be read.
        gso_max_segs: of how many segments a super-frame may consist; 0 leaves it to the kernel, and
            one that does not know the setting does without.

    Raises:
        ConfigError: the kernel refuses the MTU or MAC.
        DeviceUnavailable: the interface is gone, or no CAP_NET_ADMIN.
    """

    def configure(netlink: _Netlink) -> None:
        with _refusals(f"--mac {format_mac(mac)}"):
            netlink.link("set", index=index, address=format_mac(mac))
        with _refusals(f"--mtu {mtu}"):
            netlink.link("set", index=index, mtu=mtu, txqlen=txqlen)
        if gso_max_segs:
            with _tolerated({errno.EINVAL, errno.EOPNOTSUPP}):
                netlink.link("set", index=index, gso_max_segs=gso_max_segs)
        with _refusals("the interface"):
            netlink.link("set", index=index, state="up")

    await _in_thread(configure)


async def add_address(index: int, cidr: str, *, advmss: int = 0) -> None:
    """Add an IPv4 address with its broadcast address, and ``advmss`` on its connected route.

    Harmless where both are there already: call it again when the interface is back up.

    Raises:
        ConfigError: the kernel refuses the address.
        DeviceUnavailable: the interface is gone, or no CAP_NET_ADMIN.
    """
    address = IPv4Interface(cidr)

    def add(netlink: _Netlink) -> None:
        with _refusals(f"address {cidr}"):
            netlink.addr(
                "replace",
                index=index,
                address=str(address.ip),
                prefixlen=address.network.prefixlen,
                **_broadcast(address),
            )
            if advmss and address.network.prefixlen < 32:
                _set_advmss(netlink, index, address, advmss)

    await _in_thread(add)


async def add_ipv6(index: int, cidr: str, *, advmss: int = 0) -> None:
    """Add an IPv6 address without duplicate address detection, ``advmss`` on its connected route.

    The address comes from a hash of our key: a second owner is not to be feared, and a second of
    waiting for one is. Harmless where both are there already.

    Raises:
        ConfigError: the kernel refuses the address (IPv6 is disabled, or the MTU below 1280).
        DeviceUnavailable: the interface is gone, or no CAP_NET_ADMIN.
    """
    address = IPv6Interface(cidr)
    route = _ipv6_connected(index, address)

    def add(netlink: _Netlink) -> None:
        with _refusals(f"address {cidr}"):
            netlink.addr(
                "replace",
                index=index,
                family=socket.AF_INET6,
                address=str(address.ip),
                prefixlen=address.network.prefixlen,
                flags=_IFA_F_NODAD | _IFA_F_NOPREFIXROUTE,
            )
            with _tolerated(_MISSING):
                netlink.route("del", **route)
            metrics = {"metrics": {"advmss": advmss}} if advmss else {}
            netlink.route("append", **route, **metrics)

    await _in_thread(add)


async def remove_address(index: int, cidr: str) -> None:
    """Remove an address and its connected route; harmless if it is not there.

    Raises:
        DeviceUnavailable: no CAP_NET_ADMIN.
    """
    address = ip_interface(cidr)

    def remove(netlink: _Netlink) -> None:
        with _refusals(f"address {cidr}"), _tolerated(_MISSING):
            if isinstance(address, IPv6Interface):
                with _tolerated(_MISSING):
                    netlink.route("del", **_ipv6_connected(index, address))
            netlink.addr(
                "del",
                index=index,
                family=socket.AF_INET6 if address.version == 6 else socket.AF_INET,
                address=str(address.ip),
                prefixlen=address.network.prefixlen,
            )

    await _in_thread(remove)


async def add_broadcast_routes(index: int) -> None:
    """Route 255.255.255.255, 224.0.0.0/4 and ff02::/16 to the interface ahead of other routes.

    Harmless where they are there already. A machine without IPv6 does without the last one.

    Raises:
        DeviceUnavailable: the interface is gone or down, or no CAP_NET_ADMIN.
    """

    def add(netlink: _Netlink) -> None:
        with _refusals("broadcast routes"):
            for destination in _BROADCAST_IPV4:
                with _tolerated({errno.EEXIST}):
                    _prepend_route(netlink, index, destination)
            with _tolerated({errno.EEXIST, errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EACCES}):
                netlink.route("append", oif=index, **_MULTICAST_IPV6)

    await _in_thread(add)


async def remove_broadcast_routes(index: int) -> None:
    """Remove what `add_broadcast_routes` added; harmless if it is not there.

    Raises:
        DeviceUnavailable: no CAP_NET_ADMIN.
    """

    def remove(netlink: _Netlink) -> None:
        with _refusals("broadcast routes"):
            for destination in _BROADCAST_IPV4:
                with _tolerated(_MISSING):
                    _delete_ipv4_route(netlink, index, destination)
            with _tolerated(_MISSING | {errno.EAFNOSUPPORT, errno.EOPNOTSUPP}):
                netlink.route("del", oif=index, **_MULTICAST_IPV6)

    await _in_thread(remove)


async def local_networks(exclude_indexes: Collection[int] = ()) -> list[LocalAddress]:
    """Return the addresses of this machine that are ready for use, loopback left out."""
    addresses = await _in_thread(_local_addresses)
    return [address for address in addresses if address.index not in exclude_indexes]


async def default_gateways() -> list[Gateway]:
    """Return the routers of the default routes, of each family the kernel's favourite first."""
    return await _in_thread(_default_gateways)


async def link_is_up(index: int) -> bool | None:
    """Return whether an interface is set up, or None if there is none of that index."""

    def ask(netlink: _Netlink) -> bool | None:
        try:
            return bool(netlink.get_links(index)[0]["flags"] & _IFF_UP)
        except NetlinkError as error:
            if error.code not in _MISSING:
                raise
            return None

    return await _in_thread(ask)


async def bridge_of(index: int) -> int:
    """Return the index of the bridge (or bond) that an interface is a port of, 0 for none."""

    def ask(netlink: _Netlink) -> int:
        try:
            return int(netlink.get_links(index)[0].get_attr("IFLA_MASTER") or 0)
        except NetlinkError as error:
            if error.code not in _MISSING:
                raise
            return 0

    return await _in_thread(ask)


async def _in_thread(call: Callable[[_Netlink], T]) -> T:
    def run() -> T:
        with IPRoute() as netlink:
            return call(netlink)

    return await trio.to_thread.run_sync(run)


def _broadcast(address: IPv4Interface) -> dict[str, str]:
    """Return the argument for the broadcast address; a /31 or /32 has none (RFC 3021)."""
    if address.network.prefixlen > 30:
        return {}
    return {"broadcast": str(address.network.broadcast_address)}


def _set_advmss(netlink: _Netlink, index: int, address: IPv4Interface, advmss: int) -> None:
    """Put ours in the place of the route that the kernel made with the address.

    Not by "replace", which takes the first route to that network, whosever it is: ours is added
    behind, then the first one of this interface is removed.
    """
    network = str(address.network)
    try:
        netlink.route(
            "append",
            dst=network,
            oif=index,
            proto="kernel",
            scope="link",
            prefsrc=str(address.ip),
            metrics={"advmss": advmss},
        )
    except NetlinkError as error:
        if error.code != errno.EEXIST:  # ours is there from an earlier call
            raise
        return
    with _tolerated(_MISSING):
        _delete_ipv4_route(netlink, index, network)


def _ipv6_connected(index: int, address: IPv6Interface) -> dict[str, Any]:
    return {
        "family": socket.AF_INET6,
        "dst": str(address.network),
        "oif": index,
        "priority": _IPV6_CONNECTED_METRIC,
        "table": _RT_TABLE_MAIN,
    }


def _prepend_route(netlink: _Netlink, index: int, destination: str) -> None:
    """Add an IPv4 route ahead of others to the same destination, at the least metric there is.

    NLM_F_CREATE alone, as ``ip route prepend`` does: pyroute2 has no word for it.
    """
    netlink.route(
        (RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE),
        dst=destination,
        oif=index,
        proto="static",
        scope="link",
        type="unicast",
        table=_RT_TABLE_MAIN,
    )


def _delete_ipv4_route(netlink: _Netlink, index: int, destination: str) -> None:
    """Delete the first route to ``destination`` that leads to this interface, and no other."""
    netlink.route("del", dst=destination, oif=index, scope=_RT_SCOPE_LINK, table=_RT_TABLE_MAIN)


def _local_addresses(netlink: _Netlink) -> list[LocalAddress]:
    links = {link["index"]: link for link in netlink.get_links()}
    found = []
    for message in netlink.get_addr():
        link = links.get(message["index"])
        if link is None or link["flags"] & _IFF_LOOPBACK:
            continue
        if (message.get_attr("IFA_FLAGS") or message["flags"]) & _IFA_F_TENTATIVE:
            continue  # not ours before nobody has objected
        found.append(_local_address(link, message))
    return found


def _local_address(link: _Netlink, message: _Netlink) -> LocalAddress:
    # On a point-to-point link IFA_ADDRESS is the other end and IFA_LOCAL is ours.
    address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    is_running = link["flags"] & (_IFF_UP | _IFF_RUNNING) == _IFF_UP | _IFF_RUNNING
    return LocalAddress(
        interface=link.get_attr("IFLA_IFNAME"),
        index=link["index"],
        address=ip_interface(f"{address}/{message['prefixlen']}"),
        is_overlay=link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") in _OVERLAY_KINDS,
        is_up=is_running,
        is_multicast=bool(link["flags"] & _IFF_MULTICAST),
    )


def _default_gateways(netlink: _Netlink) -> list[Gateway]:
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        routes = netlink.get_default_routes(family=family, table=_RT_TABLE_MAIN)
        for route in sorted(routes, key=lambda route: route.get_attr("RTA_PRIORITY") or 0):
            host, index = route.get_attr("RTA_GATEWAY"), route.get_attr("RTA_OIF")
            if host and index:  # not on a point-to-point link, nor with several ways at once
                zone = f"%{index}" if ip_address(host).is_link_local and ":" in host else ""
                found.append(Gateway(f"{host}{zone}", index))
    return found


@contextmanager
def _tolerated(codes: Collection[int]) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        if error.code not in codes:
            raise


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Turn what the kernel refuses into a sentence for the user."""
    try:
        yield
    except NetlinkError as error:
        if error.code == errno.EPERM:
            raise DeviceUnavailable(
                f"{what} may not be configured", "run as root or with CAP_NET_ADMIN"
            ) from error
        if error.code in {errno.ENODEV, errno.ENETDOWN}:
            raise DeviceUnavailable(
                f"{what}: the interface was deleted or set down", "join again"
            ) from error
        reason = error.args[1] if len(error.args) > 1 else str(error)
        raise ConfigError(what, "", f"the kernel refuses it: {reason}") from error
