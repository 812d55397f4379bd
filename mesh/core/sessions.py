"""The sessions with one peer: which one seals, which ones still open; protocol section 6.2.

    initiator:  handshake answered ──▶ current          (what was current becomes previous)
    responder:  handshake answered ──▶ next ──first datagram that opens──▶ current

Whatever was replaced still opens what is on its way, so that a rekey loses nothing.
"""

from collections.abc import Iterator

from mesh.constants import REJECT_AFTER_TIME
from mesh.crypto.session import Session

MAX_PREVIOUS = 2  # both sides may start a rekey at the same moment


class SessionSlots:
    """The current, next and previous sessions of one peer.

    Attributes:
        current: the one that seals, or None.
        next: a responder's session that the initiator has not confirmed yet, or None.
        seals_until: when ``current`` may not seal any more; 0 without one.
    """

    __slots__ = ("_previous", "current", "next", "seals_until")

    def __init__(self) -> None:
        self.current: Session | None = None
        self.next: Session | None = None
        self._previous: list[Session] = []
        self.seals_until = 0.0

    def __iter__(self) -> Iterator[Session]:
        yield from (s for s in (self.current, self.next, *self._previous) if s is not None)

    def initiated(self, session: Session) -> list[Session]:
        """Install a session that we initiated; return those that open nothing any more."""
        overtaken, self.next = self.next, None
        retired = self._make_current(session)
        return retired + self._retire(overtaken)

    def responded(self, session: Session) -> list[Session]:
        """Install a session that the peer initiated; return those that open nothing any more."""
        replaced, self.next = self.next, session
        return [replaced] if replaced is not None else []

    def confirmed(self) -> list[Session]:
        """Make next current, its first datagram having opened; return what was retired."""
        session, self.next = self.next, None
        return [] if session is None else self._make_current(session)

    def drop_expired(self, now: float) -> list[Session]:
        """Forget, and return, the sessions that are too old to open anything."""
        expired = [session for session in self if session.is_expired(now)]
        if self.current in expired:
            self.current = None
            self.seals_until = 0.0
        if self.next in expired:
            self.next = None
        self._previous = [session for session in self._previous if session not in expired]
        return expired

    def _make_current(self, session: Session) -> list[Session]:
        replaced, self.current = self.current, session
        self.seals_until = session.created_at + REJECT_AFTER_TIME
        return self._retire(replaced)

    def _retire(self, session: Session | None) -> list[Session]:
        if session is None:
            return []
        self._previous.insert(0, session)
        retired = self._previous[MAX_PREVIOUS:]
        del self._previous[MAX_PREVIOUS:]
        return retired
