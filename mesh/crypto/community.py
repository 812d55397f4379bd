"""The keys that follow from a community's name and secret; docs/protocol.md section 3.3."""

import base64
import hashlib
import unicodedata
from ipaddress import IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from mesh.constants import (
    ARGON2_ITERATIONS,
    ARGON2_LANES,
    ARGON2_MEMORY_KIB,
    KEY_BYTES,
    MAX_COMMUNITY_NAME_BYTES,
)
from mesh.crypto import Entropy
from mesh.errors import LocalError

_SALT_BYTES = 16
_ULA_GLOBAL_ID_BYTES = 5
_SECRET_BYTES = 20  # 160 bits: 32 characters of base32 without padding
_SUBNET_PROPOSALS = 8  # docs/protocol.md section 15.1
_REGISTRATION_LABEL = b"mesh v1 registration"


def normalise_name(name: str) -> str:
    """Return a community's name in NFC, so that every keyboard means the same community.

    Raises:
        ValueError: it is empty, longer than 64 bytes in UTF-8, not valid text, or holds control
            characters (which an invite from a stranger could send to a terminal).
    """
    normal = unicodedata.normalize("NFC", name)
    if any(unicodedata.category(character) == "Cc" for character in normal):
        raise ValueError("a community name has no control characters")
    encoded = _encode_text(normal, "the community name")
    if not 0 < len(encoded) <= MAX_COMMUNITY_NAME_BYTES:
        raise ValueError(f"a community name has 1 to {MAX_COMMUNITY_NAME_BYTES} bytes of UTF-8")
    return normal


def derive_root(name: str, secret: str | None) -> bytes:
    """Return the 32 bytes that all keys of a community come from; takes about 0.15 s and 64 MiB.

    Args:
        name: the community's name, normalised here.
        secret: what its members share; None for an open community.

    Raises:
        ValueError: the name is not usable (see `normalise_name`), or the secret is empty or not
            valid text. The message never holds the secret.
    """
    if secret is None:
        label, password = b"mesh v1 open community", b""
    elif secret:
        label = b"mesh v1 community"
        password = _encode_text(unicodedata.normalize("NFC", secret), "the secret")
    else:
        raise ValueError("the secret is empty; a community without one is opened explicitly")
    encoded_name = normalise_name(name).encode()
    return Argon2id(
        salt=hashlib.blake2s(label + encoded_name, digest_size=_SALT_BYTES).digest(),
        length=KEY_BYTES,
        iterations=ARGON2_ITERATIONS,
        lanes=ARGON2_LANES,
        memory_cost=ARGON2_MEMORY_KIB,
    ).derive(password)


class CommunityKeys:
    """What a member holds: derived once from the root, shown to nobody.

    Attributes:
        name: in NFC.
        psk: 32 bytes; the pre-shared key of handshakes between edges.
        mac1_key: 32 bytes; ``key_mac1`` of docs/protocol.md section 7.
        community_id: 32 bytes; the Ed25519 public key that names the community on the wire.
        lan_key: 32 bytes; what members announce themselves under on a LAN, section 14.1.
        ula_network: the community's IPv6 prefix, a /64.
    """

    __slots__ = (
        "_membership_key",
        "_subnet_key",
        "community_id",
        "lan_key",
        "mac1_key",
        "name",
        "psk",
        "ula_network",
    )

    def __init__(self, name: str, root: bytes) -> None:
        if len(root) != KEY_BYTES:
            raise LocalError(f"a community's root has {KEY_BYTES} bytes")
        self.name = normalise_name(name)
        self.psk = _expand(root, b"mesh v1 psk", KEY_BYTES)
        self.lan_key = _expand(root, b"mesh v1 lan peer", KEY_BYTES)
        self.mac1_key = _expand(root, b"mesh v1 mac1", KEY_BYTES)
        self._membership_key = Ed25519PrivateKey.from_private_bytes(
            _expand(root, b"mesh v1 membership", KEY_BYTES)
        )
        self.community_id: bytes = self._membership_key.public_key().public_bytes_raw()
        self._subnet_key = _expand(root, b"mesh v1 subnet", KEY_BYTES)
        global_id = _expand(root, b"mesh v1 ula", _ULA_GLOBAL_ID_BYTES)
        self.ula_network = IPv6Network((b"\xfd" + global_id + bytes(10), 64))

    def __repr__(self) -> str:
        return f"<CommunityKeys {self.name!r} {self.community_id[:4].hex()}>"

    @classmethod
    def from_root(cls, name: str, root: bytes) -> "CommunityKeys":
        """Return the keys of a community from what `derive_root` returned for it.

        Raises:
            ValueError: the name is not usable.
            LocalError: the root is not 32 bytes long.
        """
        return cls(name, root)

    def sign_registration(self, handshake_hash: bytes) -> bytes:
        """Return the 64 bytes that prove membership in one session; section 10.1.

        Args:
            handshake_hash: of our session with the supernode, 32 bytes.
        """
        return self._membership_key.sign(_REGISTRATION_LABEL + handshake_hash)

    def subnet_proposals(self) -> list[IPv4Network]:
        """Return the 8 subnets that members propose, the same on every member; section 15.1.

        Not all need be different. Proposals that clash with a network of this machine are the
        caller's to move behind the others.
        """
        return [self._subnet_proposal(number) for number in range(_SUBNET_PROPOSALS)]

    def _subnet_proposal(self, number: int) -> IPv4Network:
        """``10.a.b.0/22`` of docs/protocol.md section 15.1."""
        second, third = _expand(self._subnet_key, b"subnet" + bytes([number]), 2)
        return IPv4Network((bytes([10, 16 + second % 224, third & 0xFC, 0]), 22))

    def ipv6_address(self, interface_id: bytes) -> IPv6Interface:
        """Return the overlay address of the edge with this interface id (8 bytes); section 15.2."""
        prefix = self.ula_network.network_address.packed[:8]
        return IPv6Interface((IPv6Address(prefix + interface_id), 64))


def verify_registration(community_id: bytes, handshake_hash: bytes, signature: bytes) -> bool:
    """Return whether ``signature`` proves membership of ``community_id`` in this session.

    Args:
        community_id: 32 bytes as an edge sent them; any bytes are allowed.
        handshake_hash: of the session that the registration came in.
        signature: 64 bytes as an edge sent them; any bytes are allowed.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(community_id)
        key.verify(signature, _REGISTRATION_LABEL + handshake_hash)
    except (ValueError, InvalidSignature):
        return False
    return True


def generate_secret(entropy: Entropy) -> str:
    """Return a new community secret: 160 bits as 32 characters of lower-case base32."""
    return base64.b32encode(entropy(_SECRET_BYTES)).decode("ascii").lower()


def _expand(key: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand with SHA-256, RFC 5869 section 2.3."""
    return HKDFExpand(algorithm=SHA256(), length=length, info=info).derive(key)


def _encode_text(text: str, what: str) -> bytes:
    """Encode to UTF-8 with an error that names ``what`` and does not quote it."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} is not valid Unicode text") from None
