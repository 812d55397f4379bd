"""The Noise Protocol Framework, revision 34: the patterns and the machine that runs them.

A handshake pattern is a table of data: for each message the tokens it is made of. One machine
reads the table. Writing and reading walk the same tokens and differ only in `Token.E` and
`Token.S`, which carry a public key; the others mix a Diffie-Hellman result or the pre-shared key.

Each message is worked out on a copy of the handshake's progress that replaces the old one at the
very end: a message that does not verify leaves no trace, so that forgeries cannot break a
handshake under way.
"""

import enum
from copy import copy
from dataclasses import dataclass, replace

from mesh.constants import KEY_BYTES, TAG_BYTES
from mesh.crypto.keypair import KeyPair
from mesh.crypto.suite import HASH_BYTES, Suite
from mesh.errors import LocalError, MalformedMessage


class Token(enum.Enum):
    """What a handshake message is made of; Noise r34 section 5.3."""

    E = "e"
    S = "s"
    EE = "ee"
    ES = "es"
    SE = "se"
    SS = "ss"
    PSK = "psk"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A handshake pattern; Noise r34 section 7.

    Attributes:
        name: as it stands in the protocol name, modifiers included.
        responder_is_known: whether the pre-message ``<- s`` exists.
        messages: the tokens of each message; the initiator writes the first, third …
    """

    name: str
    responder_is_known: bool
    messages: tuple[tuple[Token, ...], ...]

    @property
    def uses_psk(self) -> bool:
        """Whether ephemeral keys are mixed into the key too; Noise r34 section 9.2."""
        return any(Token.PSK in tokens for tokens in self.messages)


IK_PSK2 = Pattern(
    "IKpsk2",
    responder_is_known=True,
    messages=(
        (Token.E, Token.ES, Token.S, Token.SS),
        (Token.E, Token.EE, Token.SE, Token.PSK),
    ),
)
XX = Pattern(
    "XX",
    responder_is_known=False,
    messages=(
        (Token.E,),
        (Token.E, Token.EE, Token.S, Token.ES),
        (Token.S, Token.SE),
    ),
)

# Which key of (initiator, responder) a token takes: True for static, False for ephemeral.
_STATIC_KEYS = {
    Token.EE: (False, False),
    Token.ES: (False, True),
    Token.SE: (True, False),
    Token.SS: (True, True),
}


class SymmetricState:
    """What both sides have mixed so far; Noise r34 sections 5.1 and 5.2 in one object.

    Attributes:
        handshake_hash: 32 bytes over everything sent; ``h``.
    """

    __slots__ = ("_chaining_key", "_key", "_nonce", "_suite", "handshake_hash")

    def __init__(self, protocol_name: bytes, suite: Suite) -> None:
        self._suite = suite
        if len(protocol_name) <= HASH_BYTES:
            self.handshake_hash = protocol_name.ljust(HASH_BYTES, b"\0")
        else:
            self.handshake_hash = suite.hash(protocol_name)
        self._chaining_key = self.handshake_hash
        self._key = b""
        self._nonce = 0

    @property
    def has_key(self) -> bool:
        """Whether what follows is encrypted."""
        return bool(self._key)

    def mix_key(self, material: bytes) -> None:
        """MixKey(input_key_material)."""
        self._chaining_key, self._key = self._suite.hkdf(self._chaining_key, material, 2)
        self._nonce = 0

    def mix_hash(self, data: bytes) -> None:
        """MixHash(data)."""
        self.handshake_hash = self._suite.hash(self.handshake_hash + data)

    def mix_key_and_hash(self, material: bytes) -> None:
        """MixKeyAndHash(input_key_material), for pre-shared keys."""
        self._chaining_key, temporary_hash, self._key = self._suite.hkdf(
            self._chaining_key, material, 3
        )
        self._nonce = 0
        self.mix_hash(temporary_hash)

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        """EncryptAndHash(plaintext)."""
        ciphertext = plaintext
        if self._key:
            ciphertext = self._suite.seal(self._key, self._nonce, self.handshake_hash, plaintext)
            self._nonce += 1
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash_untrusted(self, ciphertext: bytes) -> bytes:
        """DecryptAndHash(ciphertext).

        Raises:
            NotAuthentic: it does not verify.
        """
        plaintext = ciphertext
        if self._key:
            plaintext = self._suite.open(self._key, self._nonce, self.handshake_hash, ciphertext)
            self._nonce += 1
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        """Split(): the keys of initiator to responder and back, 32 bytes each."""
        to_responder, to_initiator = self._suite.hkdf(self._chaining_key, b"", 2)
        return to_responder, to_initiator


@dataclass(slots=True, repr=False)
class _Progress:
    """All that changes in the course of a handshake."""

    symmetric: SymmetricState
    messages_done: int = 0
    our_ephemeral: KeyPair | None = None
    their_ephemeral: bytes | None = None
    their_static: bytes | None = None

    def copied(self) -> "_Progress":
        """A copy to work on; keys are immutable, so only the symmetric state is copied too."""
        return replace(self, symmetric=copy(self.symmetric))


class HandshakeState:
    """One side of one handshake; Noise r34 section 5.3.

    Args:
        pattern: the table to run.
        suite: cipher and hash.
        is_initiator: which side this is.
        prologue: what both sides must agree on; not sent.
        our_static: our long-term key, where the pattern has one.
        their_static: 32 bytes; the responder's key, where the initiator knows it beforehand.
        psk: 32 bytes, where the pattern has one.

    Attributes:
        suite: as given.
        is_initiator: as given.

    Raises:
        LocalError: a key that the pattern needs is missing.
    """

    def __init__(
        self,
        pattern: Pattern,
        suite: Suite,
        *,
        is_initiator: bool,
        prologue: bytes,
        our_static: KeyPair | None = None,
        their_static: bytes | None = None,
        psk: bytes | None = None,
    ) -> None:
        if pattern.uses_psk and (psk is None or len(psk) != KEY_BYTES):
            raise LocalError(f"{pattern.name} needs a pre-shared key of {KEY_BYTES} bytes")
        self.suite = suite
        self.is_initiator = is_initiator
        self._pattern = pattern
        self._our_static = our_static
        self._psk = psk or b""
        symmetric = SymmetricState(f"Noise_{pattern.name}_{suite.protocol_suffix}".encode(), suite)
        symmetric.mix_hash(prologue)
        if pattern.responder_is_known:
            symmetric.mix_hash(self._known_responder(their_static))
        self._progress = _Progress(symmetric, their_static=their_static)

    def _known_responder(self, their_static: bytes | None) -> bytes:
        """The key of the pre-message ``<- s``."""
        if self.is_initiator:
            key = their_static
        else:
            key = self._our_static.public_key if self._our_static else None
        if key is None or len(key) != KEY_BYTES:
            raise LocalError(f"{self._pattern.name} needs the responder's static key")
        return key

    @property
    def is_finished(self) -> bool:
        """Whether all messages have been written or read."""
        return self._progress.messages_done == len(self._pattern.messages)

    @property
    def handshake_hash(self) -> bytes:
        """32 bytes; unique to this handshake, and the same on both sides, once it is finished."""
        return self._progress.symmetric.handshake_hash

    @property
    def their_static(self) -> bytes | None:
        """The other side's long-term public key, once known; proved by the message it came in."""
        return self._progress.their_static

    def write_message(self, payload: bytes = b"", *, ephemeral: bytes = b"") -> bytes:
        """Return our next message; the state stays as it was if this raises.

        Args:
            payload: what to send along; encrypted if a key has been agreed on by then.
            ephemeral: 32 fresh random bytes for a message with an ``e`` token; used only here.

        Raises:
            LocalError: it is not our turn, or a key is missing.
            NotAuthentic: the other side's key is of low order.
        """
        progress, tokens = self._begin(we_write=True)
        parts = [self._write_token(progress, token, ephemeral) for token in tokens]
        parts.append(progress.symmetric.encrypt_and_hash(payload))
        self._progress = progress
        return b"".join(parts)

    def read_message_untrusted(self, message: bytes) -> bytes:
        """Return the payload of the other side's next message.

        The state stays as it was if this raises: the true message may still come.

        Raises:
            LocalError: it is not their turn.
            MalformedMessage: the message is too short for its tokens.
            NotAuthentic: it does not verify, or holds a key of low order.
        """
        progress, tokens = self._begin(we_write=False)
        rest = message
        for token in tokens:
            rest = self._read_token_untrusted(progress, token, rest)
        if progress.symmetric.has_key and len(rest) < TAG_BYTES:
            raise MalformedMessage("a handshake message is too short")
        payload = progress.symmetric.decrypt_and_hash_untrusted(rest)
        self._progress = progress
        return payload

    def split(self) -> tuple[bytes, bytes]:
        """Return the session keys, 32 bytes each: initiator to responder, then the other way.

        Raises:
            LocalError: the handshake is not finished.
        """
        if not self.is_finished:
            raise LocalError("the handshake is not finished")
        return self._progress.symmetric.split()

    def _begin(self, *, we_write: bool) -> tuple[_Progress, tuple[Token, ...]]:
        """A copy of the progress, a message further, and the tokens of that message."""
        done = self._progress.messages_done
        is_initiators_turn = done % 2 == 0
        if self.is_finished or (is_initiators_turn == self.is_initiator) != we_write:
            raise LocalError("a handshake message out of turn")
        progress = self._progress.copied()
        progress.messages_done = done + 1
        return progress, self._pattern.messages[done]

    def _write_token(self, progress: _Progress, token: Token, ephemeral: bytes) -> bytes:
        """Process one token of our message and return its bytes."""
        if token is Token.E:
            progress.our_ephemeral = KeyPair(ephemeral)
            self._mix_ephemeral(progress, progress.our_ephemeral.public_key)
            return progress.our_ephemeral.public_key
        if token is Token.S:
            return progress.symmetric.encrypt_and_hash(_present(self._our_static).public_key)
        self._mix_secret(progress, token)
        return b""

    def _read_token_untrusted(self, progress: _Progress, token: Token, rest: bytes) -> bytes:
        """Process one token of their message and return what follows its bytes."""
        if token is Token.E:
            progress.their_ephemeral, rest = _take_untrusted(rest, KEY_BYTES)
            self._mix_ephemeral(progress, progress.their_ephemeral)
        elif token is Token.S:
            tag_bytes = TAG_BYTES if progress.symmetric.has_key else 0
            field, rest = _take_untrusted(rest, KEY_BYTES + tag_bytes)
            progress.their_static = progress.symmetric.decrypt_and_hash_untrusted(field)
        else:
            self._mix_secret(progress, token)
        return rest

    def _mix_ephemeral(self, progress: _Progress, public_key: bytes) -> None:
        progress.symmetric.mix_hash(public_key)
        if self._pattern.uses_psk:
            progress.symmetric.mix_key(public_key)

    def _mix_secret(self, progress: _Progress, token: Token) -> None:
        """Mix the pre-shared key or a Diffie-Hellman result."""
        if token is Token.PSK:
            progress.symmetric.mix_key_and_hash(self._psk)
            return
        initiators, responders = _STATIC_KEYS[token]
        ours, theirs = (initiators, responders) if self.is_initiator else (responders, initiators)
        our_key = self._our_static if ours else progress.our_ephemeral
        their_key = progress.their_static if theirs else progress.their_ephemeral
        progress.symmetric.mix_key(_present(our_key).exchange(their_key or b""))


def _present(key: KeyPair | None) -> KeyPair:
    if key is None:
        raise LocalError("the pattern needs a key that was not given")
    return key


def _take_untrusted(data: bytes, length: int) -> tuple[bytes, bytes]:
    """The first ``length`` bytes, and the rest."""
    if len(data) < length:
        raise MalformedMessage("a handshake message is too short")
    return data[:length], data[length:]
