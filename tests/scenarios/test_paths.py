"""Direct paths through every kind of NAT, the relay where there is none, and moves between them."""

import itertools
from dataclasses import replace

import pytest

from mesh.events import PathChanged, PathKind
from tests.virtual_edge import VirtualEdge
from tests.virtual_nat import (
    ADDRESS_RESTRICTED,
    FULL_CONE,
    HOME_ROUTER,
    PORT_RESTRICTED,
    REJECTING_ROUTER,
    SYMMETRIC,
    NatBehaviour,
)
from tests.virtual_network import LinkConditions
from tests.virtual_topology import INTERNET, Wiretap
from tests.world import World

CONES = [FULL_CONE, ADDRESS_RESTRICTED, PORT_RESTRICTED, HOME_ROUTER, REJECTING_ROUTER]


def path_changes(*edges: VirtualEdge) -> int:
    return sum(len(edge.reported(PathChanged)) for edge in edges)


@pytest.mark.parametrize(
    ("ours", "theirs"), list(itertools.combinations_with_replacement(CONES, 2))
)
def test_nats_that_are_not_symmetric_are_punched_within_three_seconds(
    world: World, ours: NatBehaviour, theirs: NatBehaviour
) -> None:
    a = world.add_edge("a", world.add_nat(ours))
    b = world.add_edge("b", world.add_nat(theirs))
    world.run_until_direct(a, b, timeout=3)
    assert world.ping(a, b) < 0.1


@pytest.mark.parametrize("theirs", [None, FULL_CONE, ADDRESS_RESTRICTED])
def test_a_symmetric_nat_reaches_what_does_not_look_at_ports(
    world: World, theirs: NatBehaviour | None
) -> None:
    a = world.add_edge("a", world.add_nat(SYMMETRIC))
    b = world.add_edge("b", world.add_nat(theirs) if theirs else None)
    world.run_until_direct(a, b, timeout=4)
    assert world.ping(a, b) < 0.1


@pytest.mark.parametrize("latency", [0.2, 0.3, 0.4])
@pytest.mark.parametrize("is_newcomer", [True, False])
def test_a_slow_machine_behind_a_rejecting_router_is_still_punched(
    world: World, latency: float, *, is_newcomer: bool
) -> None:
    def add_slow() -> VirtualEdge:
        conditions = LinkConditions(latency=latency)
        return world.add_edge("slow", world.add_nat(REJECTING_ROUTER), conditions=conditions)

    slow = None if is_newcomer else add_slow()
    world.run_for(5)
    quick = world.add_edge("quick", world.add_nat(PORT_RESTRICTED))
    if slow is None:
        world.run_for(5)
        slow = add_slow()
    world.run_until_direct(slow, quick, timeout=8)


def freeze(world: World, edge: VirtualEdge, seconds: float) -> None:
    """Let time pass in which nothing reaches the edge, nor leaves it, until the end."""
    link = edge.host.ports[0]
    usual, thaws_at = link.conditions, world.clock.now + seconds
    while (left := thaws_at - world.clock.now) > 0:
        link.conditions = LinkConditions(latency=left)
        world.run_for(0.005)
    link.conditions = usual


@pytest.mark.parametrize("seconds", [1.5, 3.0, 5.0, 8.0])
@pytest.mark.parametrize("theirs", [PORT_RESTRICTED, REJECTING_ROUTER])
def test_a_machine_that_is_busy_when_a_peer_joins_is_punched_once_it_comes_to_it(
    world: World, theirs: NatBehaviour, seconds: float
) -> None:
    busy = world.add_edge("busy", world.add_nat(REJECTING_ROUTER))
    world.run_for(5)
    quick = world.add_edge("quick", world.add_nat(theirs))
    freeze(world, busy, seconds)
    world.run_until_direct(busy, quick, timeout=5)


@pytest.mark.parametrize("seconds", [1.5, 3.0])
@pytest.mark.parametrize("theirs", [PORT_RESTRICTED, REJECTING_ROUTER])
def test_a_machine_so_slow_that_a_stream_is_faster_than_udp_is_still_punched(
    world: World, theirs: NatBehaviour, seconds: float
) -> None:
    quick = world.add_edge("quick", world.add_nat(theirs))
    world.run_for(5)
    slow = world.add_edge("slow", world.add_nat(REJECTING_ROUTER))
    freeze(world, slow, seconds)
    world.run_until_direct(slow, quick, timeout=8)


@pytest.mark.parametrize("seed", range(8))
def test_a_rejecting_router_is_punched_though_introductions_and_hellos_are_lost(seed: int) -> None:
    world = World(seed)
    world.add_supernode()
    rough = replace(INTERNET, loss=0.2, jitter=0.03)
    first = world.add_edge("first", world.add_nat(REJECTING_ROUTER, conditions=rough))
    world.run_for(5)
    second = world.add_edge("second", world.add_nat(REJECTING_ROUTER, conditions=rough))
    world.run_until_direct(first, second, timeout=30)


def test_a_rejecting_router_that_an_early_datagram_spoilt_recovers_by_the_next_round(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.core.handshakes.STUCK_AFTER", 1)  # impatience: too early for b
    slow = LinkConditions(latency=0.4)
    a = world.add_edge("a", world.add_nat(REJECTING_ROUTER), conditions=slow)
    world.run_for(5)
    b = world.add_edge("b", world.add_nat(PORT_RESTRICTED))
    world.run_for(40)
    assert not a.is_direct_to(b)
    world.run_until_direct(a, b, timeout=30)


def test_two_symmetric_nats_use_the_relay(world: World) -> None:
    a, b = (world.add_edge(name, world.add_nat(SYMMETRIC)) for name in "ab")
    world.run_until_all_are_joined()
    for _ in range(60):
        world.ping(a, b)
        world.run_for(1)
    assert a.path_kind(b) is b.path_kind(a) is PathKind.RELAY
    assert path_changes(a, b) <= 2
    world.check_frames()


def test_two_edges_behind_one_nat_meet_on_the_lan(world: World) -> None:
    nat = world.add_nat(PORT_RESTRICTED)
    a, b = (world.add_edge(name, nat) for name in "ab")
    world.run_until_direct(a, b)
    assert a.paths[b.edge_id].endpoint.host == b.host.addresses()[0]
    assert world.ping(a, b) < 0.02


def test_a_double_nat_is_punched(world: World) -> None:
    carrier = world.add_nat(PORT_RESTRICTED, network="100.64.0.0/24")
    a = world.add_edge("a", world.add_nat(PORT_RESTRICTED, behind=carrier))
    b = world.add_edge("b", world.add_nat(PORT_RESTRICTED))
    world.run_until_direct(a, b)


def test_firewalls_without_nat_are_punched(world: World) -> None:
    a, b = (world.add_edge(name, world.add_firewall()) for name in "ab")
    world.run_until_direct(a, b)


def test_private_networks_that_look_alike_are_not_mixed_up(world: World) -> None:
    nats = [world.add_nat(PORT_RESTRICTED, network="192.168.1.0/24") for _ in range(2)]
    a, b = (world.add_edge(name, nat) for name, nat in zip("ab", nats, strict=True))
    assert a.host.addresses() == b.host.addresses()
    world.run_until_direct(a, b)
    assert a.paths[b.edge_id].endpoint.host == nats[1].public_address


def test_the_move_from_the_relay_to_a_direct_path_loses_and_doubles_nothing(world: World) -> None:
    a, b = (world.add_edge(name, world.add_nat(PORT_RESTRICTED)) for name in "ab")
    world.run_until_all_are_joined()
    sent = []
    for _ in range(500):
        sent.append(world.send_frame(a, b))
        world.run_for(0.005)
    assert a.is_direct_to(b)
    world.run_for(1)
    assert sorted(world.frames_received(b)) == sorted(sent)


@pytest.mark.parametrize("both", [True, False])
def test_relay_only_never_sends_a_datagram_to_the_peer(world: World, *, both: bool) -> None:
    wire = Wiretap(world)
    a = world.add_edge("a", relay_only=True)
    b = world.add_edge("b", relay_only=both)
    world.run_until_all_are_joined()
    for _ in range(70):
        world.ping(a, b)
        world.run_for(1)
    ends = {a.host.addresses()[0], b.host.addresses()[0]}
    direct = [p for _, p in wire.packets if {p.source.host, p.destination.host} == ends]
    assert not [p for p in direct if p.source.host == a.host.addresses()[0]]
    assert not both or not direct
    assert a.path_kind(b) is b.path_kind(a) is PathKind.RELAY


def test_no_relay_sends_frames_directly_or_not_at_all(world: World) -> None:
    a = world.add_edge("a", world.add_nat(PORT_RESTRICTED), no_relay=True)
    b = world.add_edge("b", world.add_nat(PORT_RESTRICTED), no_relay=True)
    c = world.add_edge("c", world.add_nat(SYMMETRIC), no_relay=True, hard_punch=False)
    world.run_until_direct(a, b)
    world.ping(a, b)
    for _ in range(50):
        world.send_frame(a, c)
        world.send_frame(c, a)
        world.run_for(0.1)
    assert not c.frames
    assert a.path_kind(c) is not PathKind.RELAY


@pytest.mark.parametrize("theirs", [None, PORT_RESTRICTED], ids=["open", "restricted"])
def test_a_rebinding_under_traffic_is_survived(world: World, theirs: NatBehaviour | None) -> None:
    nat = world.add_nat(PORT_RESTRICTED)
    a = world.add_edge("a", nat)
    b = world.add_edge("b", world.add_nat(theirs) if theirs else None)
    world.run_until_direct(a, b)
    world.run_for(5)
    nat.flush()
    flushed_at = world.clock.now
    for _ in range(int(100 / 0.05)):
        world.send_frame(a, b)
        world.send_frame(b, a)
        world.run_for(0.05)
    allowed = 0.3 if theirs is None else 1.2
    for edge in (a, b):
        times = [at for at, _ in edge.frames if at > flushed_at]
        gap = max(later - earlier for earlier, later in itertools.pairwise([flushed_at, *times]))
        assert gap < allowed, edge.name
    assert a.is_direct_to(b)
    assert b.is_direct_to(a)
    world.check_frames()


@pytest.mark.parametrize("theirs", [None, PORT_RESTRICTED], ids=["open", "restricted"])
def test_a_rebinding_while_idle_is_survived(world: World, theirs: NatBehaviour | None) -> None:
    nat = world.add_nat(PORT_RESTRICTED)
    a = world.add_edge("a", nat)
    b = world.add_edge("b", world.add_nat(theirs) if theirs else None)
    world.run_until_direct(a, b)
    world.run_for(100)
    nat.flush()
    world.run_for(60)
    frame = world.send_frame(b, a)
    world.run_until(lambda: world.count_received(a, frame), timeout=0.5)
    world.ping(a, b, timeout=0.5)
    world.run_until_direct(a, b, timeout=5)


def test_a_new_public_address_is_survived(world: World) -> None:
    nat = world.add_nat(PORT_RESTRICTED)
    a = world.add_edge("a", nat)
    b = world.add_edge("b", world.add_nat(PORT_RESTRICTED))
    world.run_until_direct(a, b)
    nat.change_address(world.public_address())
    world.run_for(10)
    world.ping(a, b, timeout=0.5)
    world.run_until_direct(a, b, timeout=5)


def test_an_idle_direct_path_outlives_the_timers_of_the_nats(world: World) -> None:
    nats = [world.add_nat(PORT_RESTRICTED) for _ in range(2)]
    a, b = (world.add_edge(name, nat) for name, nat in zip("ab", nats, strict=True))
    world.run_until_direct(a, b)
    world.run_for(5)
    changes = path_changes(a, b)
    refused = [nat.refused for nat in nats]
    world.run_for(1800)
    assert [nat.refused for nat in nats] == refused
    assert path_changes(a, b) == changes
    assert world.ping(a, b) < 0.2


def test_a_direct_path_in_steady_use_leaves_the_relay_alone(world: World) -> None:
    a, b = (world.add_edge(name, world.add_nat(PORT_RESTRICTED)) for name in "ab")
    world.run_until_direct(a, b)
    world.run_for(5)
    (supernode,) = world.supernodes
    before = supernode.relayed_datagrams()
    for _ in range(600):
        world.send_frame(a, b)
        world.run_for(0.1)
    assert supernode.relayed_datagrams() - before <= 20, "heartbeats of the idle relay path"


def test_a_direct_path_that_dies_gives_way_to_the_relay(world: World) -> None:
    nat = world.add_nat(PORT_RESTRICTED)
    a = world.add_edge("a", nat)
    b = world.add_edge("b", world.add_nat(PORT_RESTRICTED))
    world.run_until_direct(a, b)
    nat.behaviour = SYMMETRIC
    nat.flush()
    world.run_for(10)
    world.ping(a, b, timeout=0.5)
    for _ in range(60):
        world.ping(a, b, timeout=0.5)
        world.run_for(0.5)
    assert a.path_kind(b) is b.path_kind(a) is PathKind.RELAY
