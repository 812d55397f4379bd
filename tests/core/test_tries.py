"""Tries to register: one way after the other, then all of them again, ever more rarely."""

import itertools

import pytest

from mesh.addresses import Endpoint
from mesh.constants import HANDSHAKE_RETRY_INTERVALS
from mesh.core.outbox import Via
from mesh.core.timers import Timer
from mesh.core.tries import NEXT_WAY_DELAY, SPARE_RETRY_INTERVAL, Tries
from mesh.core.ways import Ways
from mesh.crypto.session import Session
from mesh.wire.messages import Register
from tests.core.edge_alone import edge_context, split

ONE, TWO = Endpoint("203.0.113.1", 7777), Endpoint("203.0.113.2", 7777)


def no_register(_session: Session) -> Register:
    raise AssertionError("nobody has answered")


class Scene:
    """Tries towards a supernode with two addresses that never answers."""

    def __init__(self, *, is_served: bool = False) -> None:
        self.context = edge_context()
        ways = Ways(0, self.context)
        ways.set_endpoints([ONE, TWO])
        self.tries = Tries(
            0, self.context, ways, "owner", is_served=lambda: is_served, register=no_register
        )
        self.tries.start(None, 0.0)

    def sent(self) -> list[tuple[bytes, Endpoint]]:
        return split(self.context.outbox.take())

    def due_at(self) -> float:
        return self.context.timers.due_at(Timer.REGISTER, 0)

    def run(self, until: float) -> list[tuple[float, bytes, Endpoint]]:
        """Let time pass; return what was sent, and when."""
        sent = [(0.0, *each) for each in self.sent()]
        while (now := self.due_at()) <= until:
            self.tries.retry(None, now)
            sent += [(now, *each) for each in self.sent()]
        return sent


def test_the_same_initiation_goes_to_the_next_address_after_a_quarter_of_a_second() -> None:
    (_, first, to_one), (later, second, to_two) = Scene().run(NEXT_WAY_DELAY)
    assert (to_one, to_two) == (ONE, TWO)
    assert first == second
    assert later == NEXT_WAY_DELAY


def test_a_way_that_is_closed_is_not_waited_for() -> None:
    scene = Scene()
    scene.sent()
    scene.tries.way_failed(Via(0, TWO), 0.01)
    assert scene.sent() == []
    scene.tries.way_failed(Via(0, ONE), 0.01)
    [(_, destination)] = scene.sent()
    assert destination == TWO
    assert scene.tries.uses(Via(0, TWO))


def test_each_attempt_begins_with_another_address_and_is_a_new_one() -> None:
    sent = Scene().run(2.0)
    attempts = [list(group) for _, group in itertools.groupby(sent, key=lambda each: each[1])]
    assert [attempt[0][2] for attempt in attempts[:3]] == [ONE, TWO, ONE]


@pytest.mark.parametrize(("is_served", "longest"), [(False, 3.0), (True, SPARE_RETRY_INTERVAL)])
def test_a_spare_is_tried_more_rarely_in_the_end(*, is_served: bool, longest: float) -> None:
    sent = Scene(is_served=is_served).run(200.0)
    starts = [at for at, _, _ in {each[1]: each for each in reversed(sent)}.values()]
    gaps = [later - earlier for earlier, later in itertools.pairwise(sorted(starts))]
    for gap, expected in zip(gaps, HANDSHAKE_RETRY_INTERVALS, strict=False):
        assert expected <= gap <= 1.2 * expected
    assert all(longest <= gap <= 1.2 * longest for gap in gaps[len(HANDSHAKE_RETRY_INTERVALS) :])


def test_an_attempt_that_is_given_up_waits_for_nothing() -> None:
    scene = Scene()
    assert scene.tries.is_under_way
    scene.tries.abandon()
    assert not scene.tries.is_under_way
    assert len(scene.context.indexes) == 0
