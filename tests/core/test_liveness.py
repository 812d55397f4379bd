"""Whether the supernode still answers: pings, pongs, hints."""

import pytest

from mesh.constants import SUPERNODE_HEARTBEAT_INTERVAL, SUPERNODE_MAX_UNANSWERED
from mesh.core.liveness import Liveness


def test_five_unanswered_pings_are_a_loss_and_four_are_not() -> None:
    liveness = Liveness()
    for number in range(SUPERNODE_MAX_UNANSWERED):
        assert not liveness.is_lost
        liveness.pinged(bytes([number]), float(number))
    assert liveness.is_lost


def test_a_pong_to_any_ping_under_way_makes_up_for_all_of_them() -> None:
    liveness = Liveness()
    for number in range(SUPERNODE_MAX_UNANSWERED):
        liveness.pinged(bytes([number]), float(number))
    assert liveness.answered(b"\1", 7.0)
    assert not liveness.is_lost
    assert liveness.silent_for(9.0) == 2.0
    assert not liveness.answered(b"\2", 8.0)
    assert liveness.silent_for(9.0) == 2.0


def test_a_pong_with_an_unknown_token_proves_nothing() -> None:
    liveness = Liveness()
    liveness.registered(1.0)
    liveness.pinged(b"a", 2.0)
    assert not liveness.answered(b"b", 3.0)
    assert liveness.rtt is None
    assert liveness.silent_for(4.0) == 3.0


def test_the_round_trip_time_follows_slowly() -> None:
    liveness = Liveness()
    for at, rtt in ((10.0, 0.08), (20.0, 0.16)):
        liveness.pinged(b"a", at)
        liveness.answered(b"a", at + rtt)
    assert liveness.rtt == pytest.approx(0.09)


def test_a_hint_raises_doubt_until_the_next_pong() -> None:
    liveness = Liveness()
    liveness.registered(1.0)
    assert not liveness.is_doubtful
    assert liveness.take_hint(2.0)
    assert liveness.is_doubtful
    liveness.pinged(b"a", 2.0)
    liveness.answered(b"a", 2.1)
    assert not liveness.is_doubtful


def test_one_hint_per_heartbeat_is_taken() -> None:
    liveness = Liveness()
    assert liveness.take_hint(2.0)
    assert not liveness.take_hint(2.0 + SUPERNODE_HEARTBEAT_INTERVAL - 0.01)
    assert liveness.take_hint(2.0 + SUPERNODE_HEARTBEAT_INTERVAL)


def test_a_new_registration_forgets_the_pings_of_the_old_one() -> None:
    liveness = Liveness()
    for number in range(SUPERNODE_MAX_UNANSWERED):
        liveness.pinged(bytes([number]), float(number))
    liveness.registered(9.0)
    assert not liveness.is_lost
    assert not liveness.answered(b"\1", 9.5)
