"""One try to register: an XX handshake with a ``register`` behind it; protocol section 5.2."""

import enum

from mesh.core.context import Context
from mesh.core.outbox import Via
from mesh.crypto.cookie import MAC1_KEY_SUPERNODE, open_cookie_reply_untrusted
from mesh.crypto.handshake import SupernodeInitiator
from mesh.crypto.identity import fingerprint_of
from mesh.crypto.session import Session
from mesh.crypto.suite import Suite
from mesh.engine import Buffer
from mesh.wire.inner import wrap_control
from mesh.wire.messages import Register, encode_message

CONFIRMATIONS_PER_ATTEMPT = 5  # then the handshake starts anew


class Stage(enum.Enum):
    """How far an attempt has come."""

    INITIATED = "waiting for the supernode's response"
    CONFIRMED = "waiting for the answer to our register"


class Attempt:
    """One handshake with a supernode under way.

    Args:
        context: the engine's.
        owner: whom datagrams for our index are handed to.
        vias: where the supernode may be, at least one: the first is tried at once, the others one
            by one as `try_next` is called (RFC 8305 section 5).
        cookie: what it asked to see, or None.

    Attributes:
        via: where it was asked last; where it is, once it has answered.
        stage: how far this has come.
        session: of stage CONFIRMED.
        confirmations_sent: how often the confirmation has left.
    """

    def __init__(
        self, context: Context, owner: object, vias: list[Via], cookie: bytes | None
    ) -> None:
        self.via = vias[0]
        self._untried = vias[1:]
        self.stage = Stage.INITIATED
        self.session: Session | None = None
        self.confirmations_sent = 0
        self._context = context
        self._owner = owner
        self._confirmation = b""
        self._initiator = SupernodeInitiator(
            context.config.identity,
            Suite.preferred(both_have_aes=context.config.has_aes),
            context.indexes.allocate(owner),
            context.entropy,
            cookie,
        )
        context.outbox.send(self.via, self._initiator.datagram)

    @property
    def wants_next(self) -> bool:
        """Whether another way may be tried while this one has not answered."""
        return self.stage is Stage.INITIATED and bool(self._untried)

    def try_next(self) -> None:
        """Send the same initiation by the next way; whichever answers first is used."""
        if self.wants_next:
            self.via = self._untried.pop(0)
            self._context.outbox.send(self.via, self._initiator.datagram)

    def try_by(self, via: Via) -> None:
        """Send the same initiation by a way that has just come up."""
        if self.stage is Stage.INITIATED:
            self._untried.insert(0, via)
            self.try_next()

    def receive_response_untrusted(self, datagram: Buffer) -> str:
        """Take in message 2; return the fingerprint of the key that it proves.

        Raises:
            RemoteError: it does not parse or verify; nothing has changed.
        """
        return fingerprint_of(self._initiator.receive_response_untrusted(datagram))

    def confirm(self, via: Via, now: float) -> None:
        """Accept the supernode that answered, and make the session."""
        self._confirmation, self.session = self._initiator.confirm(now)
        self._context.indexes.establish(self.session, self._owner)
        self.via = via
        self.stage = Stage.CONFIRMED

    @property
    def may_repeat(self) -> bool:
        """Whether confirmation and registration should be sent once more."""
        return self.stage is Stage.CONFIRMED and self.confirmations_sent < CONFIRMATIONS_PER_ATTEMPT

    def send_register(self, register: Register) -> None:
        """Send the confirmation and the registration behind it."""
        if self.session is not None:
            self.confirmations_sent += 1
            body = wrap_control(encode_message(register))
            self._context.outbox.send(self.via, self._confirmation)
            self._context.outbox.send(self.via, self.session.seal(body))

    def open_cookie_untrusted(self, datagram: Buffer) -> bytes | None:
        """Return the cookie in a reply to our initiation, None when none was waited for.

        Raises:
            RemoteError: it does not parse, or was not made for our initiation.
        """
        if self.stage is not Stage.INITIATED:
            return None
        return open_cookie_reply_untrusted(datagram, MAC1_KEY_SUPERNODE, self._initiator.mac1)[1]

    def abandon(self) -> None:
        """Give back the index, and the session with it."""
        self._context.indexes.release(self._initiator.our_index)
