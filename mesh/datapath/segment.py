"""Split a TCP super-frame into frames that fit a path, each ready to be sealed.

The kernel hands over up to 64 KiB of one TCP stream behind one set of headers (TSO). Every segment
gets those headers with the few fields changed that differ: lengths and checksums, the same in all
but the last, and the sequence number. Each copy of the headers is written in front of its payload,
over the end of the payload before, which has been sealed by then: no payload is copied.
"""

import struct
from collections.abc import Iterator

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
    reopen_checksum,
    set_ipv4_checksum,
    set_lengths,
    tcp_layout,
)
from mesh.datapath.vnet import (
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    VIRTIO_NET_HEADER_BYTES,
    VnetFields,
)
from mesh.wire.inner import encode_frame_header

_SEQUENCE = struct.Struct(">I")
_WORD = struct.Struct(">H")


def splittable_layout(frame: memoryview, fields: VnetFields) -> TcpLayout | None:
    """Return the layout of a frame that `split` can cut, None for any other.

    That is TCP with a partial checksum where TCP has it and a payload, with a gso_type that does
    not contradict: a super-frame, or one segment that may be too long for the path.
    """
    # Hot path: once per super-frame.
    _, gso_type, _, gso_size, csum_start, csum_offset = fields
    layout = tcp_layout(frame)
    if (
        layout is None
        or csum_start != layout.transport
        or csum_offset != TCP_CHECKSUM_OFFSET
        or layout.flags & ODD_FLAGS
        or layout.payload == len(frame)
    ):
        return None
    if gso_type == GSO_NONE:
        return layout
    expected = GSO_TCPV4 if layout.is_ipv4 else GSO_TCPV6
    return layout if gso_type & ~GSO_ECN == expected and gso_size else None


def reopened_layout(frame: memoryview, fields: VnetFields) -> TcpLayout | None:
    """Return the layout of a frame that `split` can cut now, its complete checksum taken back.

    TCP from a kernel without offloads, or from another machine behind a bridge. The checksum is
    verified first, since the far kernel makes a new one: None, and nothing written, if it is wrong.

    Args:
        frame: no super-frame, and without a partial checksum; may be written over.
        fields: of its virtio-net header.
    """
    layout = tcp_layout(frame)
    if (
        layout is None
        or fields[1] != GSO_NONE
        or fields[4]
        or layout.flags & ODD_FLAGS
        or layout.payload == len(frame)
    ):
        return None
    return layout if reopen_checksum(frame, layout) else None


def segment_payload_bytes(layout: TcpLayout, gso_size: int, frame_bytes_max: int) -> int:
    """Return how much payload the segments for a path get, 0 where not even the headers fit.

    Args:
        layout: of the super-frame.
        gso_size: what the kernel asks for; 0 for a frame that is none.
        frame_bytes_max: the largest frame that fits the path.
    """
    room = max(frame_bytes_max - layout.payload, 0)
    return min(room, gso_size) if gso_size else room


def split(read: memoryview, layout: TcpLayout, payload_bytes: int) -> Iterator[memoryview]:
    """Yield the plaintexts of the segments: inner header and frame.

    A plaintext is valid until the next one is asked for. FIN and PSH stay on the last segment, CWR
    on the first; a packet that IP may fragment gets an id of its own (RFC 6864).

    Args:
        read: one TAP read, virtio-net header and frame; it is written over.
        layout: what `splittable_layout` said of its frame.
        payload_bytes: of every segment but the last; at least 1.
    """
    # Hot path: 0.5 µs a segment.
    first = VIRTIO_NET_HEADER_BYTES + layout.payload
    last = first + (len(read) - first - 1) // payload_bytes * payload_bytes
    inner = encode_frame_header(layout.transport, TCP_CHECKSUM_OFFSET)
    template = bytearray(inner + read[VIRTIO_NET_HEADER_BYTES:first])
    sequence_at = INNER_HEADER_BYTES + layout.transport + TCP_SEQUENCE_OFFSET
    flags_at = INNER_HEADER_BYTES + layout.transport + TCP_FLAGS_OFFSET
    ip_id = _ip_id(read, layout)
    flags = template[flags_at]
    (sequence,) = _SEQUENCE.unpack_from(template, sequence_at)
    pack_into = _SEQUENCE.pack_into
    header_bytes = len(template)
    if last > first:
        _set_end(template, layout, layout.payload + payload_bytes)
        template[flags_at] = flags & ~(FIN | PSH)
    for number, start in enumerate(range(first, last, payload_bytes)):
        if number:
            pack_into(template, sequence_at, (sequence + start - first) & 0xFFFFFFFF)
            if number == 1:
                template[flags_at] &= ~CWR
            if not layout.is_atomic:
                _renumber(template, layout, ip_id + number)
        begin = start - header_bytes
        read[begin:start] = template
        yield read[begin : start + payload_bytes]
    pack_into(template, sequence_at, (sequence + last - first) & 0xFFFFFFFF)
    template[flags_at] = flags & ~CWR if last > first else flags
    _set_end(template, layout, layout.payload + len(read) - last)
    if not layout.is_atomic:
        _renumber(template, layout, ip_id + (last - first) // payload_bytes)
    read[last - header_bytes : last] = template
    yield read[last - header_bytes :]


def _ip_id(read: memoryview, layout: TcpLayout) -> int:
    at = VIRTIO_NET_HEADER_BYTES + layout.network + 4
    return int(_WORD.unpack_from(read, at)[0])


def _set_end(template: bytearray, layout: TcpLayout, end: int) -> None:
    """Change the packet's lengths; ``template`` starts with the inner header."""
    headers = template[INNER_HEADER_BYTES:]
    set_lengths(headers, layout, end)
    template[INNER_HEADER_BYTES:] = headers


def _renumber(template: bytearray, layout: TcpLayout, ip_id: int) -> None:
    """Give an IPv4 packet an id; ``template`` starts with the inner header."""
    headers = template[INNER_HEADER_BYTES:]
    _WORD.pack_into(headers, layout.network + 4, ip_id & 0xFFFF)
    set_ipv4_checksum(headers, layout)
    template[INNER_HEADER_BYTES:] = headers
