"""Super-frames through whole edges: the far kernel gets what a slow sender would send."""

from typing import Any

import pytest

from tests.datapath.tcp_frames import ACK, PSH, TcpFrame, frames_of, segments_of
from tests.datapath.udp_frames import UdpFrame, datagrams_of, written
from tests.virtual_edge import VirtualEdge
from tests.virtual_network import LinkConditions
from tests.world import World

SEGMENT = 1300
ROUGH = LinkConditions(latency=0.02, loss=0.2, duplication=0.2, reordering=0.2)


def super_frame(source: VirtualEdge, mac: bytes, payload: bytes, **more: int) -> bytearray:
    frame = TcpFrame(payload, flags=ACK | PSH, tcp_options=bytes(12), **more)  # type: ignore[arg-type]
    read = frame.read(SEGMENT)
    read[10:22] = mac + source.mac
    return read


def send(source: VirtualEdge, read: bytearray) -> None:
    source.driver.write_frame(bytes(read[10:]), bytes(read[:10]))


def received(edge: VirtualEdge) -> list[bytes]:
    """What the edge's kernel has after segmentation, checksums complete."""
    return [
        found
        for _, header, frame in edge.driver.frames
        for found in frames_of(header + frame)
        if frame[12:14] == b"\x08\x00" and len(found) > 60
    ]


def expected(read: bytearray, payload_bytes: int) -> list[bytes]:
    frame = TcpFrame(bytes(read[10 + 66 :]), flags=ACK | PSH, tcp_options=bytes(12))
    return [
        bytes(read[10:22]) + one.build(is_partial=False)[12:]
        for one in segments_of(frame, payload_bytes)
    ]


@pytest.fixture
def trio(world: World) -> list[VirtualEdge]:
    edges = world.add_edges("abc")
    world.run_until_direct(*edges)
    for edge in edges:
        world.send_frame(edge)
    world.run_for(0.5)
    for edge in edges:
        edge.driver.frames.clear()
    return edges


def test_a_super_frame_arrives_as_its_segments_in_few_writes(
    world: World, trio: list[VirtualEdge]
) -> None:
    a, b, c = trio
    read = super_frame(a, b.mac, bytes(range(256)) * 200)
    send(a, read)
    world.run_for(0.5)
    assert received(b) == expected(read, SEGMENT)
    assert not received(c)
    assert len(b.driver.frames) < 40
    assert b.peer_view(a)["rx_frames"] == a.peer_view(b)["tx_frames"]
    assert b.peer_view(a)["rx_bytes"] == a.peer_view(b)["tx_bytes"]


def test_a_super_frame_for_nobody_known_is_flooded_intact(
    world: World, trio: list[VirtualEdge]
) -> None:
    a, b, c = trio
    read = super_frame(a, bytes.fromhex("020000000001"), bytes(range(256)) * 100)
    send(a, read)
    world.run_for(0.5)
    assert received(b) == received(c) == expected(read, SEGMENT)


def test_segments_too_long_for_the_path_are_cut_to_it_not_fragmented(
    world: World, trio: list[VirtualEdge]
) -> None:
    a, b, _ = trio
    frame = TcpFrame(bytes(1448 * 20), flags=ACK | PSH, tcp_options=bytes(12))
    read = frame.read(1448)
    read[10:22] = b.mac + a.mac
    send(a, read)
    world.run_for(0.5)
    assert received(b) == expected(read, 1472 - 36 - 66)


def udp_super_frame(source: VirtualEdge, to: VirtualEdge, size: int, count: int) -> bytearray:
    read = UdpFrame((bytes(range(251)) * 260)[: size * count - 1]).read(size)
    read[10:22] = to.mac + source.mac
    return read


def written_udp(edge: VirtualEdge) -> list[bytes]:
    """What the edge's kernel has of UDP, checksums complete."""
    return [
        found
        for _, header, frame in edge.driver.frames
        for found in written(header + frame)
        if frame[12:14] == b"\x08\x00" and frame[23] == 17
    ]


def expected_udp(read: bytearray, size: int) -> list[bytes]:
    return [
        bytes(read[10:22]) + one.build(is_partial=False)[12:]
        for one in datagrams_of(UdpFrame(bytes(read[10 + 42 :])), size)
    ]


@pytest.mark.parametrize(("size", "count"), [(64, 60), (1200, 40), (1390, 40), (1472, 30)])
def test_a_super_frame_of_udp_arrives_as_its_datagrams(
    world: World, trio: list[VirtualEdge], size: int, count: int
) -> None:
    a, b, c = trio
    read = udp_super_frame(a, b, size, count)
    send(a, read)
    world.run_for(0.5)
    assert written_udp(b) == expected_udp(read, size)
    assert not written_udp(c)
    if size <= 1400:
        assert len(b.driver.frames) < count, "equal ones enter the kernel together"
    assert a.peer_view(b)["tx_frames"] >= count
    assert b.peer_view(a)["rx_frames"] == a.peer_view(b)["tx_frames"]


def test_datagrams_for_a_kernel_without_uso_enter_it_one_by_one(world: World) -> None:
    a, b = world.add_edge("a"), world.add_edge("b", has_uso=False)
    world.run_until_direct(a, b)
    world.send_frame(b, a)
    world.run_for(0.5)
    read = udp_super_frame(a, b, 64, 60)
    send(a, read)
    world.run_for(0.5)
    assert written_udp(b) == expected_udp(read, 64)
    assert sum(frame[23] == 17 for _, _, frame in b.driver.frames if len(frame) > 60) == 60


def test_a_super_frame_of_udp_with_datagrams_beyond_any_frame_is_dropped_and_counted(
    world: World, trio: list[VirtualEdge]
) -> None:
    a, b, _ = trio
    send(a, udp_super_frame(a, b, 9100, 2))
    send(a, udp_super_frame(a, b, 1, 50_000))
    world.run_for(0.5)
    assert not written_udp(b)
    assert a.drops()["frame_size"] == 2


def test_super_frames_reach_a_peer_behind_the_relay_intact(world: World) -> None:
    a = world.add_edge("a", relay_only=True)
    b = world.add_edge("b")
    world.run_for(5.0)
    world.send_frame(b)
    world.run_for(0.5)
    b.driver.frames.clear()
    read = super_frame(a, b.mac, bytes(range(256)) * 200)
    send(a, read)
    world.run_for(0.5)
    assert received(b) == expected(read, SEGMENT)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"ip_options": bytes(8), "vlan_tags": 1},
        {"is_ipv4": False, "extensions": ((0, bytes(6)), (60, bytes(14)))},
        {"is_ipv4": False, "vlan_tags": 2},
    ],
    ids=["IPv4", "options and a tag", "IPv6 extensions", "IPv6 and two tags"],
)
def test_loss_copies_and_reordering_deliver_the_surviving_segments_intact(
    world: World, trio: list[VirtualEdge], more: dict[str, Any]
) -> None:
    a, b, _ = trio
    a.host.ports[0].conditions = ROUGH
    payload = bytes(range(256)) * 200
    frame = TcpFrame(payload, flags=ACK | PSH, tcp_options=bytes(12), **more)
    read = frame.read(SEGMENT)
    read[10:22] = b.mac + a.mac
    send(a, read)
    world.run_for(0.5)
    sent = {
        bytes(read[10:22]) + one.build(is_partial=False)[12:] for one in segments_of(frame, SEGMENT)
    }
    found = [
        one
        for _, header, written in b.driver.frames
        for one in frames_of(header + written)
        if len(one) > 200
    ]
    assert 0 < len(found) < len(sent)
    assert set(found) <= sent
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("gso_type", [3, 5, 0x7F, 4])
def test_a_super_frame_of_a_kind_we_never_asked_for_is_counted(
    world: World, trio: list[VirtualEdge], gso_type: int
) -> None:
    a, b, _ = trio
    read = super_frame(a, b.mac, bytes(9000))
    read[1] = gso_type
    send(a, read)
    world.run_for(0.5)
    assert not received(b)
    assert a.drops()["malformed"] == 1


def test_a_super_frame_of_tiny_segments_is_dropped_and_counted(
    world: World, trio: list[VirtualEdge]
) -> None:
    a, b, _ = trio
    read = TcpFrame(bytes(60_000)).read(1)
    read[10:22] = b.mac + a.mac
    send(a, read)
    world.run_for(0.5)
    assert not received(b)
    assert a.drops()["frame_size"] == 1
