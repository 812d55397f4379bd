"""How often one reason may be logged: at once, then ever more rarely while it goes on."""

from dataclasses import dataclass
from typing import Final

_FIRST_INTERVAL: Final = 1.0
_LONGEST_INTERVAL: Final = 60.0
_MAX_REASONS: Final = 256
_LINES_AT_ONCE: Final = 100.0
_LINES_PER_SECOND: Final = 10.0


@dataclass(slots=True)
class _Reason:
    next_at: float
    interval: float
    unlogged: int = 0


class LogLimit:
    """Lets one line per reason pass, then one after 1 s, 2 s, 4 s ... 60 s while it goes on.

    A network that is gone for a night must not fill a disk. The wait is back at 1 s once a reason
    has been quiet for as long as its last wait.
    """

    def __init__(self) -> None:
        self._reasons: dict[str, _Reason] = {}
        self._room = _LINES_AT_ONCE
        self._counted_at = 0.0

    def _has_room(self, now: float) -> bool:
        """Whether one more line may pass: whoever invents reasons must not fill a disk."""
        passed = max(0.0, now - self._counted_at)
        self._room = min(_LINES_AT_ONCE, self._room + passed * _LINES_PER_SECOND)
        self._counted_at = now
        if self._room < 1.0:
            return False
        self._room -= 1.0
        return True

    def ask(self, reason: str, now: float) -> int | None:
        """Return how many lines were held back since the last one; None holds back this one."""
        known = self._reasons.get(reason)
        if known is None:
            if not self._has_room(now):
                return None
            if len(self._reasons) >= _MAX_REASONS:
                del self._reasons[next(iter(self._reasons))]
            self._reasons[reason] = _Reason(now + _FIRST_INTERVAL, _FIRST_INTERVAL)
            return 0
        if now < known.next_at or not self._has_room(now):
            known.unlogged += 1
            return None
        was_quiet = now >= known.next_at + known.interval
        known.interval = (
            _FIRST_INTERVAL if was_quiet else min(2 * known.interval, _LONGEST_INTERVAL)
        )
        known.next_at = now + known.interval
        held_back, known.unlogged = known.unlogged, 0
        return held_back
