"""Sessions over ten minutes: a rekey loses nothing, and loss does not break a rekey."""

import itertools

import pytest

from mesh.constants import REJECT_AFTER_TIME
from mesh.events import PeerDown
from tests.virtual_edge import VirtualEdge
from tests.virtual_nat import PORT_RESTRICTED
from tests.virtual_network import LinkConditions
from tests.world import World

FRAME_INTERVAL = 0.05  # s
TEN_MINUTES = 600.0


def talk(world: World, a: VirtualEdge, b: VirtualEdge, seconds: float) -> list[float]:
    """Send frames both ways; return the ages of the session seen on the way."""
    ages = []
    for number in range(round(seconds / FRAME_INTERVAL)):
        world.send_frame(a, b)
        if number % 10 == 0:
            world.send_frame(b, a)
            ages.append(a.peer_view(b)["session"]["age_s"])
        world.run_for(FRAME_INTERVAL)
    world.run_for(1)
    return ages


def rekeys(ages: list[float]) -> int:
    return sum(later < earlier for earlier, later in itertools.pairwise(ages))


@pytest.mark.parametrize("is_direct", [True, False], ids=["direct", "relayed"])
def test_rekeys_lose_and_double_no_frame(world: World, *, is_direct: bool) -> None:
    a, b = world.add_edges("ab", relay_only=not is_direct)
    world.run_until_all_are_joined()
    ages = talk(world, a, b, TEN_MINUTES if is_direct else 260)
    assert rekeys(ages) >= (4 if is_direct else 2)
    assert max(ages) < REJECT_AFTER_TIME
    for edge, other in ((a, b), (b, a)):
        sent = [frame for frame, sender in world._sent.items() if sender is other]
        assert world.frames_received(edge) == sent


def test_rekeys_survive_five_percent_of_loss() -> None:
    world = World(seed=11)
    world.add_supernode()
    lossy = LinkConditions(latency=0.01, loss=0.05)
    a = world.add_edge("a", world.add_nat(PORT_RESTRICTED, conditions=lossy))
    b = world.add_edge("b", world.add_nat(PORT_RESTRICTED))
    world.run_until_all_are_joined()
    ages = talk(world, a, b, TEN_MINUTES)
    assert rekeys(ages) >= 4
    times = [at for at, _ in b.frames]
    assert len(times) > 0.93 * TEN_MINUTES / FRAME_INTERVAL
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) < 0.6
    assert not a.reported(PeerDown)
    assert not b.reported(PeerDown)
    world.check_frames()


def test_sessions_of_idle_peers_are_renewed_and_ready(world: World) -> None:
    a, b = world.add_edges("ab")
    world.run_until_all_are_joined()
    for _ in range(5):
        world.run_for(500)
        assert world.ping(a, b) < 0.2


def test_both_sides_may_rekey_at_the_same_moment(world: World) -> None:
    a, b = world.add_edges("ab")
    world.run_until_all_are_joined()
    talk(world, a, b, 20)
    for edge in (a, b):
        edge.restart()
    world.run_until_all_are_joined(timeout=5)
    before = {edge.name: len(edge.frames) for edge in (a, b)}
    talk(world, a, b, 10)
    assert len(b.frames) - before["b"] == 10 / FRAME_INTERVAL
    world.check_frames()
