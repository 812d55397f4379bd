"""The cookie that a busy responder wants to see; docs/protocol.md section 7."""

from mesh.constants import COOKIE_LIFETIME


class CookieJar:
    """Keeps one cookie while it is good, and says when it is a reason to start again at once.

    Cookies are cheap to send: only the first one per retry starts a handshake at once.
    """

    def __init__(self) -> None:
        self._cookie: bytes | None = None
        self._asked_at = 0.0
        self._may_restart = True

    def started(self, now: float) -> bytes | None:
        """Return the cookie to show in an initiation that leaves now, or None."""
        if self._cookie is None or now - self._asked_at >= COOKIE_LIFETIME:
            self._cookie, self._asked_at = None, now
        return self._cookie

    def put(self, cookie: bytes) -> bool:
        """Keep a cookie that answers the last initiation; whether to start again with it now."""
        self._cookie = cookie
        may_restart, self._may_restart = self._may_restart, False
        return may_restart

    def retried(self) -> None:
        """Note that a retry timer fired or a handshake succeeded: a new cookie may restart it."""
        self._may_restart = True
