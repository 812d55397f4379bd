"""Full frames cross paths of any size from the first moment on, and each path's size is found.

A 1500-byte packet makes a frame of 1514 bytes and a datagram of 1550: it never fits Ethernet whole.
"""

from dataclasses import replace

import pytest

from mesh.events import PathChanged, PathMeasured
from tests.datapath.tcp_frames import ACK, PSH, TcpFrame, frames_of
from tests.virtual_edge import VirtualEdge
from tests.virtual_network import INTERNET, LinkConditions, Packet, Segment
from tests.virtual_topology import Wiretap
from tests.world import World

FULL_FRAME = 1514
LARGE_FRAME = 1430  # fits Ethernet whole, and nothing much smaller
WIDE = replace(INTERNET, mtu=9000)
NARROW = [
    replace(INTERNET, mtu=1400),
    replace(INTERNET, mtu=1280),
    replace(INTERNET, mtu=1400, is_black_hole=True),
    replace(INTERNET, mtu=1280, is_black_hole=True),
]
NAMES = ["1400", "1280", "black hole 1400", "black hole 1280"]


def measured(edge: VirtualEdge, peer: VirtualEdge) -> int | None:
    return edge.peer_view(peer)["path"]["mtu"]


def lost(world: World, a: VirtualEdge, b: VirtualEdge, seconds: float) -> int:
    """Send frames both ways for a while, 40 per second; return how many did not arrive."""
    sent = []
    for _ in range(int(seconds / 0.1)):
        for size in (FULL_FRAME, LARGE_FRAME):
            sent += [(b, world.send_frame(a, b, size)), (a, world.send_frame(b, a, size))]
        world.run_for(0.1)
    world.run_for(0.5)
    return sum(not world.count_received(edge, frame) for edge, frame in sent)


def narrow(edge: VirtualEdge, conditions: LinkConditions) -> None:
    edge.host.ports[0].conditions = conditions


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6 too"])
@pytest.mark.parametrize("conditions", NARROW, ids=NAMES)
def test_full_frames_cross_a_narrow_path_from_the_first_on(
    world: World, conditions: LinkConditions, *, ipv6: bool
) -> None:
    a = world.add_edge("a", ipv6=ipv6)
    b = world.add_edge("b", ipv6=ipv6, conditions=conditions)
    world.run_until_all_are_joined()
    assert lost(world, a, b, 10.0) == 0
    assert a.is_direct_to(b)
    assert measured(a, b) == measured(b, a) == conditions.mtu
    assert [event.mtu for event in a.reported(PathMeasured)] == [conditions.mtu]
    world.check_frames()


@pytest.mark.parametrize("conditions", NARROW, ids=NAMES)
def test_full_frames_cross_a_relay_with_one_narrow_leg(
    world: World, conditions: LinkConditions
) -> None:
    a = world.add_edge("a", relay_only=True)
    b = world.add_edge("b", conditions=conditions)
    world.run_until_all_are_joined()
    assert lost(world, a, b, 10.0) == 0
    assert measured(a, b) == measured(b, a) == conditions.mtu
    world.check_frames()


def test_a_measured_path_carries_nothing_that_has_to_be_fragmented(world: World) -> None:
    a = world.add_edge("a")
    b = world.add_edge("b", conditions=replace(INTERNET, mtu=1400))
    world.run_until_direct(a, b)
    world.run_for(10.0)
    seen = Wiretap(world)
    assert lost(world, a, b, 10.0) == 0
    assert max(packet.ip_bytes for _, packet in seen.packets) == 1400
    pieces = [len(payload) for payload in seen.payloads() if len(payload) > 500]
    assert max(pieces) - min(pieces) < 700, "pieces of a frame are about equal"


def test_a_path_of_ethernet_is_measured_at_once(world: World) -> None:
    a, b = world.add_edges("ab")
    world.run_until_direct(a, b)
    world.run_for(0.2)
    assert measured(a, b) == measured(b, a) == 1500
    assert not a.reported(PathMeasured), "it is what everybody expects"


def test_a_path_wide_enough_carries_every_frame_whole(world: World) -> None:
    a, b = world.add_edges("ab", conditions=WIDE)
    world.run_until_direct(a, b)
    world.run_for(1.0)
    seen = Wiretap(world)
    assert lost(world, a, b, 1.0) == 0
    sent = [packet for _, packet in seen.packets if not packet.dont_fragment]
    assert len([packet for packet in sent if len(packet.payload) > 1400]) == 2 * 20


def test_jumbo_frames_fit_jumbo_paths(world: World) -> None:
    a, b = world.add_edges("ab", conditions=WIDE, mtu=9000)
    world.run_until_direct(a, b)
    world.run_for(1.0)
    assert measured(a, b) == 9000
    frame = world.send_frame(a, b, 8900)
    world.run_for(0.1)
    assert world.count_received(b, frame) == 1


@pytest.mark.parametrize("conditions", NARROW[2:], ids=NAMES[2:])
def test_a_path_that_becomes_a_black_hole_is_noticed_within_seconds(
    world: World, conditions: LinkConditions
) -> None:
    a, b = world.add_edges("ab")
    world.run_until_direct(a, b)
    world.run_for(2.0)
    changes = len(a.reported(PathChanged))
    narrow(b, conditions)
    assert 0 < lost(world, a, b, 5.0) < 2 * 45, "of 200, of which a half is cut smaller anyway"
    assert lost(world, a, b, 10.0) == 0
    assert measured(a, b) == measured(b, a) == conditions.mtu
    assert a.is_direct_to(b)
    assert len(a.reported(PathChanged)) == changes


def test_a_black_hole_is_noticed_sooner_where_it_silences_the_peer(world: World) -> None:
    """As with TCP, whose answers stop: the ping into the silence is one more occasion."""
    a, b = world.add_edges("ab")
    world.run_until_direct(a, b)
    world.run_for(2.0)
    world.send_frame(a, b, LARGE_FRAME)
    world.run_for(0.1)
    narrow(b, NARROW[2])
    sent = []
    for _ in range(30):
        sent.append(world.send_frame(a, b, LARGE_FRAME))
        world.run_for(0.1)
    crossed = [world.count_received(b, frame) for frame in sent]
    assert crossed == sorted(crossed)
    assert 1 <= crossed.count(0) <= 16


def test_a_path_that_grows_is_noticed_after_ten_minutes(world: World) -> None:
    a = world.add_edge("a")
    b = world.add_edge("b", conditions=NARROW[0])
    world.run_until_direct(a, b)
    world.run_for(10.0)
    narrow(b, INTERNET)
    for _ in range(700):
        world.send_frame(a, b)
        world.run_for(1.0)
    assert measured(a, b) == 1500
    assert [event.mtu for event in a.reported(PathMeasured)] == [1400, 1500]


def test_an_interface_that_shrinks_is_noticed_with_the_next_ping(world: World) -> None:
    a, b = world.add_edges("ab")
    world.run_until_direct(a, b)
    world.run_for(2.0)
    narrow(a, NARROW[1])
    assert lost(world, a, b, 10.0) == 0  # fragments by IP at first, then pieces that fit
    assert measured(a, b) == 1280


def test_in_doubt_what_goes_both_ways_fits_even_a_relay_that_has_shrunk(world: World) -> None:
    a = world.add_edge("a")
    b = world.add_edge("b")
    world.run_until_direct(a, b)
    world.run_for(5.0)
    narrow_relay = NARROW[3]
    world.supernodes[0].host.ports[0].conditions = narrow_relay
    world.internet.block(a.host.addresses()[0], b.host.addresses()[0])
    lost(world, a, b, 1.0)  # until the silence is noticed
    assert lost(world, a, b, 30.0) == 0
    assert not a.is_direct_to(b)
    assert measured(a, b) == narrow_relay.mtu


def test_a_busy_path_costs_few_probes(world: World) -> None:
    a, b = world.add_edges("ab")
    world.run_until_direct(a, b)
    world.run_for(2.0)
    probes = 0

    def count(_now: float, segment: Segment, packet: Packet) -> None:
        nonlocal probes
        probes += segment is world.internet and packet.dont_fragment

    world.taps.append(count)
    assert lost(world, a, b, 60.0) == 0
    assert 2 * 15 <= probes <= 2 * 40, "one beside each ping: every 3 s, or a little oftener"
    probes = 0
    for _ in range(60):
        world.send_frame(a, b, 1000)
        world.run_for(1.0)
    assert probes <= 2


@pytest.mark.parametrize("conditions", NARROW, ids=NAMES)
def test_super_frames_are_cut_to_the_path(world: World, conditions: LinkConditions) -> None:
    a = world.add_edge("a")
    b = world.add_edge("b", conditions=conditions)
    world.run_until_direct(a, b)
    world.run_for(8.0)
    b.driver.frames.clear()
    seen = Wiretap(world)
    read = TcpFrame(bytes(range(256)) * 200, flags=ACK | PSH, tcp_options=bytes(12)).read(1448)
    read[10:22] = b.mac + a.mac
    a.driver.write_frame(bytes(read[10:]), bytes(read[:10]))
    world.run_for(0.5)
    found = [
        frame
        for _, header, written in b.driver.frames
        for frame in frames_of(header + written)
        if len(frame) > 66
    ]
    assert b"".join(frame[66:] for frame in found) == bytes(range(256)) * 200
    sent = [packet for _, packet in seen.packets if not packet.dont_fragment]
    sizes = [packet.ip_bytes for packet in sent if len(packet.payload) > 500]
    assert max(sizes) == conditions.mtu
    assert len(sizes) == len(found), "no segment is fragmented"
