"""X25519 key pairs (RFC 7748), static or ephemeral."""

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from mesh.constants import KEY_BYTES
from mesh.errors import LocalError, NotAuthentic


class KeyPair:
    """A private key that never shows itself, and its public key.

    Attributes:
        public_key: 32 bytes.

    Raises:
        LocalError: the private key is not 32 bytes long.
    """

    __slots__ = ("_private_key", "public_key")

    def __init__(self, private_key: bytes) -> None:
        if len(private_key) != KEY_BYTES:
            raise LocalError(f"an X25519 private key has {KEY_BYTES} bytes")
        self._private_key = X25519PrivateKey.from_private_bytes(private_key)
        self.public_key: bytes = self._private_key.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def exchange(self, their_public: bytes) -> bytes:
        """Return the 32 bytes of the Diffie-Hellman function with a public key nobody vouches for.

        Raises:
            NotAuthentic: the key is of low order, so that the result would be all zeros and known
                to everybody (RFC 7748 section 6.1), or is not 32 bytes long.
        """
        try:
            return self._private_key.exchange(X25519PublicKey.from_public_bytes(their_public))
        except ValueError:
            raise NotAuthentic("the public key is of low order") from None
