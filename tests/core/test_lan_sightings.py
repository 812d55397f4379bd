"""Where members were seen on the LAN is remembered in bounds, and pinged like what peers tell."""

from mesh.addresses import EdgeId, Endpoint
from mesh.core.lan_sightings import MAX_PER_EDGE, MAX_SIGHTINGS, LanSightings
from tests.virtual_nat import SYMMETRIC
from tests.world import World


def test_sightings_are_bounded_and_the_oldest_give_way() -> None:
    sightings = LanSightings()
    for number in range(2 * MAX_SIGHTINGS):
        for port in range(1, 2 * MAX_PER_EDGE + 1):
            sightings.note(EdgeId(number.to_bytes(16, "big")), Endpoint("192.168.1.7", port))
    assert len(sightings) == MAX_SIGHTINGS
    assert sightings.of(EdgeId(bytes(16))) == []
    latest = sightings.of(EdgeId((2 * MAX_SIGHTINGS - 1).to_bytes(16, "big")))
    assert [endpoint.port for endpoint in latest] == list(
        range(MAX_PER_EDGE + 1, 2 * MAX_PER_EDGE + 1)
    )


def relayed_neighbours(world: World) -> None:
    """Two edges behind symmetric NATs that share a LAN which they do not tell each other of."""
    lan = world.add_lan("shared")
    for name in "ab":
        edge = world.add_edge(name, world.add_nat(SYMMETRIC))
        edge.host.plug_into(lan)


def test_a_member_that_is_seen_on_the_lan_is_reached_there() -> None:
    world = World(seed=4)
    world.add_supernode()
    relayed_neighbours(world)
    a, b = world.edges["a"], world.edges["b"]
    world.run_until_all_are_joined()
    world.run_for(10)
    assert not a.is_direct_to(b)
    there = Endpoint(b.host.addresses()[-1], b.driver.udp_port)
    a.driver.step(lambda now: a.engine.receive_lan_sighting(b.edge_id, there, now))
    world.run_until_direct(a, b, timeout=1)
    assert a.paths[b.edge_id].endpoint == there


def test_a_sighting_before_the_introduction_is_remembered() -> None:
    world = World(seed=4)
    world.add_supernode()
    relayed_neighbours(world)
    a, b = world.edges["a"], world.edges["b"]
    there = Endpoint(b.host.addresses()[-1], b.driver.udp_port)
    a.driver.step(lambda now: a.engine.receive_lan_sighting(b.edge_id, there, now))
    world.run_until_direct(a, b, timeout=3)


def test_an_edge_that_is_told_to_use_the_relay_only_takes_no_sightings() -> None:
    world = World(seed=4)
    world.add_supernode()
    a, b = (world.add_edge(name, relay_only=True) for name in "ab")
    world.run_until_all_are_joined()
    there = Endpoint(b.host.addresses()[0], b.driver.udp_port)
    a.driver.step(lambda now: a.engine.receive_lan_sighting(b.edge_id, there, now))
    world.run_for(5)
    assert [way["kind"] for way in a.peer_view(b)["paths"]] == ["relay"]
