import os
import socket
import struct
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import trio

from mesh.errors import ConfigError, DeviceUnavailable, MeshError
from mesh.net import link
from mesh.net.tap import TAP_READ_BYTES, Tap, open_tap

MAC = bytes.fromhex("020000000001")
ADDRESS = "10.20.0.2/22"
ULA = "fd11:22:33::2/64"

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("needs_tap")]


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def routes(*words: str) -> list[str]:
    """The routes as iproute2 prints them, spaces squeezed; [] if the table is empty."""
    return [" ".join(line.split()) for line in ip(*words).splitlines()]


def make_lan() -> None:
    """An underlay eth0 with the routes that some other program made."""
    ip("link", "set", "lo", "up")
    ip("link", "add", "eth0", "type", "veth", "peer", "name", "far")
    for name in ("eth0", "far"):
        ip("link", "set", name, "addrgenmode", "none", "up")
    ip("addr", "add", "192.168.7.2/24", "dev", "eth0")
    ip("-6", "addr", "add", "fe80::7/64", "dev", "eth0", "nodad")


async def configured() -> Tap:
    tap = open_tap()
    ip("link", "set", tap.name, "addrgenmode", "none")
    await link.configure_link(tap.index, mtu=1400, mac=MAC, txqlen=123)
    return tap


def configure_twice() -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        ip("link", "set", "lo", "up")
        with await configured() as tap:
            for advmss in (1300, 1300, 1200):
                await link.add_address(tap.index, ADDRESS, advmss=advmss)
                await link.add_ipv6(tap.index, ULA, advmss=advmss - 20)
                await link.add_broadcast_routes(tap.index)
            return {
                "link": ip("-o", "link", "show", tap.name),
                "addresses": routes("-o", "addr", "show", "dev", tap.name),
                "routes": routes("route", "show", "dev", tap.name),
                "routes6": routes("-6", "route", "show", "dev", tap.name),
                "local6": routes("-6", "route", "show", "table", "local", "dev", tap.name),
            }

    return trio.run(main)


def test_link_addresses_and_routes_are_set_and_setting_them_again_changes_only_advmss(
    in_namespace: Callable[..., Any],
) -> None:
    found = in_namespace(configure_twice)
    assert "mtu 1400" in found["link"]
    assert "qlen 123" in found["link"]
    assert MAC.hex(":") in found["link"]
    assert ",UP" in found["link"]
    ipv4, ipv6 = found["addresses"]
    assert "inet 10.20.0.2/22 brd 10.20.3.255 scope global" in ipv4
    assert "fd11:22:33::2/64 scope global nodad" in ipv6
    assert "tentative" not in ipv6
    assert found["routes"] == [
        "10.20.0.0/22 proto kernel scope link src 10.20.0.2 advmss 1200",
        "224.0.0.0/4 proto static scope link",
        "255.255.255.255 proto static scope link",
    ]
    assert found["routes6"] == ["fd11:22:33::/64 proto static metric 256 advmss 1180 pref medium"]
    assert "multicast ff02::/16 proto static metric 1 pref medium" in found["local6"]


def clash_with_others() -> dict[str, Any]:
    """Every destination we route has another route already; all of them must survive us."""

    async def main() -> dict[str, Any]:
        make_lan()
        ip("addr", "add", "10.20.0.9/22", "dev", "eth0")
        ip("-6", "addr", "add", "fd11:22:33::9/64", "dev", "eth0", "nodad")
        ip("route", "add", "255.255.255.255/32", "dev", "eth0")
        ip("route", "add", "224.0.0.0/4", "dev", "eth0")

        def state() -> list[str]:
            return sorted(
                routes("-4", "route", "show", "table", "all")
                + routes("-6", "route", "show", "table", "all")
            )

        def chosen(destination: str) -> str:
            words = ip("route", "get", destination).split()
            return words[words.index("dev") + 1]

        def all_chosen() -> list[str]:
            return [chosen(each) for each in ("255.255.255.255", "239.1.2.3", "10.20.1.1")]

        before, chosen_before = state(), all_chosen()
        with await configured() as tap:
            await link.add_address(tap.index, ADDRESS, advmss=1300)
            await link.add_ipv6(tap.index, ULA, advmss=1280)
            await link.add_broadcast_routes(tap.index)
            during, chosen_during = state(), all_chosen()
            for _ in range(2):
                await link.remove_broadcast_routes(tap.index)
                await link.remove_address(tap.index, ADDRESS)
                await link.remove_address(tap.index, ULA)
            removed = [line for line in state() if " mesh0 " not in line]
        return {
            "before": before,
            "during": during,
            "removed": removed,
            "after": state(),
            "chosen": [chosen_before, chosen_during, all_chosen()],
        }

    return trio.run(main)


def test_our_broadcast_routes_win_while_we_run_and_those_of_others_are_never_touched(
    in_namespace: Callable[..., Any],
) -> None:
    found = in_namespace(clash_with_others)
    assert set(found["before"]) <= set(found["during"])
    assert found["removed"] == found["before"]
    assert found["after"] == found["before"]
    before, during, after = found["chosen"]
    # The LAN keeps its own subnet: cutting a machine off from it would be worse than no overlay.
    assert before == after == ["eth0", "eth0", "eth0"]
    assert during == ["mesh0", "mesh0", "eth0"]


def games_speak() -> list[str]:
    """What programs send that name no interface, as it comes out of the TAP."""

    async def main() -> list[str]:
        make_lan()
        ip("route", "add", "default", "via", "192.168.7.1")
        with await configured() as tap:
            await link.add_address(tap.index, ADDRESS)
            await link.add_ipv6(tap.index, ULA)
            await link.add_broadcast_routes(tap.index)
            ip("-6", "addr", "add", "fe80::5/64", "dev", tap.name, "nodad")
            with (
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ipv4,
                socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as ipv6,
            ):
                ipv4.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                ipv4.sendto(b"broadcast", ("255.255.255.255", 4000))
                ipv4.sendto(b"subnet", ("10.20.3.255", 4000))
                ipv4.sendto(b"multicast", ("239.255.1.1", 4000))
                ipv6.sendto(b"multicast6", ("ff02::4:5", 4000))
            return await read_payloads(tap, 4)

    return trio.run(main)


async def read_payloads(tap: Tap, count: int) -> list[str]:
    """Read frames until ``count`` of them went to UDP port 4000; return MAC and payload."""
    buffer = memoryview(bytearray(TAP_READ_BYTES))
    payloads: list[str] = []
    with trio.move_on_after(5):
        while len(payloads) < count:
            await tap.wait_readable()
            while length := tap.read_into(buffer):
                frame = bytes(buffer[10:length])
                start = 14 + (20 if frame[12:14] == b"\x08\x00" else 40)
                if frame[start + 2 : start + 4] == (4000).to_bytes(2, "big"):
                    payloads.append(f"{frame[:6].hex()} {frame[start + 8 :].decode()}")
    return payloads


def test_what_games_send_to_find_each_other_goes_to_the_overlay(
    in_namespace: Callable[..., Any],
) -> None:
    assert in_namespace(games_speak) == [
        "ffffffffffff broadcast",
        "ffffffffffff subnet",
        "01005e7f0101 multicast",
        "333300040005 multicast6",
    ]


def tcp_offers() -> list[int]:
    """The MSS that a connection over the overlay offers, from its SYN."""

    async def main() -> list[int]:
        ip("link", "set", "lo", "up")
        offered = []
        with await configured() as tap:
            await link.add_address(tap.index, ADDRESS, advmss=1234)
            await link.add_ipv6(tap.index, ULA, advmss=1111)
            for host in ("10.20.0.3", "fd11:22:33::3"):
                ip("neigh", "add", host, "lladdr", "02:00:00:00:00:03", "dev", tap.name)
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                with socket.socket(family, socket.SOCK_STREAM) as connection:
                    connection.setblocking(False)
                    connection.connect_ex((host, 80))
                    offered.append(await read_mss(tap, 40 if ":" in host else 20))
        return offered

    return trio.run(main)


async def read_mss(tap: Tap, ip_header_bytes: int) -> int:
    buffer = memoryview(bytearray(TAP_READ_BYTES))
    with trio.fail_after(5):
        while True:
            await tap.wait_readable()
            length = tap.read_into(buffer)
            frame = bytes(buffer[10:length])
            options = frame[14 + ip_header_bytes + 20 :]
            is_syn = len(options) >= 4 and frame[14 + ip_header_bytes + 13] == 0x02
            if is_syn and options[:2] == b"\x02\x04":
                return int(struct.unpack(">H", options[2:4])[0])


def test_tcp_over_the_overlay_offers_segments_of_advmss(in_namespace: Callable[..., Any]) -> None:
    assert in_namespace(tcp_offers) == [1234, 1111]


def refusals() -> dict[str, str]:
    async def main() -> dict[str, str]:
        found = {}
        with await configured() as tap:
            attempts: dict[str, Callable[[], Any]] = {
                "mtu": lambda: link.configure_link(tap.index, mtu=70_000, mac=MAC),
                "mac": lambda: link.configure_link(tap.index, mtu=1500, mac=b"\x01" * 6),
                "gone": lambda: link.add_address(999, ADDRESS),
                "gone6": lambda: link.add_ipv6(999, ULA),
                "gone_routes": lambda: link.add_broadcast_routes(999),
                "gone_remove": lambda: link.remove_address(999, ADDRESS),
            }
            for name, attempt in attempts.items():
                try:
                    await attempt()
                except MeshError as error:
                    found[name] = f"{type(error).__name__}: {error}"
            ip("link", "set", tap.name, "mtu", "1200")
            try:
                await link.add_ipv6(tap.index, ULA)
            except ConfigError as error:
                found["no_ipv6"] = str(error)
            os.setresuid(65534, 65534, 65534)
        return found

    return trio.run(main)


def test_what_the_kernel_refuses_is_one_clear_error(in_namespace: Callable[..., Any]) -> None:
    found = in_namespace(refusals)
    assert found.pop("mtu").startswith("ConfigError: --mtu 70000: the kernel refuses it")
    assert found.pop("mac").startswith("ConfigError: --mac 01:01:01:01:01:01: the kernel refuses")
    assert found.pop("gone").startswith(DeviceUnavailable.__name__)
    assert found.pop("gone6").startswith(DeviceUnavailable.__name__)
    assert found.pop("gone_routes").startswith(DeviceUnavailable.__name__)
    assert "fd11:22:33::2/64" in found.pop("no_ipv6")
    assert found == {}


def look_around() -> list[list[Any]]:
    async def main() -> list[list[Any]]:
        make_lan()
        ip("link", "add", "dark", "type", "veth", "peer", "name", "darkfar")
        ip("addr", "add", "192.168.8.2/24", "dev", "dark")
        with await configured() as tap:
            await link.add_address(tap.index, ADDRESS)
            seen = await link.local_networks()
            without = await link.local_networks({tap.index})
            assert len(without) == len(seen) - 1
            return [
                [one.interface, str(one.address), one.is_overlay, one.is_up, one.is_multicast]
                for one in seen
            ]

    return trio.run(main)


def test_local_addresses_are_listed_with_overlays_marked_and_loopback_left_out(
    in_namespace: Callable[..., Any],
) -> None:
    assert sorted(in_namespace(look_around)) == [
        ["dark", "192.168.8.2/24", False, False, True],
        ["eth0", "192.168.7.2/24", False, True, True],
        ["eth0", "fe80::7/64", False, True, True],
        ["mesh0", "10.20.0.2/22", True, True, True],
    ]


def limit_super_frames() -> str:
    async def main() -> str:
        with open_tap(offload=True) as tap:
            await link.configure_link(tap.index, mtu=1400, mac=MAC, gso_max_segs=44)
            return ip("-d", "-o", "link", "show", tap.name)

    return trio.run(main)


def test_super_frames_can_be_limited_to_what_one_send_takes(
    in_namespace: Callable[..., Any],
) -> None:
    assert "gso_max_segs 44 " in in_namespace(limit_super_frames)
