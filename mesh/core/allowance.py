"""A token bucket: so many at once, so many per second after that."""


class Allowance:
    """Says how often something unauthenticated may cost us something.

    Args:
        burst: how many at once.
        rate: how many per second after that.
    """

    __slots__ = ("_burst", "_left", "_rate", "_taken_at")

    def __init__(self, burst: float, rate: float) -> None:
        self._burst = burst
        self._rate = rate
        self._left = burst
        self._taken_at = 0.0

    def is_whole(self, now: float) -> bool:
        """Whether it is as if nothing had ever been taken."""
        self._refill(now)
        return self._left >= self._burst

    def take(self, now: float) -> bool:
        """Take one, if there is one."""
        self._refill(now)
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def give_back(self) -> None:
        """Put one back that was taken and not used."""
        self._left = min(self._burst, self._left + 1.0)

    def _refill(self, now: float) -> None:
        passed = max(0.0, now - self._taken_at)
        self._left = min(self._burst, self._left + passed * self._rate)
        self._taken_at = now
