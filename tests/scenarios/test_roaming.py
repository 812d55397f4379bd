"""Networks change under a ping stream in virtual time: traffic returns within a second or so."""

from collections.abc import Callable

import pytest

from mesh.events import Registered
from tests.virtual_edge import VirtualEdge
from tests.virtual_nat import PORT_RESTRICTED, NatBehaviour, NatRouter
from tests.virtual_pings import INTERVAL, Pings
from tests.virtual_topology import Wiretap
from tests.world import World

RETURN_WITHIN = 1.2  # s; 0.5 of silence, 0.3 for an answer, and round trips
KINDS = [PORT_RESTRICTED, None]


def flush(_world: World, edge: VirtualEdge, nat: NatRouter) -> None:
    del edge
    nat.flush()


def renumber(world: World, edge: VirtualEdge, nat: NatRouter) -> None:
    del edge
    nat.change_address(world.public_address())


def change_local_address(_world: World, edge: VirtualEdge, nat: NatRouter) -> None:
    edge.host.unplug(edge.host.ports[0])
    edge.host.plug_into(nat.lan)
    edge.tell_addresses()


def move(world: World, edge: VirtualEdge, nat: NatRouter) -> None:
    del nat
    edge.host.unplug(edge.host.ports[0])
    edge.host.plug_into(world.add_nat(PORT_RESTRICTED).lan)
    edge.tell_addresses()


EVENTS = [flush, renumber, change_local_address, move]


@pytest.mark.parametrize("theirs", KINDS, ids=["restricted", "open"])
@pytest.mark.parametrize("delay", [0.0, 2.6])
@pytest.mark.parametrize("event", EVENTS)
def test_traffic_returns_and_is_direct_again_within_a_second_or_so(
    world: World,
    event: Callable[[World, VirtualEdge, NatRouter], None],
    delay: float,
    theirs: NatBehaviour | None,
) -> None:
    nat = world.add_nat(PORT_RESTRICTED)
    a = world.add_edge("a", nat)
    b = world.add_edge("b", world.add_nat(theirs) if theirs else None)
    world.run_until_direct(a, b)
    world.run_for(5 + delay)  # wherever the heartbeats are
    pings = Pings(world, a, b)
    world.run_for(2)
    (supernode,) = world.supernodes
    registrations = len(a.reported(Registered))
    happened_at = world.clock.now
    event(world, a, nat)
    world.run_for(4)
    assert a.is_direct_to(b)
    assert b.is_direct_to(a)
    relayed = supernode.relayed_datagrams()
    world.run_for(20)
    assert supernode.relayed_datagrams() - relayed <= 12, "frames still take the relay"
    pings.stop()
    assert pings.returned_after(happened_at) <= RETURN_WITHIN
    assert len(a.reported(Registered)) == registrations, "it registered anew"
    world.check_frames()


@pytest.mark.parametrize("delay", [0.0, 1.1, 2.3, 3.7])
@pytest.mark.parametrize("event", [flush, renumber])
def test_an_edge_that_only_receives_notices_as_well(
    world: World, event: Callable[[World, VirtualEdge, NatRouter], None], delay: float
) -> None:
    nat = world.add_nat(PORT_RESTRICTED)
    a = world.add_edge("a", nat)
    b = world.add_edge("b", world.add_nat(PORT_RESTRICTED))
    world.run_until_direct(a, b)
    world.run_for(5 + delay)
    sent = []
    for number in range(200):
        if number == 100:
            event(world, a, nat)
        sent.append(world.send_frame(b, a))
        world.run_for(INTERVAL)
    world.run_for(1)
    received = set(world.frames_received(a))
    lost = [number for number, frame in enumerate(sent) if frame not in received]
    assert max(lost, default=100) < 100 + 2.5 / INTERVAL
    assert len(a.frames) >= 100


@pytest.mark.parametrize("event", EVENTS)
def test_a_change_while_idle_is_over_when_the_supernode_has_been_pinged(
    world: World, event: Callable[[World, VirtualEdge, NatRouter], None]
) -> None:
    nat = world.add_nat(PORT_RESTRICTED)
    a = world.add_edge("a", nat)
    b = world.add_edge("b", world.add_nat(PORT_RESTRICTED))
    world.run_until_direct(a, b)
    world.run_for(100)
    event(world, a, nat)
    world.run_for(6)
    world.ping(b, a, timeout=0.5)


def test_fifteen_members_behind_a_router_that_restarts_do_not_storm(
    world: World,
) -> None:
    nat = world.add_nat(PORT_RESTRICTED)
    edges = [world.add_edge(f"a{number}", nat) for number in range(15)]
    others = [world.add_edge(f"b{number}", world.add_nat(PORT_RESTRICTED)) for number in range(5)]
    world.run_until_all_are_joined()
    world.run_for(30)
    (supernode,) = world.supernodes
    registered = len(edges[0].reported(Registered))
    wire = Wiretap(world)
    nat.change_address(world.public_address())
    world.run_for(10)
    to_supernode = [
        packet
        for _, packet in wire.packets
        if packet.destination.host == supernode.host.addresses()[0]
    ]
    assert len(to_supernode) < 20 * len(edges)
    assert len(edges[0].reported(Registered)) == registered
    world.ping(edges[0], others[0], timeout=0.5)


@pytest.mark.parametrize("is_sender", [True, False], ids=["it sends", "it is sent to"])
@pytest.mark.parametrize("clock_ran", [True, False], ids=["stopped", "suspended"])
@pytest.mark.parametrize("seconds", [60, 600])
def test_a_machine_that_slept_is_back_within_two_seconds(
    world: World, *, seconds: int, clock_ran: bool, is_sender: bool
) -> None:
    a, b = (world.add_edge(name, world.add_nat(PORT_RESTRICTED)) for name in "ab")
    world.run_until_direct(a, b)
    world.run_for(8)
    b.driver.suspend()
    world.run_for(seconds)
    b.driver.resume(clock_ran=clock_ran)
    if not clock_ran:
        world.clock.after(0.5, lambda: tell_of_sleep(b, seconds))
    woken_at = world.clock.now
    pings = Pings(world, b, a) if is_sender else Pings(world, a, b)
    world.run_for(15)
    pings.stop()
    assert pings.returned_after(woken_at) <= 2.0
    assert a.is_direct_to(b)
    assert b.is_direct_to(a)
    assert len(b.reported(Registered)) <= 2
    world.check_frames()


def tell_of_sleep(edge: VirtualEdge, seconds: float) -> None:
    edge.driver.step(lambda now: edge.engine.resumed(seconds, now))


def test_another_home_that_gives_the_same_address_is_noticed_at_once(world: World) -> None:
    nats = [world.add_nat(PORT_RESTRICTED, network="192.168.1.0/24") for _ in range(2)]
    a = world.add_edge("a", nats[0])
    b = world.add_edge("b", world.add_nat(PORT_RESTRICTED))
    world.run_until_direct(a, b)
    world.run_for(100)
    addresses = a.host.addresses()
    a.host.unplug(a.host.ports[0])
    a.host.plug_into(nats[1].lan, addresses)
    a.driver.step(a.engine.network_changed)
    world.run_until(
        lambda: b.paths[a.edge_id].endpoint.host == nats[1].public_address,  # type: ignore[union-attr]
        timeout=1,
    )
    world.ping(b, a, timeout=0.5)
