"""Comings and goings: leaves, crashes, restarts, two machines with one identity or one address."""

import itertools
from dataclasses import replace

import pytest

from mesh.errors import RefusalReason
from mesh.events import PeerDown, Refused, Registered, Replaced
from mesh.wire.messages import AddressMode
from tests.virtual_edge import VirtualEdge
from tests.virtual_nat import PORT_RESTRICTED
from tests.world import World


def behind_nats(world: World, names: str) -> list[VirtualEdge]:
    return [world.add_edge(name, world.add_nat(PORT_RESTRICTED)) for name in names]


def largest_gap(times: list[float]) -> float:
    return max((later - earlier for earlier, later in itertools.pairwise(times)), default=1e9)


def test_peers_forget_an_edge_that_leaves_within_a_second(world: World) -> None:
    a, b, c = behind_nats(world, "abc")
    world.run_until_direct(a, b, c)
    a.stop()
    world.run_until(lambda: a.edge_id not in b.peers | c.peers, timeout=1)
    assert world.supernodes[0].edge_count() == 2
    assert [event.peer for event in b.reported(PeerDown)] == [a.edge_id]
    world.run_for(120)
    assert a.edge_id not in b.peers | c.peers
    world.ping(b, c)


def test_an_edge_that_left_comes_back_with_its_address(world: World) -> None:
    a, b = behind_nats(world, "ab")
    world.run_until_all_are_joined()
    address = a.address
    a.stop()
    world.run_for(60)
    a.restart()
    world.run_until_all_are_joined(timeout=2)
    world.ping(a, b)
    assert a.address == address


@pytest.mark.parametrize("down_for", [0.0, 3.0, 15.0, 60.0])
@pytest.mark.parametrize("same_port", [True, False])
def test_a_crashed_edge_is_back_within_five_seconds_with_its_address(
    world: World, *, down_for: float, same_port: bool
) -> None:
    a, b = behind_nats(world, "ab")
    world.run_until_direct(a, b)
    world.run_for(20)
    address, udp_port = a.address, a.udp_port
    a.crash()
    for _ in range(int(down_for * 10)):
        world.send_frame(b, a)
        world.run_for(0.1)
    a.restart(udp_port=udp_port if same_port else 0)
    restarted_at = world.clock.now
    while world.clock.now < restarted_at + 5:
        world.send_frame(b, a)
        world.send_frame(a, b)
        world.run_for(0.1)
        if all(edge.frames and edge.frames[-1][0] > restarted_at for edge in (a, b)):
            break
    world.ping(a, b, timeout=0.5)
    assert world.clock.now < restarted_at + 5
    assert a.address == address
    world.run_until_direct(a, b, timeout=10)
    world.check_frames()


def test_direct_frames_never_stop_while_a_supernode_crashes_and_comes_back(world: World) -> None:
    (supernode,) = world.supernodes
    edges = behind_nats(world, "abcde")
    world.run_until_direct(*edges)
    a, b, *_ = edges
    addresses = [edge.address for edge in edges]
    sent = 0

    def chat(seconds: float) -> None:
        nonlocal sent
        for _ in range(int(seconds * 20)):
            world.send_frame(a, b)
            sent += 1
            world.run_for(0.05)

    chat(10)
    supernode.crash()
    chat(60)
    supernode.start()
    back_at = world.clock.now
    while supernode.edge_count() < len(edges):
        chat(0.5)
        assert world.clock.now < back_at + 15
    chat(60)
    assert len(b.frames) == sent
    assert largest_gap([at for at, _ in b.frames]) < 0.1
    assert [edge.address for edge in edges] == addresses
    assert not [event for edge in edges for event in edge.reported(PeerDown)]


def test_a_quick_restart_of_a_supernode_is_noticed_too(world: World) -> None:
    (supernode,) = world.supernodes
    edges = behind_nats(world, "abc")
    world.run_until_all_are_joined()
    supernode.crash()
    supernode.start()
    world.run_until(lambda: supernode.edge_count() == len(edges), timeout=15)
    world.run_for(5)
    for a, b in itertools.permutations(edges, 2):
        world.ping(a, b)


def test_a_supernode_that_stops_cleanly_is_come_back_to(world: World) -> None:
    (supernode,) = world.supernodes
    edges = world.add_edges("abc")
    world.run_until_all_are_joined()
    supernode.stop()
    world.run_for(2)
    supernode.start()
    world.run_until(lambda: supernode.edge_count() == len(edges), timeout=8)


def test_relayed_frames_flow_again_after_a_supernode_restart(world: World) -> None:
    (supernode,) = world.supernodes
    a, b = world.add_edges("ab", relay_only=True)
    world.run_until_all_are_joined()
    supernode.crash()
    world.run_for(40)
    supernode.start()
    world.run_until(lambda: supernode.edge_count() == 2, timeout=15)
    world.run_for(3)
    world.ping(a, b)


def test_newcomers_after_a_supernode_restart_meet_the_old_members(world: World) -> None:
    (supernode,) = world.supernodes
    a, b = behind_nats(world, "ab")
    world.run_until_direct(a, b)
    supernode.crash()
    supernode.start()
    (c,) = behind_nats(world, "c")
    world.run_until_all_are_joined(timeout=17)
    world.run_until_direct(a, b, c, timeout=5)


def test_of_two_machines_with_one_identity_the_older_is_told_and_gives_way(world: World) -> None:
    older, peer = world.add_edge("older"), world.add_edge("peer")
    world.run_until_all_are_joined()
    newer = world.add_edge("newer", identity=older.config.identity)
    world.run_until(lambda: older.reported(Replaced), timeout=2)
    world.run_for(120)
    assert len(older.reported(Replaced)) == 1
    assert not newer.reported(Replaced)
    assert len(newer.reported(Registered)) <= 2
    world.ping(newer, peer)


def test_a_fixed_address_that_is_held_is_refused_and_its_holder_unharmed(world: World) -> None:
    fixed = {"address": "10.9.8.7/24", "address_mode": AddressMode.FIXED}
    holder, peer = (
        world.add_edge("holder", **fixed),
        world.add_edge("peer", **{**fixed, "address": "10.9.8.8/24"}),
    )
    world.run_until_all_are_joined()
    late = world.add_edge("late", **fixed)
    world.run_for(30)
    assert {event.reason for event in late.reported(Refused)} == {RefusalReason.ADDRESS_TAKEN}
    assert not late.is_registered()
    world.ping(holder, peer)


def test_two_edges_that_held_one_address_elsewhere_get_two(world: World) -> None:
    first = world.add_edge("first")
    world.run_until(first.is_registered, timeout=2)
    second = world.add_edge("second", address=first.address)
    world.run_until(second.is_registered, timeout=2)
    assert first.address
    assert first.address != second.address


def test_a_refused_edge_does_not_hammer_the_supernode(world: World) -> None:
    fixed = {"address": "10.9.8.7/24", "address_mode": AddressMode.FIXED}
    world.add_edge("holder", **fixed)
    world.run_for(2)
    late = world.add_edge("late", **fixed)
    world.run_for(120)
    assert len(late.reported(Refused)) < 30


def test_forty_edges_behind_one_nat_are_back_in_time_after_a_supernode_crash(world: World) -> None:
    (supernode,) = world.supernodes
    nat = world.add_nat(PORT_RESTRICTED)
    for number in range(40):
        world.add_edge(f"edge {number}", nat, community=f"community {number % 20}")
        world.run_for(0.3)
    world.run_until(lambda: supernode.edge_count() == 40, timeout=15)
    supernode.crash()
    world.run_for(5)
    supernode.start()
    world.run_until(lambda: supernode.edge_count() == 40, timeout=15)


def test_an_edge_that_moves_to_another_network_stays_reachable(world: World) -> None:
    a, b = behind_nats(world, "ab")
    world.run_until_direct(a, b)
    hotel = world.add_nat(PORT_RESTRICTED)
    a.host.unplug(a.host.ports[0])
    a.tell_addresses()
    world.run_for(1)
    a.host.plug_into(hotel.lan)
    a.tell_addresses()
    world.run_for(2)
    world.ping(a, b)
    world.ping(b, a)
    world.run_until_direct(a, b, timeout=10)
    assert b.paths[a.edge_id].endpoint.host == hotel.public_address
    assert not b.reported(PeerDown)
    world.check_frames()


def test_a_second_supernode_takes_over_from_one_that_is_gone(world: World) -> None:
    first, second = world.supernodes[0], world.add_supernode()
    edges = [
        world.add_edge(name, world.add_nat(PORT_RESTRICTED), supernodes=[first, second])
        for name in "abc"
    ]
    world.run_until_direct(*edges)
    first.crash()
    world.run_until(lambda: second.edge_count() == len(edges), timeout=40)
    late = world.add_edge("late", world.add_nat(PORT_RESTRICTED), supernodes=[first, second])
    world.run_until_all_are_joined(timeout=20)
    for edge in edges:
        world.ping(edge, late)
    assert not [event for edge in edges for event in edge.reported(PeerDown)]


def test_an_edge_that_lost_its_epoch_still_gets_through_to_its_peers(world: World) -> None:
    a, b = behind_nats(world, "ab")
    world.run_until_direct(a, b)
    a.crash()
    a.config = replace(a.config, epoch=a.config.epoch - 1000)
    world.run_for(2)
    a.restart()
    world.run_until_all_are_joined(timeout=15)
    world.ping(a, b)
