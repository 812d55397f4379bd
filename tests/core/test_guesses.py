"""Which ports are tried, and which of several holes counts."""

import random

from hypothesis import given
from hypothesis import strategies as st

from mesh.addresses import Endpoint
from mesh.constants import GUESS_PREDICTIONS, GUESS_PROBES
from mesh.core.guesses import FIRST_PORT, predicted_ports, random_ports
from mesh.core.outbox import Via
from mesh.core.peer_guess import CHOICE_LIFETIME, PeerGuess

HOST = "192.0.2.1"
PORTS = frozenset({5000, 5001, 5002})


def hole(port: int, host: str = HOST, relay_id: int = 0) -> Via:
    return Via(0, Endpoint(host, port), relay_id)


def test_a_sequence_goes_on() -> None:
    assert predicted_ports(30000, 1) == list(range(30001, 30001 + GUESS_PREDICTIONS))
    assert predicted_ports(30000, 2)[:3] == [30002, 30004, 30006]


def test_a_sequence_may_go_down_and_past_the_end() -> None:
    assert predicted_ports(30000, 65536 - 2)[:2] == [29998, 29996]
    assert predicted_ports(65534, 1) == [65535]


@given(st.integers(0, 65535), st.integers(1, 65535))
def test_predictions_are_few_and_none_is_a_port_of_the_router_itself(
    last: int, stride: int
) -> None:
    ports = predicted_ports(last, stride)
    assert len(set(ports)) == len(ports) <= GUESS_PREDICTIONS
    assert all(FIRST_PORT <= port <= 65535 for port in ports)


def test_random_ports_are_different_and_from_the_whole_range() -> None:
    ports = random_ports(GUESS_PROBES, random.Random(1).randbytes)
    assert len(set(ports)) == GUESS_PROBES
    assert min(ports) >= FIRST_PORT
    assert min(ports) < 2000
    assert max(ports) > 64000
    assert ports != random_ports(GUESS_PROBES, random.Random(2).randbytes)


def test_of_several_holes_the_first_counts() -> None:
    guess = PeerGuess()
    guess.expect(HOST, PORTS)
    assert guess.admits(hole(5001), 0.0)
    assert not guess.admits(hole(5002), 0.1)
    assert guess.admits(hole(5001), 0.2)


def test_a_hole_that_came_to_nothing_gives_way() -> None:
    guess = PeerGuess()
    guess.expect(HOST, PORTS)
    assert guess.admits(hole(5001), 0.0)
    assert guess.admits(hole(5002), CHOICE_LIFETIME + 0.1)
    assert not guess.admits(hole(5001), CHOICE_LIFETIME + 0.2)


def test_a_hole_that_is_a_path_does_not() -> None:
    guess = PeerGuess()
    guess.expect(HOST, PORTS)
    assert guess.admits(hole(5001), 0.0)
    guess.confirm(CHOICE_LIFETIME)
    assert not guess.admits(hole(5002), CHOICE_LIFETIME + 0.1)


def test_whatever_else_the_peer_sends_counts_as_ever() -> None:
    guess = PeerGuess()
    assert guess.admits(hole(5001), 0.0)
    guess.expect(HOST, PORTS)
    assert guess.admits(hole(5001), 0.0)
    assert guess.admits(hole(5002, "192.0.2.2"), 0.0)
    assert guess.admits(hole(6000), 0.0)
    assert guess.admits(hole(5002, relay_id=7), 0.0)
    guess.expect("", frozenset())
    assert guess.admits(hole(5002), 0.0)
