"""Many edges and many communities: everybody meets, nobody else does, and memory is bounded."""

from collections import Counter

import pytest

from mesh.constants import PEER_SILENCE_TIMEOUT, REGISTRATION_LIFETIME
from supernode.limits import SupernodeLimits
from tests.scenarios.census import count_entries
from tests.virtual_edge import VirtualEdge
from tests.virtual_topology import Attacker
from tests.world import World

ENTRIES_PER_EDGE = 20  # what a supernode may keep for one registered edge
ENTRIES_PER_PEER = 135  # what an edge may keep for one peer, two short ways of 9 among it


def received(edge: VirtualEdge) -> Counter[bytes]:
    return Counter(frame for _, frame in edge.frames)


def test_fifty_edges_of_one_community_are_all_connected(world: World) -> None:
    edges = world.add_edges(f"edge {number}" for number in range(50))
    world.run_until_all_are_joined(timeout=10)
    broadcasts = [world.send_frame(edge) for edge in edges]
    world.run_for(1)
    for edge, own in zip(edges, broadcasts, strict=True):
        assert received(edge) == Counter(frame for frame in broadcasts if frame is not own)


@pytest.fixture(scope="module")
def crowd() -> World:
    """200 edges in 20 communities on one supernode; all say something to all."""
    world = World(seed=2)
    world.add_supernode()
    for number in range(200):
        world.add_edge(f"edge {number}", community=f"community {number % 20}")
        world.run_for(0.01)
    world.run_until_all_are_joined(timeout=10)
    for edge in world.edges.values():
        world.send_frame(edge)
    world.run_for(5)
    return world


def test_two_hundred_edges_in_twenty_communities_hear_their_own_only(crowd: World) -> None:
    crowd.check_frames()
    for edge in crowd.edges.values():
        members = crowd.members_with(edge)
        assert len(members) == 9
        assert edge.peers == {other.edge_id for other in members}
        assert len(edge.frames) == 9


def test_the_tables_of_two_hundred_edges_and_their_supernode_stop_growing(crowd: World) -> None:
    (supernode,) = crowd.supernodes
    some_edges = list(crowd.edges.values())[:5]
    crowd.run_for(125)  # each session has been renewed once, and its predecessor is still kept
    assert supernode.edge_count() == 200
    assert count_entries(supernode.engine) < 200 * ENTRIES_PER_EDGE
    assert all(count_entries(edge.engine) < 9 * ENTRIES_PER_PEER for edge in some_edges)


def test_a_supernode_forgets_all_but_the_leases_of_edges_that_are_gone() -> None:
    world = World(seed=3)
    supernode = world.add_supernode()
    edges = [world.add_edge(f"edge {n}", community=f"community {n % 4}") for n in range(40)]
    world.run_until_all_are_joined()
    for edge in edges:
        edge.crash()
    world.run_for(REGISTRATION_LIFETIME + 200)
    assert supernode.edge_count() == 0
    assert count_entries(supernode.engine) < 40 * 12
    assert len(supernode.leases) == 40


def test_edges_forget_peers_that_are_gone(world: World) -> None:
    stays, *others = world.add_edges(f"edge {number}" for number in range(10))
    alone = count_entries(stays.engine)
    world.run_until_all_are_joined()
    for other in others:
        other.crash()
    world.run_for(REGISTRATION_LIFETIME + 2 * PEER_SILENCE_TIMEOUT + 5)
    assert not stays.peers
    world.run_for(200)
    assert count_entries(stays.engine) < alone + 150  # relay headers of the gone stay cached


def test_a_flood_of_initiations_from_everywhere_fills_no_table() -> None:
    world = World(seed=4)
    limits = SupernodeLimits(max_pending_handshakes=64)
    supernode = world.add_supernode(limits=limits)
    member = world.add_edge("member")
    world.run_until(member.is_registered, timeout=2)
    recorded: list[bytes] = []
    world.taps.append(lambda _, __, packet: recorded.append(packet.payload))
    world.add_edge("newcomer", community="elsewhere")
    world.run_for(1)
    initiation = next(payload for payload in recorded if payload[0] == 6)
    attacker = Attacker(world)
    before = count_entries(supernode.engine)
    for number in range(5000):
        source = attacker.endpoint._replace(host=f"77.{number >> 8}.{number & 255}.1")
        attacker.send(supernode.endpoint, initiation, spoofed_source=source)
        world.run_for(0.001)
    assert count_entries(supernode.engine) < before + 20000
    world.run_for(60)
    assert count_entries(supernode.engine) < before + 500
    late = world.add_edge("late")
    world.run_until(late.is_registered, timeout=5)


def test_a_community_and_a_supernode_have_room_for_so_many_and_no_more() -> None:
    world = World(seed=5)
    supernode = world.add_supernode(limits=SupernodeLimits(max_edges_per_community=3, max_edges=5))
    for number in range(5):
        world.add_edge(f"one {number}", community="one")
        world.add_edge(f"two {number}", community="two")
    world.run_for(5)
    registered = Counter(e.config.community.name for e in world.edges.values() if e.is_registered())
    assert sum(registered.values()) == supernode.edge_count() == 5
    assert max(registered.values()) == 3
