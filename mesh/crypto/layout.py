"""What stands around the Noise messages of a handshake; docs/protocol.md section 5.

```
 0        1        2        3        4              8
+--------+--------+--------+--------+--------------+----------------+---------------
|  type  | version| suite  |  zero  | sender index | receiver index | Noise message
+--------+--------+--------+--------+--------------+----------------+---------------
```

An initiation has no receiver index and ends in two MACs; a confirmation has no sender index.
"""

from typing import NamedTuple

from mesh.constants import PROTOCOL_VERSION
from mesh.crypto.cookie import MACS_BYTES
from mesh.crypto.suite import Suite
from mesh.errors import LocalError, MalformedMessage, NotAuthentic
from mesh.wire.datagram import EXACT_LENGTHS, DatagramType

_PREFIX_BYTES = 4
_INDEX_BYTES = 4
_ONE_INDEX_BYTES = _PREFIX_BYTES + _INDEX_BYTES
_TWO_INDEXES_BYTES = _PREFIX_BYTES + 2 * _INDEX_BYTES


class UnsupportedVersion(MalformedMessage):
    """An initiation of another major version; section 5.4 says how to answer.

    Attributes:
        version: what the initiation names, not ours.
        sender_index: its sender index, not authenticated.
    """

    def __init__(self, version: int, sender_index: int) -> None:
        super().__init__(f"an initiation of protocol version {version}")
        self.version = version
        self.sender_index = sender_index


class Initiation(NamedTuple):
    """The parts of an initiation.

    Attributes:
        prefix: its first 4 bytes, which the whole handshake is bound to.
        suite: what the initiator chose.
        sender_index: the initiator's index, not zero.
        noise_message: Noise message 1.
    """

    prefix: bytes
    suite: Suite
    sender_index: int
    noise_message: bytes


def encode_prefix(kind: DatagramType, suite: Suite) -> bytes:
    """Return the first 4 bytes of a handshake datagram."""
    return bytes([kind, PROTOCOL_VERSION, suite, 0])


def encode_index(index: int) -> bytes:
    """Return a sender or receiver index as 4 bytes, big-endian.

    Raises:
        LocalError: it is zero or does not fit.
    """
    if not 0 < index < 2**32:
        raise LocalError(f"a receiver index is a number from 1 to 2^32 - 1, not {index}")
    return index.to_bytes(_INDEX_BYTES, "big")


def decode_initiation_untrusted(datagram: bytes, kind: DatagramType) -> Initiation:
    """Return the parts of an initiation; its MACs are not looked at.

    The version comes before the length, which another version may have changed.

    Raises:
        UnsupportedVersion: another major version.
        MalformedMessage: another type or length, an unknown suite, or a reserved byte not zero.
    """
    if len(datagram) < _ONE_INDEX_BYTES or datagram[0] != kind:
        raise MalformedMessage(f"not a {kind.name}")
    sender_index = _decode_index(datagram, _PREFIX_BYTES)
    if datagram[1] != PROTOCOL_VERSION:
        raise UnsupportedVersion(datagram[1], sender_index)
    try:
        suite = Suite(datagram[2])
    except ValueError:
        raise MalformedMessage(f"an initiation with the unknown suite {datagram[2]}") from None
    _check_form_untrusted(datagram, kind, suite)
    return Initiation(
        datagram[:_PREFIX_BYTES],
        suite,
        sender_index,
        datagram[_ONE_INDEX_BYTES:-MACS_BYTES],
    )


def decode_response_untrusted(
    datagram: bytes, kind: DatagramType, suite: Suite, our_index: int
) -> tuple[int, bytes]:
    """Return the sender index of a response to us and its Noise message.

    Raises:
        MalformedMessage: another type, version, suite or length, or a reserved byte not zero.
        NotAuthentic: its receiver index is not ours.
    """
    _check_form_untrusted(datagram, kind, suite)
    sender_index = _decode_index(datagram, _PREFIX_BYTES)
    if _decode_index(datagram, _ONE_INDEX_BYTES) != our_index:
        raise NotAuthentic("a response to another initiation")
    return sender_index, datagram[_TWO_INDEXES_BYTES:]


def decode_confirmation_untrusted(datagram: bytes, suite: Suite, our_index: int) -> bytes:
    """Return the Noise message of a confirmation for us.

    Raises:
        MalformedMessage: another type, version, suite or length, or a reserved byte not zero.
        NotAuthentic: its receiver index is not ours.
    """
    _check_form_untrusted(datagram, DatagramType.SUPERNODE_CONFIRMATION, suite)
    if _decode_index(datagram, _PREFIX_BYTES) != our_index:
        raise NotAuthentic("a confirmation for another handshake")
    return datagram[_ONE_INDEX_BYTES:]


def _check_form_untrusted(datagram: bytes, kind: DatagramType, suite: Suite) -> None:
    """Check the length and the first 4 bytes, which repeat those of the initiation."""
    if len(datagram) != EXACT_LENGTHS[kind]:
        raise MalformedMessage(f"{kind.name} of {len(datagram)} bytes")
    if datagram[:_PREFIX_BYTES] != encode_prefix(kind, suite):
        raise MalformedMessage(f"not a {kind.name} of our version and suite")


def _decode_index(datagram: bytes, offset: int) -> int:
    index = int.from_bytes(datagram[offset : offset + _INDEX_BYTES], "big")
    if not index:
        raise MalformedMessage("an index is never zero")
    return index
