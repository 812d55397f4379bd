"""One pair of keys between two parties: seal and open transport datagrams; section 6.

```
 0        1        4                8                16                       n-16       n
+--------+--------+----------------+----------------+-----------------------+----------+
| type 4 | zero 3 | receiver index | counter        | ciphertext            | tag      |
+--------+--------+----------------+----------------+-----------------------+----------+
                  |<---------- nonce, 12 ---------->|
```

A nonce never comes twice under one key: each direction has its own key, the receiver index is
fixed for a session, and a counter is spent before it is used, even if sealing then fails.
"""

import functools
import struct
from collections.abc import Iterable
from typing import NamedTuple

from cryptography.exceptions import InvalidTag

from mesh.constants import (
    REJECT_AFTER_TIME,
    REKEY_AFTER_DATAGRAMS,
    REKEY_AFTER_TIME,
    REKEY_RESPONDER_GRACE,
    TAG_BYTES,
    TRANSPORT_HEADER_BYTES,
)
from mesh.crypto import Buffer
from mesh.crypto.noise import HandshakeState
from mesh.crypto.replay import ReplayWindow
from mesh.crypto.suite import Suite
from mesh.errors import LocalError, MalformedMessage, NotAuthentic, Replayed
from mesh.wire.datagram import DatagramType

_PREFIX = bytes([DatagramType.TRANSPORT, 0, 0, 0])  # type and reserved bytes: the additional data
_HEADER = struct.Struct(">8sQ")  # prefix with receiver index, counter
_NONCE = slice(4, TRANSPORT_HEADER_BYTES)
_CIPHERTEXT = slice(TRANSPORT_HEADER_BYTES, None)  # and tag
_OVERHEAD_BYTES = TRANSPORT_HEADER_BYTES + TAG_BYTES
_RESPONDER_REKEY_AFTER_TIME = REKEY_AFTER_TIME + REKEY_RESPONDER_GRACE
_COUNTER_LIMIT = 2**64 - 1  # never used: Noise r34 section 5.1 reserves it


class OpenedRun(NamedTuple):
    """What `Session.open_run_untrusted` made of a batch.

    Attributes:
        plaintexts: of the datagrams that opened, in order; views of the caller's buffer.
        end: where in the batch the first datagram starts that is not for this session, or the
            length of the batch.
        replayed: datagrams whose counter was seen, or is below the window.
        not_authentic: datagrams that do not verify.
    """

    plaintexts: list[memoryview]
    end: int
    replayed: int
    not_authentic: int


class Session:
    """Seals what we send and opens what they sent, under keys that a handshake agreed on.

    A session past `REJECT_AFTER_TIME` still works: it has no clock, so whoever holds it asks
    `is_expired` before every batch.

    Args:
        our_index: the receiver index of datagrams for us, not zero.
        their_index: the receiver index of datagrams for them, not zero.
        suite: cipher (and hash) agreed on.
        seal_key: 32 bytes; for what we send; not kept.
        open_key: 32 bytes; for what they send; not kept.
        is_initiator: whether we started the handshake.
        their_static: 32 bytes; whom the handshake proved the other side to be.
        handshake_hash: 32 bytes; unique to this session, the same on both sides.
        created_at: when the handshake finished, monotonic seconds.

    Attributes:
        sent_datagrams: how many counters are spent; also the next one to use.
    """

    __slots__ = (
        "_decrypt",
        "_decrypt_into",
        "_decrypt_own",
        "_encrypt",
        "_encrypt_into",
        "_open_prefix",
        "_seal_prefix",
        "_window",
        "created_at",
        "handshake_hash",
        "is_initiator",
        "our_index",
        "sent_datagrams",
        "suite",
        "their_index",
        "their_static",
    )

    def __init__(
        self,
        *,
        our_index: int,
        their_index: int,
        suite: Suite,
        seal_key: bytes,
        open_key: bytes,
        is_initiator: bool,
        their_static: bytes,
        handshake_hash: bytes,
        created_at: float,
    ) -> None:
        self.our_index = our_index
        self.their_index = their_index
        self.suite = suite
        self.is_initiator = is_initiator
        self.their_static = their_static
        self.handshake_hash = handshake_hash
        self.created_at = created_at
        self.sent_datagrams = 0
        self._seal_prefix = _PREFIX + their_index.to_bytes(4, "big")
        self._open_prefix = _PREFIX + our_index.to_bytes(4, "big")
        self._window = ReplayWindow()
        seal_aead = suite.aead(seal_key)
        # Bound methods: looking them up anew costs 0.05 µs per datagram.
        self._encrypt = seal_aead.encrypt
        self._encrypt_into = seal_aead.encrypt_into
        self._decrypt_own = seal_aead.decrypt
        open_aead = suite.aead(open_key)
        self._decrypt = open_aead.decrypt
        self._decrypt_into = open_aead.decrypt_into

    @classmethod
    def from_handshake(
        cls, noise: HandshakeState, our_index: int, their_index: int, now: float
    ) -> "Session":
        """Return the session that a finished handshake agreed on.

        Raises:
            LocalError: the handshake is not finished, or did not prove a static key.
        """
        to_responder, to_initiator = noise.split()
        if noise.their_static is None:
            raise LocalError("a session needs to know whom it is with")
        return cls(
            our_index=our_index,
            their_index=their_index,
            suite=noise.suite,
            seal_key=to_responder if noise.is_initiator else to_initiator,
            open_key=to_initiator if noise.is_initiator else to_responder,
            is_initiator=noise.is_initiator,
            their_static=noise.their_static,
            handshake_hash=noise.handshake_hash,
            created_at=now,
        )

    def __repr__(self) -> str:
        return f"<Session {self.our_index:#010x} {self.suite.name} sent={self.sent_datagrams}>"

    @property
    def highest_counter(self) -> int:
        """The highest counter opened so far, or -1 before the first."""
        return self._window.highest

    def is_expired(self, now: float) -> bool:
        """Return whether nothing may be sealed or opened any more; section 6.2."""
        return now - self.created_at >= REJECT_AFTER_TIME

    def wants_rekey(self, now: float) -> bool:
        """Return whether it is time for us to start a new handshake; section 6.2."""
        rekey_after = REKEY_AFTER_TIME if self.is_initiator else _RESPONDER_REKEY_AFTER_TIME
        return now - self.created_at >= rekey_after or self.sent_datagrams >= REKEY_AFTER_DATAGRAMS

    # Hot path.
    def seal(self, plaintext: Buffer) -> bytes:
        """Return a whole transport datagram, 32 bytes longer than ``plaintext``.

        Raises:
            LocalError: all counters are spent.
        """
        counter = self.sent_datagrams
        if counter >= _COUNTER_LIMIT:
            raise LocalError("all counters of the session are spent")
        self.sent_datagrams = counter + 1
        header = _HEADER.pack(self._seal_prefix, counter)
        return header + self._encrypt(header[_NONCE], plaintext, _PREFIX)

    def has_sealed_untrusted(self, datagram: bytes) -> bool:
        """Whether a datagram that somebody brings back is one that this session has sealed."""
        header, sealed = datagram[:TRANSPORT_HEADER_BYTES], datagram[TRANSPORT_HEADER_BYTES:]
        if len(sealed) < TAG_BYTES or not header.startswith(self._seal_prefix):
            return False
        try:
            self._decrypt_own(header[_NONCE], sealed, _PREFIX)
        except InvalidTag:
            return False
        return True

    # Hot path.
    def seal_into(self, out: memoryview, plaintext: Buffer) -> int:
        """Write a whole transport datagram at the start of ``out`` and return its length.

        The length is that of ``plaintext`` and 32. ``out`` must not overlap ``plaintext``.

        Raises:
            LocalError: all counters are spent, or ``out`` is too short (the counter is spent then).
        """
        counter = self.sent_datagrams
        if counter >= _COUNTER_LIMIT:
            raise LocalError("all counters of the session are spent")
        self.sent_datagrams = counter + 1
        header = _HEADER.pack(self._seal_prefix, counter)
        end = len(plaintext) + _OVERHEAD_BYTES
        try:
            out[:TRANSPORT_HEADER_BYTES] = header
            self._encrypt_into(header[_NONCE], plaintext, _PREFIX, out[TRANSPORT_HEADER_BYTES:end])
        except ValueError:
            raise LocalError(f"a buffer of {len(out)} bytes for a datagram of {end}") from None
        return end

    # Hot path: 1.5 µs a datagram of 1,400 bytes, 0.9 of it the AEAD's.
    def seal_run(self, out: memoryview, plaintexts: Iterable[Buffer], envelope: bytes = b"") -> int:
        """Write transport datagrams one behind the other, ``envelope`` in front of each.

        Args:
            out: with room for all of them; does not overlap the plaintexts.
            plaintexts: each is used up before the next is asked for.
            envelope: what a relay wants to see.

        Returns:
            How many bytes were written.

        Raises:
            LocalError: all counters are spent, or ``out`` is too short (a counter is spent then).
        """
        counter = self.sent_datagrams
        encrypt_into, pack_into = self._encrypt_into, _HEADER.pack_into
        prefix, envelope_bytes = self._seal_prefix, len(envelope)
        position = 0
        try:
            for plaintext in plaintexts:
                if counter >= _COUNTER_LIMIT:
                    raise LocalError("all counters of the session are spent")
                if envelope_bytes:
                    out[position : position + envelope_bytes] = envelope
                    position += envelope_bytes
                pack_into(out, position, prefix, counter)
                counter += 1
                body = position + TRANSPORT_HEADER_BYTES
                end = body + len(plaintext) + TAG_BYTES
                encrypt_into(out[position + 4 : body], plaintext, _PREFIX, out[body:end])
                position = end
        except (ValueError, struct.error):
            raise LocalError(f"a buffer of {len(out)} bytes is too short for a run") from None
        finally:
            self.sent_datagrams = counter
        return position

    # Hot path: 1.2 µs a datagram of 1,400 bytes, 0.6 of it the AEAD's.
    def open_run_untrusted(
        self, batch: memoryview, start: int, stride: int, out: memoryview, envelope: bytes = b""
    ) -> OpenedRun:
        """Open the datagrams of a batch from ``start`` on, up to the first that is not for us.

        Each is verified on its own, and its counter checked. Counters that follow each other, and
        the window, are marked together when their run ends: until then nothing else can ask.

        Args:
            batch: datagrams one behind the other.
            start: where the first of them starts.
            stride: the length of each; the last may be shorter.
            out: takes the plaintexts; at least as long as the batch.
            envelope: what must stand in front of each.
        """
        window, decrypt_into = self._window, self._decrypt_into
        unpack_from = _header_behind(len(envelope)).unpack_from
        expected_prefix = envelope + self._open_prefix
        nonce_at, body_at = len(envelope) + 4, len(envelope) + TRANSPORT_HEADER_BYTES
        plaintext_bytes = stride - body_at - TAG_BYTES
        plaintexts: list[memoryview] = []
        replayed = not_authentic = position = 0
        next_counter = window.highest + 1
        length = len(batch)
        while start < length:
            end = start + stride
            if end > length:  # the last one
                end = length
                plaintext_bytes = end - start - body_at - TAG_BYTES
            if plaintext_bytes < 0:
                break
            prefix, counter = unpack_from(batch, start)
            if prefix != expected_prefix:
                break
            if counter != next_counter:
                window.commit_run(next_counter)
                if not window.check(counter):
                    replayed += 1
                    start = end
                    continue
            body = start + body_at
            plaintext_end = position + plaintext_bytes
            plaintext = out[position:plaintext_end]
            try:
                decrypt_into(batch[start + nonce_at : body], batch[body:end], _PREFIX, plaintext)
            except InvalidTag:
                not_authentic += 1
            else:
                plaintexts.append(plaintext)
                position = plaintext_end
                if counter == next_counter:
                    next_counter += 1
                else:
                    window.commit(counter)
                    next_counter = window.highest + 1
            start = end
        window.commit_run(next_counter)
        return OpenedRun(plaintexts, start, replayed, not_authentic)

    # Hot path.
    def open_next_untrusted(self, datagram: memoryview, out: memoryview) -> memoryview | None:
        """Open the very next datagram of this session into ``out``.

        Args:
            datagram: of 32 bytes at least.
            out: takes the plaintext; has room for it.

        Returns:
            The plaintext, a view of ``out``; None if this is not the next datagram, or does not
            verify, and nothing has changed.
        """
        window = self._window
        prefix, counter = _HEADER.unpack_from(datagram)
        if prefix != self._open_prefix or counter != window.highest + 1:
            return None
        plaintext = out[: len(datagram) - _OVERHEAD_BYTES]
        try:
            self._decrypt_into(datagram[_NONCE], datagram[_CIPHERTEXT], _PREFIX, plaintext)
        except InvalidTag:
            return None
        window.commit(counter)
        return plaintext

    # Hot path.
    def open_untrusted(self, datagram: Buffer) -> bytes:
        """Return the plaintext of a transport datagram; a failure changes nothing.

        Raises:
            MalformedMessage: too short, of another type, or a reserved byte is not zero.
            Replayed: its counter was seen, or is below the window.
            NotAuthentic: it does not verify, or is for another session.
        """
        if len(datagram) < _OVERHEAD_BYTES:
            raise MalformedMessage("a transport datagram is too short")
        prefix, counter = _HEADER.unpack_from(datagram)
        if prefix != self._open_prefix:
            raise _wrong_prefix(prefix)
        window = self._window
        if counter <= window.highest and not window.check(counter):
            raise Replayed("a transport datagram was replayed")
        try:
            plaintext = self._decrypt(datagram[_NONCE], datagram[_CIPHERTEXT], _PREFIX)
        except InvalidTag:
            raise NotAuthentic("a transport datagram does not verify") from None
        window.commit(counter)
        return plaintext


@functools.lru_cache(8)
def _header_behind(envelope_bytes: int) -> struct.Struct:
    """Return what unpacks a header together with the envelope in front of it."""
    return struct.Struct(f">{envelope_bytes + 8}sQ")


def _wrong_prefix(prefix: bytes) -> MalformedMessage | NotAuthentic:
    """What to raise for a header that is not the session's."""
    if prefix[: len(_PREFIX)] != _PREFIX:
        return MalformedMessage("not a transport datagram")
    return NotAuthentic("a transport datagram for another session")
