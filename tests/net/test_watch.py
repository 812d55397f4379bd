import struct
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from mesh.net import link, watch
from mesh.net.tap import open_tap
from mesh.net.watch import LinkChange, watch_links

MAC = bytes.fromhex("020000000001")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def changes_seen() -> dict[str, list[str]]:
    """Do one thing after the other and note what the watcher says about each."""

    async def main() -> dict[str, list[str]]:
        ip("link", "set", "lo", "up")
        ip("link", "add", "eth0", "type", "veth", "peer", "name", "far")
        for name in ("eth0", "far"):
            ip("link", "set", name, "addrgenmode", "none", "up")
        tap = open_tap()
        ip("link", "set", tap.name, "addrgenmode", "none")
        await link.configure_link(tap.index, mtu=1500, mac=MAC)
        tell, told = trio.open_memory_channel[LinkChange](100)
        found: dict[str, list[str]] = {}

        async def after(what: str, *commands: str) -> None:
            for command in commands:
                ip(*command.split())
            found[what] = []
            with trio.move_on_after(5):
                found[what].append(type(await told.receive()).__name__)
            with trio.move_on_after(0.3):  # nothing else may come behind
                while True:
                    found[what].append(type(await told.receive()).__name__)

        async with trio.open_nursery() as nursery:

            async def start(task_status: trio.TaskStatus[None]) -> None:
                await watch_links(
                    tell.send_nowait, tap_index=tap.index, poll_interval=60, task_status=task_status
                )

            await nursery.start(start)
            await after("address", "addr add 192.168.7.2/24 dev eth0")
            await after("route", "route add default via 192.168.7.1")
            await after("underlay down", "link set eth0 down")
            await after("several", "link set eth0 up", "addr add 192.168.7.3/24 dev eth0")
            await after("tap down", "link set mesh0 down")
            await after("tap up", "link set mesh0 up")
            await after("tap gone", "link del mesh0")
            nursery.cancel_scope.cancel()
        tap.close()
        return found

    return trio.run(main)


@pytest.mark.netns
@pytest.mark.usefixtures("needs_tap")
def test_every_change_is_told_at_once_and_only_once(in_namespace: Callable[..., Any]) -> None:
    assert in_namespace(changes_seen) == {
        "address": ["AddressesChanged"],
        "route": ["AddressesChanged"],
        "underlay down": ["AddressesChanged"],
        "several": ["AddressesChanged"],
        "tap down": ["LinkDown"],
        "tap up": ["LinkUp"],
        "tap gone": ["LinkGone"],
    }


def changes_of_our_own() -> list[str]:
    async def main() -> list[str]:
        ip("link", "set", "lo", "up")
        told: list[str] = []
        with open_tap() as tap:
            ip("link", "set", tap.name, "addrgenmode", "none")
            await link.configure_link(tap.index, mtu=1500, mac=MAC)

            async def start(task_status: trio.TaskStatus[None]) -> None:
                await watch_links(
                    lambda change: told.append(type(change).__name__),
                    tap_index=tap.index,
                    task_status=task_status,
                )

            async with trio.open_nursery() as nursery:
                await nursery.start(start)
                await link.add_address(tap.index, "10.20.0.2/22", advmss=1300)
                await link.add_broadcast_routes(tap.index)
                await trio.sleep(0.4)
                nursery.cancel_scope.cancel()
        return told

    return trio.run(main)


@pytest.mark.netns
@pytest.mark.usefixtures("needs_tap")
def test_what_we_do_to_our_own_interface_is_no_change_of_the_underlay(
    in_namespace: Callable[..., Any],
) -> None:
    told = in_namespace(changes_of_our_own)
    assert set(told) == {"OverlayChanged"}


def notice(kind: int, dst_len: int, length: int = 28) -> bytes:
    header = struct.pack("=IHHII", length, kind, 0, 0, 0)
    return header + bytes([2, dst_len]) + bytes(length - 18)


def link_notice(index: int, flags: int) -> bytes:
    header = struct.pack("=IHHII", 32, 16, 0, 0, 0)
    return header + struct.pack("=BxHiII", 0, 1, index, flags, 0)


def test_a_default_route_is_found_behind_other_notices() -> None:
    run = notice(24, 24) + notice(20, 0) + notice(25, 0)
    assert [watch._is_default_route(*one) for one in watch._split(run)] == [False, False, True]


def test_a_moment_of_being_down_is_seen_in_the_notices() -> None:
    run = link_notice(7, 0x1003) + link_notice(7, 0x1002) + link_notice(8, 0) + link_notice(7, 3)
    assert [watch._is_down(*one, 7) for one in watch._split(run)] == [False, True, False, False]


@given(st.binary(max_size=200))
def test_no_notice_however_broken_raises_or_loops(notices: bytes) -> None:
    for kind, one in watch._split(notices):
        watch._is_default_route(kind, one)
        watch._is_down(kind, one, 1)
