"""Whether the supernode still answers: pings, silence and hints; docs/protocol.md section 10.5."""

import math

from mesh.constants import SUPERNODE_HEARTBEAT_INTERVAL, SUPERNODE_MAX_UNANSWERED

SHAKY_UNANSWERED = 3  # pings, the last of which is still under way


class Liveness:
    """What the pongs of one supernode say.

    Attributes:
        rtt: the smoothed round-trip time in seconds (RFC 6298), None before the first pong.
    """

    def __init__(self) -> None:
        self.rtt: float | None = None
        self._pings: dict[bytes, float] = {}
        self._unanswered = 0
        self._last_pong_at = -math.inf
        self._hinted_at = -math.inf

    @property
    def is_lost(self) -> bool:
        """Whether so many pings in a row came to nothing that it counts as gone."""
        return self._unanswered >= SUPERNODE_MAX_UNANSWERED

    @property
    def is_silent(self) -> bool:
        """Whether a ping came to nothing and was repeated."""
        return self._unanswered > 1

    @property
    def is_shaky(self) -> bool:
        """Whether two pings in a row came to nothing: another supernode is better."""
        return self._unanswered >= SHAKY_UNANSWERED

    @property
    def is_doubtful(self) -> bool:
        """Whether a hint came after the last pong."""
        return self._hinted_at > self._last_pong_at

    def silent_for(self, now: float) -> float:
        """Return the seconds since it last answered."""
        return now - self._last_pong_at

    def forget_pings(self) -> None:
        """Give up the pings under way."""
        self._pings.clear()
        self._unanswered = 0

    def registered(self, now: float) -> None:
        """Note that it has just answered a registration."""
        self.forget_pings()
        self._last_pong_at = now

    def pinged(self, token: bytes, now: float) -> None:
        """Note that a ping left."""
        self._pings[token] = now
        self._unanswered += 1

    def answered(self, token: bytes, now: float) -> bool:
        """Take in a pong; whether it answers a ping under way."""
        sent_at = self._pings.get(token)
        if sent_at is None:
            return False
        rtt = now - sent_at
        self.rtt = rtt if self.rtt is None else self.rtt + (rtt - self.rtt) / 8
        self.forget_pings()
        self._last_pong_at = now
        return True

    def take_hint(self, now: float) -> bool:
        """Take in a hint, which anybody can forge; whether to ping: once per heartbeat at most."""
        if now - self._hinted_at < SUPERNODE_HEARTBEAT_INTERVAL:
            return False
        self._hinted_at = now
        return True
