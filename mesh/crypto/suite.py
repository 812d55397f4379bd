"""The four cipher suites; docs/protocol.md section 5, Noise r34 sections 4.2, 4.3 and 12."""

import enum
import hashlib
import hmac
from typing import Literal, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from mesh.errors import NotAuthentic

Aead: TypeAlias = AESGCM | ChaCha20Poly1305

HASH_BYTES = 32  # HASHLEN of both hashes; Noise r34 section 4.3


class Suite(enum.IntEnum):
    """A cipher and a hash over X25519; the value is the suite byte of an initiation."""

    AESGCM_SHA256 = 1
    CHACHAPOLY_SHA256 = 2
    AESGCM_BLAKE2S = 3
    CHACHAPOLY_BLAKE2S = 4

    @classmethod
    def preferred(cls, *, both_have_aes: bool) -> "Suite":
        """Return what an initiator uses, given whether both CPUs have AES instructions."""
        return cls.AESGCM_SHA256 if both_have_aes else cls.CHACHAPOLY_BLAKE2S

    @property
    def protocol_suffix(self) -> str:
        """The end of the Noise protocol name, such as ``25519_AESGCM_SHA256``."""
        return _SUFFIXES[self]

    def aead(self, key: bytes) -> Aead:
        """Return the cipher with a 32-byte key."""
        return AESGCM(key) if self in _AESGCM_SUITES else ChaCha20Poly1305(key)

    def hash(self, data: bytes) -> bytes:
        """Return the 32-byte hash of ``data``."""
        return hashlib.new(self._hash_name, data).digest()

    def hkdf(self, chaining_key: bytes, material: bytes, count: int) -> list[bytes]:
        """Return 2 or 3 keys of 32 bytes: HKDF of Noise r34 section 4.3."""
        temporary_key = self._hmac(chaining_key, material)
        keys: list[bytes] = []
        previous = b""
        for number in range(1, count + 1):
            previous = self._hmac(temporary_key, previous + bytes([number]))
            keys.append(previous)
        return keys

    def seal(self, key: bytes, nonce: int, associated: bytes, plaintext: bytes) -> bytes:
        """Return ENCRYPT(k, n, ad, plaintext) of Noise r34 section 4.2: 16 bytes longer."""
        return self.aead(key).encrypt(self._encode_nonce(nonce), plaintext, associated)

    def open(self, key: bytes, nonce: int, associated: bytes, ciphertext: bytes) -> bytes:
        """Return DECRYPT(k, n, ad, ciphertext) of Noise r34 section 4.2.

        Raises:
            NotAuthentic: it does not verify.
        """
        try:
            return self.aead(key).decrypt(self._encode_nonce(nonce), ciphertext, associated)
        except InvalidTag:
            raise NotAuthentic("a handshake message does not verify") from None

    @property
    def _hash_name(self) -> str:
        """What hashlib calls the hash."""
        return "sha256" if self in _SHA256_SUITES else "blake2s"

    def _hmac(self, key: bytes, data: bytes) -> bytes:
        """HMAC-HASH of Noise r34 section 4.3 (RFC 2104), with BLAKE2s too, not its keyed mode."""
        return hmac.new(key, data, self._hash_name).digest()

    def _encode_nonce(self, nonce: int) -> bytes:
        """The two nonce formats of Noise r34 section 12: they differ in byte order only."""
        order: Literal["big", "little"] = "big" if self in _AESGCM_SUITES else "little"
        return bytes(4) + nonce.to_bytes(8, order)


_SUFFIXES = {
    Suite.AESGCM_SHA256: "25519_AESGCM_SHA256",
    Suite.CHACHAPOLY_SHA256: "25519_ChaChaPoly_SHA256",
    Suite.AESGCM_BLAKE2S: "25519_AESGCM_BLAKE2s",
    Suite.CHACHAPOLY_BLAKE2S: "25519_ChaChaPoly_BLAKE2s",
}
_AESGCM_SUITES = frozenset({Suite.AESGCM_SHA256, Suite.AESGCM_BLAKE2S})
_SHA256_SUITES = frozenset({Suite.AESGCM_SHA256, Suite.CHACHAPOLY_SHA256})
