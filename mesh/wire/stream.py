"""Datagrams on a stream of bytes: a preamble, then frames of length and datagram; section 19.

::

    0        4        5        8
    +--------+--------+--------+         once, by each side, before anything else
    | "mesh" | version| zero 3 |
    +--------+--------+--------+
    0        2
    +--------+---------- ... --+         as often as there are datagrams
    | length | datagram        |
    +--------+---------- ... --+
"""

from collections.abc import Iterator, Sequence
from typing import Final

from mesh.constants import MAX_DATAGRAM_BYTES, PROTOCOL_VERSION
from mesh.errors import MalformedMessage

PREAMBLE: Final = b"mesh" + bytes([PROTOCOL_VERSION]) + bytes(3)
"""What each side says first: no other protocol starts like this, so that one port serves many."""

LENGTH_BYTES: Final = 2

MAX_BATCH_DATAGRAMS: Final = 64
"""As many as a UDP socket delivers at once: whoever reads a stream has to come to an end, too."""


def frame_datagrams(
    buffers: Sequence[bytes | bytearray | memoryview], segment_bytes: int
) -> Iterator[bytes]:
    """Yield the frames of a batch: each datagram with its length in front.

    Args:
        buffers: an iovec; its pieces joined are the datagrams one behind the other.
        segment_bytes: the length of each, 1 to 8972; the last one may be shorter.
    """
    # Hot path.
    joined = b"".join(buffers)
    total = len(joined)
    whole = total - total % segment_bytes
    header = segment_bytes.to_bytes(LENGTH_BYTES, "big")
    for start in range(0, whole, segment_bytes):
        yield header + joined[start : start + segment_bytes]
    if whole < total:
        yield (total - whole).to_bytes(LENGTH_BYTES, "big") + joined[whole:]


class StreamDecoder:
    """Turns the bytes of one stream, preamble left out, into batches of datagrams.

    It holds what `feed` was given and `next_batch_into` has not returned yet: whoever feeds it only
    when it has no batch left holds at most one incomplete frame and one read.
    """

    def __init__(self) -> None:
        self._bytes = b""
        self._start = 0

    def __len__(self) -> int:
        """Return how many bytes wait."""
        return len(self._bytes) - self._start

    def feed(self, received: bytes | memoryview) -> None:
        """Take in what arrived, cut anywhere."""
        self._bytes = b"".join((self._bytes[self._start :], received))
        self._start = 0

    def next_batch_into(self, buffer: memoryview) -> tuple[int, int]:
        """Write the next datagrams of one length into ``buffer``, a shorter one at the end maybe.

        Args:
            buffer: at least 8972 bytes.

        Returns:
            How many bytes were written and the length of each datagram; (0, 0) if none is whole.

        Raises:
            MalformedMessage: a length of zero or above 8972: whatever follows means nothing.
        """
        # Hot path.
        held = memoryview(self._bytes)
        start, end = self._start, len(held)
        room = len(buffer)
        written = segment_bytes = 0
        while end - start >= LENGTH_BYTES:
            length = held[start] << 8 | held[start + 1]
            if not 0 < length <= MAX_DATAGRAM_BYTES:
                if written:  # what came before it was good; the next call tells
                    break
                raise MalformedMessage(f"a frame of {length} bytes on a stream")
            segment_bytes = segment_bytes or length
            behind = start + LENGTH_BYTES + length
            if behind > end or length > segment_bytes or written + length > room:
                break
            if written == MAX_BATCH_DATAGRAMS * segment_bytes:
                break
            buffer[written : written + length] = held[start + LENGTH_BYTES : behind]
            written += length
            start = behind
            if length < segment_bytes:
                break
        self._start = start
        return (written, segment_bytes) if written else (0, 0)
