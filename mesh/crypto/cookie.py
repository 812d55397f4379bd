"""The MACs of initiations and the cookies asked for under load; docs/protocol.md section 7.

`mac1` shows that the sender knows whom it talks to (and, between edges, the community's secret).
`mac2` shows that it receives datagrams at its source address. Both are cheap to check, so that a
flood of forgeries never gets as far as a Diffie-Hellman.

```
initiation    | … message … | mac1 16 | mac2 16 |
cookie reply  | type 3 | zero 3 | receiver index 4 | nonce 8 | sealed cookie 16 + tag 16 |
```
"""

import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from mesh.addresses import Endpoint, encode_endpoint
from mesh.constants import COOKIE_LIFETIME, KEY_BYTES
from mesh.crypto import Buffer, Entropy
from mesh.crypto.community import CommunityKeys
from mesh.errors import MalformedMessage, NotAuthentic
from mesh.wire.datagram import COOKIE_REPLY_BYTES, DatagramType

MAC_BYTES = 16
MACS_BYTES = 2 * MAC_BYTES

MAC1_KEY_SUPERNODE = hashlib.blake2s(b"mesh v1 mac1 supernode", digest_size=KEY_BYTES).digest()
"""``k1`` towards any supernode: public, since an edge may not know the supernode's key yet."""

_REPLY_PREFIX = bytes([DatagramType.COOKIE_REPLY, 0, 0, 0])
_NONCE_BYTES = 8
_NONCE_PADDING = bytes(4)


def mac1_key_peer(community: CommunityKeys, responder_static: bytes) -> bytes:
    """Return ``k1``, 32 bytes, for initiations to the edge with this static public key."""
    return _mac(KEY_BYTES, community.mac1_key, responder_static)


def add_macs(message: bytes, k1: bytes, cookie: bytes | None) -> bytes:
    """Return an initiation: ``message`` with mac1 and mac2 (zero without a cookie) behind it.

    Args:
        message: the datagram without both.
        k1: 32 bytes; `mac1_key_peer` or `MAC1_KEY_SUPERNODE`.
        cookie: 16 bytes that the responder gave us less than `COOKIE_LIFETIME` ago.
    """
    datagram = message + _mac(MAC_BYTES, k1, message)
    mac2 = bytes(MAC_BYTES) if cookie is None else _mac(MAC_BYTES, cookie, datagram)
    return datagram + mac2


def mac1_of(datagram: bytes) -> bytes:
    """Return the mac1 of an initiation, 16 bytes, unchecked."""
    return datagram[-MACS_BYTES:-MAC_BYTES]


def has_valid_mac1(datagram: Buffer, k1: bytes) -> bool:
    """Return whether the mac1 of an initiation, of any length, is right for ``k1``."""
    datagram = bytes(datagram)
    expected = _mac(MAC_BYTES, k1, datagram[:-MACS_BYTES])
    return hmac.compare_digest(expected, mac1_of(datagram))


class CookieSecret:
    """The responder's side: makes and recognises cookies without keeping anything per source.

    Time is cut in periods of `COOKIE_LIFETIME`, each with a secret of its own; cookies of this
    period and the one before are recognised, so that each lives at least one period.
    """

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._period = -1
        self._current = entropy(KEY_BYTES)
        self._previous: bytes | None = None

    def has_valid_mac2(self, datagram: Buffer, source: Endpoint, now: float) -> bool:
        """Return whether an initiation carries the mac2 of a cookie that we gave ``source``.

        Its mac1 must have been checked before.
        """
        self._turn_to(now)
        datagram = bytes(datagram)
        encoded_source = encode_endpoint(source)
        return any(
            hmac.compare_digest(
                _mac(MAC_BYTES, _cookie(secret, encoded_source), datagram[:-MAC_BYTES]),
                datagram[-MAC_BYTES:],
            )
            for secret in (self._current, self._previous)
            if secret is not None
        )

    def reply(self, datagram: Buffer, source: Endpoint, k1: bytes, now: float) -> bytes:
        """Return the cookie reply, 48 bytes, to an initiation whose mac1 is right."""
        self._turn_to(now)
        datagram = bytes(datagram)
        nonce = self._entropy(_NONCE_BYTES)
        sealed = ChaCha20Poly1305(_seal_key(k1, nonce)).encrypt(
            _NONCE_PADDING + nonce,
            _cookie(self._current, encode_endpoint(source)),
            mac1_of(datagram),
        )
        return _REPLY_PREFIX + datagram[4:8] + nonce + sealed

    def _turn_to(self, now: float) -> None:
        """Make the secret of the period that ``now`` lies in the current one."""
        period = int(now // COOKIE_LIFETIME)
        if period == self._period:
            return
        self._previous = self._current if period == self._period + 1 else None
        self._current = self._entropy(KEY_BYTES)
        self._period = period


def open_cookie_reply_untrusted(datagram: Buffer, k1: bytes, mac1: bytes) -> tuple[int, bytes]:
    """Return the receiver index, for the caller to compare, and the cookie (16 bytes).

    Args:
        datagram: a cookie reply; not authenticated. Its receiver index tells which initiation.
        k1: the key that the initiation's mac1 was made with.
        mac1: that of the initiation, 16 bytes.

    Raises:
        MalformedMessage: not 48 bytes, another type, or a reserved byte is not zero.
        NotAuthentic: not an answer to this initiation by somebody who knows ``k1``.
    """
    datagram = bytes(datagram)
    if len(datagram) != COOKIE_REPLY_BYTES or datagram[:4] != _REPLY_PREFIX:
        raise MalformedMessage("not a cookie reply")
    nonce, sealed = datagram[8:16], datagram[16:]
    try:
        cookie = ChaCha20Poly1305(_seal_key(k1, nonce)).decrypt(
            _NONCE_PADDING + nonce, sealed, mac1
        )
    except InvalidTag:
        raise NotAuthentic("a cookie reply does not verify") from None
    return int.from_bytes(datagram[4:8], "big"), cookie


def _cookie(secret: bytes, encoded_source: bytes) -> bytes:
    return _mac(MAC_BYTES, secret, encoded_source)


def _seal_key(k1: bytes, nonce: bytes) -> bytes:
    """A key of its own for each reply: 8 random bytes alone would be too few for one key."""
    return _mac(KEY_BYTES, k1, b"mesh v1 cookie" + nonce)


def _mac(length: int, key: bytes, data: bytes) -> bytes:
    """``MAC(length, key, data)`` of docs/protocol.md section 2: keyed BLAKE2s."""
    return hashlib.blake2s(data, key=key, digest_size=length).digest()
