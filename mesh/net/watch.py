"""Noticing that addresses, default routes or the TAP changed, by netlink and by looking."""

import errno
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import trio

from mesh.net.link import LocalAddress, bridge_of, link_is_up, local_networks

# linux/rtnetlink.h: RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE
_GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
_RTM_NEWLINK: Final = 16
_RTM_NEWROUTE: Final = 24
_RTM_DELROUTE: Final = 25
_NLMSGHDR: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port; native order
_IFINFOMSG: Final = struct.Struct("=BxHiI")  # family, type, index, flags; behind the header
_IFF_UP: Final = 0x1
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


@dataclass(frozen=True, slots=True)
class OverlayChanged:
    """An address of the watched interface came or went, or it joined or left a bridge."""


LinkChange: TypeAlias = LinkDown | LinkUp | LinkGone | AddressesChanged | OverlayChanged


@dataclass(frozen=True, slots=True)
class _Notices:
    """What the netlink messages of one run said.

    Attributes:
        has_new_route: whether a default route came or went, or notices were lost.
        was_down: whether the watched interface was down, if only for a moment: the kernel then has
            flushed its routes and IPv6 addresses even though it looks up before and after.
    """

    has_new_route: bool = False
    was_down: bool = False


@dataclass(frozen=True, slots=True)
class _View:
    addresses: frozenset[LocalAddress]
    overlay: frozenset[LocalAddress]
    bridge: int
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
            notices = _empty(netlink, tap_index)
            seen = await _look(tap_index)
            for change in _changes(known, seen, notices):
                notify(change)
            known = seen


async def _look(tap_index: int) -> _View:
    addresses = await local_networks()
    return _View(
        addresses=frozenset(one for one in addresses if one.index != tap_index),
        overlay=frozenset(one for one in addresses if one.index == tap_index),
        bridge=await bridge_of(tap_index) if tap_index else 0,
        tap_is_up=await link_is_up(tap_index) if tap_index else None,
    )


def _changes(known: _View, seen: _View, notices: _Notices) -> list[LinkChange]:
    changes: list[LinkChange] = []
    match known.tap_is_up, seen.tap_is_up:
        case (True | False, None):
            changes.append(LinkGone())
        case (True, False):
            changes.append(LinkDown())
        case (False, True):
            changes.append(LinkUp())
        case (True, True) if notices.was_down:
            changes += [LinkDown(), LinkUp()]
    if notices.has_new_route or known.addresses != seen.addresses:
        changes.append(AddressesChanged())
    if (known.overlay, known.bridge) != (seen.overlay, seen.bridge):
        changes.append(OverlayChanged())
    return changes


def _empty(netlink: socket.socket, tap_index: int) -> _Notices:
    """Read all notices."""
    has_new_route = was_down = False
    while True:
        try:
            notices = netlink.recv(65536)
        except BlockingIOError:
            return _Notices(has_new_route=has_new_route, was_down=was_down)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            has_new_route = True  # the kernel had more to say than we had room for
            continue
        for kind, notice in _split(notices):
            has_new_route = has_new_route or _is_default_route(kind, notice)
            was_down = was_down or _is_down(kind, notice, tap_index)


def _split(notices: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type of each netlink message and the message, its header included."""
    start = 0
    while start + _NLMSGHDR.size < len(notices):
        length, kind, *_ = _NLMSGHDR.unpack_from(notices, start)
        length = max(length, _NLMSGHDR.size)
        yield kind, notices[start : start + length]
        start += (length + 3) & ~3


def _is_default_route(kind: int, notice: bytes) -> bool:
    return (
        kind in {_RTM_NEWROUTE, _RTM_DELROUTE}
        and len(notice) > _RTMSG_DST_LEN
        and notice[_RTMSG_DST_LEN] == 0
    )


def _is_down(kind: int, notice: bytes, tap_index: int) -> bool:
    if kind != _RTM_NEWLINK or len(notice) < _NLMSGHDR.size + _IFINFOMSG.size:
        return False
    _, _, index, flags = _IFINFOMSG.unpack_from(notice, _NLMSGHDR.size)
    return bool(index == tap_index and not flags & _IFF_UP)
