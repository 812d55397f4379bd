"""Bytes that nobody honest would send: nothing raises, nothing is believed, everything goes on."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh.addresses import Endpoint
from mesh.crypto.session import Session
from mesh.wire.inner import wrap_control
from mesh.wire.messages import Lookup, Ping, Pong, encode_message
from tests.scenarios.census import count_entries
from tests.scenarios.siege import Siege
from tests.virtual_edge import VirtualEdge
from tests.virtual_network import Packet
from tests.world import World

FUZZED = 1500


def endpoint_of(edge: VirtualEdge) -> Endpoint:
    return Endpoint(edge.host.addresses()[0], edge.udp_port)


@pytest.fixture(scope="module")
def besieged() -> Siege:
    """One siege that all examples share: what one of them breaks, a later one may show."""
    return Siege(is_direct=True, seed=3)


@settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    payload=st.one_of(
        st.binary(max_size=200),
        st.builds(
            lambda kind, zeros, rest: bytes([kind]) + bytes(zeros) + rest,
            st.integers(0, 16),
            st.integers(0, 3),
            st.binary(max_size=200),
        ),
    ),
    target=st.sampled_from(["a", "supernode"]),
    source=st.sampled_from(["a", "b", "supernode", "mallory"]),
)
def test_arbitrary_bytes_from_anybody_are_survived(
    besieged: Siege, payload: bytes, target: str, source: str
) -> None:
    endpoints = {
        "a": endpoint_of(besieged.a),
        "b": endpoint_of(besieged.b),
        "supernode": besieged.supernode.endpoint,
        "mallory": besieged.attacker.endpoint,
    }
    besieged.attacker.send(endpoints[target], payload, spoofed_source=endpoints[source])
    besieged.world.run_for(0.03)


def test_the_besieged_are_unharmed(besieged: Siege) -> None:
    besieged.check_unharmed()


def mutations(siege: Siege) -> bytes:
    """Return something made of what was recorded."""
    dice = siege.dice
    payload = bytearray(dice.choice(siege.recorded).payload)
    match dice.randrange(6):
        case 0:
            payload[dice.randrange(len(payload))] ^= 1 << dice.randrange(8)
        case 1:
            del payload[dice.randrange(len(payload)) :]
        case 2:
            payload += dice.randbytes(dice.randrange(1, 100))
        case 3:
            payload[0] = dice.randrange(16)
        case 4:
            at = dice.randrange(len(payload))
            payload[at : at + 8] = dice.randbytes(8)
        case _:
            other = dice.choice(siege.recorded).payload
            payload = payload[: dice.randrange(len(payload))] + other[dice.randrange(len(other)) :]
    return bytes(payload)


@pytest.mark.parametrize("is_direct", [True, False], ids=["direct", "relayed"])
def test_mutated_datagrams_are_survived(*, is_direct: bool) -> None:
    siege = Siege(is_direct=is_direct, seed=4)
    ends = [endpoint_of(siege.a), endpoint_of(siege.b), siege.supernode.endpoint]
    before = count_entries([siege.a.engine, siege.b.engine, siege.supernode.engine])
    for _ in range(FUZZED):
        source, destination = siege.dice.sample([*ends, siege.attacker.endpoint], 2)
        siege.strike(Packet(source, destination, b""), mutations(siege), spoofed=True)
    siege.check_unharmed()
    after = count_entries([siege.a.engine, siege.b.engine, siege.supernode.engine])
    assert after < before + 500


def hostile_plaintexts(dice: random.Random, honest: list[bytes]) -> bytes:
    """Return an inner datagram that a member gone bad might seal."""
    match dice.randrange(5):
        case 0:
            return dice.randbytes(dice.randrange(120))
        case 1:
            return bytes([dice.randrange(5)]) + dice.randbytes(dice.randrange(120))
        case 2:  # a frame with a checksum that points anywhere
            return bytes([1]) + dice.randbytes(3) + dice.randbytes(dice.randrange(60))
        case 3:  # a fragment with any numbers
            header = (
                bytes([2]) + dice.randbytes(5) + bytes([dice.randrange(20), dice.randrange(20)])
            )
            return header + dice.randbytes(dice.randrange(60))
        case _:
            message = bytearray(dice.choice(honest))
            message[dice.randrange(4, len(message))] = dice.randrange(256)
            return bytes(message)


def honest_messages(edge: VirtualEdge, peer: VirtualEdge) -> list[bytes]:
    """Return control messages of every kind that a mutation may start from."""
    return [
        wrap_control(encode_message(message))
        for message in (
            Ping(token=bytes(8), pad=b"x" * 20),
            Pong(token=bytes(8), endpoint=endpoint_of(edge), digest=bytes(8)),
            Lookup(),
            edge.engine._peers.hello(True),
        )
    ]


def seal_and_send(edge: VirtualEdge, session: Session, to: Endpoint, plaintext: bytes) -> None:
    edge.host.send(edge.udp_port, to, session.seal(plaintext))


def test_a_member_gone_bad_harms_neither_peers_nor_supernode() -> None:
    world = World(seed=6)
    (supernode,) = [world.add_supernode()]
    a, b, bad = world.add_edges(["a", "b", "bad"])
    world.run_until_direct(a, b, bad)
    world.ping(a, b)
    frames = len(b.frames)
    honest = honest_messages(bad, a)
    before = count_entries([a.engine, supernode.engine])
    dice = random.Random(6)
    for _ in range(FUZZED):
        plaintext = hostile_plaintexts(dice, honest)
        to_peer = bad.engine._peers.get(a.edge_id).sessions.current
        to_supernode = bad.engine._supernodes.primary.contact.session
        seal_and_send(bad, to_peer, endpoint_of(a), plaintext)
        seal_and_send(bad, to_supernode, supernode.endpoint, plaintext)
        world.run_for(0.003)
    assert count_entries([a.engine, supernode.engine]) < before + 5000
    world.run_for(5)
    world.ping(a, b)
    assert len(b.frames) == frames + 1
    world.run_for(60)
    assert count_entries([a.engine, supernode.engine]) < before + 5000
