"""Trying to register until it works: by which way, how often, with which cookie; sections 5.2, 5.3.

Theory of operation. A *try* is one `Attempt`: one initiation, sent by one way after the other until
something answers, then a confirmation with the ``register`` behind it, repeated. One timer serves
both: what is due next, another way or another try, is a matter of the moment.
"""

from collections.abc import Callable

from mesh.constants import HANDSHAKE_RETRY_INTERVALS, HANDSHAKE_RETRY_JITTER
from mesh.core.attempt import Attempt, Stage
from mesh.core.context import Context
from mesh.core.cookie_jar import CookieJar
from mesh.core.outbox import Via
from mesh.core.timers import Timer
from mesh.core.ways import Ways
from mesh.crypto.session import Session
from mesh.engine import Buffer
from mesh.wire.messages import Register

NEXT_WAY_DELAY = 0.25  # s before the next address of a name is tried; RFC 8305 section 5
SPARE_RETRY_INTERVAL = 10.0  # s; while another supernode serves us nobody waits for this one


class Tries:
    """Attempts to register with one supernode, one at a time.

    Args:
        number: the supernode's.
        context: the engine's.
        ways: that lead to it.
        owner: whom datagrams for our indexes are handed to.
        is_served: whether any supernode serves us.
        register: makes the message that belongs to a session.
    """

    def __init__(
        self,
        number: int,
        context: Context,
        ways: Ways,
        owner: object,
        *,
        is_served: Callable[[], bool],
        register: Callable[[Session], Register],
    ) -> None:
        self._number = number
        self._context = context
        self._ways = ways
        self._owner = owner
        self._is_served = is_served
        self._register = register
        self._cookies = CookieJar()
        self._attempt: Attempt | None = None
        self._failed = 0
        self._retry_at = 0.0

    @property
    def is_under_way(self) -> bool:
        """Whether an attempt waits for an answer."""
        return self._attempt is not None

    def start(self, current: Via | None, now: float) -> None:
        """Start an attempt, dropping the one under way; a name may resolve only later.

        Args:
            current: the way in use, which is tried first; None while we are not registered.
            now: the time.
        """
        self.abandon()
        vias = self._ways.in_order(current, self._failed)
        if vias:
            cookie = self._cookies.started(now)
            self._attempt = Attempt(self._context, self._owner, vias, cookie)
            if current is None:
                self._ways.asked(now)
        self._set_retry_timer(now, self._failed)
        self._set_next_way_timer(now)

    def abandon(self) -> None:
        """Give up the attempt under way."""
        if self._attempt is not None:
            self._attempt.abandon()
            self._attempt = None

    def forget_failures(self) -> None:
        """Begin again with short intervals: something has changed."""
        self._failed = 0

    def retry(self, current: Via | None, now: float) -> None:
        """Do what is due: try another way, repeat what drew no answer, or start anew."""
        attempt = self._attempt
        if attempt is not None and attempt.wants_next and now < self._retry_at:
            attempt.try_next()
            self._set_next_way_timer(now)
            return
        self._cookies.retried()
        if attempt is not None and attempt.may_repeat:
            self._send_register(attempt, now)
            return
        if attempt is not None:
            self._failed += 1
        self.start(current, now)

    def way_failed(self, via: Via, now: float) -> None:
        """Try the next way at once: this one is closed."""
        if self._attempt is not None and self._attempt.via == via:
            self._attempt.try_next()
            self._set_next_way_timer(now)

    def uses(self, via: Via) -> bool:
        """Whether the attempt under way asked there last, or got its answer there."""
        return self._attempt is not None and self._attempt.via == via

    def try_by(self, via: Via) -> bool:
        """Let the attempt under way take a way that has come up; whether there is one."""
        if self._attempt is not None:
            self._attempt.try_by(via)
        return self._attempt is not None

    # Answers

    def receive_response_untrusted(self, datagram: Buffer) -> str | None:
        """Take in message 2; return the fingerprint that it proves, None if nothing waits for it.

        Raises:
            RemoteError: it does not parse or verify; nothing has changed.
        """
        attempt = self._attempt
        if attempt is None or attempt.stage is not Stage.INITIATED:
            return None
        return attempt.receive_response_untrusted(datagram)

    def confirm(self, via: Via, now: float) -> None:
        """Accept the supernode that has answered by ``via``, and register."""
        if self._attempt is not None:
            self._ways.answered(via)
            self._attempt.confirm(via, now)
            self._send_register(self._attempt, now)

    def receive_cookie_untrusted(self, datagram: Buffer) -> bool:
        """Take in a cookie; whether to start anew with it.

        Raises:
            RemoteError: it does not parse, or was not made for our initiation.
        """
        cookie = self._attempt.open_cookie_untrusted(datagram) if self._attempt else None
        return cookie is not None and self._cookies.put(cookie)

    def succeeded(self, session: Session) -> Via | None:
        """End the attempt that made ``session``; return by which way, None if there is none."""
        attempt = self._attempt
        if attempt is None or attempt.session is not session:
            return None
        self._attempt = None
        self._failed = 0
        self._context.timers.cancel(Timer.REGISTER, self._number)
        return attempt.via

    # Timers

    def _send_register(self, attempt: Attempt, now: float) -> None:
        if attempt.session is not None:
            attempt.send_register(self._register(attempt.session))
            self._set_retry_timer(now, attempt.confirmations_sent - 1)

    def _set_retry_timer(self, now: float, tries: int) -> None:
        step = min(tries, len(HANDSHAKE_RETRY_INTERVALS) - 1)
        interval = HANDSHAKE_RETRY_INTERVALS[step]
        if tries >= len(HANDSHAKE_RETRY_INTERVALS) and self._is_served():
            interval = SPARE_RETRY_INTERVAL
        self._retry_at = now + self._context.jitter(interval, HANDSHAKE_RETRY_JITTER)
        self._context.timers.set(Timer.REGISTER, self._number, self._retry_at)

    def _set_next_way_timer(self, now: float) -> None:
        if self._attempt is not None and self._attempt.wants_next:
            at = min(now + NEXT_WAY_DELAY, self._retry_at)
            self._context.timers.set(Timer.REGISTER, self._number, at)
        else:
            self._context.timers.set(Timer.REGISTER, self._number, self._retry_at)
