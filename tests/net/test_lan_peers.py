"""Members announce themselves to the LANs around and hear each other; strangers are not heard."""

import subprocess
from collections.abc import Callable, Collection
from typing import Any

import pytest
import trio

from mesh.addresses import EdgeId, Endpoint
from mesh.net.lan_peers import LanPeers, LanPeersConfig, ports_by_family
from mesh.wire.lan_peer import encode_announcement

KEY = bytes(range(32))
OURS, THEIRS, STRANGER = (EdgeId(bytes([number]) * 16) for number in (1, 2, 3))

Found = list[tuple[EdgeId, Endpoint]]


async def nothing() -> Collection[int]:
    return ()


def lan_peers(edge_id: EdgeId, found: Found, key: bytes = KEY, port: int = 7801) -> LanPeers:
    config = LanPeersConfig(key, edge_id, ports_by_family(port, port + 1), nothing)
    return LanPeers(config, lambda edge_id, endpoint: found.append((edge_id, endpoint)))


def announcement(number: int, edge_id: EdgeId = THEIRS, key: bytes = KEY) -> bytes:
    return encode_announcement(key, edge_id, 7801, number.to_bytes(16, "big"))


def test_each_announcement_of_another_member_counts_once() -> None:
    found: Found = []
    peers = lan_peers(OURS, found)
    for datagram in (announcement(1), announcement(1), announcement(2)):
        peers.receive_untrusted(datagram, "192.168.1.7")
    assert found == [(THEIRS, Endpoint("192.168.1.7", 7801))] * 2


def test_our_own_a_strangers_and_broken_ones_are_not_told() -> None:
    found: Found = []
    peers = lan_peers(OURS, found)
    for datagram in (announcement(1, OURS), announcement(2, THEIRS, bytes(32)), b"", bytes(64)):
        peers.receive_untrusted(datagram, "192.168.1.7")
    assert found == []


def test_nonces_are_remembered_in_bounds() -> None:
    peers = lan_peers(OURS, [])
    for number in range(3000):
        peers.receive_untrusted(announcement(number), "192.168.1.7")
    assert len(peers._nonces) == 1024


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def meet(is_wired_first: bool) -> dict[str, Any]:  # noqa: FBT001
    """Two members and a stranger on one machine with a LAN, which may come up only later."""

    def make_lan() -> None:
        ip("link", "set", "lo", "up")
        ip("link", "add", "left", "type", "veth", "peer", "name", "right")
        for number, name in enumerate(("left", "right"), 1):
            ip("link", "set", name, "addrgenmode", "none", "up")
            ip("addr", "add", f"192.168.{number}.1/24", "dev", name)
            ip("-6", "addr", "add", f"fe80::{number}/64", "dev", name, "nodad")

    async def main() -> dict[str, Any]:
        heard: list[Found] = [[], [], []]
        members = [
            lan_peers(OURS, heard[0]),
            lan_peers(THEIRS, heard[1], port=7811),
            lan_peers(STRANGER, heard[2], key=bytes(32)),
        ]
        if is_wired_first:
            make_lan()
        async with trio.open_nursery() as nursery:
            for member in members:
                nursery.start_soon(member.run)
            if not is_wired_first:
                await trio.sleep(0.2)
                make_lan()
                for member in members:
                    member.wake()
            with trio.move_on_after(10):
                while not all(len({e.is_ipv6 for _, e in each}) == 2 for each in heard[:2]):  # noqa: ASYNC110
                    await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
        return {
            "ours": sorted({(edge.hex()[:2], e.port) for edge, e in heard[0]}),
            "theirs": sorted({(edge.hex()[:2], e.port) for edge, e in heard[1]}),
            "stranger": len(heard[2]),
        }

    return trio.run(main)


@pytest.mark.netns
@pytest.mark.parametrize("is_wired_first", [True, False])
def test_members_hear_each_other_by_both_families_and_strangers_hear_nobody(
    in_namespace: Callable[..., Any],
    is_wired_first: bool,  # noqa: FBT001
) -> None:
    heard = in_namespace(meet, is_wired_first)
    assert heard["ours"] == [["02", 7811], ["02", 7812]]
    assert heard["theirs"] == [["01", 7801], ["01", 7802]]
    assert heard["stranger"] == 0
