"""A third machine replays, forges, floods and spoofs: nothing is delivered and no path moves."""

import itertools
from collections.abc import Iterator

import pytest

from mesh.addresses import Endpoint
from mesh.constants import MAX_AMPLIFICATION
from mesh.events import PeerUp
from tests.scenarios.siege import COUNT, Siege
from tests.virtual_edge import VirtualEdge
from tests.virtual_nat import PORT_RESTRICTED, SYMMETRIC
from tests.virtual_network import PERFECT, Packet, Segment
from tests.virtual_topology import Attacker, Wiretap
from tests.world import World, community_keys, ethernet

OUR_SECRET, THEIR_SECRET = "ours", "theirs"


@pytest.fixture(params=[True, False], ids=["direct", "relayed"])
def siege(request: pytest.FixtureRequest) -> Siege:
    return Siege(is_direct=request.param)


@pytest.fixture(params=[True, False], ids=["spoofed source", "own source"])
def spoofed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_replayed_datagrams_do_nothing(siege: Siege, *, spoofed: bool) -> None:
    dropped_before = siege.dropped()
    for packet in siege.frames_on_the_wire()[:COUNT]:
        siege.strike(packet, packet.payload, spoofed=spoofed)
    siege.world.run_for(1)
    assert siege.dropped() >= dropped_before + COUNT
    siege.check_unharmed()


def test_everything_ever_recorded_may_be_replayed(siege: Siege, *, spoofed: bool) -> None:
    for packet in siege.recorded[:COUNT]:
        siege.strike(packet, packet.payload, spoofed=spoofed)
    siege.check_unharmed()


def test_bit_flipped_datagrams_do_nothing(siege: Siege, *, spoofed: bool) -> None:
    dropped_before = siege.dropped()
    for packet in siege.frames_on_the_wire()[:COUNT]:
        payload = bytearray(packet.payload)
        payload[siege.dice.randrange(len(payload))] ^= 1 << siege.dice.randrange(8)
        siege.strike(packet, bytes(payload), spoofed=spoofed)
    siege.world.run_for(1)
    assert siege.dropped() >= dropped_before + COUNT
    siege.check_unharmed()


def test_forged_datagrams_with_the_right_index_do_nothing(siege: Siege, *, spoofed: bool) -> None:
    dropped_before = siege.dropped()
    for number, packet in enumerate(siege.frames_on_the_wire()[:COUNT]):
        start = 12 if packet.payload[0] == 5 else 0
        header = packet.payload[: start + 8]
        counter = (10**6 + number).to_bytes(8, "big")
        forged = header + counter + siege.dice.randbytes(len(packet.payload) - start - 16)
        siege.strike(packet, forged, spoofed=spoofed)
    siege.world.run_for(1)
    assert siege.dropped() >= dropped_before + COUNT
    siege.check_unharmed()


def test_forged_hints_that_a_session_is_unknown_do_nothing(siege: Siege, *, spoofed: bool) -> None:
    for packet in siege.frames_on_the_wire()[:COUNT]:
        backwards = Packet(packet.destination, packet.source, b"")
        echo = packet.payload[4:16]
        for what in (4, 5):
            siege.strike(backwards, bytes([9, what, 0, 0]) + echo, spoofed=spoofed)
    siege.check_unharmed()


def test_initiations_of_a_stranger_draw_nothing_from_an_edge() -> None:
    world = World()
    world.add_supernode()
    wire = Wiretap(world)
    world.add_edges(["stranger", "friend"], community="elsewhere")
    victim = world.add_edge("victim")
    world.run_until_all_are_joined()
    attacker = Attacker(world)
    envelope = next(p for p in wire.payloads() if p[0] == 5 and p[12] == 1)
    endpoint = Endpoint(victim.host.addresses()[0], victim.udp_port)
    for _ in range(COUNT):
        attacker.send(endpoint, envelope[12:])
        world.run_for(0.01)
    assert not attacker.received


def test_a_replayed_initiation_makes_no_session(siege: Siege) -> None:
    initiations = [
        packet
        for packet in siege.recorded
        if packet.payload[0] == 1 or (packet.payload[0] == 5 and packet.payload[12] == 1)
    ]
    assert initiations
    for packet, _ in itertools.product(initiations, range(20)):
        siege.strike(packet, packet.payload, spoofed=True)
    siege.check_unharmed()


def test_one_name_with_two_keys_makes_two_networks(world: World) -> None:
    ours = world.add_edges(["a", "b"], community="home", secret=OUR_SECRET)
    theirs = world.add_edges(["c", "d"], community="home", secret=THEIR_SECRET)
    world.run_until_all_are_joined()
    for edge in (*ours, *theirs):
        world.send_frame(edge)
    world.run_for(10)
    assert [len(edge.reported(PeerUp)) for edge in (*ours, *theirs)] == [1, 1, 1, 1]
    assert [len(edge.frames) for edge in (*ours, *theirs)] == [1, 1, 1, 1]
    world.check_frames()


def test_a_wrong_key_meets_nobody(world: World) -> None:
    a, b = world.add_edges("ab")
    wrong = world.add_edge("c", secret=THEIR_SECRET)
    world.run_until_all_are_joined()
    world.run_for(60)
    assert wrong.is_registered()
    assert not wrong.peers
    assert a.peers == {b.edge_id}


def test_no_plaintext_crosses_the_wire(siege: Siege) -> None:
    secret_text = b"attack at dawn, bring the long ladder"
    siege.world.send_exactly(siege.a, ethernet(siege.b.mac, siege.a.mac, secret_text * 30))
    siege.world.send_exactly(siege.a, ethernet(siege.b.mac, siege.a.mac, secret_text))
    siege.world.run_for(1)
    assert any(secret_text in frame for _, frame in siege.b.frames)
    everything = b"".join(siege.wire.payloads())
    keys = community_keys("home")
    for pattern in (secret_text, siege.a.mac, siege.b.mac, keys.community_id, keys.psk, b"home"):
        assert pattern not in everything
    assert siege.a.config.identity.public_key not in everything


def answers_to(siege: Siege, victim: Packet, payload: bytes) -> int:
    """Return the bytes that the attacker gets for a datagram, soon."""
    before = len(siege.attacker.received)
    siege.attacker.send(victim.destination, payload)
    siege.world.run_for(0.2)
    return sum(len(packet.payload) for packet in siege.attacker.received[before:])


def unauthenticated(siege: Siege) -> Iterator[tuple[Packet, bytes]]:
    """Yield things to send: one recorded datagram of each type and length, and variations."""
    examples = {
        (packet.payload[0], len(packet.payload), packet.destination.host): packet
        for packet in siege.recorded
    }
    for packet in examples.values():
        payload = packet.payload
        yield packet, payload
        yield packet, payload[: len(payload) // 2]
        yield packet, payload[:1] + b"\x02" + payload[2:]  # another version
        yield packet, payload[:16] + siege.dice.randbytes(max(0, len(payload) - 16))
    for packet, kind in itertools.product(list(examples.values())[:4], range(256)):
        yield packet, bytes([kind]) + siege.dice.randbytes(siege.dice.randrange(80))


def test_nothing_unauthenticated_draws_more_than_three_times_its_size() -> None:
    siege = Siege(is_direct=True)
    sent = received = 0
    for packet, payload in unauthenticated(siege):
        answered = answers_to(siege, packet, payload)
        assert answered <= MAX_AMPLIFICATION * len(payload), payload[:16].hex()
        sent += len(payload)
        received += answered
    siege.world.run_for(30)
    total = sum(len(packet.payload) for packet in siege.attacker.received)
    assert total == received, "something was sent later, without having been asked"
    assert 0 < received <= MAX_AMPLIFICATION * sent


def test_an_edge_joins_in_the_middle_of_a_flood() -> None:
    siege = Siege(is_direct=True)
    initiation = next(p for p in siege.recorded if p.payload[0] == 6)

    def flood(number: int = 0) -> None:
        source = siege.attacker.endpoint._replace(host=f"77.{number >> 8 & 255}.{number & 255}.1")
        siege.attacker.send(initiation.destination, initiation.payload, spoofed_source=source)
        siege.world.clock.after(0.002, lambda: flood(number + 1))

    flood()
    siege.world.run_for(3)
    late = siege.world.add_edge("late", siege.world.add_nat(PORT_RESTRICTED))
    siege.world.run_until(late.is_registered, timeout=3)
    siege.world.run_until_all_are_joined(timeout=3)
    siege.world.run_for(30)
    assert siege.supernode.edge_count() == 3
    assert siege.supernode.drops()["under_load"] > 1000, "cookies were asked for"


@pytest.mark.parametrize("flood_from", ["one source", "many sources"])
def test_a_spoofed_victim_gets_no_more_than_three_times_what_was_sent_in_its_name(
    flood_from: str,
) -> None:
    siege = Siege(is_direct=True)
    initiation = next(p for p in siege.recorded if p.payload[0] == 6)
    victim = Attacker(siege.world, "victim")
    for number in range(1000):
        port = victim.udp_port if flood_from == "one source" else 1024 + number
        source = victim.endpoint._replace(port=port)
        siege.attacker.send(initiation.destination, initiation.payload, spoofed_source=source)
        siege.world.run_for(0.001)
    answers = [
        packet
        for _, packet in siege.wire.packets
        if packet.destination.host == victim.endpoint.host
    ]
    drawn = sum(len(packet.payload) for packet in answers)
    assert 0 < drawn < 1000 * len(initiation.payload)


def test_a_stranger_cannot_use_the_relay() -> None:
    siege = Siege(is_direct=False)
    envelope = next(p for p in siege.recorded if p.payload[0] == 5)
    before = siege.supernode.relayed_datagrams()
    for _ in range(50):
        siege.attacker.send(siege.supernode.endpoint, envelope.payload)
        siege.world.run_for(0.001)
    after = siege.supernode.relayed_datagrams()
    assert after - before <= 4, "no more than the edges' own heartbeats"


def test_a_member_of_one_community_cannot_relay_into_another(world: World) -> None:
    wire = Wiretap(world)
    a, b = world.add_edges("ab", relay_only=True, community="one")
    (c, d) = world.add_edges("cd", relay_only=True, community="two")
    world.run_until_all_are_joined()
    from_a = next(p for _, p in wire.packets if p.payload[0] == 5 and _is_from(p, a))
    from_c = next(p for _, p in wire.packets if p.payload[0] == 5 and _is_from(p, c))
    crossing = from_a.payload[:8] + from_c.payload[8:]
    wire.packets.clear()
    for _ in range(20):
        a.host.ports[0].send(from_a._replace(payload=crossing))
        world.run_for(0.01)
    assert crossing not in [
        p.payload for _, p in wire.packets if p.source == world.supernodes[0].endpoint
    ]
    assert b.peers
    assert d.peers


def _is_from(packet: Packet, edge: VirtualEdge) -> bool:
    return packet.source.host == edge.host.addresses()[0]


def test_an_attack_on_edges_behind_nats_does_nothing_either() -> None:
    world = World()
    world.add_supernode()
    wire = Wiretap(world)
    a = world.add_edge("a", world.add_nat(PORT_RESTRICTED))
    b = world.add_edge("b", world.add_nat(SYMMETRIC))
    world.run_until_all_are_joined()
    frames = [world.send_frame(a, b) for _ in range(COUNT)]
    world.run_for(5)
    attacker = Attacker(world)
    for _, packet in wire.packets[-COUNT:]:
        attacker.send(packet.destination, packet.payload, spoofed_source=packet.source)
        world.run_for(0.002)
    world.run_for(2)
    assert world.frames_received(b) == frames
    assert not a.frames


def test_a_faster_copy_of_every_datagram_between_edges_takes_no_path_and_no_frame() -> None:
    siege = Siege(is_direct=True)
    siege.attacker.host.ports[0].conditions = PERFECT
    world = siege.world
    edges = {siege.a.host.addresses()[0], siege.b.host.addresses()[0]}

    def race(_now: float, _segment: Segment, packet: Packet) -> None:
        if {packet.source.host, packet.destination.host} == edges:
            siege.attacker.send(packet.destination, packet.payload)

    world.taps.append(race)
    before = len(siege.b.frames)
    sent = []
    for _ in range(800):
        sent.append(world.send_frame(siege.a, siege.b))
        world.run_for(0.05)
        for edge in (siege.a, siege.b):
            hosts = {path.endpoint.host for path in edge.paths.values() if path.endpoint}
            assert siege.attacker.endpoint.host not in hosts
    world.run_for(1)
    assert world.frames_received(siege.b)[before:] == sent
