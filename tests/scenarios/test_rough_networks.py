"""Networks that lose, double and shuffle datagrams: edges join, stay, and do not flap."""

import itertools

import pytest

from mesh.events import PathChanged, PeerDown
from tests.virtual_nat import PORT_RESTRICTED
from tests.virtual_network import LinkConditions
from tests.world import World

ROUGH = LinkConditions(latency=0.02, jitter=0.02, loss=0.2, duplication=0.05, reordering=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_edges_join_and_stay_on_a_very_bad_network(seed: int) -> None:
    # A relayed round trip crosses eight lossy links and survives with a chance of 17 %.
    world = World(seed)
    world.add_supernode(conditions=ROUGH)
    edges = [
        world.add_edge(name, world.add_nat(PORT_RESTRICTED, conditions=ROUGH)) for name in "abc"
    ]
    world.run_until_all_are_joined(timeout=120)
    world.run_until_direct(*edges, timeout=60)
    changes = sum(len(edge.reported(PathChanged)) for edge in edges)
    for _ in range(300):
        for a, b in itertools.permutations(edges, 2):
            world.send_frame(a, b)
        world.run_for(0.4)
    assert not [event for edge in edges for event in edge.reported(PeerDown)]
    flaps = sum(len(edge.reported(PathChanged)) for edge in edges) - changes
    assert flaps <= 12, "six paths over two minutes"
    sent = 300 * 2
    for edge in edges:
        received = world.frames_received(edge)
        assert len(received) == len(set(received)), "a frame was delivered twice"
        assert len(received) > 0.55 * sent
    world.check_frames()


def test_duplicates_and_disorder_alone_lose_and_double_nothing() -> None:
    world = World(seed=21)
    world.add_supernode()
    mixed = LinkConditions(latency=0.01, jitter=0.03, duplication=0.3, reordering=0.3)
    a, b = (world.add_edge(name, conditions=mixed) for name in "ab")
    world.run_until_direct(a, b, timeout=5)
    sent = []
    for number in range(1000):
        sent.append(world.send_frame(a, b, size=60 + number))
        world.run_for(0.003)
    world.run_for(1)
    assert sorted(world.frames_received(b)) == sorted(sent)


def test_two_direct_paths_of_similar_speed_do_not_flap() -> None:
    world = World(seed=22)
    world.add_supernode(ipv6=True)
    jittery = LinkConditions(latency=0.015, jitter=0.008)
    a, b = (world.add_edge(name, ipv6=True, conditions=jittery) for name in "ab")
    world.run_until_direct(a, b, timeout=5)
    changes = len(a.reported(PathChanged))
    for _ in range(600):
        world.send_frame(a, b)
        world.run_for(1)
    assert len(a.reported(PathChanged)) - changes <= 3
    assert len(b.frames) == 600


def test_a_network_that_fails_for_moments_keeps_its_peers(world: World) -> None:
    a, b = (world.add_edge(name, world.add_nat(PORT_RESTRICTED)) for name in "ab")
    world.run_until_direct(a, b)
    port = a.host.ports[0]
    usual = port.conditions
    for _ in range(10):
        port.conditions = LinkConditions(loss=1.0)
        world.run_for(4)
        port.conditions = usual
        world.run_for(1)
        world.ping(a, b)
        world.run_for(10)
    assert not a.reported(PeerDown)
    assert not b.reported(PeerDown)
