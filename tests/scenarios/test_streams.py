"""Streams to a supernode: asked for when UDP draws no answer, left when it does again."""

import pytest

from mesh.events import Registered, StreamUnwanted, StreamWanted, SupernodeLost
from tests.virtual_edge import VirtualEdge
from tests.world import World


def transport(edge: VirtualEdge) -> str:
    return edge.driver.step(edge.engine.edge_view)["supernode"]["transport"]


def relayed_pair(seed: int = 3, *, blocked: bool = False) -> tuple[World, VirtualEdge, VirtualEdge]:
    """Two edges that reach each other through a supernode only; UDP does not leave the first."""
    world = World(seed)
    world.add_supernode()
    host = world.add_host("behind a wall")
    host.blocks_udp = blocked
    a = world.add_edge("a", host=host, relay_only=True)
    b = world.add_edge("b", relay_only=True)
    return world, a, b


def chat(world: World, a: VirtualEdge, b: VirtualEdge, seconds: float) -> int:
    """Send frames both ways every 50 ms; return how many were lost."""
    sent = []
    for _ in range(round(seconds / 0.05)):
        sent += [(b, world.send_frame(a, b)), (a, world.send_frame(b, a))]
        world.run_for(0.05)
    world.run_for(0.5)
    received = {edge: set(world.frames_received(edge)) for edge in (a, b)}
    return sum(frame not in received[edge] for edge, frame in sent)


def test_where_udp_passes_no_stream_is_asked_for() -> None:
    world, a, b = relayed_pair()
    world.run_until_all_are_joined()
    world.run_for(300)
    assert not a.reported(StreamWanted) + b.reported(StreamWanted)
    assert transport(a) == "udp"


def test_where_udp_is_blocked_an_edge_joins_by_stream_within_two_seconds_and_says_so() -> None:
    world, a, b = relayed_pair(blocked=True)
    assert world.run_until_all_are_joined() < 2.5
    world.run_for(1)
    assert transport(a) == "tcp"
    assert transport(b) == "udp"
    assert a.peer_view(b)["path"]["transport"] == "tcp"
    assert b.peer_view(a)["path"]["transport"] == "udp"
    assert chat(world, a, b, 300.0) == 0
    assert a.streams.opened == 1
    assert len(a.reported(Registered)) == 1


def test_udp_that_comes_back_is_moved_to_without_losing_anything_and_the_stream_closed() -> None:
    world, a, b = relayed_pair(blocked=True)
    world.run_until_all_are_joined()
    assert chat(world, a, b, 20.0) == 0
    a.host.blocks_udp = False
    assert chat(world, a, b, 70.0) == 0
    assert transport(a) == "udp"
    assert len(a.reported(StreamUnwanted)) == 1
    assert not a.streams.streams
    assert chat(world, a, b, 60.0) == 0
    assert not a.reported(SupernodeLost)


def test_a_connected_edge_whose_udp_is_blocked_moves_to_a_stream_within_ten_seconds() -> None:
    world, a, b = relayed_pair()
    world.run_until_all_are_joined()
    world.run_for(7)
    a.host.blocks_udp = True
    world.run_until(lambda: transport(a) == "tcp", timeout=10)
    assert not a.reported(SupernodeLost)
    world.run_for(1)
    assert chat(world, a, b, 60.0) == 0
    assert len(a.reported(Registered)) == 1


@pytest.mark.parametrize("seed", range(3))
def test_relayed_frames_whose_udp_is_blocked_flow_again_after_about_three_seconds(
    seed: int,
) -> None:
    world, a, b = relayed_pair(seed)
    world.run_until_all_are_joined()
    assert chat(world, a, b, 6.0 + seed) == 0
    a.host.blocks_udp = True
    lost = chat(world, a, b, 20.0)
    assert 20 < lost < 2 * 4.0 / 0.05
    assert transport(a) == "tcp"
    assert not a.reported(SupernodeLost)


def test_a_stream_that_ends_is_replaced() -> None:
    world, a, b = relayed_pair(blocked=True)
    world.run_until_all_are_joined()
    world.run_for(5)
    a.streams.streams[0].end()
    world.run_for(4)
    assert a.streams.opened == 2
    assert transport(a) == "tcp"
    assert chat(world, a, b, 20.0) == 0


def test_a_supernode_that_restarts_is_come_back_to_by_stream() -> None:
    world, a, b = relayed_pair(blocked=True)
    world.run_until_all_are_joined()
    (supernode,) = world.supernodes
    world.run_for(5)
    supernode.crash()
    for stream in a.streams.streams.values():
        stream.end()
    world.run_for(10)
    supernode.start()
    world.run_until(lambda: supernode.edge_count() == 2, timeout=15)
    world.run_for(5)
    assert chat(world, a, b, 5.0) == 0


def test_while_a_stream_is_in_use_udp_is_tried_ever_more_rarely() -> None:
    world, a, b = relayed_pair(blocked=True)
    world.run_until_all_are_joined()
    a.host.blocks_udp = False
    world.internet.block(a.host.addresses()[0], world.supernodes[0].host.addresses()[0])
    probes = []
    world.taps.append(
        lambda now, _segment, packet: (
            probes.append(now) if packet.source.host == a.host.addresses()[0] else None
        )
    )
    world.run_for(600)
    assert transport(a) == "tcp"
    assert 8 <= len(probes) <= 20
    world.ping(a, b)


def test_edges_that_both_need_streams_meet() -> None:
    world = World(8)
    world.add_supernode()
    hosts = [world.add_host(name) for name in "ab"]
    for host in hosts:
        host.blocks_udp = True
    a, b = [world.add_edge(host.name, host=host) for host in hosts]
    world.run_until_all_are_joined()
    assert chat(world, a, b, 30.0) == 0
    assert {transport(a), transport(b)} == {"tcp"}


def test_an_edge_that_neither_way_is_open_to_waits_and_comes() -> None:
    world, a, b = relayed_pair(blocked=True)
    a.host.blocks_tcp = True
    world.run_for(30)
    assert not a.is_registered()
    a.host.blocks_tcp = False
    world.run_until_all_are_joined(timeout=6)
    world.ping(a, b)
