"""Symmetric NATs: predicted, guessed, refused, and kept within bounds."""

from collections import Counter
from dataclasses import replace

import pytest

from mesh.constants import GUESS_PREDICTIONS, GUESS_PROBES, GUESS_SOCKETS
from mesh.core.nat_kind import Hopeless
from mesh.events import GuessFailed, PathKind, SocketsUnwanted, SocketsWanted
from mesh.wire.datagram import PUNCH
from tests.virtual_edge import VirtualEdge
from tests.virtual_nat import (
    HOME_ROUTER,
    PORT_RESTRICTED,
    REJECTING_ROUTER,
    SYMMETRIC,
    SYMMETRIC_SEQUENTIAL,
    NatBehaviour,
)
from tests.virtual_network import INTERNET
from tests.virtual_topology import Topology, Wiretap
from tests.world import World

STRICT = [PORT_RESTRICTED, HOME_ROUTER, REJECTING_ROUTER]


def pair(
    world: World, hard: NatBehaviour, easy: NatBehaviour, **settings: bool
) -> tuple[VirtualEdge, VirtualEdge]:
    a = world.add_edge("a", world.add_nat(hard))
    b = world.add_edge("b", world.add_nat(easy), **settings)  # type: ignore[arg-type]
    return a, b


def hopeless(edge: VirtualEdge, peer: VirtualEdge) -> Hopeless | None:
    found = edge.engine._peers.get(peer.edge_id)
    assert found is not None
    return found.direct_hopeless


class Punches:
    """Counts the punches that leave for each address, by second."""

    def __init__(self, topology: Topology) -> None:
        self.by_host: Counter[str] = Counter()
        self.wire = Wiretap(topology)

    def to(self, host: str) -> int:
        return sum(
            packet.payload == PUNCH and packet.destination.host == host
            for _, packet in self.wire.packets
        )


@pytest.mark.parametrize("easy", STRICT)
@pytest.mark.parametrize("seed", range(3))
def test_sequential_ports_are_predicted(seed: int, easy: NatBehaviour) -> None:
    world = World(seed)
    world.add_supernode()
    a, b = pair(world, SYMMETRIC_SEQUENTIAL, easy)
    world.run_until_direct(a, b, timeout=4)
    assert world.ping(a, b) < 0.1
    assert [event.count for event in a.reported(SocketsWanted)] == [1]
    assert not b.reported(SocketsWanted)
    assert hopeless(a, b) is hopeless(b, a) is None


@pytest.mark.parametrize("easy", STRICT)
def test_random_ports_are_guessed_in_nine_of_ten_worlds_within_five_seconds(
    easy: NatBehaviour,
) -> None:
    direct = 0
    for seed in range(10):
        world = World(seed)
        world.add_supernode()
        a, b = pair(world, SYMMETRIC, easy)
        world.run_for(5)
        direct += a.is_direct_to(b) and b.is_direct_to(a)
    assert direct >= 9


def test_one_socket_is_kept_and_carries_frames_for_long(world: World) -> None:
    a, b = pair(world, SYMMETRIC, PORT_RESTRICTED)
    world.run_until_direct(a, b, timeout=6)
    world.run_for(2)
    assert len(a.driver.extra_sockets) == 1
    [unwanted] = a.reported(SocketsUnwanted)
    assert len(unwanted.sockets) == GUESS_SOCKETS - 1
    wire = Wiretap(world)
    for _ in range(40):
        world.ping(a, b)
        world.run_for(10)
    assert not [p for p in wire.payloads() if p == PUNCH]
    assert a.is_direct_to(b)
    assert b.is_direct_to(a)
    assert len(a.reported(SocketsWanted)) == 1
    world.check_frames()


def test_frames_that_run_meanwhile_are_neither_lost_nor_doubled(world: World) -> None:
    a, b = pair(world, SYMMETRIC, PORT_RESTRICTED)
    world.run_until_all_are_joined()
    sent = []
    for _ in range(1200):
        sent.append(world.send_frame(a, b))
        world.run_for(0.005)
    assert a.is_direct_to(b)
    world.run_for(1)
    assert sorted(world.frames_received(b)) == sorted(sent)


def test_a_failed_attempt_leaves_no_sockets_and_waits_for_a_minute() -> None:
    world = World(seed=3)
    world.add_supernode()
    deaf = world.add_nat(PORT_RESTRICTED)
    supernode = world.supernodes[0].endpoint.host
    deaf._may_enter = lambda _mapping, packet: packet.source.host == supernode  # type: ignore[method-assign]
    a = world.add_edge("a", world.add_nat(SYMMETRIC))
    b = world.add_edge("b", deaf)
    world.run_for(55)
    assert a.path_kind(b) is PathKind.RELAY
    assert not a.driver.extra_sockets
    assert len(a.reported(SocketsWanted)) == 1
    [failure] = a.reported(GuessFailed)
    assert 60 <= failure.retry_in <= 72
    world.run_for(60)
    assert len(a.reported(SocketsWanted)) == 2
    world.run_for(120)
    assert len(a.reported(SocketsWanted)) == 2
    world.run_for(600)
    assert len(a.reported(SocketsWanted)) == 3


def test_attempts_are_made_one_at_a_time_and_all_get_their_turn(world: World) -> None:
    hard = world.add_edge("hard", world.add_nat(SYMMETRIC))
    easy = [world.add_edge(f"easy{n}", world.add_nat(PORT_RESTRICTED)) for n in range(4)]
    open_at_once = 0
    for _ in range(600):
        world.run_for(0.05)
        open_at_once = max(open_at_once, len(hard.driver.extra_sockets))
    assert open_at_once <= GUESS_SOCKETS + len(easy)
    for edge in easy:
        assert hard.is_direct_to(edge)
        assert edge.is_direct_to(hard)
    world.run_for(1)
    assert len(hard.driver.extra_sockets) == len(easy)


def test_one_easy_edge_serves_many_hard_ones_in_turn(world: World) -> None:
    easy = world.add_edge("easy", world.add_nat(PORT_RESTRICTED))
    hard = [world.add_edge(f"hard{n}", world.add_nat(SYMMETRIC)) for n in range(3)]
    # One guess in 50 misses, and its next one is a minute later.
    world.run_until(lambda: all(edge.is_direct_to(easy) for edge in hard), 110)


@pytest.mark.parametrize("behaviour", [SYMMETRIC, SYMMETRIC_SEQUENTIAL])
def test_between_two_hard_nats_nothing_is_tried_and_both_know_why(
    world: World, behaviour: NatBehaviour
) -> None:
    punches = Punches(world)
    a, b = pair(world, SYMMETRIC, behaviour)
    world.run_for(30)
    assert a.path_kind(b) is b.path_kind(a) is PathKind.RELAY
    assert hopeless(a, b) is hopeless(b, a) is Hopeless.BOTH_HARD
    assert not a.reported(SocketsWanted)
    assert not b.reported(SocketsWanted)
    assert punches.to(b.host.ports[0].segment.gateways[False].addresses[0]) <= 4


@pytest.mark.parametrize("who", ["hard", "easy"])
def test_an_edge_told_not_to_guess_does_neither_part_and_both_know_why(
    world: World, who: str
) -> None:
    punches = Punches(world)
    nat = world.add_nat(SYMMETRIC)
    a = world.add_edge("a", nat, hard_punch=who != "hard")
    b = world.add_edge("b", world.add_nat(PORT_RESTRICTED), hard_punch=who != "easy")
    world.run_for(30)
    assert a.path_kind(b) is b.path_kind(a) is PathKind.RELAY
    assert not a.reported(SocketsWanted)
    assert punches.to(nat.public_address) <= 4
    here, there = Hopeless.REFUSED_HERE, Hopeless.REFUSED_THERE
    assert (hopeless(a, b), hopeless(b, a)) == ((here, there) if who == "hard" else (there, here))


def test_relay_only_guesses_at_nothing(world: World) -> None:
    a, b = pair(world, SYMMETRIC, PORT_RESTRICTED, relay_only=True)
    world.run_for(30)
    assert a.path_kind(b) is PathKind.RELAY
    assert not b.reported(SocketsWanted)


@pytest.mark.parametrize("hard", [SYMMETRIC, SYMMETRIC_SEQUENTIAL])
def test_punches_are_bounded_and_go_where_the_supernode_sees_the_peer(
    world: World, hard: NatBehaviour
) -> None:
    wire = Wiretap(world)
    nat = world.add_nat(hard)
    a = world.add_edge("a", nat)
    b = world.add_edge("b", world.add_nat(PORT_RESTRICTED))
    world.run_until_direct(a, b, timeout=6)
    punches = [packet for _, packet in wire.packets if packet.payload == PUNCH]
    ports = {packet.destination.port for packet in punches if packet.ttl > 2}
    limit = GUESS_PREDICTIONS if hard is SYMMETRIC_SEQUENTIAL else GUESS_PROBES
    assert 0 < len(ports) <= limit
    assert {packet.destination.host for packet in punches if packet.ttl > 2} == {nat.public_address}


def test_a_lost_direct_path_is_guessed_at_again(world: World) -> None:
    nat = world.add_nat(SYMMETRIC)
    a = world.add_edge("a", nat)
    b = world.add_edge("b", world.add_nat(PORT_RESTRICTED))
    world.run_until_direct(a, b, timeout=6)
    world.run_for(30)
    nat.flush()
    world.run_for(35)
    world.run_until_direct(a, b, timeout=25)
    assert len(a.driver.extra_sockets) == 1


def test_lossy_links_only_delay_it() -> None:
    lossy = replace(INTERNET, loss=0.05, jitter=0.03, reordering=0.05, duplication=0.03)
    direct = 0
    for seed in range(10):
        world = World(seed)
        world.add_supernode()
        a = world.add_edge("a", world.add_nat(SYMMETRIC, conditions=lossy))
        b = world.add_edge("b", world.add_nat(PORT_RESTRICTED, conditions=lossy))
        world.run_for(15)
        direct += a.is_direct_to(b) and b.is_direct_to(a)
        world.check_frames()
    assert direct >= 9


def test_a_peer_that_leaves_in_the_middle_leaves_no_sockets_open(world: World) -> None:
    a, b = pair(world, SYMMETRIC, PORT_RESTRICTED)
    world.run_until(lambda: a.driver.extra_sockets, 6)
    b.stop()
    world.run_for(3)
    assert not a.driver.extra_sockets


def test_a_peer_that_leaves_later_takes_its_socket_along(world: World) -> None:
    a, b = pair(world, SYMMETRIC, PORT_RESTRICTED)
    world.run_until_direct(a, b, timeout=6)
    b.stop()
    world.run_for(3)
    assert not a.driver.extra_sockets


def test_a_supernode_without_observation_ports_leaves_the_relay(world: World) -> None:
    world = World()
    world.add_supernode(has_probe_ports=False)
    a, b = pair(world, SYMMETRIC, PORT_RESTRICTED)
    world.run_for(20)
    assert a.path_kind(b) is PathKind.RELAY
    assert not a.reported(SocketsWanted)


def test_a_guessed_path_outlives_ten_idle_minutes(world: World) -> None:
    a, b = pair(world, SYMMETRIC, PORT_RESTRICTED)
    world.run_until_direct(a, b, timeout=6)
    world.run_for(600)
    assert a.is_direct_to(b)
    assert b.is_direct_to(a)
    assert world.ping(a, b) < 0.1
    assert len(a.reported(SocketsWanted)) == 1


@pytest.mark.parametrize("who", ["hard", "easy"])
def test_another_public_address_is_followed_by_another_guess(world: World, who: str) -> None:
    nats = {"hard": world.add_nat(SYMMETRIC), "easy": world.add_nat(PORT_RESTRICTED)}
    a, b = (world.add_edge(name, nats[name]) for name in ("hard", "easy"))
    world.run_until_direct(a, b, timeout=6)
    world.run_for(60)
    nats[who].change_address(world.public_address())
    world.run_for(7)  # at most that long frames wait for doubt: protocol section 12.4
    for _ in range(20):
        assert world.ping(a, b) < 0.3, "by the relay meanwhile"
        world.run_for(1)
    world.run_until_direct(a, b, timeout=40)
    world.run_for(2)
    assert len(a.driver.extra_sockets) == 1


def test_a_restarted_peer_is_guessed_anew(world: World) -> None:
    a, b = pair(world, SYMMETRIC, PORT_RESTRICTED)
    world.run_until_direct(a, b, timeout=6)
    world.run_for(60)
    b.crash()
    world.run_for(5)
    b.restart()
    world.run_for(1)
    world.run_until_direct(a, b, timeout=110)  # a first attempt may miss
    world.run_for(2)
    assert len(a.driver.extra_sockets) == 1
