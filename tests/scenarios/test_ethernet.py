"""What a switch does: learn, age, forward, flood; and every frame passes intact."""

import pytest

from mesh.constants import MAC_LIFETIME, MAX_MACS_PER_PEER
from tests.virtual_edge import VirtualEdge
from tests.virtual_nat import PORT_RESTRICTED, SYMMETRIC
from tests.world import World, ethernet

BROADCAST = b"\xff" * 6
MULTICAST = bytes.fromhex("01005e7f4d4e")
STRANGER = bytes.fromhex("020000000001")


@pytest.fixture
def trio(world: World) -> list[VirtualEdge]:
    """Three edges that have met, and know what their paths carry."""
    edges = world.add_edges("abc")
    world.run_until_direct(*edges)
    world.run_for(0.5)
    return edges


def counts(world: World, frame: bytes) -> str:
    """Return how often each edge was given a frame, in order of their names."""
    world.run_for(0.2)
    return "".join(str(world.count_received(edge, frame)) for edge in world.edges.values())


@pytest.mark.parametrize("group", [BROADCAST, MULTICAST], ids=["broadcast", "multicast"])
def test_a_group_frame_reaches_all_once(
    world: World, trio: list[VirtualEdge], group: bytes
) -> None:
    a, _, _ = trio
    assert counts(world, world.send_frame(a, group)) == "011"
    world.check_frames()


def test_known_unicast_reaches_its_owner_only(world: World, trio: list[VirtualEdge]) -> None:
    a, b, c = trio
    counts(world, world.send_frame(b))
    counts(world, world.send_frame(c))
    assert counts(world, world.send_frame(a, b)) == "010"
    assert counts(world, world.send_frame(a, c)) == "001"


def test_unknown_unicast_is_flooded_until_its_owner_speaks(
    world: World, trio: list[VirtualEdge]
) -> None:
    a, b, _ = trio
    assert counts(world, world.send_frame(a, STRANGER)) == "011"
    counts(world, world.send_exactly(b, ethernet(BROADCAST, STRANGER, b"bridged" * 8)))
    assert counts(world, world.send_frame(a, STRANGER)) == "010"


def test_an_address_that_moves_is_relearnt(world: World, trio: list[VirtualEdge]) -> None:
    a, b, c = trio
    counts(world, world.send_exactly(b, ethernet(BROADCAST, STRANGER, b"at b" * 15)))
    assert counts(world, world.send_frame(a, STRANGER)) == "010"
    counts(world, world.send_exactly(c, ethernet(BROADCAST, STRANGER, b"at c" * 15)))
    assert counts(world, world.send_frame(a, STRANGER)) == "001"
    counts(world, world.send_exactly(a, ethernet(BROADCAST, STRANGER, b"at a" * 15)))
    assert counts(world, world.send_frame(c, STRANGER)) == "100"


def test_an_address_is_forgotten_after_its_lifetime(world: World, trio: list[VirtualEdge]) -> None:
    a, b, _ = trio
    counts(world, world.send_exactly(b, ethernet(BROADCAST, STRANGER, b"bridged" * 8)))
    world.run_for(MAC_LIFETIME + 1)
    assert counts(world, world.send_frame(a, STRANGER)) == "011"


def test_addresses_of_a_peer_that_left_are_flooded_again(
    world: World, trio: list[VirtualEdge]
) -> None:
    a, b, _ = trio
    counts(world, world.send_exactly(b, ethernet(BROADCAST, STRANGER, b"bridged" * 8)))
    b.stop()
    world.run_for(1)
    assert counts(world, world.send_frame(a, STRANGER)) == "001"


def test_a_frame_from_a_peer_never_goes_to_another_peer(
    world: World, trio: list[VirtualEdge]
) -> None:
    a, _b, _c = trio
    before = [edge.driver.handed for edge in trio]
    frame = world.send_frame(a, STRANGER)
    assert counts(world, frame) == "011"
    assert world.count_received(a, frame) == 0
    handed = [edge.driver.handed - count for edge, count in zip(trio, before, strict=True)]
    assert max(handed[1:]) <= 1 + 2, "the frame and at most a ping and a pong"


def test_a_peer_can_claim_so_many_addresses_and_no_more(
    world: World, trio: list[VirtualEdge]
) -> None:
    a, b, c = trio
    counts(world, world.send_frame(c))
    for number in range(MAX_MACS_PER_PEER + 500):
        source = bytes([2, 1]) + number.to_bytes(4, "big")
        b.send(ethernet(a.mac, source, bytes(46)))
        if number % 100 == 0:
            world.run_for(0.1)
    world.run_for(1)
    views = a.driver.step(a.engine.fdb_views)
    assert len([view for view in views if view["peer"] == b.edge_id.hex()]) <= MAX_MACS_PER_PEER
    assert counts(world, world.send_frame(a, c)) == "001"


def test_group_addresses_are_never_learnt(world: World, trio: list[VirtualEdge]) -> None:
    a, b, _ = trio
    b.send(ethernet(a.mac, MULTICAST, bytes(46)))
    world.run_for(0.2)
    assert counts(world, world.send_frame(a, MULTICAST)) == "011"


@pytest.mark.parametrize("is_direct", [True, False], ids=["direct", "relayed"])
def test_every_frame_size_arrives_intact(world: World, *, is_direct: bool) -> None:
    behaviour = PORT_RESTRICTED if is_direct else SYMMETRIC
    a, b = (world.add_edge(name, world.add_nat(behaviour)) for name in "ab")
    world.run_until_all_are_joined()
    world.run_for(4)
    assert a.is_direct_to(b) is is_direct
    sent = []
    for size in range(60, 1515):
        sent.append(world.send_frame(a, b, size))
        world.run_for(0.0005)
    world.run_for(1)
    assert world.frames_received(b) == sent


def test_jumbo_frames_arrive_intact_where_the_mtu_allows_them(world: World) -> None:
    a, b = world.add_edges("ab", mtu=9000)
    world.run_until_direct(a, b)
    sent = []
    for size in [*range(1490, 1520), *range(1515, 9015, 61), 9014, 9018]:
        sent.append(world.send_frame(a, b, size))
        world.run_for(0.01)
    world.run_for(1)
    assert world.frames_received(b) == sent


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(
            ethernet(
                BROADCAST, STRANGER, bytes.fromhex("ffff0022000100000000") + bytes(50), 0x8137
            ),
            id="IPX",
        ),
        pytest.param(
            ethernet(BROADCAST, STRANGER, bytes.fromhex("0022ffff0022") + bytes(30), 0x0026),
            id="802.3 with a length",
        ),
        pytest.param(
            ethernet(BROADCAST, STRANGER, bytes.fromhex("00640800") + bytes(range(250)), 0x8100),
            id="802.1Q",
        ),
        pytest.param(
            ethernet(BROADCAST, STRANGER, bytes.fromhex("00640800") + bytes(1500), 0x8100),
            id="802.1Q of 1518 bytes",
        ),
        pytest.param(
            ethernet(BROADCAST, STRANGER, bytes.fromhex("006481000065") + bytes(80), 0x88A8),
            id="802.1ad",
        ),
        pytest.param(ethernet(BROADCAST, STRANGER, bytes(28), 0x0806), id="ARP, unpadded"),
        pytest.param(ethernet(BROADCAST, STRANGER, b""), id="nothing but a header"),
    ],
)
def test_frames_of_any_kind_pass(world: World, trio: list[VirtualEdge], frame: bytes) -> None:
    a, _, _ = trio
    assert counts(world, world.send_exactly(a, frame)) == "011"


@pytest.mark.parametrize("frame", [b"", b"short", bytes(13), bytes(9019), bytes(20000)])
def test_frames_that_are_none_are_dropped_and_counted(
    world: World, trio: list[VirtualEdge], frame: bytes
) -> None:
    a, _, _ = trio
    before = sum(a.drops().values())
    a.send(frame)
    assert counts(world, frame) == "000"
    assert sum(a.drops().values()) == before + 1
