"""Datagram types, their lengths, and the small datagrams; docs/protocol.md section 4.

Nobody has authenticated what this file reads. Handshakes, cookies and what is sealed belong to
`mesh.crypto`; LAN queries and answers to `mesh.wire.lan`.
"""

import enum
import struct
from typing import NamedTuple, TypeAlias

from mesh.constants import RELAY_HEADER_BYTES, TAG_BYTES, TRANSPORT_HEADER_BYTES
from mesh.errors import LocalError, MalformedMessage

Buffer: TypeAlias = bytes | bytearray | memoryview


class DatagramType(enum.IntEnum):
    """The first byte of a datagram."""

    PEER_INITIATION = 1
    PEER_RESPONSE = 2
    COOKIE_REPLY = 3
    TRANSPORT = 4
    RELAY = 5
    SUPERNODE_INITIATION = 6
    SUPERNODE_RESPONSE = 7
    SUPERNODE_CONFIRMATION = 8
    UNKNOWN_SESSION = 9
    VERSION_REFUSAL = 10
    LAN_QUERY = 11
    LAN_ANSWER = 12
    PUNCH = 13
    LAN_PEER = 14


class UnknownDatagram(MalformedMessage):
    """A datagram of a type that we do not know: counted apart."""


PEER_INITIATION_BYTES = 144
PEER_RESPONSE_BYTES = 60
COOKIE_REPLY_BYTES = 48
MIN_TRANSPORT_BYTES = TRANSPORT_HEADER_BYTES + TAG_BYTES
MIN_RELAY_BYTES = RELAY_HEADER_BYTES + 2  # the shortest datagram is a punch
SUPERNODE_INITIATION_BYTES = 72
SUPERNODE_RESPONSE_BYTES = 108
SUPERNODE_CONFIRMATION_BYTES = 72
UNKNOWN_SESSION_BYTES = 16
VERSION_REFUSAL_BYTES = 8
LAN_QUERY_BYTES = 64
LAN_ANSWER_BYTES = 64
LAN_PEER_BYTES = 64
PUNCH = bytes([DatagramType.PUNCH, 0])

ECHO_BYTES = 12

EXACT_LENGTHS = {
    DatagramType.PEER_INITIATION: PEER_INITIATION_BYTES,
    DatagramType.PEER_RESPONSE: PEER_RESPONSE_BYTES,
    DatagramType.COOKIE_REPLY: COOKIE_REPLY_BYTES,
    DatagramType.SUPERNODE_INITIATION: SUPERNODE_INITIATION_BYTES,
    DatagramType.SUPERNODE_RESPONSE: SUPERNODE_RESPONSE_BYTES,
    DatagramType.SUPERNODE_CONFIRMATION: SUPERNODE_CONFIRMATION_BYTES,
    DatagramType.UNKNOWN_SESSION: UNKNOWN_SESSION_BYTES,
    DatagramType.VERSION_REFUSAL: VERSION_REFUSAL_BYTES,
    DatagramType.LAN_QUERY: LAN_QUERY_BYTES,
    DatagramType.LAN_ANSWER: LAN_ANSWER_BYTES,
    DatagramType.PUNCH: len(PUNCH),
    DatagramType.LAN_PEER: LAN_PEER_BYTES,
}
"""Bytes of the types that have one length."""

MIN_LENGTHS = {
    DatagramType.TRANSPORT: MIN_TRANSPORT_BYTES,
    DatagramType.RELAY: MIN_RELAY_BYTES,
}
"""Bytes that the other types have at least."""

RELAYED_TYPES = frozenset(
    {
        DatagramType.PEER_INITIATION,
        DatagramType.PEER_RESPONSE,
        DatagramType.COOKIE_REPLY,
        DatagramType.TRANSPORT,
        DatagramType.UNKNOWN_SESSION,
        DatagramType.VERSION_REFUSAL,
    }
)
"""What an envelope may hold; section 11. Plain numbers are found in it too."""

# Which bytes are reserved: MUST be zero. The header of a handshake ends in one such byte.
_RESERVED = {
    DatagramType.PEER_INITIATION: ((3, 4),),
    DatagramType.PEER_RESPONSE: ((3, 4),),
    DatagramType.COOKIE_REPLY: ((1, 4),),
    DatagramType.TRANSPORT: ((1, 4),),
    DatagramType.RELAY: ((2, 4),),
    DatagramType.SUPERNODE_INITIATION: ((3, 4),),
    DatagramType.SUPERNODE_RESPONSE: ((3, 4),),
    DatagramType.SUPERNODE_CONFIRMATION: ((3, 4),),
    DatagramType.UNKNOWN_SESSION: ((2, 4),),
    DatagramType.VERSION_REFUSAL: ((2, 4),),
    DatagramType.LAN_QUERY: ((2, 4), (36, 64)),
    DatagramType.LAN_ANSWER: ((56, 64),),
    DatagramType.PUNCH: ((1, 2),),
    DatagramType.LAN_PEER: ((2, 4), (54, 64)),
}


def classify_untrusted(datagram: Buffer) -> DatagramType:
    """Return the type of a datagram whose length and reserved fields are right.

    The datagrams of an envelope are classified on their own.

    Raises:
        UnknownDatagram: a type that section 4 does not name.
        MalformedMessage: no bytes, the wrong length, or a reserved field that is not zero.
    """
    length = len(datagram)
    if length == 0:
        raise MalformedMessage("an empty datagram")
    try:
        kind = DatagramType(datagram[0])
    except ValueError:
        raise UnknownDatagram("a datagram of a type we do not know") from None
    exact = EXACT_LENGTHS.get(kind)
    if length != exact if exact is not None else length < MIN_LENGTHS[kind]:
        raise MalformedMessage(f"{kind.name} of {length} bytes")
    for start, end in _RESERVED[kind]:
        if any(datagram[start:end]):
            raise MalformedMessage(f"{kind.name} with a reserved field that is not zero")
    return kind


# Transport, section 6.1: type and three zero bytes as one word, receiver index, counter.
#
#  0        1        4                8                16
# +--------+--------+----------------+----------------+------------
# | type 4 | zero 3 | receiver index | counter        | ciphertext
# +--------+--------+----------------+----------------+------------
_WORD = struct.Struct(">I")
_TRANSPORT = struct.Struct(">IIQ")
_TRANSPORT_WORD = (DatagramType.TRANSPORT << 24,)


def is_transport_untrusted(datagram: Buffer) -> bool:
    """Whether this has the type, the length and the zero bytes of a transport datagram."""
    # Hot path.
    return len(datagram) >= MIN_TRANSPORT_BYTES and _WORD.unpack_from(datagram) == _TRANSPORT_WORD


def peek_transport_untrusted(datagram: Buffer) -> tuple[int, int]:
    """Return receiver index and counter of a datagram that `is_transport_untrusted`."""
    # Hot path.
    _, index, counter = _TRANSPORT.unpack_from(datagram)
    return index, counter


def peek_transport_index_untrusted(batch: Buffer, start: int, end: int) -> int:
    """Return the receiver index of the transport datagram at ``start``, 0 if there is none.

    Args:
        batch: datagrams one behind the other.
        start: where this one starts.
        end: where it ends, or beyond the end of the batch.
    """
    # Hot path.
    if min(end, len(batch)) - start < MIN_TRANSPORT_BYTES:
        return 0
    word, index, _ = _TRANSPORT.unpack_from(batch, start)
    return int(index) if word == _TRANSPORT_WORD[0] else 0


def peek_receiver_index_untrusted(datagram: Buffer) -> int:
    """Return the receiver index of a classified datagram that has one, 0 for the other types."""
    # Hot path.
    match datagram[0]:
        case (
            DatagramType.TRANSPORT
            | DatagramType.COOKIE_REPLY
            | DatagramType.SUPERNODE_CONFIRMATION
            | DatagramType.VERSION_REFUSAL
        ):
            offset = 4
        case DatagramType.PEER_RESPONSE | DatagramType.SUPERNODE_RESPONSE:
            offset = 8
        case _:
            return 0
    index: int = _WORD.unpack_from(datagram, offset)[0]
    return index


# Relay envelope, section 11.
#
#  0        1        2        4                8                12
# +--------+--------+--------+----------------+----------------+---------
# | type 5 | flags  | zero 2 | source         | destination    | datagram
# +--------+--------+--------+----------------+----------------+---------
_RELAY = struct.Struct(">III")
RELAY_WORD = DatagramType.RELAY << 24
RELAY_WHOLE_WORD = RELAY_WORD | 0x01 << 16
"""The first word of an envelope, plain and with the flag that it is not to be fragmented."""
RELAY_WORDS = frozenset({RELAY_WORD, RELAY_WHOLE_WORD})


def encode_relay_header(source: int, destination: int, *, dont_fragment: bool = False) -> bytes:
    """Return the 12 bytes that stand before a relayed datagram.

    Args:
        source: our relay id.
        destination: the peer's relay id; neither is ever zero.
        dont_fragment: whether the supernode is to forward it in one piece or not at all.
    """
    # Hot path.
    return _RELAY.pack(RELAY_WHOLE_WORD if dont_fragment else RELAY_WORD, source, destination)


def decode_relay_header(datagram: Buffer) -> tuple[int, int]:
    """Return source and destination of an envelope; what it holds starts at RELAY_HEADER_BYTES.

    Raises:
        MalformedMessage: too short, a reserved field or a relay id that is not right, or an
            envelope that holds a type that is not in RELAYED_TYPES.
    """
    # Hot path.
    if len(datagram) < MIN_RELAY_BYTES:
        raise MalformedMessage("an envelope is longer")
    word, source, destination = _RELAY.unpack_from(datagram)
    if word not in RELAY_WORDS or not source or not destination:
        raise MalformedMessage("not the header of an envelope")
    if datagram[RELAY_HEADER_BYTES] not in RELAYED_TYPES:
        raise MalformedMessage("an envelope never holds this type")
    return source, destination


class UnknownSession(NamedTuple):
    """A hint that somebody does not know what we sent; section 6.5.

    Attributes:
        what: TRANSPORT or RELAY, the type of the datagram that was not understood.
        echo: 12 bytes: receiver index and counter of a transport datagram, or source, destination
            and 4 zero bytes of an envelope.
    """

    what: DatagramType
    echo: bytes


_UNKNOWN_SESSION = struct.Struct(f">BB2x{ECHO_BYTES}s")


def encode_unknown_session(what: DatagramType, echo: Buffer) -> bytes:
    """Return the 16 bytes of an `UnknownSession`.

    Raises:
        LocalError: ``what`` is another type, or ``echo`` has not 12 bytes.
    """
    if what not in {DatagramType.TRANSPORT, DatagramType.RELAY} or len(echo) != ECHO_BYTES:
        raise LocalError("unknown session: what is 4 or 5, the echo has 12 bytes")
    return _UNKNOWN_SESSION.pack(DatagramType.UNKNOWN_SESSION, what, bytes(echo))


def decode_unknown_session(datagram: Buffer) -> UnknownSession:
    """Read an `UnknownSession`.

    Raises:
        MalformedMessage: it is none.
    """
    _expect(datagram, DatagramType.UNKNOWN_SESSION)
    _, what, echo = _UNKNOWN_SESSION.unpack(datagram)
    if what == DatagramType.TRANSPORT:
        return UnknownSession(DatagramType.TRANSPORT, echo)
    if what == DatagramType.RELAY and not any(echo[8:]):
        return UnknownSession(DatagramType.RELAY, echo)
    raise MalformedMessage("a hint about something that is neither session nor envelope")


def echo_untrusted(datagram: Buffer) -> bytes:
    """Return the 12 bytes that an `UnknownSession` about this classified datagram echoes."""
    if datagram[0] == DatagramType.RELAY:
        return bytes(datagram[4:12]) + bytes(4)
    return bytes(datagram[4:16])


class VersionRefusal(NamedTuple):
    """A responder does not speak our version; section 5.4.

    Attributes:
        version: the highest that it speaks.
        receiver_index: the sender index of the initiation, not zero.
    """

    version: int
    receiver_index: int


_VERSION_REFUSAL = struct.Struct(">BB2xI")


def encode_version_refusal(version: int, receiver_index: int) -> bytes:
    """Return the 8 bytes of a `VersionRefusal`."""
    return _VERSION_REFUSAL.pack(DatagramType.VERSION_REFUSAL, version, receiver_index)


def decode_version_refusal(datagram: Buffer) -> VersionRefusal:
    """Read a `VersionRefusal`.

    Raises:
        MalformedMessage: it is none.
    """
    _expect(datagram, DatagramType.VERSION_REFUSAL)
    _, version, receiver_index = _VERSION_REFUSAL.unpack(datagram)
    return VersionRefusal(version, receiver_index)


def _expect(datagram: Buffer, kind: DatagramType) -> None:
    if classify_untrusted(datagram) is not kind:
        raise MalformedMessage(f"not a {kind.name}")
