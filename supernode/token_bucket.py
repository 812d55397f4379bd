"""A token bucket: so much at once, so much per second after that; docs/protocol.md section 17."""


class TokenBucket:
    """Holds up to ``burst`` tokens and gains ``rate`` per second; full at first."""

    __slots__ = ("_burst", "_rate", "_tokens", "_updated_at")

    def __init__(self, burst: float, rate: float, now: float) -> None:
        self._burst = burst
        self._rate = rate
        self._tokens = burst
        self._updated_at = now

    def take(self, amount: float, now: float) -> bool:  # Hot path.
        """Take ``amount`` tokens if they are there; otherwise take none and return False."""
        tokens = self._tokens + (now - self._updated_at) * self._rate
        self._updated_at = now
        tokens = min(tokens, self._burst)
        if tokens < amount:
            self._tokens = tokens
            return False
        self._tokens = tokens - amount
        return True
