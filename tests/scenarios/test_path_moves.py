"""What an unbroken ping stream loses while its path moves, and what tells a move from mere loss."""

from collections.abc import Callable

import pytest

from mesh.events import PathChanged, PathKind
from tests.virtual_edge import VirtualEdge
from tests.virtual_nat import PORT_RESTRICTED
from tests.virtual_network import LinkConditions
from tests.virtual_pings import INTERVAL, Pings
from tests.world import World

SILENT_LOSS = 1.2  # s; 0.5 of silence, 0.3 for an answer, and round trips
HOME = LinkConditions(latency=0.01)


def homes(world: World) -> tuple[VirtualEdge, VirtualEdge]:
    a, b = (world.add_edge(name, world.add_nat(PORT_RESTRICTED)) for name in "ab")
    world.run_until_direct(a, b)
    world.run_for(2)
    return a, b


def public_address(edge: VirtualEdge, peer: VirtualEdge) -> str:
    """Return where an edge reaches a peer."""
    endpoint = edge.paths[peer.edge_id].endpoint
    assert endpoint is not None
    return endpoint.host


def block(world: World, a: VirtualEdge, b: VirtualEdge) -> None:
    world.internet.block(public_address(a, b), public_address(b, a))


def block_one_way(world: World, a: VirtualEdge, b: VirtualEdge) -> None:
    """Let nothing more pass from a to b directly."""
    world.internet.blocked.add((public_address(b, a), public_address(a, b)))


def block_the_way_back(world: World, a: VirtualEdge, b: VirtualEdge) -> None:
    block_one_way(world, b, a)


@pytest.mark.parametrize(
    ("close", "allowed"),
    [(block, SILENT_LOSS), (block_one_way, 1.8), (block_the_way_back, 1.8)],
    ids=["both ways", "there", "back"],
)
def test_a_path_that_is_closed_silently_costs_about_a_second(
    world: World, close: Callable[[World, VirtualEdge, VirtualEdge], None], allowed: float
) -> None:
    a, b = homes(world)
    pings = Pings(world, a, b)
    world.run_for(5)
    closed_at = world.clock.now
    close(world, a, b)
    world.run_for(40)
    lost = pings.stop()
    assert 0 < len(lost) <= allowed / INTERVAL
    assert pings.returned_after(closed_at) <= allowed
    world.check_frames()


def test_a_path_that_a_router_closes_with_icmp_loses_nothing(world: World) -> None:
    a, b = homes(world)
    pings = Pings(world, a, b)
    world.run_for(5)
    world.internet.rejects = True
    block(world, a, b)
    world.run_for(30)
    assert pings.stop() == []
    assert a.path_kind(b) is b.path_kind(a) is PathKind.RELAY
    world.check_frames()


def test_a_path_that_our_own_firewall_closes_loses_nothing(world: World) -> None:
    a, b = homes(world)
    pings = Pings(world, a, b)
    world.run_for(5)
    a.host.refused.add(public_address(a, b))
    world.run_for(10)
    assert pings.stop() == []
    assert a.path_kind(b) is PathKind.RELAY
    world.check_frames()


def test_a_path_that_opens_again_is_taken_without_loss(world: World) -> None:
    a, b = homes(world)
    world.internet.rejects = True
    block(world, a, b)
    pings = Pings(world, a, b)
    world.run_for(40)
    assert a.path_kind(b) is PathKind.RELAY
    world.internet.blocked.clear()
    world.run_until_direct(a, b, timeout=65)
    world.run_for(5)
    assert pings.stop() == []
    world.check_frames()


def test_frames_without_answer_notice_a_closed_path_as_soon(world: World) -> None:
    a, b = homes(world)
    for _ in range(40):
        world.send_frame(a, b)
        world.run_for(INTERVAL)
    block(world, a, b)
    sent = []
    for _ in range(200):
        sent.append(world.send_frame(a, b))
        world.run_for(INTERVAL)
    world.run_for(1)
    received = set(world.frames_received(b))
    lost = [number for number, frame in enumerate(sent) if frame not in received]
    assert lost == list(range(len(lost)))
    assert len(lost) <= SILENT_LOSS / INTERVAL


def test_a_single_lost_ping_is_no_reason_to_send_twice(world: World) -> None:
    a, b = homes(world)
    pings = Pings(world, a, b)
    world.run_for(5)
    (supernode,) = world.supernodes
    before = supernode.relayed_datagrams()
    direct = public_address(a, b), public_address(b, a)
    world.internet.block(*direct)
    world.run_for(0.1)
    world.internet.blocked.clear()
    world.run_for(10)
    assert len(pings.stop()) <= 4
    assert supernode.relayed_datagrams() - before <= 4, "heartbeats of the idle relay path"


@pytest.mark.parametrize("is_answered", [True, False])
def test_links_that_lose_and_shake_do_not_make_paths_flap(*, is_answered: bool) -> None:
    rough = LinkConditions(latency=0.01, jitter=0.03, loss=0.05, duplication=0.03, reordering=0.05)
    world = World(seed=6)
    world.add_supernode(ipv6=True, conditions=rough)
    a, b = (world.add_edge(name, ipv6=True, conditions=rough) for name in "ab")
    world.run_until_direct(a, b, timeout=10)
    world.run_for(5)
    changes = sum(len(edge.reported(PathChanged)) for edge in (a, b))
    for _ in range(1200):
        world.send_frame(a, b)
        if is_answered:
            world.send_frame(b, a)
        world.run_for(0.1)
    flaps = sum(len(edge.reported(PathChanged)) for edge in (a, b)) - changes
    assert flaps <= 4, "IPv4 and IPv6 are equally good here: 0.7 on average, 3 in one seed of 50"
    world.check_frames()
