"""Which of two proved ways is the better one; docs/protocol.md section 12.3."""

from mesh.constants import RTT_GAIN, RTT_GAIN_SHARE
from mesh.core.path import Path

TIE_GRACE = 60.0  # s; a way that was in doubt lately is not preferred for its kind


def is_better(path: Path, active: Path, now: float) -> bool:
    """Whether frames should move from ``active`` to the direct way ``path``."""
    if path is active or not path.is_trusted(now):
        return False
    if active.is_relay:
        return True
    if not active.is_trusted(now):
        return now >= active.kept_until
    if _is_faster(path, active):
        return True
    new, old = path.rtt or 0.0, active.rtt or 0.0
    is_tie = new - old < RTT_GAIN and now - path.doubted_at >= TIE_GRACE
    return is_tie and path.preference < active.preference


def is_better_relay(relay: Path, best: Path, now: float) -> bool:
    """Whether frames should move from one relay to another.

    One that has merely not had the time to answer yet has not failed.
    """
    if relay is best or relay.is_down != best.is_down:
        return best.is_down
    if not relay.is_trusted(now):
        return False
    if best.is_in_doubt:
        return now >= best.kept_until
    return _is_faster(relay, best)


def _is_faster(path: Path, active: Path) -> bool:
    new, old = path.rtt or 0.0, active.rtt or 0.0
    noise = max(path.rtt_deviation, active.rtt_deviation)
    return old - new > max(RTT_GAIN, RTT_GAIN_SHARE * old, noise)
