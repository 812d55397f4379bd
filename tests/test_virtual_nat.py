"""The virtual NATs do what the names of their kinds say."""

from dataclasses import replace

import pytest

from mesh.addresses import Endpoint
from tests.virtual_nat import (
    ADDRESS_RESTRICTED,
    FULL_CONE,
    HOME_ROUTER,
    PORT_RESTRICTED,
    REJECTING_ROUTER,
    SYMMETRIC,
    SYMMETRIC_SEQUENTIAL,
    NatBehaviour,
)
from tests.virtual_topology import Talker, Topology, Wiretap


@pytest.mark.parametrize(
    ("behaviour", "same_host_other_port", "other_host"),
    [
        (FULL_CONE, True, True),
        (ADDRESS_RESTRICTED, True, False),
        (PORT_RESTRICTED, False, False),
        (SYMMETRIC, False, False),
    ],
)
def test_filtering_lets_in_what_its_name_says(
    behaviour: NatBehaviour, *, same_host_other_port: bool, other_host: bool
) -> None:
    topology = Topology()
    inside = Talker(topology.add_host("inside", topology.add_nat(behaviour)))
    server_host = topology.add_host("server")
    server, second_port = Talker(server_host), Talker(server_host)
    stranger = Talker(topology.add_host("stranger"))
    inside.send(server.endpoint)
    topology.run_for(0.1)
    mapped = server.sources[0]
    for talker in (server, second_port, stranger):
        talker.send(mapped)
    topology.run_for(0.1)
    assert (server.endpoint in inside.sources) is True
    assert (second_port.endpoint in inside.sources) is same_host_other_port
    assert (stranger.endpoint in inside.sources) is other_host


@pytest.mark.parametrize(
    ("behaviour", "ports"), [(PORT_RESTRICTED, 1), (SYMMETRIC, 3), (SYMMETRIC_SEQUENTIAL, 3)]
)
def test_only_a_symmetric_nat_maps_each_destination_apart(
    behaviour: NatBehaviour, ports: int
) -> None:
    topology = Topology()
    inside = Talker(topology.add_host("inside", topology.add_nat(behaviour)))
    servers = [Talker(topology.add_host(f"server {i}")) for i in range(3)]
    for server in servers:
        inside.send(server.endpoint)
    topology.run_for(0.1)
    assert len({server.sources[0].port for server in servers}) == ports


def test_sequential_ports_follow_each_other() -> None:
    topology = Topology()
    inside = Talker(topology.add_host("inside", topology.add_nat(SYMMETRIC_SEQUENTIAL)))
    servers = [Talker(topology.add_host(f"server {i}")) for i in range(3)]
    for server in servers:
        inside.send(server.endpoint)
    topology.run_for(0.1)
    first, second, third = (server.sources[0].port for server in servers)
    assert (second, third) == (first + 1, first + 2)


def test_a_home_router_keeps_the_port_where_it_is_free() -> None:
    topology = Topology()
    nat = topology.add_nat(HOME_ROUTER)
    server = Talker(topology.add_host("server"))
    for name in "ab":
        Talker(topology.add_host(name, nat), 5000).send(server.endpoint)
    topology.run_for(0.1)
    assert [source.port for source in server.sources] == [5000, 5001]


def test_a_mapping_times_out_and_traffic_keeps_it() -> None:
    topology = Topology()
    inside = Talker(topology.add_host("inside", topology.add_nat(PORT_RESTRICTED)))
    server = Talker(topology.add_host("server"))
    for _ in range(3):
        inside.send(server.endpoint)
        topology.run_for(29)
    server.send(server.sources[-1])
    topology.run_for(31)
    assert len(inside.received) == 1
    server.send(server.sources[-1])
    topology.run_for(1)
    assert len(inside.received) == 1
    inside.send(server.endpoint)
    topology.run_for(1)
    assert len(set(server.sources)) == 2


def test_a_flush_forgets_and_maps_anew() -> None:
    topology = Topology()
    nat = topology.add_nat(PORT_RESTRICTED)
    inside = Talker(topology.add_host("inside", nat))
    server = Talker(topology.add_host("server"))
    inside.send(server.endpoint)
    topology.run_for(1)
    nat.flush()
    server.send(server.sources[0])
    topology.run_for(1)
    assert not inside.received
    inside.send(server.endpoint)
    topology.run_for(1)
    assert len(set(server.sources)) == 2
    assert nat.mapping_count() == 1


def test_a_changed_public_address_is_seen_outside() -> None:
    topology = Topology()
    nat = topology.add_nat(PORT_RESTRICTED)
    inside = Talker(topology.add_host("inside", nat))
    server = Talker(topology.add_host("server"))
    nat.change_address("5.0.99.99")
    inside.send(server.endpoint)
    topology.run_for(1)
    assert server.sources[0].host == "5.0.99.99"


@pytest.mark.parametrize("hairpin", [False, True])
def test_hairpin_is_a_choice(*, hairpin: bool) -> None:
    topology = Topology()
    nat = topology.add_nat(replace(FULL_CONE, hairpin=hairpin))
    a, b = (Talker(topology.add_host(name, nat)) for name in "ab")
    server = Talker(topology.add_host("server"))
    b.send(server.endpoint)
    topology.run_for(0.1)
    a.send(server.sources[0])
    topology.run_for(0.1)
    assert bool(b.received) is hairpin


def test_a_double_nat_translates_twice() -> None:
    topology = Topology()
    carrier = topology.add_nat(SYMMETRIC, network="100.64.0.0/24")
    home = topology.add_nat(PORT_RESTRICTED, behind=carrier)
    inside = Talker(topology.add_host("inside", home))
    server = Talker(topology.add_host("server"))
    inside.send(server.endpoint)
    topology.run_for(0.1)
    assert server.sources[0].host == carrier.public_address
    server.send(server.sources[0])
    topology.run_for(0.1)
    assert inside.sources == [server.endpoint]


def test_two_port_restricted_nats_are_punched_and_a_symmetric_one_is_not() -> None:
    for behaviour, works in [(PORT_RESTRICTED, True), (SYMMETRIC, False)]:
        topology = Topology()
        a = Talker(topology.add_host("a", topology.add_nat(PORT_RESTRICTED)))
        b = Talker(topology.add_host("b", topology.add_nat(behaviour)))
        server = Talker(topology.add_host("server"))
        for talker in (a, b):
            talker.send(server.endpoint)
        topology.run_for(0.1)
        seen_a, seen_b = server.sources
        for _ in range(2):
            a.send(seen_b)
            b.send(seen_a)
            topology.run_for(0.1)
        assert (bool(a.received), bool(b.received)) == (works, works)


def test_a_rejecting_router_remaps_what_came_too_early() -> None:
    topology = Topology()
    nat = topology.add_nat(REJECTING_ROUTER)
    inside = Talker(topology.add_host("inside", nat))
    server, early, late = (Talker(topology.add_host(name)) for name in ("s", "early", "late"))
    inside.send(server.endpoint)
    topology.run_for(0.1)
    early.send(server.sources[0])
    topology.run_for(0.1)
    for talker in (early, late):
        inside.send(talker.endpoint)
    topology.run_for(0.1)
    assert early.sources[0] != server.sources[0]
    assert late.sources[0] == server.sources[0]


def test_a_low_ttl_opens_our_nat_and_dies_before_theirs() -> None:
    topology = Topology()
    nat = topology.add_nat(PORT_RESTRICTED)
    inside = Talker(topology.add_host("inside", nat))
    theirs = topology.add_nat(PORT_RESTRICTED)
    wire = Wiretap(topology)
    inside.send(Endpoint(theirs.public_address, 9), ttl=2)
    topology.run_for(0.1)
    assert nat.mapping_count() == 1
    assert [packet.ttl for _, packet in wire.packets] == [1]


def test_a_firewall_lets_answers_in_and_translates_nothing() -> None:
    topology = Topology()
    for ipv6 in (False, True):
        inside = Talker(topology.add_host("inside", topology.add_firewall(ipv6=ipv6)))
        server = Talker(topology.add_host("server", ipv4=not ipv6, ipv6=ipv6))
        server.send(inside.endpoint)
        topology.run_for(0.1)
        assert not inside.received
        inside.send(server.endpoint)
        topology.run_for(0.1)
        assert server.sources == [inside.endpoint]
        server.send(inside.endpoint)
        topology.run_for(31)
        server.send(inside.endpoint)
        topology.run_for(0.1)
        assert len(inside.received) == 1


def test_one_lan_may_have_a_nat_and_a_firewall_for_ipv6() -> None:
    topology = Topology()
    nat = topology.add_nat(PORT_RESTRICTED)
    topology.add_firewall(nat.lan, ipv6=True)
    inside = Talker(topology.add_host("inside", nat))
    server = Talker(topology.add_host("server", ipv6=True))
    for address in server.host.addresses():
        inside.send(Endpoint(address, server.udp_port))
    topology.run_for(0.1)
    assert [source.host for source in server.sources] == [
        nat.public_address,
        inside.host.addresses()[1],
    ]
