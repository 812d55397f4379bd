"""Edges on several supernodes at once: who meets whom, and what a death costs."""

import itertools

import pytest

from mesh.errors import RefusalReason
from mesh.events import LeasesDiffer, PathChanged, PeerDown, Refused, Registered, Replaced
from mesh.wire.datagram import DatagramType
from mesh.wire.messages import AddressMode
from tests.virtual_edge import VirtualEdge
from tests.virtual_nat import PORT_RESTRICTED
from tests.virtual_network import LinkConditions, Packet, Segment
from tests.world import World

FAR = LinkConditions(latency=0.030)


def world_with_two(seed: int = 7, *, far: int = 1) -> World:
    """A world in which one of two supernodes answers more slowly than the other."""
    world = World(seed)
    for number in range(2):
        world.add_supernode(conditions=FAR if number == far else None)
    return world


def add_edges(world: World, names: str, **settings: object) -> list[VirtualEdge]:
    return world.add_edges(names, supernodes=world.supernodes, **settings)


def primary(edge: VirtualEdge) -> str:
    return edge.driver.step(edge.engine.edge_view)["supernode"]["endpoint"]


def chat(world: World, a: VirtualEdge, b: VirtualEdge, seconds: float) -> list[float]:
    """Send a frame from ``a`` to ``b`` every 50 ms; return when those were sent that got lost."""
    sent = []
    for _ in range(round(seconds / 0.05)):
        sent.append((world.clock.now, world.send_frame(a, b)))
        world.run_for(0.05)
    world.run_for(0.5)
    received = set(world.frames_received(b))
    return [at for at, frame in sent if frame not in received]


def test_an_edge_is_registered_with_all_supernodes_and_has_one_address() -> None:
    world = world_with_two()
    edges = add_edges(world, "abc")
    world.run_until_all_are_joined()
    world.run_for(1)
    assert [supernode.edge_count() for supernode in world.supernodes] == [3, 3]
    assert len({edge.address for edge in edges}) == 3
    for supernode in world.supernodes:
        assert sorted(supernode.leases.values()) == sorted(edge.address for edge in edges)


def test_the_status_lists_all_supernodes_and_says_which_is_the_primary() -> None:
    world = world_with_two()
    (a,) = add_edges(world, "a")
    world.run_for(10)
    world.supernodes[1].crash()
    world.run_for(15)
    status = a.driver.step(a.engine.edge_view)
    first, second = status["supernodes"]
    assert first == status["supernode"]
    assert [each["endpoint"] for each in (first, second)] == [
        str(supernode.endpoint) for supernode in world.supernodes
    ]
    assert (first["is_primary"], second["is_primary"]) == (True, False)
    assert (first["connected"], second["connected"]) == (True, False)
    assert first["rtt_ms"] == pytest.approx(40.0, abs=1.0)
    assert second["transport"] == "udp"


@pytest.mark.parametrize("far", [0, 1])
def test_the_supernode_that_answers_faster_becomes_the_primary(far: int) -> None:
    world = world_with_two(far=far)
    (a,) = add_edges(world, "a")
    world.run_for(10)
    assert primary(a) == str(world.supernodes[1 - far].endpoint)


def test_edges_meet_that_share_one_supernode_only() -> None:
    world = world_with_two()
    first, second = world.supernodes
    a = world.add_edge("a", supernodes=[first], relay_only=True)
    b = world.add_edge("b", supernodes=[second], relay_only=True)
    both = world.add_edge("both", supernodes=[first, second], relay_only=True)
    world.run_for(5)
    world.ping(a, both)
    world.ping(b, both)
    assert b.edge_id not in a.peers
    assert both.edge_id in a.peers & b.peers


def test_a_direct_pair_loses_nothing_when_the_primary_dies_and_the_spare_is_primary_soon() -> None:
    world = world_with_two()
    a, b = [
        world.add_edge(name, world.add_nat(PORT_RESTRICTED), supernodes=world.supernodes)
        for name in "ab"
    ]
    world.run_until_direct(a, b)
    world.run_for(20)
    addresses = a.address, b.address
    world.supernodes[0].crash()
    assert chat(world, a, b, 10.0) == []
    assert primary(a) == primary(b) == str(world.supernodes[1].endpoint)
    assert chat(world, a, b, 120.0) == []
    assert (a.address, b.address) == addresses
    assert not a.reported(PeerDown) + b.reported(PeerDown)


@pytest.mark.parametrize("seed", range(4))
def test_a_relayed_pair_moves_to_the_other_relay_within_a_second_or_so(seed: int) -> None:
    world = world_with_two(seed)
    a, b = add_edges(world, "ab", relay_only=True)
    world.run_until_all_are_joined()
    assert chat(world, a, b, 5.0 + seed / 3) == []
    assert world.supernodes[0].relayed_datagrams() > 80
    world.supernodes[0].crash()
    died_at = world.clock.now
    lost = chat(world, a, b, 20.0)
    assert lost
    assert max(lost) - died_at < 1.5
    assert world.supernodes[1].relayed_datagrams() > 300


def test_a_relayed_pair_loses_next_to_nothing_when_the_primary_says_goodbye() -> None:
    world = world_with_two()
    a, b = add_edges(world, "ab", relay_only=True)
    world.run_until_all_are_joined()
    assert chat(world, a, b, 5.0) == []
    world.supernodes[0].stop()
    assert len(chat(world, a, b, 20.0)) <= 1
    assert primary(a) == str(world.supernodes[1].endpoint)


def test_a_supernode_that_comes_back_is_registered_with_again_and_used() -> None:
    world = world_with_two()
    first, second = world.supernodes
    a, b = add_edges(world, "ab", relay_only=True)
    world.run_until_all_are_joined()
    world.run_for(5)
    first.crash()
    world.run_for(60)
    first.start()
    world.run_until(lambda: first.edge_count() == 2, timeout=15)
    world.run_for(30)
    assert primary(a) == str(first.endpoint)
    assert chat(world, a, b, 5.0) == []
    second.crash()
    assert chat(world, a, b, 20.0) == []


def test_a_member_that_crashes_after_a_supernode_is_forgotten_all_the_same() -> None:
    world = world_with_two()
    a, b = add_edges(world, "ab")
    world.run_until_all_are_joined()
    world.supernodes[0].crash()
    world.run_for(20)
    b.crash()
    world.run_until(lambda: b.edge_id not in a.peers, timeout=40)


def test_a_member_that_leaves_only_one_supernode_stays() -> None:
    world = world_with_two()
    a, b = add_edges(world, "ab", relay_only=True)
    world.run_until_all_are_joined()
    world.run_for(2)
    (supernode, _) = world.supernodes
    supernode.crash()
    supernode.start()  # it knows nobody, and the first that is back hears of one member only
    world.run_for(40)
    assert not a.reported(PeerDown) + b.reported(PeerDown)
    assert chat(world, a, b, 5.0) == []


def test_a_refusal_by_one_supernode_does_not_stop_the_edge_with_the_other() -> None:
    world = world_with_two()
    first, second = world.supernodes
    fixed = {"address_mode": AddressMode.FIXED, "address": "10.9.9.9/24"}
    world.add_edge("holder", supernodes=[first], **fixed)
    world.run_for(2)
    a = world.add_edge("a", supernodes=[first, second], **fixed)
    world.run_for(100)
    assert {event.reason for event in a.reported(Refused)} == {RefusalReason.ADDRESS_TAKEN}
    assert [event.supernode for event in a.reported(Registered)] == [1]
    assert second.edge_count() == 1


def test_an_edge_that_is_replaced_on_one_supernode_goes_on_with_the_other() -> None:
    world = world_with_two()
    first, second = world.supernodes
    a = world.add_edge("a", supernodes=[first, second])
    world.run_for(2)
    world.add_edge("copy", supernodes=[first], identity=a.config.identity)
    world.run_for(100)
    assert [event.supernode for event in a.reported(Replaced)] == [0]
    assert second.edge_count() == 1
    assert primary(a) == str(second.endpoint)


def test_a_community_of_many_on_two_supernodes_survives_deaths_in_turn() -> None:
    world = world_with_two()
    edges = add_edges(world, "abcdef")
    world.run_until_all_are_joined()
    addresses = [edge.address for edge in edges]
    for supernode in (*world.supernodes, *world.supernodes):
        world.run_for(15)
        supernode.crash()
        world.run_for(15)
        for a, b in itertools.permutations(edges, 2):
            world.ping(a, b)
        supernode.start()
    assert [edge.address for edge in edges] == addresses
    assert not [event for edge in edges for event in edge.reported(PeerDown)]
    world.check_frames()


def initiations(world: World) -> list[tuple[float, str]]:
    """Note from now on when registrations are begun, and with which address."""
    seen: list[tuple[float, str]] = []

    def note(now: float, segment: Segment, packet: Packet) -> None:
        if segment is world.internet and packet.payload[0] == DatagramType.SUPERNODE_INITIATION:
            seen.append((now, packet.destination.host))

    world.taps.append(note)
    return seen


def peak(times: list[float]) -> int:
    """Return the most that ever happened within a tenth of a second."""
    return max((sum(at <= each < at + 0.1 for each in times) for at in times), default=0)


def test_the_death_of_a_supernode_is_no_storm_for_the_other_nor_its_return_for_itself() -> None:
    world = world_with_two()
    first, second = world.supernodes
    for number in range(30):
        world.add_edge(f"edge {number}", supernodes=world.supernodes)
        world.run_for(0.3)
    world.run_until_all_are_joined()
    seen = initiations(world)
    first.crash()
    world.run_for(60)
    assert [host for _, host in seen].count(second.endpoint.host) == 0
    begun = [at for at, host in seen if host == first.endpoint.host]
    assert len(begun) < 30 * 20
    seen.clear()
    first.start()
    world.run_until(lambda: first.edge_count() == 30, timeout=13)
    back = [at for at, host in seen if host == first.endpoint.host]
    assert len(back) <= 2 * 30
    assert peak(back) <= 8


def test_a_supernode_that_restarts_with_a_word_is_not_come_back_to_by_all_at_once() -> None:
    world = World(9)
    supernode = world.add_supernode()
    world.add_edges(f"edge {number}" for number in range(30))
    world.run_until_all_are_joined()
    world.run_for(10)
    seen = initiations(world)
    supernode.stop()
    supernode.start()
    world.run_until(lambda: supernode.edge_count() == 30, timeout=4)
    times = [at for at, _ in seen]
    assert len(times) <= 2 * 30
    assert peak(times) <= 12


def test_a_spare_is_asked_for_the_address_that_another_one_leased() -> None:
    world = world_with_two()
    first, second = world.supernodes
    a = world.add_edge("a", supernodes=[second])
    world.run_for(2)
    alone = a.address
    a.stop()
    # Somebody has the address on the first supernode, so that it leases another one there.
    fixed = {"address_mode": AddressMode.FIXED, "address": alone}
    world.add_edge("b", supernodes=[first], **fixed)
    world.run_for(2)
    a = world.add_edge(
        "a again", supernodes=[first, second], identity=a.config.identity, clock_offset=0.0
    )
    world.run_for(3)
    assert a.address != alone
    assert set(first.leases.values()) == {alone, a.address}
    assert set(second.leases.values()) == {a.address}


def test_a_supernode_that_leases_another_address_is_reported_once_and_changes_nothing() -> None:
    world = world_with_two()
    first, second = world.supernodes
    a = world.add_edge("a", supernodes=[first])
    world.run_for(2)
    address = a.address
    a.stop()
    fixed = {"address_mode": AddressMode.FIXED, "address": address}
    world.add_edge("squatter", supernodes=[second], **fixed)
    world.run_for(2)
    a = world.add_edge(
        "a again", supernodes=[first, second], identity=a.config.identity, clock_offset=0.0
    )
    world.run_for(300)  # sessions are renewed, and leases told again
    assert a.address == address
    [leased] = set(second.leases.values()) - {address}
    assert a.reported(LeasesDiffer) == [LeasesDiffer(1, leased, address)]


def test_relayed_paths_do_not_flap_on_links_that_lose_and_shake() -> None:
    world = World(11)
    rough = LinkConditions(latency=0.02, jitter=0.03, loss=0.05, duplication=0.02, reordering=0.05)
    for _ in range(2):
        world.add_supernode(conditions=rough)
    edges = add_edges(world, "abc", conditions=rough, relay_only=True)
    world.run_until_all_are_joined(timeout=60)
    before = sum(len(edge.reported(PathChanged)) for edge in edges)
    for _ in range(120):
        for one, other in itertools.permutations(edges, 2):
            world.send_frame(one, other)
        world.run_for(0.5)
    changes = sum(len(edge.reported(PathChanged)) for edge in edges) - before
    assert changes <= 6, "six paths within a minute, each round trip lost with a chance of a third"
    world.check_frames()
