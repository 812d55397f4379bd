"""The inner header of a transport datagram; docs/protocol.md section 8.

```
 0        1             2             4                6        7        8
+--------+-------------+-------------+----------------+--------+--------+------
| kind   | csum_offset | csum_start  | frame number   | index  | count  | piece      kind 2
+--------+-------------+-------------+----------------+--------+--------+------
                                     | frame (kind 1) or message (kind 3)
                                     +----------------------------------------
```

What is decoded here verified under a session: a member sent it, which makes it neither well formed
nor well meant.
"""

import enum
import struct

from mesh.constants import (
    FRAGMENT_HEADER_BYTES,
    INNER_HEADER_BYTES,
    MAX_FRAGMENTS,
    MAX_FRAME_BYTES,
    MIN_FRAME_BYTES,
)
from mesh.errors import MalformedMessage
from mesh.wire.datagram import Buffer


class InnerKind(enum.IntEnum):
    """The first byte inside a transport datagram."""

    FRAME = 1
    FRAGMENT = 2
    MESSAGE = 3


_HEADER = struct.Struct(">BBH")
_FRAGMENT = struct.Struct(">BBHHBB")

PLAIN_FRAME_HEADER = _HEADER.pack(InnerKind.FRAME, 0, 0)
"""The 4 bytes before a frame whose checksums are complete."""

MESSAGE_HEADER = _HEADER.pack(InnerKind.MESSAGE, 0, 0)
"""The 4 bytes before a control message."""


def encode_frame_header(csum_start: int, csum_offset: int) -> bytes:
    """Return the 4 bytes before a frame.

    Args:
        csum_start: where the sum starts, in bytes from the start of the frame, 0 for a frame whose
            checksums are complete.
        csum_offset: where it is written, in bytes from ``csum_start``, 0 to 255.
    """
    # Hot path.
    return _HEADER.pack(1, csum_offset, csum_start)


def encode_fragment_header(
    frame_number: int, index: int, count: int, csum_start: int, csum_offset: int
) -> bytes:
    """Return the 8 bytes before a piece of a frame; the csum fields are those of the whole frame.

    Args:
        frame_number: 0 to 65535.
        index: 0 to ``count`` - 1.
        count: 1 to MAX_FRAGMENTS.
        csum_start: as for `encode_frame_header`.
        csum_offset: likewise.
    """
    # Hot path.
    return _FRAGMENT.pack(2, csum_offset, csum_start, frame_number, index, count)


def inner_kind(plaintext: Buffer) -> int:
    """Return the kind of an opened datagram, which may be none of `InnerKind`; 0 for no header."""
    # Hot path.
    return plaintext[0] if len(plaintext) >= INNER_HEADER_BYTES else 0


def decode_frame(plaintext: Buffer) -> tuple[Buffer, int, int]:
    """Return frame, csum_start and csum_offset of an opened datagram of kind FRAME.

    The csum fields are zero, both, for a frame that carries no partial checksum.

    Raises:
        MalformedMessage: the frame is too short or too long, or its partial checksum lies outside.
    """
    # Hot path.
    length = len(plaintext) - INNER_HEADER_BYTES
    if not MIN_FRAME_BYTES <= length <= MAX_FRAME_BYTES:
        raise MalformedMessage(f"a frame of {length} bytes")
    _, csum_offset, csum_start = _HEADER.unpack_from(plaintext)
    if csum_start == 0:
        return plaintext[INNER_HEADER_BYTES:], 0, 0
    if not is_checksum_inside(length, csum_start, csum_offset):
        raise MalformedMessage("a partial checksum outside its frame")
    return plaintext[INNER_HEADER_BYTES:], csum_start, csum_offset


def decode_fragment(plaintext: Buffer) -> tuple[int, int, int, Buffer, int, int]:
    """Return frame number, index, count, piece, csum_start and csum_offset of a FRAGMENT.

    The csum fields can be checked only against the whole frame, `Reassembler` does.

    Raises:
        MalformedMessage: no piece, or index and count that do not fit.
    """
    # Hot path.
    if len(plaintext) <= FRAGMENT_HEADER_BYTES:
        raise MalformedMessage("a fragment without a piece")
    _, csum_offset, csum_start, frame_number, index, count = _FRAGMENT.unpack_from(plaintext)
    if not index < count <= MAX_FRAGMENTS:
        raise MalformedMessage(f"fragment {index} of {count}")
    return frame_number, index, count, plaintext[FRAGMENT_HEADER_BYTES:], csum_start, csum_offset


def wrap_control(body: bytes) -> bytes:
    """Return the plaintext that carries an encoded control message."""
    return MESSAGE_HEADER + body


def open_control_untrusted(plaintext: Buffer) -> Buffer:
    """Return the body of the control message in an opened datagram.

    Raises:
        MalformedMessage: it is of another kind, or the csum fields are not zero.
    """
    if plaintext[:INNER_HEADER_BYTES] != MESSAGE_HEADER:
        raise MalformedMessage("not a control message")
    return plaintext[INNER_HEADER_BYTES:]


def is_checksum_inside(frame_bytes: int, csum_start: int, csum_offset: int) -> bool:
    """Whether a partial checksum starts behind the Ethernet header and is written inside the frame.

    A kernel given a start inside the Ethernet header warns in its log, which is for no peer to
    cause; section 8.1 asks only for the rest.
    """
    # Hot path.
    return csum_start >= MIN_FRAME_BYTES and csum_start + csum_offset + 2 <= frame_bytes
