"""Finding a supernode on the LAN: query and answer; docs/protocol.md section 14.

```
 0         1         2        4           20        36               56       64
+---------+---------+--------+-----------+---------+----------------+--------+
| type 11 | version | zero 2 | nonce 16  | tag 16  | zero 28                 |
+---------+---------+--------+-----------+---------+----------------+--------+
| type 12 | flags   | port 2 | nonce 16  | tag 16  | fingerprint 20 | zero 8 |
+---------+---------+--------+-----------+---------+----------------+--------+
```

Nobody has authenticated either; an answer is proved by the handshake that follows.
"""

import hashlib
import hmac
import struct
from dataclasses import dataclass
from typing import Self

from mesh.constants import FINGERPRINT_BYTES, PROTOCOL_VERSION
from mesh.errors import MalformedMessage
from mesh.wire.datagram import Buffer, DatagramType, classify_untrusted

LAN_NONCE_BYTES = 16
LAN_TAG_BYTES = 16
_TAKES_ANY = 0x01

_QUERY = struct.Struct(f">BB2x{LAN_NONCE_BYTES}s{LAN_TAG_BYTES}s28x")
_ANSWER = struct.Struct(f">BBH{LAN_NONCE_BYTES}s{LAN_TAG_BYTES}s{FINGERPRINT_BYTES}s8x")


def lan_query_tag(community_id: bytes, nonce: bytes) -> bytes:
    """Return the 16 bytes that tell the community only to who knows its id of 32 bytes."""
    return _tag(community_id, b"mesh v1 lan query" + nonce)


def lan_answer_tag(community_id: bytes, nonce: bytes, fingerprint: bytes, port: int) -> bytes:
    """Return the 16 bytes that show that a supernode serves the community.

    Args:
        community_id: 32 bytes.
        nonce: the 16 bytes of the query.
        fingerprint: 20 bytes, the supernode's.
        port: the UDP port that it serves at.
    """
    port_bytes = port.to_bytes(2, "big")
    return _tag(community_id, b"mesh v1 lan answer" + nonce + fingerprint + port_bytes)


@dataclass(frozen=True, slots=True)
class LanQuery:
    """Who serves this community?

    Attributes:
        nonce: 16 random bytes.
        tag: 16 bytes, `lan_query_tag`.
        version: the asker's protocol version.
    """

    nonce: bytes
    tag: bytes
    version: int = PROTOCOL_VERSION

    @classmethod
    def for_community(cls, community_id: bytes, nonce: bytes) -> Self:
        """Ask for one community with a fresh nonce."""
        return cls(nonce, lan_query_tag(community_id, nonce))

    def is_for(self, community_id: bytes) -> bool:
        """Whether this asks for that community."""
        return hmac.compare_digest(self.tag, lan_query_tag(community_id, self.nonce))

    def encode(self) -> bytes:
        """Return 64 bytes."""
        return _QUERY.pack(DatagramType.LAN_QUERY, self.version, self.nonce, self.tag)

    @classmethod
    def decode(cls, datagram: Buffer) -> Self:
        """Read a query.

        Raises:
            MalformedMessage: it is none.
        """
        if classify_untrusted(datagram) is not DatagramType.LAN_QUERY:
            raise MalformedMessage("not a LAN query")
        _, version, nonce, tag = _QUERY.unpack(datagram)
        return cls(nonce, tag, version)


@dataclass(frozen=True, slots=True)
class LanAnswer:
    """A supernode is here.

    Attributes:
        port: where it serves, at the address that the answer came from.
        nonce: that of the query.
        tag: `lan_answer_tag`, or random where the supernode does not serve the community.
        fingerprint: 20 bytes, of its key.
        takes_any: whether it takes any community.
    """

    port: int
    nonce: bytes
    tag: bytes
    fingerprint: bytes
    takes_any: bool

    def is_from_server_of(self, community_id: bytes) -> bool:
        """Whether the tag says that the supernode serves that community."""
        tag = lan_answer_tag(community_id, self.nonce, self.fingerprint, self.port)
        return hmac.compare_digest(self.tag, tag)

    def encode(self) -> bytes:
        """Return 64 bytes."""
        flags = _TAKES_ANY if self.takes_any else 0
        return _ANSWER.pack(
            DatagramType.LAN_ANSWER, flags, self.port, self.nonce, self.tag, self.fingerprint
        )

    @classmethod
    def decode(cls, datagram: Buffer) -> Self:
        """Read an answer; flags that section 14 does not name are left for later versions.

        Raises:
            MalformedMessage: it is none, or has no port.
        """
        if classify_untrusted(datagram) is not DatagramType.LAN_ANSWER:
            raise MalformedMessage("not a LAN answer")
        _, flags, port, nonce, tag, fingerprint = _ANSWER.unpack(datagram)
        if port == 0:
            raise MalformedMessage("a LAN answer has a port")
        return cls(port, nonce, tag, fingerprint, bool(flags & _TAKES_ANY))


def _tag(community_id: bytes, data: bytes) -> bytes:
    return hashlib.blake2s(data, key=community_id, digest_size=LAN_TAG_BYTES).digest()
