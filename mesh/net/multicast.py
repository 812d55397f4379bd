"""Multicast on the LANs around: one socket per family, every interface but overlays; section 14."""

import contextlib
import socket
import struct
from collections.abc import Callable, Collection
from typing import Final, TypeAlias

import trio

from mesh.constants import LAN_GROUP_IPV4, LAN_GROUP_IPV6, LAN_PORT
from mesh.net.link import local_networks

_MREQN: Final = struct.Struct("=4s4si")  # struct ip_mreqn: group, our address, interface index
_MREQ6: Final = struct.Struct("=16si")  # struct ipv6_mreq: group, interface index
_IP_MULTICAST_ALL: Final = 49
_IPV6_MULTICAST_ALL: Final = 29

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]


async def multicast(
    askers: list[trio.socket.SocketType], datagram: bytes, leave_out: Collection[int] = ()
) -> None:
    """Send a datagram to the group on every LAN but those whose interface indexes are left out."""
    for asker in askers:
        for index in await lan_interfaces(asker.family):
            if index in leave_out:
                continue
            with contextlib.suppress(OSError):  # an interface that just went away
                choose_interface(asker, index)
                await asker.sendto(datagram, (group_of(asker.family), LAN_PORT))


def is_on_our_links(source: tuple[str, int] | tuple[str, int, int, int]) -> bool:
    """Whether a query came from a LAN: to IPv6 port 7778 anybody on the internet may send.

    Queries to ff02:: leave from link-local addresses; the IPv4 socket hears its group only.
    """
    host = source[0]
    return ":" not in host or host.startswith("fe80:")


def open_all(
    stack: contextlib.ExitStack, open_one: Callable[[int], socket.socket]
) -> list[trio.socket.SocketType]:
    """Open a socket per address family that the machine has; the stack closes them."""
    opened = []
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            one = trio.socket.from_stdlib_socket(open_one(family))
            opened.append(stack.enter_context(one))
    return opened


def open_asker(family: int) -> socket.socket:
    """Open a socket for queries and the unicast answers to them; never beyond the first router."""
    asker = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        asker.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
    else:
        asker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
    return asker


def open_listener(family: int) -> socket.socket:
    """Open a socket that gets what is sent to the group, and only on interfaces joined."""
    listener = socket.socket(family, socket.SOCK_DGRAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
        listener.bind(("::", LAN_PORT))
    else:
        listener.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        listener.bind((LAN_GROUP_IPV4, LAN_PORT))
    return listener


async def join_groups(listeners: list[trio.socket.SocketType]) -> None:
    """Join the group on every interface; where we are a member already the kernel says so."""
    for listener in listeners:
        for index in await lan_interfaces(listener.family):
            with contextlib.suppress(OSError):
                if listener.family == socket.AF_INET6:
                    request = _MREQ6.pack(_packed(listener.family), index)
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
                else:
                    request = _MREQN.pack(_packed(listener.family), bytes(4), index)
                    listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)


def choose_interface(asker: trio.socket.SocketType, index: int) -> None:
    """Have what is sent to the group leave by one interface."""
    if asker.family == socket.AF_INET6:
        asker.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    else:
        request = _MREQN.pack(bytes(4), bytes(4), index)
        asker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)


async def lan_interfaces(family: int) -> list[int]:
    """Return the indexes of interfaces on which somebody may be found, in order."""
    version = 6 if family == socket.AF_INET6 else 4
    return sorted(
        {
            one.index
            for one in await local_networks()
            if one.is_up
            and one.is_multicast
            and not one.is_overlay
            and one.address.version == version
        }
    )


def group_of(family: int) -> str:
    """Return the address of the group."""
    return LAN_GROUP_IPV6 if family == socket.AF_INET6 else LAN_GROUP_IPV4


def _packed(family: int) -> bytes:
    return socket.inet_pton(family, group_of(family))


def host_of(source: SocketAddress) -> str:
    """Return the host of a socket address, with ``%index`` for link-local ones."""
    host = source[0].partition("%")[0]
    return f"{host}%{source[3]}" if len(source) == 4 and source[3] else host
