"""Handshakes with one peer and the sessions they make; protocol sections 5.1, 5.3 and 6.2."""

from mesh.addresses import EdgeId
from mesh.constants import (
    HANDSHAKE_RETRY_INTERVALS,
    HANDSHAKE_RETRY_JITTER,
    REKEY_AFTER_TIME,
    REKEY_RESPONDER_GRACE,
)
from mesh.core.context import Context
from mesh.core.cookie_jar import CookieJar
from mesh.core.outbox import Via
from mesh.core.sessions import SessionSlots
from mesh.core.timers import Timer
from mesh.crypto.cookie import mac1_key_peer, open_cookie_reply_untrusted
from mesh.crypto.handshake import PeerInitiation, PeerInitiator
from mesh.crypto.suite import Suite
from mesh.engine import Buffer

GIVE_UP_INTERVAL = 25.0  # s between handshakes with a member that has not answered for long
EAGER_ATTEMPTS = 12

STUCK_AFTER = 7  # initiations; 10 s, see HANDSHAKE_RETRY_INTERVALS


class PeerHandshake:
    """Starts, repeats and answers handshakes; installs what comes of them.

    Args:
        static_key: the peer's, 32 bytes.
        edge_id: the peer's, for its timers.
        context: the engine's.
        owner: whom datagrams for our indexes are handed to.

    Attributes:
        sessions: what seals and opens.
        has_restarted: whether the peer's last initiation came from a new start of it.
    """

    def __init__(self, static_key: bytes, edge_id: EdgeId, context: Context, owner: object) -> None:
        self.sessions = SessionSlots()
        self.has_restarted = False
        self._static_key = static_key
        self._edge_id = edge_id
        self._context = context
        self._owner = owner
        self._initiator: PeerInitiator | None = None
        self._attempts = 0
        self._cookies = CookieJar()
        self._their_epoch = 0

    @property
    def is_under_way(self) -> bool:
        """Whether an initiation of ours waits for its answer."""
        return self._initiator is not None

    @property
    def is_repeated(self) -> bool:
        """Whether an initiation has drawn no answer already."""
        return self._attempts > 0

    @property
    def is_stuck(self) -> bool:
        """Whether so many have drawn none that the peer is more than slow."""
        return self._attempts >= STUCK_AFTER

    # Our initiations

    def want(self, at: float) -> None:
        """See to it that a handshake starts at ``at``, unless one comes before."""
        if self._initiator is None:
            self._context.timers.set_no_later_than(Timer.HANDSHAKE, self._edge_id, at)

    def count_failure(self) -> None:
        """Note that the initiation under way drew no answer; `start` makes the next one."""
        self._cookies.retried()
        self._attempts += 1

    def start(self, vias: list[Via], now: float, *, peer_has_aes: bool) -> None:
        """Send a fresh initiation by all of ``vias``; retried later even if there are none."""
        context, config = self._context, self._context.config
        self.abandon()
        if vias:
            self._initiator = PeerInitiator(
                config.identity,
                config.community,
                self._static_key,
                Suite.preferred(both_have_aes=config.has_aes and peer_has_aes),
                context.indexes.allocate(self._owner),
                context.next_number(),
                context.entropy,
                self._cookies.started(now),
            )
            for via in vias:
                context.outbox.send(via, self._initiator.datagram)
        context.timers.set(Timer.HANDSHAKE, self._edge_id, now + self._retry_interval())

    def _retry_interval(self) -> float:
        if self._attempts > EAGER_ATTEMPTS:
            return self._context.jitter(GIVE_UP_INTERVAL, HANDSHAKE_RETRY_JITTER)
        step = min(self._attempts, len(HANDSHAKE_RETRY_INTERVALS) - 1)
        return self._context.jitter(HANDSHAKE_RETRY_INTERVALS[step], HANDSHAKE_RETRY_JITTER)

    def receive_cookie_untrusted(self, datagram: Buffer) -> bool:
        """Take in a cookie: the peer is under load and wants to see it before it works.

        Returns:
            Whether the handshake should be started again with it: once per retry, since cookies
            are cheap to send.

        Raises:
            RemoteError: it does not parse, or was not made for our initiation.
        """
        if self._initiator is None:
            return False
        k1 = mac1_key_peer(self._context.config.community, self._static_key)
        _, cookie = open_cookie_reply_untrusted(datagram, k1, self._initiator.mac1)
        return self._cookies.put(cookie)

    def receive_response_untrusted(self, datagram: Buffer, now: float) -> bool:
        """Take in the answer to our initiation; whether a new session came of it.

        Raises:
            RemoteError: it does not parse or verify; nothing has changed.
        """
        initiator = self._initiator
        if initiator is None:
            return False
        session = initiator.receive_response_untrusted(datagram, now)
        self._initiator = None
        self._context.indexes.establish(session, self._owner)
        self._context.indexes.retire(self.sessions.initiated(session))
        self._settled(now)
        return True

    # The peer's

    def respond(self, initiation: PeerInitiation, now: float) -> bytes:
        """Return the answer to an initiation that verified and is no replay."""
        context = self._context
        epoch = initiation.number >> 32
        # Stays set until the new session is confirmed: our first answer may have been lost.
        self.has_restarted = self.has_restarted or epoch != self._their_epoch
        self._their_epoch = epoch
        index = context.indexes.allocate(self._owner)
        response, session = initiation.respond(index, context.entropy, now)
        context.indexes.establish(session, self._owner)
        context.indexes.retire(self.sessions.responded(session))
        return response

    def confirm_next(self, now: float) -> None:
        """Make the session we answered for the current one: its first datagram has opened."""
        self._context.indexes.retire(self.sessions.confirmed())
        self.abandon()  # theirs came through first; ours would only be a second rekey
        self._settled(now)

    # Lifetimes

    def _settled(self, now: float) -> None:
        self._attempts = 0
        self._cookies.retried()
        self._context.timers.cancel(Timer.HANDSHAKE, self._edge_id)
        self.set_rekey_timer(now)

    def set_rekey_timer(self, now: float) -> None:
        """Set the timer that renews the current session."""
        current = self.sessions.current
        if current is not None:
            grace = 0.0 if current.is_initiator else REKEY_RESPONDER_GRACE
            due = current.created_at + REKEY_AFTER_TIME + grace
            at = due if due > now else now + REKEY_RESPONDER_GRACE
            self._context.timers.set(Timer.REKEY, self._edge_id, at)

    def drop_expired(self, now: float) -> None:
        """Forget the sessions that are too old to open anything."""
        self._context.indexes.retire(self.sessions.drop_expired(now))

    def wants_rekey(self, now: float) -> bool:
        """Whether the current session is due for a new handshake, or gone."""
        current = self.sessions.current
        return current is None or current.wants_rekey(now)

    def abandon(self) -> None:
        """Give up the initiation that waits for its answer."""
        if self._initiator is not None:
            self._context.indexes.release(self._initiator.our_index)
            self._initiator = None

    def close(self) -> None:
        """Give back all indexes."""
        self.abandon()
        self._context.indexes.retire(self.sessions)
