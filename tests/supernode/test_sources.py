"""How many registrations one address may hold."""

import pytest

from mesh.addresses import Endpoint
from mesh.errors import RefusalReason, RegistrationRefused
from supernode.limits import SupernodeLimits
from supernode.origin import source_key
from supernode.sources import Sources
from tests.supernode.bench import Bench, ScriptedEdge, refusal_of

LIMITS = SupernodeLimits(max_edges_per_source=3, max_communities_per_source=2)
ONE, TWO, THREE = (letter * 32 for letter in (b"1", b"2", b"3"))
HOST = "203.0.113.66"


def refusal(sources: Sources, host: str, community: bytes) -> str:
    with pytest.raises(RegistrationRefused) as caught:
        sources.check_room(Endpoint(host, 9), community)
    assert caught.value.reason is RefusalReason.SUPERNODE_FULL
    return caught.value.detail


def at(bench: Bench, port: int, community: str = "home", host: str = HOST) -> ScriptedEdge:
    edge = bench.edge(community)
    edge.move_to(Endpoint(host, port))
    edge.shake()
    return edge


def test_an_address_holds_so_many_edges_and_no_more() -> None:
    sources = Sources(LIMITS)
    for port in range(1, 4):
        sources.check_room(Endpoint(HOST, port), ONE)
        sources.add(Endpoint(HOST, port), ONE)
    assert refusal(sources, HOST, ONE) == "too many edges from your address"
    sources.check_room(Endpoint("203.0.113.67", 1), ONE)
    sources.remove(Endpoint(HOST, 2), ONE)
    sources.check_room(Endpoint(HOST, 9), ONE)


def test_an_address_holds_edges_in_so_many_communities() -> None:
    sources = Sources(LIMITS)
    sources.add(Endpoint(HOST, 1), ONE)
    sources.add(Endpoint(HOST, 2), TWO)
    sources.check_room(Endpoint(HOST, 3), TWO)
    assert refusal(sources, HOST, THREE) == "too many communities from your address"
    sources.remove(Endpoint(HOST, 1), ONE)
    sources.check_room(Endpoint(HOST, 3), THREE)


def test_an_ipv6_network_of_64_bits_is_one_address() -> None:
    sources = Sources(LIMITS)
    for number in range(3):
        sources.add(Endpoint(f"2001:db8::{number}:1", 1), ONE)
    assert refusal(sources, "2001:db8::ffff", ONE)
    sources.check_room(Endpoint("2001:db8:0:1::1", 1), ONE)
    assert source_key(Endpoint("fe80::1%2", 1)) == source_key(Endpoint("fe80::2%3", 1))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_is_not_counted(host: str) -> None:
    sources = Sources(LIMITS)
    for port in range(1, 10):
        sources.add(Endpoint(host, port), ONE)
    sources.check_room(Endpoint(host, 10), TWO)


def test_edges_that_are_registered_may_renew_whatever_their_address_holds() -> None:
    bench = Bench(LIMITS)
    edges = [at(bench, port) for port in range(1, 5)]
    for edge in edges[:3]:
        edge.register()
    refused = refusal_of(edges[3].register())
    assert (refused.reason, refused.detail) == (6, "too many edges from your address")
    edges[0].shake()
    edges[0].register()
    assert edges[0].address


def test_an_edge_that_leaves_or_roams_away_makes_room() -> None:
    bench = Bench(LIMITS)
    edges = [at(bench, port) for port in range(1, 4)]
    for edge in edges:
        edge.register()
    edges[0].roam(Endpoint("203.0.113.77", 1))
    later = at(bench, 9)
    later.register()
    assert later.address
    bench.pass_time(60.0)
    assert bench.engine.registered_edges() == []
    for port in range(10, 13):
        edge = at(bench, port, "elsewhere")
        edge.register()
        assert edge.address


def test_one_address_cannot_fill_the_supernode_with_communities() -> None:
    bench = Bench()
    for number in range(70):
        at(bench, 1024 + number, f"community {number}").register()
        bench.now += 0.25
    assert len(bench.engine.registered_edges()) == bench.limits.max_communities_per_source
