"""Every kind of NAT is told for what it is by one supernode, and only then."""

from dataclasses import replace

import pytest

from mesh.snapshots import NatView
from tests.virtual_edge import VirtualEdge
from tests.virtual_nat import (
    ADDRESS_RESTRICTED,
    FULL_CONE,
    HOME_ROUTER,
    PORT_RESTRICTED,
    REJECTING_ROUTER,
    SYMMETRIC,
    SYMMETRIC_SEQUENTIAL,
    Dependence,
    NatBehaviour,
)
from tests.virtual_network import INTERNET
from tests.world import World

INDEPENDENT, DEPENDENT = "endpoint-independent", "dependent"
LOOSE, STRICT = "none or by address", "by address and port"
UNKNOWN = {"mapping": "unknown", "filtering": "unknown", "ports": "unknown", "step": 0}


def nat_of(edge: VirtualEdge) -> tuple[str, NatView]:
    view = edge.driver.step(edge.engine.edge_view)
    return view["nat"], view["nat_detail"]


def kind(mapping: str, filtering: str, ports: str, step: int = 0) -> NatView:
    return {"mapping": mapping, "filtering": filtering, "ports": ports, "step": step}


KINDS = [
    (FULL_CONE, "easy", kind(INDEPENDENT, LOOSE, "changed")),
    (ADDRESS_RESTRICTED, "easy", kind(INDEPENDENT, LOOSE, "changed")),
    (PORT_RESTRICTED, "easy", kind(INDEPENDENT, STRICT, "changed")),
    (HOME_ROUTER, "easy", kind(INDEPENDENT, STRICT, "preserved")),
    (REJECTING_ROUTER, "easy", kind(INDEPENDENT, STRICT, "preserved")),
    (SYMMETRIC, "hard", kind(DEPENDENT, STRICT, "random")),
    (SYMMETRIC_SEQUENTIAL, "hard", kind(DEPENDENT, STRICT, "sequential", 1)),
    (
        replace(SYMMETRIC, filtering=Dependence.ADDRESS),
        "hard",
        kind(DEPENDENT, LOOSE, "random"),
    ),
]


@pytest.mark.parametrize(("behaviour", "verdict", "detail"), KINDS)
def test_a_lone_edge_knows_its_nat_within_two_seconds(
    world: World, behaviour: NatBehaviour, verdict: str, detail: NatView
) -> None:
    edge = world.add_edge("a", world.add_nat(behaviour))
    world.run_until(edge.is_registered, 2)
    world.run_for(2)
    assert nat_of(edge) == (verdict, detail)


def test_a_machine_on_the_internet_is_open(world: World) -> None:
    edge = world.add_edge("a")
    world.run_for(3)
    assert nat_of(edge) == ("open", kind(INDEPENDENT, LOOSE, "preserved"))


def test_a_firewall_without_nat_shows_in_its_filtering(world: World) -> None:
    edge = world.add_edge("a", world.add_firewall())
    world.run_for(3)
    assert nat_of(edge) == ("open", kind(INDEPENDENT, STRICT, "preserved"))


def test_a_supernode_without_observation_ports_leaves_it_unknown() -> None:
    world = World()
    world.add_supernode(has_probe_ports=False)
    edge = world.add_edge("a", world.add_nat(SYMMETRIC))
    world.run_for(10)
    assert nat_of(edge) == ("unknown", UNKNOWN)


def test_an_observation_port_that_a_firewall_blocks_leaves_it_unknown(world: World) -> None:
    edge = world.add_edge("a", world.add_nat(PORT_RESTRICTED))
    for socket in world.supernodes[0].driver.extra_sockets:
        world.supernodes[0].driver.remove_socket(socket)
    world.run_for(10)
    assert edge.is_registered()
    assert nat_of(edge)[1] == UNKNOWN


def test_loss_does_not_make_an_open_filter_look_strict_nor_a_cone_symmetric() -> None:
    wrong = 0
    for seed in range(20):
        world = World(seed)
        world.add_supernode()
        lossy = replace(INTERNET, loss=0.05)
        edge = world.add_edge("a", world.add_nat(FULL_CONE, conditions=lossy))
        world.run_until(edge.is_registered, 20)
        world.run_for(6)
        detail = nat_of(edge)[1]
        assert detail["mapping"] == INDEPENDENT
        wrong += detail["filtering"] != LOOSE
    assert wrong == 0


def test_another_nat_is_found_out_when_the_endpoint_changes(world: World) -> None:
    nat = world.add_nat(PORT_RESTRICTED)
    edge = world.add_edge("a", nat)
    world.run_for(3)
    assert nat_of(edge)[0] == "easy"
    nat.behaviour = SYMMETRIC
    nat.change_address(world.public_address())
    world.run_for(12)
    assert nat_of(edge) == ("hard", kind(DEPENDENT, STRICT, "random"))


def test_finding_out_takes_few_datagrams_and_ends(world: World) -> None:
    world.add_edge("a", world.add_nat(PORT_RESTRICTED))
    world.run_for(3)
    seen = []
    world.taps.append(
        lambda _now, _segment, packet: (
            seen.append(packet) if packet.destination.port in {7779, 7780} else None
        )
    )
    world.run_for(120)
    assert not seen
