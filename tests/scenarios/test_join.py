"""Edges come together: registration, leases, the first frames."""

import ipaddress

import pytest

from mesh.events import Registered, SupernodeKeyMismatch, SupernodeLost, SupernodeSeen
from mesh.wire.messages import AddressMode
from tests.virtual_nat import PORT_RESTRICTED
from tests.virtual_network import UNPLUGGED, LinkConditions
from tests.virtual_topology import Wiretap
from tests.world import HOUR, World


def test_two_edges_join_and_exchange_frames(world: World) -> None:
    a, b = world.add_edges("ab")
    assert world.run_until_all_are_joined() < 1.0
    assert world.ping(a, b) < 0.2
    world.check_frames()


def test_the_first_frame_crosses_within_a_second_of_joining(world: World) -> None:
    a, b = (world.add_edge(name, world.add_nat(PORT_RESTRICTED)) for name in "ab")
    for _ in range(100):
        world.send_frame(a, b)
        world.run_for(0.01)
    assert b.frames
    world.check_frames()


def test_members_get_addresses_of_one_subnet_that_the_community_proposed(world: World) -> None:
    edges = world.add_edges("abcdef")
    world.run_until_all_are_joined()
    interfaces = [ipaddress.IPv4Interface(edge.address) for edge in edges]
    assert len({interface.ip for interface in interfaces}) == len(edges)
    assert {interface.network for interface in interfaces} == {
        edges[0].config.community.subnet_proposals()[0]
    }


def test_an_edge_sees_how_the_supernode_saw_it(world: World) -> None:
    nat = world.add_nat(PORT_RESTRICTED)
    edge = world.add_edge("a", nat)
    world.run_until(edge.is_registered, timeout=2)
    (registered,) = edge.reported(Registered)
    assert registered.is_first
    assert registered.seen_as.host == nat.public_address


def test_a_supernode_is_pinned_on_first_contact_and_not_again(world: World) -> None:
    edge = world.add_edge("a")
    world.run_until(edge.is_registered, timeout=2)
    (seen,) = edge.reported(SupernodeSeen)
    assert seen.fingerprint == world.supernodes[0].identity.fingerprint
    edge.restart()
    world.run_until(edge.is_registered, timeout=2)
    assert len(edge.reported(SupernodeSeen)) == 1


def test_a_supernode_with_another_key_is_refused(world: World) -> None:
    edge = world.add_edge("a")
    world.run_until(edge.is_registered, timeout=2)
    world.supernodes[0].crash()
    edge.crash()
    impostor = World(seed=99).add_supernode()
    world.supernodes[0].identity = impostor.identity
    world.supernodes[0].start()
    edge.restart()
    world.run_for(10)
    assert not edge.is_registered()
    assert edge.reported(SupernodeKeyMismatch)[0].found == impostor.identity.fingerprint


def test_clocks_that_differ_by_an_hour_do_no_harm(world: World) -> None:
    a = world.add_edge("a", world.add_nat(PORT_RESTRICTED), clock_offset=0.0)
    b = world.add_edge("b", world.add_nat(PORT_RESTRICTED), clock_offset=HOUR)
    world.run_until_direct(a, b)
    world.run_for(400)
    assert world.ping(a, b) < 0.2


def test_a_join_over_ipv6_alone_works() -> None:
    world = World()
    world.add_supernode(ipv6=True)
    lans = [world.add_firewall(ipv6=True) for _ in range(2)]
    a, b = (world.add_edge(name, lan) for name, lan in zip("ab", lans, strict=True))
    world.run_until_direct(a, b)
    assert world.ping(a, b) < 0.2


def test_a_dual_stack_supernode_serves_edges_of_either_family() -> None:
    world = World()
    world.add_supernode(ipv6=True)
    a = world.add_edge("a", world.add_nat(PORT_RESTRICTED))
    b = world.add_edge("b", world.add_firewall(ipv6=True))
    world.run_until_all_are_joined()
    assert world.ping(a, b) < 0.2
    assert not a.is_direct_to(b)


def test_an_edge_that_starts_without_a_network_joins_once_there_is_one(world: World) -> None:
    a, b = world.add_edge("a", conditions=UNPLUGGED), world.add_edge("b")
    world.run_for(60)
    assert not a.is_registered()
    a.host.ports[0].conditions = LinkConditions(latency=0.01)
    world.run_until_all_are_joined(timeout=8)
    world.ping(a, b)


def test_an_edge_whose_network_goes_for_a_while_says_so_and_recovers(world: World) -> None:
    a, b = world.add_edges("ab")
    world.run_until_all_are_joined()
    usual = a.host.ports[0].conditions
    a.host.ports[0].conditions = UNPLUGGED
    world.run_for(60)
    assert a.reported(SupernodeLost)
    a.host.ports[0].conditions = usual
    world.run_until_all_are_joined(timeout=10)
    world.ping(a, b)
    world.check_frames()


def test_a_supernode_and_an_edge_share_a_machine(world: World) -> None:
    a = world.add_edge("a", host=world.supernodes[0].host)
    b = world.add_edge("b", world.add_nat(PORT_RESTRICTED))
    world.run_until_direct(a, b)
    assert world.ping(a, b) < 0.1


def test_two_edges_on_one_machine_meet(world: World) -> None:
    nat = world.add_nat(PORT_RESTRICTED)
    a = world.add_edge("a", nat)
    b = world.add_edge("b", host=a.host)
    world.run_until_direct(a, b)
    world.ping(a, b)


def test_an_edge_that_wants_no_address_gets_none(world: World) -> None:
    a = world.add_edge("a", address_mode=AddressMode.NONE)
    b = world.add_edge("b", address="10.99.1.7/24", address_mode=AddressMode.FIXED)
    world.run_until_all_are_joined()
    assert (a.address, b.address) == ("", "10.99.1.7/24")
    world.ping(a, b)


@pytest.mark.parametrize("a_has_aes", [True, False])
@pytest.mark.parametrize("b_has_aes", [True, False])
def test_machines_with_and_without_aes_understand_each_other(
    world: World, *, a_has_aes: bool, b_has_aes: bool
) -> None:
    a, b = world.add_edge("a", has_aes=a_has_aes), world.add_edge("b", has_aes=b_has_aes)
    world.run_until_all_are_joined()
    world.ping(a, b)
    suite = a.peer_view(b)["session"]["suite"]
    assert ("AESGCM" in suite) is (a_has_aes and b_has_aes)


def test_the_same_seed_gives_the_same_datagrams() -> None:
    runs = []
    for _ in range(2):
        world = World(seed=5)
        world.add_supernode()
        wire = Wiretap(world)
        a, b = (world.add_edge(name, world.add_nat(PORT_RESTRICTED)) for name in "ab")
        world.run_until_direct(a, b)
        world.ping(a, b)
        runs.append(wire.packets)
    assert runs[0] == runs[1]
