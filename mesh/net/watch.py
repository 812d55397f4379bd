"""Noticing that addresses, default routes or the TAP changed, by netlink and by looking."""

import errno
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import trio

from mesh.net.link import LocalAddress, link_is_up, local_networks

# linux/rtnetlink.h: RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE
_GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
_RTM_NEWROUTE: Final = 24
_RTM_DELROUTE: Final = 25
_NLMSGHDR: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port; native order
_RTMSG_DST_LEN: Final = _NLMSGHDR.size + 1  # struct rtmsg: family, dst_len...

_SETTLING_INTERVAL: Final = 0.05
"""Seconds to wait for the rest: changes come in runs (link, address, route)."""


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The watched interface was set down; the kernel has removed its routes and IPv6 addresses."""


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The watched interface is up again: routes and IPv6 addresses are to be added anew."""


@dataclass(frozen=True, slots=True)
class LinkGone:
    """The watched interface was deleted."""


@dataclass(frozen=True, slots=True)
class AddressesChanged:
    """An address or default route of another interface came or went."""


LinkChange: TypeAlias = LinkDown | LinkUp | LinkGone | AddressesChanged


@dataclass(frozen=True, slots=True)
class _View:
    addresses: frozenset[LocalAddress]
    tap_is_up: bool | None


async def watch_links(
    notify: Callable[[LinkChange], None],
    *,
    tap_index: int = 0,
    poll_interval: float = 30.0,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Tell ``notify`` of changes until cancelled: those of ``tap_index``, and of all others.

    Netlink tells at once, 50 ms late since changes come in runs; every ``poll_interval`` seconds
    the addresses are compared as well. Addresses of overlays count as well.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.setblocking(False)
        netlink.bind((0, _GROUPS))
        known = await _look(tap_index)
        task_status.started()
        while True:
            with trio.move_on_after(poll_interval):
                await trio.lowlevel.wait_readable(netlink)
                await trio.sleep(_SETTLING_INTERVAL)
            has_new_route = _empty(netlink)
            seen = await _look(tap_index)
            for change in _changes(known, seen, has_new_route=has_new_route):
                notify(change)
            known = seen


async def _look(tap_index: int) -> _View:
    addresses = await local_networks({tap_index})
    return _View(frozenset(addresses), await link_is_up(tap_index) if tap_index else None)


def _changes(known: _View, seen: _View, *, has_new_route: bool) -> list[LinkChange]:
    changes: list[LinkChange] = []
    match known.tap_is_up, seen.tap_is_up:
        case (True | False, None):
            changes.append(LinkGone())
        case (True, False):
            changes.append(LinkDown())
        case (False, True):
            changes.append(LinkUp())
    if has_new_route or known.addresses != seen.addresses:
        changes.append(AddressesChanged())
    return changes


def _empty(netlink: socket.socket) -> bool:
    """Read all notices; return whether a default route came or went, or notices were lost."""
    is_route_changed = False
    while True:
        try:
            notices = netlink.recv(65536)
        except BlockingIOError:
            return is_route_changed
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            is_route_changed = True  # the kernel had more to say than we had room for
            continue
        is_route_changed = is_route_changed or _names_default_route(notices)


def _names_default_route(notices: bytes) -> bool:
    start = 0
    while start + _NLMSGHDR.size < len(notices):
        length, kind, *_ = _NLMSGHDR.unpack_from(notices, start)
        if kind in {_RTM_NEWROUTE, _RTM_DELROUTE} and notices[start + _RTMSG_DST_LEN] == 0:
            return True
        start += max((length + 3) & ~3, _NLMSGHDR.size)
    return False
