"""Members of one community finding each other on the LAN: the announcement; section 14.1.

```
 0         1         2        4           20        36            54        64
+---------+---------+--------+-----------+---------+-------------+---------+
| type 14 | version | zero 2 | nonce 16  | tag 16  | masked 18   | zero 10 |
+---------+---------+--------+-----------+---------+-------------+---------+
```

``masked`` is the edge id (16 bytes) and its UDP port, XORed with what only members can compute, so
that strangers see 64 bytes without meaning. Whoever replays one can make members ping an address of
this LAN, within the bounds of section 12.2, and learns nothing by it.
"""

import hashlib
import hmac
import struct

from mesh.addresses import EdgeId
from mesh.constants import PROTOCOL_VERSION
from mesh.errors import MalformedMessage, NotAuthentic
from mesh.wire.datagram import Buffer, DatagramType, classify_untrusted

NONCE_BYTES = 16
_TAG_BYTES = 16
_CONTENT = struct.Struct(">16sH")  # edge id, UDP port
_ANNOUNCEMENT = struct.Struct(f">BB2x{NONCE_BYTES}s{_TAG_BYTES}s{_CONTENT.size}s10x")


def encode_announcement(lan_key: bytes, edge_id: EdgeId, port: int, nonce: bytes) -> bytes:
    """Return 64 bytes.

    Args:
        lan_key: 32 bytes, `mesh.crypto.community.CommunityKeys.lan_key`.
        edge_id: who announces itself.
        port: the UDP port that it listens on, for the family that this is sent by.
        nonce: 16 random bytes.
    """
    masked = _mask(lan_key, nonce, _CONTENT.pack(edge_id, port))
    tag = _tag(lan_key, nonce, masked)
    return _ANNOUNCEMENT.pack(DatagramType.LAN_PEER, PROTOCOL_VERSION, nonce, tag, masked)


def open_announcement_untrusted(lan_key: bytes, datagram: Buffer) -> tuple[EdgeId, int, bytes]:
    """Return the edge id, its port and the nonce of an announcement by a member.

    Raises:
        MalformedMessage: it is none, or names no port.
        NotAuthentic: no member of this community made it.
    """
    if classify_untrusted(datagram) is not DatagramType.LAN_PEER:
        raise MalformedMessage("not an announcement")
    _, _, nonce, tag, masked = _ANNOUNCEMENT.unpack(datagram)
    if not hmac.compare_digest(tag, _tag(lan_key, nonce, masked)):
        raise NotAuthentic("an announcement of another community")
    edge_id, port = _CONTENT.unpack(_mask(lan_key, nonce, masked))
    if port == 0:
        raise MalformedMessage("an announcement has a port")
    return EdgeId(edge_id), port, nonce


def _mask(lan_key: bytes, nonce: bytes, content: bytes) -> bytes:
    stream = _keyed(lan_key, b"mesh v1 lan peer mask" + nonce, len(content))
    return bytes(a ^ b for a, b in zip(content, stream, strict=True))


def _tag(lan_key: bytes, nonce: bytes, masked: bytes) -> bytes:
    return _keyed(lan_key, b"mesh v1 lan peer" + nonce + masked, _TAG_BYTES)


def _keyed(lan_key: bytes, data: bytes, length: int) -> bytes:
    return hashlib.blake2s(data, key=lan_key, digest_size=length).digest()
