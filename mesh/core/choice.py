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
    new, old = path.rtt or 0.0, active.rtt or 0.0
    noise = max(path.rtt_deviation, active.rtt_deviation)
    if old - new > max(RTT_GAIN, RTT_GAIN_SHARE * old, noise):
        return True
    is_tie = new - old < RTT_GAIN and now - path.doubted_at >= TIE_GRACE
    return is_tie and path.preference < active.preference
