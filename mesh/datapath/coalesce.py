"""Join runs of TCP segments into super-frames, which the kernel takes in one write (like GRO).

Only segments that carry a partial checksum are joined, as the sender's kernel left it because the
other edge split them: their payload is covered by the AEAD's tag, and the kernel behind the TAP is
told that there is no checksum to check. Complete checksums stay what they are, end to end.
"""

import functools
import struct
from collections.abc import Sequence
from typing import NamedTuple

from mesh.constants import INNER_HEADER_BYTES
from mesh.datapath.tcp_layout import (
    CWR,
    FIN,
    ODD_FLAGS,
    PSH,
    TCP_CHECKSUM_OFFSET,
    TCP_FLAGS_OFFSET,
    TCP_SEQUENCE_OFFSET,
    TcpLayout,
    set_lengths,
    tcp_layout,
)
from mesh.datapath.vnet import encode_vnet_tcp
from mesh.wire.inner import encode_frame_header

MAX_PACKET_BYTES = 65_535  # what an IPv4 length counts to; behind the Ethernet header

_SEQUENCE = struct.Struct(">I")


class Joined(NamedTuple):
    """A super-frame.

    Attributes:
        iovec: virtio-net header, headers, and the payloads in order.
        segments: how many plaintexts went into it.
        frame_bytes: how many bytes their frames had together.
    """

    iovec: list[bytes | bytearray | memoryview]
    segments: int
    frame_bytes: int


def join(plaintexts: Sequence[memoryview], first: int) -> Joined | None:
    """Join the segments that follow each other from ``plaintexts[first]`` on.

    Args:
        plaintexts: opened datagrams, inner header in front.
        first: which one to start with; of kind FRAME and well formed, as `decode_frame` finds.

    Returns:
        None where the first segment cannot be joined with the one behind it.
    """
    # Hot path.
    if first + 1 >= len(plaintexts):
        return None
    leader = plaintexts[first]
    layout = tcp_layout(leader[INNER_HEADER_BYTES:])
    if layout is None or not _is_joinable(leader, layout):
        return None
    start = INNER_HEADER_BYTES + layout.payload
    end = len(leader)
    size = end - start
    last, sum_bytes = _follow(plaintexts, first, layout, start, end)
    tail = _tail_segment(plaintexts, last + 1, layout, leader, sum_bytes, size)
    if tail is not None:
        last += 1
        sum_bytes += len(plaintexts[last]) - start
    if last == first:
        return None
    segments = last + 1 - first
    headers = bytearray(leader[INNER_HEADER_BYTES:start])
    set_lengths(headers, layout, layout.payload + size)
    if headers != leader[INNER_HEADER_BYTES:start]:
        return None  # joining would put right what is wrong in it, such as a header checksum
    if tail is not None:
        headers[layout.transport + TCP_FLAGS_OFFSET] |= tail
    set_lengths(headers, layout, layout.payload + sum_bytes)
    vnet = encode_vnet_tcp(layout.payload, size, layout.transport, is_ipv4=layout.is_ipv4)
    iovec: list[bytes | bytearray | memoryview] = [vnet, headers]
    iovec += [plaintext[start:] for plaintext in plaintexts[first : last + 1]]
    return Joined(iovec, segments, segments * layout.payload + sum_bytes)


def _is_joinable(leader: memoryview, layout: TcpLayout) -> bool:
    """Whether a segment can start a run: all others are compared with it."""
    return (
        leader[:INNER_HEADER_BYTES] == encode_frame_header(layout.transport, TCP_CHECKSUM_OFFSET)
        and layout.is_atomic
        and not layout.flags & (ODD_FLAGS | FIN | PSH | CWR)
        and layout.payload + INNER_HEADER_BYTES < len(leader)
    )


def _follow(
    plaintexts: Sequence[memoryview], first: int, layout: TcpLayout, start: int, end: int
) -> tuple[int, int]:
    """Return the last of the full segments that follow the first, and their payload's sum."""
    # Hot path: 0.25 µs a segment. One unpack takes all that must be equal, and the number between.
    size = end - start
    split_at = INNER_HEADER_BYTES + layout.transport + TCP_SEQUENCE_OFFSET
    headers = _around_sequence(split_at, start - split_at - 4)
    before, sequence, behind = headers.unpack_from(plaintexts[first])
    limit = min(len(plaintexts), first + (MAX_PACKET_BYTES - layout.payload) // size)
    last = first
    while last + 1 < limit:
        candidate = plaintexts[last + 1]
        sequence = (sequence + size) & 0xFFFFFFFF
        if len(candidate) != end or headers.unpack_from(candidate) != (before, sequence, behind):
            break
        last += 1
    return last, (last + 1 - first) * size


@functools.lru_cache(64)
def _around_sequence(before: int, behind: int) -> struct.Struct:
    """Return what unpacks all headers into the sequence number and the bytes around it."""
    return struct.Struct(f">{before}sI{behind}s")


def _tail_segment(  # noqa: PLR0917 - hot path: positional
    plaintexts: Sequence[memoryview],
    index: int,
    layout: TcpLayout,
    leader: memoryview,
    sum_bytes: int,
    size: int,
) -> int | None:
    """Return FIN and PSH of the segment at ``index`` if it ends the run, else None.

    A segment ends a run if it is shorter, or has one of these flags, and is otherwise what `split`
    makes of the run's last segment.
    """
    start = INNER_HEADER_BYTES + layout.payload
    if index >= len(plaintexts):
        return None
    candidate = plaintexts[index]
    tail_bytes = len(candidate) - start
    if not 0 < tail_bytes <= size or layout.payload + sum_bytes + tail_bytes > MAX_PACKET_BYTES:
        return None
    flags_at = INNER_HEADER_BYTES + layout.transport + TCP_FLAGS_OFFSET
    sequence_at = layout.transport + TCP_SEQUENCE_OFFSET
    flags = candidate[flags_at] & (FIN | PSH)
    headers = bytearray(leader[INNER_HEADER_BYTES:start])
    headers[flags_at - INNER_HEADER_BYTES] |= flags
    (sequence,) = _SEQUENCE.unpack_from(headers, sequence_at)
    _SEQUENCE.pack_into(headers, sequence_at, (sequence + sum_bytes) & 0xFFFFFFFF)
    set_lengths(headers, layout, layout.payload + tail_bytes)
    expected = bytes(leader[:INNER_HEADER_BYTES]) + headers
    return flags if candidate[:start] == expected else None
