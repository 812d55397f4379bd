"""Who an edge or a supernode is: its long-term key and the names made of it; section 3.1, 3.2."""

import base64
import hashlib

from mesh.addresses import EdgeId, MacAddress
from mesh.constants import EDGE_ID_BYTES, FINGERPRINT_BYTES, KEY_BYTES
from mesh.crypto import Entropy
from mesh.crypto.keypair import KeyPair

_MAC_BYTES = 6
_INTERFACE_ID_BYTES = 8


class Identity(KeyPair):
    """The long-term X25519 key pair of an edge or a supernode and what follows from it.

    Attributes:
        public_key: 32 bytes.
        edge_id: 16 bytes; the name of this edge on the wire.
        default_mac: 6 bytes, locally administered, unicast.
        interface_id: 8 bytes; the lower half of the overlay's IPv6 address.
        fingerprint: 32 characters of base32; what a person compares and edges pin.
    """

    __slots__ = ("_private_bytes", "default_mac", "edge_id", "fingerprint", "interface_id")

    def __init__(self, private_key: bytes) -> None:
        super().__init__(private_key)
        self._private_bytes = bytes(private_key)
        self.edge_id = edge_id_of(self.public_key)
        self.default_mac = default_mac_of(self.public_key)
        self.interface_id = interface_id_of(self.public_key)
        self.fingerprint = fingerprint_of(self.public_key)

    def __repr__(self) -> str:
        return f"<Identity {self.fingerprint}>"

    @classmethod
    def generate(cls, entropy: Entropy) -> "Identity":
        """Return a new identity from 32 bytes of ``entropy``."""
        return cls(entropy(KEY_BYTES))

    @property
    def private_bytes(self) -> bytes:
        """The 32 secret bytes, for the state file only."""
        return self._private_bytes


def edge_id_of(public_key: bytes) -> EdgeId:
    """Return the EdgeId of a 32-byte static public key; docs/protocol.md section 3.1."""
    return EdgeId(_hash(EDGE_ID_BYTES, b"mesh v1 edge id", public_key))


def default_mac_of(public_key: bytes) -> MacAddress:
    """Return the MAC address an edge has by default; docs/protocol.md section 3.1."""
    digest = _hash(_MAC_BYTES, b"mesh v1 mac", public_key)
    return MacAddress(bytes([digest[0] & ~0x01 | 0x02]) + digest[1:])


def interface_id_of(public_key: bytes) -> bytes:
    """Return the 8 bytes of an edge's IPv6 interface identifier; docs/protocol.md section 3.1."""
    return _hash(_INTERFACE_ID_BYTES, b"mesh v1 interface id", public_key)


def fingerprint_of(public_key: bytes) -> str:
    """Return what edges pin of a supernode, lower-case base32; docs/protocol.md section 3.2."""
    digest = _hash(FINGERPRINT_BYTES, b"mesh v1 fingerprint", public_key)
    return base64.b32encode(digest).decode("ascii").lower()


def _hash(length: int, label: bytes, public_key: bytes) -> bytes:
    """``H(length, label || public_key)`` of docs/protocol.md section 2."""
    return hashlib.blake2s(label + public_key, digest_size=length).digest()
