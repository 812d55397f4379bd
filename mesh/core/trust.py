"""When a way to a peer is relied on alone, and when it is in doubt; docs/protocol.md section 12.4.

Theory of operation. Traffic says more, and sooner, than heartbeats do:

    trusted ──sends, hears nothing for 0.5 s──▶ asked (one ping) ──no answer──▶ in doubt
       ▲  │                                                                        │
       │  └──pings unanswered for 1.5 s though it hears the peer, or an ICMP error─▶│
       └───────────────────────────────── pong ────────────────────────────────────┘

Doubt costs little: frames take a second way as well, and pings follow each other faster. So it may
come early; what is dear, leaving the way for another one, waits until the pongs decide.
"""

from mesh.constants import ANSWER_TIMEOUT, SILENCE_TIMEOUT
from mesh.core.path import Path

ANSWER_RTTS = 3  # round trips that an answer may take, jitter and queues included
ANSWER_TIMEOUT_MAX = 2.0  # s
ONE_WAY_TIMEOUT = 1.5  # s without a pong, while the peer is heard: our own direction may be closed
DOUBT_PATIENCE = 2.0  # s; pings get lost, and two equal ways would take turns
RELAY_PATIENCE = 5.0  # s; a relayed round trip crosses twice as many links, and copies cost little
RELAYED_GRACE = 0.3  # s; copies by the relay overtake, or trail, what comes directly
RELAYED_ASK_INTERVAL = 1.0  # s; a peer that cannot reach us directly sends all it has by the relay


def answer_timeout(path: Path) -> float:
    """Return the seconds after which a ping counts as unanswered."""
    if path.rtt is None:
        return ANSWER_TIMEOUT
    return min(max(ANSWER_RTTS * path.rtt, ANSWER_TIMEOUT), ANSWER_TIMEOUT_MAX)


def patience(path: Path) -> float:
    """Return for how many seconds a way that is in doubt is not left for another of its kind."""
    return RELAY_PATIENCE if path.is_relay else DOUBT_PATIENCE


def wants_asking(path: Path, now: float) -> bool:
    """Whether frames have been sent into a silence that a ping should end; nobody has asked yet."""
    return not path.unanswered and now >= path.last_heard_at + SILENCE_TIMEOUT


def look_again_at(path: Path, now: float) -> float:
    """Return until when a trusted way that frames take stays beyond suspicion."""
    silent_at = path.last_heard_at + SILENCE_TIMEOUT
    return silent_at if silent_at > now else now + SILENCE_TIMEOUT


def deserves_doubt(path: Path, now: float) -> bool:
    """Whether unanswered pings say that a way may be closed."""
    if not path.is_validated or not path.unanswered or path.is_in_doubt:
        return False
    if path.is_questioned or path.last_heard_at < path.first_unanswered_at:
        return now >= path.first_unanswered_at + answer_timeout(path)
    return path.unanswered > 1 and now - path.first_unanswered_at >= ONE_WAY_TIMEOUT


def is_left_by_peer(path: Path, now: float) -> bool:
    """Whether what came by the relay instead says that the peer hears nothing by this way."""
    return (
        not path.is_in_doubt
        and now - path.last_heard_at >= RELAYED_GRACE
        and now - path.last_pong_at >= RELAYED_ASK_INTERVAL
    )
