"""A supernode with several addresses: IPv6 first, then whatever answers, later another one."""

import pytest

from mesh.events import SupernodeLost
from tests.virtual_edge import VirtualEdge
from tests.virtual_supernode import VirtualSupernode
from tests.world import World


def dual_stack_world(seed: int = 5) -> tuple[World, VirtualSupernode]:
    world = World(seed)
    return world, world.add_supernode(ipv6=True)


def add(world: World, name: str, *, ipv4: bool = True, ipv6: bool = True) -> VirtualEdge:
    return world.add_edge(name, host=world.add_host(name, ipv4=ipv4, ipv6=ipv6))


def supernode_of(edge: VirtualEdge) -> str:
    return edge.driver.step(edge.engine.edge_view)["supernode"]["endpoint"]


def test_an_edge_with_both_families_registers_by_ipv6() -> None:
    world, _ = dual_stack_world()
    edge = add(world, "both")
    world.run_until(edge.is_registered, timeout=0.2)
    assert supernode_of(edge).startswith("[2001:")


def test_ipv6_that_leads_nowhere_costs_a_quarter_of_a_second() -> None:
    world, supernode = dual_stack_world()
    host = world.add_host("both", ipv6=True)
    ours, theirs = host.addresses()[1], supernode.endpoints[1].host
    world.internet.block(ours, theirs)
    edge = world.add_edge("both", host=host)
    assert world.run_until(edge.is_registered, timeout=0.5) > 0.25
    assert supernode_of(edge).startswith("5.0.")


def test_a_family_that_the_machine_does_not_have_costs_nothing() -> None:
    world, _ = dual_stack_world()
    edge = add(world, "four", ipv6=False)
    world.run_until(edge.is_registered, timeout=0.2)
    assert supernode_of(edge).startswith("5.0.")


def test_ipv6_only_and_ipv4_only_meet_through_the_relay_and_both_with_each_directly() -> None:
    world, supernode = dual_stack_world()
    six, four, both = add(world, "six", ipv4=False), add(world, "four", ipv6=False), add(world, "b")
    world.run_until_all_are_joined()
    world.run_until_direct(six, both)
    world.run_until_direct(four, both)
    relayed = supernode.relayed_datagrams()
    world.ping(six, four)
    assert supernode.relayed_datagrams() >= relayed + 2
    assert not six.is_direct_to(four)


@pytest.mark.parametrize("seed", range(3))
def test_another_address_of_the_name_takes_over_within_ten_seconds(seed: int) -> None:
    """Two machines behind one name, with one key."""
    world = World(seed)
    first, second = world.add_supernode(), world.add_supernode()
    second.crash()
    second.identity = first.identity
    second.start()
    edges = world.add_edges("ab", supernodes=[first])
    endpoints = [*first.endpoints, *second.endpoints]
    for edge in edges:
        edge.driver.step(
            lambda now, edge=edge: edge.engine.set_supernode_endpoints(0, endpoints, now)
        )
    world.run_until_all_are_joined()
    world.run_until_direct(*edges)
    world.run_for(4 * seed / 3)
    first.crash()
    world.run_until(lambda: second.edge_count() == 2, timeout=10)
    world.run_for(0.1)
    assert not [event for edge in edges for event in edge.reported(SupernodeLost)]
    assert supernode_of(edges[0]) == str(second.endpoint)
    world.ping(*edges)


def test_a_supernode_that_is_named_twice_is_registered_with_once_at_a_time() -> None:
    world, supernode = dual_stack_world()
    host = world.add_host("both", ipv6=True)
    edge = world.add_edge("both", host=host, supernodes=[supernode, supernode])
    for number, endpoint in enumerate(supernode.endpoints):
        edge.driver.step(
            lambda now, n=number, e=endpoint: edge.engine.set_supernode_endpoints(n, [e], now)
        )
    world.run_for(300)
    views = edge.driver.step(edge.engine.edge_view)["supernodes"]
    assert [view["connected"] for view in views].count(True) == 1
    [used] = [view["endpoint"] for view in views if view["connected"]]
    ours = next(a for a in host.addresses() if (":" in a) == used.startswith("["))
    theirs = next(e for e in supernode.endpoints if str(e) == used)
    world.internet.block(ours, theirs.host)
    host.blocks_tcp = True
    world.run_for(15)
    views = edge.driver.step(edge.engine.edge_view)["supernodes"]
    assert [view["endpoint"] for view in views if view["connected"]] not in ([], [used])
