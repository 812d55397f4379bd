"""What an outsider or a member must not get out of a supernode."""

import pytest

from mesh.addresses import EdgeId, Endpoint
from mesh.events import Event
from mesh.wire.inner import wrap_control
from mesh.wire.messages import AddressMode, Ping, encode_message
from supernode.leases import AddressRequest, Leases, StoredLeases
from supernode.limits import SupernodeLimits
from tests.supernode.bench import Bench
from tests.virtual_network import Packet, Segment
from tests.world import World

OUTSIDER = Endpoint("203.0.113.66", 6666)
BYSTANDER = Endpoint("5.0.200.200", 4444)
PROPOSALS = ("10.20.0.0/22",)


@pytest.mark.parametrize("size", range(1, 14))
def test_a_batch_of_envelopes_too_short_for_a_header_is_survived(size: int) -> None:
    bench = Bench()
    edge = bench.registered()
    header = edge.envelope(edge.relay_id, b"\x04" * 4)[:size]
    for one in (header, b"\x05\0\0\0".ljust(size, b"\x01")[:size]):
        edge.send(one * 5, segment_bytes=size)
        bench.receive(one * 5, OUTSIDER, segment_bytes=size)
    assert bench.drops["malformed"] == 4 * 5


def test_a_forged_move_makes_no_member_send_to_a_bystander() -> None:
    world = World(3)
    supernode = world.add_supernode()
    edges = world.add_edges([f"e{number}" for number in range(6)])
    world.run_until_all_are_joined(30)
    world.run_for(5)
    hit: list[Packet] = []

    def note(_now: float, _segment: Segment, packet: Packet) -> None:
        if packet.destination == BYSTANDER and packet.source != supernode.endpoint:
            hit.append(packet)

    world.taps.append(note)
    session = edges[0].engine._supernodes.current._session
    ping = session.seal(wrap_control(encode_message(Ping(b"12345678"))))
    world.add_host("mallory").ports[0].send(Packet(BYSTANDER, supernode.endpoint, ping))
    world.run_for(20)
    assert hit == []


def test_one_address_cannot_fill_the_supernode_with_communities() -> None:
    bench = Bench(SupernodeLimits(max_communities=512, max_edges=2048))
    for number in range(600):
        edge = bench.edge(f"community {number}")
        edge.move_to(Endpoint("203.0.113.66", 1024 + number))
        edge.shake()
        edge.register()
        bench.now += 0.25
    assert len(bench.engine.registered_edges()) < 512


def test_idle_leases_of_others_do_not_give_way_to_a_community_that_hoards() -> None:
    events: list[Event] = []
    leases = Leases(StoredLeases(), 100, events.append, 0.0)
    _hoard(leases, b"v" * 32, 50, now=0.0)
    _hoard(leases, b"a" * 32, 100, now=1.0)
    assert leases.count(b"v" * 32) == 50


@pytest.mark.parametrize("subnet", ["8.0.0.0/8", "1.1.1.0/24", "128.0.0.0/8"])
def test_no_community_gets_a_subnet_of_public_addresses(subnet: str) -> None:
    events: list[Event] = []
    leases = Leases(StoredLeases(), 100, events.append, 0.0)
    request = AddressRequest(AddressMode.AUTO, "", (subnet, *PROPOSALS))
    assert leases.grant(b"c" * 32, EdgeId(b"e" * 16), request, 0.0).startswith("10.")


def _hoard(leases: Leases, community: bytes, count: int, now: float) -> None:
    for number in range(count):
        edge = EdgeId(number.to_bytes(16, "big"))
        request = AddressRequest(AddressMode.AUTO, "", PROPOSALS)
        leases.grant(community, edge, request, now)
        leases.release(community, edge, now)
