"""Doubt comes from silence, unanswered pings and the peer's own doubt, not from chance."""

import pytest

from mesh.addresses import Endpoint
from mesh.constants import ANSWER_TIMEOUT, SILENCE_TIMEOUT
from mesh.core import trust
from mesh.core.outbox import Via
from mesh.core.path import Path, Source


def path(*, rtt: float | None = 0.02, heard_at: float = 0.0, pong_at: float = 0.0) -> Path:
    """Return a proved way, last heard from and answered at these times."""
    proved = Path(Via(0, Endpoint("198.51.100.7", 4000)), Source.TOLD)
    proved.is_validated = True
    proved.rtt = rtt
    proved.last_heard_at = heard_at
    proved.last_pong_at = pong_at
    return proved


def pinged(path: Path, *times: float) -> Path:
    path.unanswered = len(times)
    path.first_unanswered_at = times[0]
    path.last_ping_at = times[-1]
    return path


@pytest.mark.parametrize(
    ("rtt", "timeout"), [(None, ANSWER_TIMEOUT), (0.01, ANSWER_TIMEOUT), (0.2, 0.6), (5.0, 2.0)]
)
def test_an_answer_may_take_three_round_trips_within_limits(
    rtt: float | None, timeout: float
) -> None:
    assert trust.answer_timeout(path(rtt=rtt)) == pytest.approx(timeout)


def test_a_ping_asks_into_silence_once() -> None:
    assert not trust.wants_asking(path(), SILENCE_TIMEOUT - 0.01)
    assert trust.wants_asking(path(), SILENCE_TIMEOUT)
    assert not trust.wants_asking(pinged(path(), SILENCE_TIMEOUT), SILENCE_TIMEOUT + 0.1)


def test_an_unanswered_ping_is_a_reason_for_doubt_only_in_silence() -> None:
    assert not trust.deserves_doubt(pinged(path(), 1.0), 1.0 + ANSWER_TIMEOUT - 0.01)
    assert trust.deserves_doubt(pinged(path(), 1.0), 1.0 + ANSWER_TIMEOUT)
    assert not trust.deserves_doubt(pinged(path(heard_at=1.1), 1.0), 1.0 + ANSWER_TIMEOUT)


def test_a_peer_that_is_heard_but_never_answers_is_doubted_a_little_later() -> None:
    heard = pinged(path(heard_at=9.0), 1.0, 1.3)
    assert not trust.deserves_doubt(heard, 1.0 + trust.ONE_WAY_TIMEOUT - 0.01)
    assert trust.deserves_doubt(heard, 1.0 + trust.ONE_WAY_TIMEOUT)
    assert not trust.deserves_doubt(pinged(path(heard_at=9.0), 1.0), 9.0)


def test_where_the_peer_has_shown_doubt_only_a_pong_counts() -> None:
    heard = pinged(path(heard_at=1.2), 1.0)
    heard.is_questioned = True
    assert trust.deserves_doubt(heard, 1.0 + ANSWER_TIMEOUT)


def test_what_was_never_proved_cannot_be_doubted() -> None:
    candidate = pinged(path(), 1.0)
    candidate.is_validated = False
    assert not trust.deserves_doubt(candidate, 100.0)


def test_a_peer_that_uses_the_relay_has_left_a_path_that_is_silent() -> None:
    assert trust.is_left_by_peer(path(heard_at=1.0, pong_at=0.0), 1.0 + trust.RELAYED_GRACE)
    assert not trust.is_left_by_peer(path(heard_at=1.0, pong_at=0.0), 1.1)
    assert not trust.is_left_by_peer(path(heard_at=1.0, pong_at=1.0), 1.0 + trust.RELAYED_GRACE)
