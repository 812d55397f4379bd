"""Super-frames of UDP: datagrams of one flow behind one set of headers (USO), split and joined.

A program that sends with UDP_SEGMENT has its datagrams cut by us instead of by the kernel, and
equal-sized datagrams that arrive together enter the kernel in one write, which counts when there
are many small ones. What the programs see are the same datagrams.

As with TCP, only partial checksums are joined: see `mesh.datapath.coalesce`.
"""

import functools
import struct
from collections.abc import Iterator, Sequence

from mesh.constants import INNER_HEADER_BYTES
from mesh.datapath.coalesce import MAX_PACKET_BYTES, Joined
from mesh.datapath.tcp_layout import set_ipv4_checksum
from mesh.datapath.udp_layout import (
    UDP_CHECKSUM_OFFSET,
    UdpLayout,
    set_udp_lengths,
    udp_layout,
)
from mesh.datapath.vnet import (
    GSO_UDP_L4,
    VIRTIO_NET_HEADER_BYTES,
    VnetFields,
    encode_vnet_udp,
)
from mesh.wire.inner import encode_frame_header

MAX_JOINED = 64  # UDP_MAX_SEGMENTS of kernels before 6.9
MIN_JOINED = 3  # two are written sooner than they are joined

_WORD = struct.Struct(">H")
_IP_ID_OFFSET = 4


def udp_super_layout(frame: memoryview, fields: VnetFields) -> UdpLayout | None:
    """Return the layout of a super-frame of UDP that `split_udp` can cut, None for any other."""
    # Hot path: once per super-frame.
    _, gso_type, _, gso_size, csum_start, csum_offset = fields
    if gso_type != GSO_UDP_L4 or not gso_size or csum_offset != UDP_CHECKSUM_OFFSET:
        return None
    layout = udp_layout(frame)
    if layout is None or csum_start != layout.transport or layout.payload == len(frame):
        return None
    return layout


def split_udp(read: memoryview, layout: UdpLayout, payload_bytes: int) -> Iterator[memoryview]:
    """Yield the plaintexts of the datagrams' frames: inner header and frame.

    A plaintext is valid until the next one is asked for. Packets that IP may fragment get ids that
    follow each other.

    Args:
        read: one TAP read, virtio-net header and frame; it is written over.
        layout: of its frame.
        payload_bytes: of every datagram but the last; at least 1.
    """
    # Hot path.
    first, end = VIRTIO_NET_HEADER_BYTES + layout.payload, len(read)
    headers = bytearray(read[VIRTIO_NET_HEADER_BYTES:first])
    (ip_id,) = _WORD.unpack_from(headers, layout.network + _IP_ID_OFFSET)
    inner = encode_frame_header(layout.transport, UDP_CHECKSUM_OFFSET)
    template = b""
    for number, start in enumerate(range(first, end, payload_bytes)):
        stop = min(start + payload_bytes, end)
        is_renumbered = number and layout.is_ipv4 and not layout.is_atomic
        if not template or is_renumbered or stop - start < payload_bytes:
            set_udp_lengths(headers, layout, layout.payload + stop - start)
            if is_renumbered:
                at = layout.network + _IP_ID_OFFSET
                _WORD.pack_into(headers, at, (ip_id + number) & 0xFFFF)
                set_ipv4_checksum(headers, layout)
            template = inner + headers
        begin = start - len(template)
        read[begin:start] = template
        yield read[begin:stop]


def join_udp(plaintexts: Sequence[memoryview], first: int) -> Joined | None:
    """Join the datagrams of one flow, equally long, from ``plaintexts[first]`` on.

    Args:
        plaintexts: opened datagrams, inner header in front.
        first: which one to start with; of kind FRAME and well formed, as `decode_frame` finds.

    Returns:
        None where the first one cannot be joined with the two behind it.
    """
    # Hot path: 0.4 µs a datagram, where writing each by itself takes 4.
    leader = plaintexts[first]
    end = len(leader)
    least = first + MIN_JOINED - 1
    if (
        least >= len(plaintexts)
        or len(plaintexts[first + 1]) != end
        or len(plaintexts[least]) != end
    ):
        return None
    frame = leader[INNER_HEADER_BYTES:]
    layout = udp_layout(frame)
    if layout is None or not _is_joinable(leader, layout):
        return None
    start = INNER_HEADER_BYTES + layout.payload
    size = end - start
    room = min((MAX_PACKET_BYTES - layout.payload) // size, MAX_JOINED)
    flow = plaintexts[first : first + room]
    count = _alike_ipv4(flow, layout) if layout.is_ipv4 else _alike_ipv6(flow, start)
    if count < MIN_JOINED:
        return None
    headers = bytearray(frame[: layout.payload])
    set_udp_lengths(headers, layout, layout.payload + count * size)
    vnet = encode_vnet_udp(layout.payload, size, layout.transport)
    iovec: list[bytes | bytearray | memoryview] = [vnet, headers]
    iovec += [plaintext[start:] for plaintext in flow[:count]]
    return Joined(iovec, count, count * (end - INNER_HEADER_BYTES))


def _is_joinable(leader: memoryview, layout: UdpLayout) -> bool:
    return (
        leader[:INNER_HEADER_BYTES] == encode_frame_header(layout.transport, UDP_CHECKSUM_OFFSET)
        and layout.is_atomic
        and not leader[INNER_HEADER_BYTES] & 1  # group addresses: several sockets may want it
        and layout.payload + INNER_HEADER_BYTES < len(leader)
    )


def _alike_ipv4(flow: Sequence[memoryview], layout: UdpLayout) -> int:
    """Return how many frames are as long as the first, with headers alike but for the id.

    Ids differ where the sender's socket is connected, and the header's checksum with them, so that
    the sum of the two stays what it is (RFC 1624).
    """
    # Hot path.
    end = len(flow[0])
    unpack_from = _around_id(layout.network, layout.payload).unpack_from
    before, ip_id, between, checksum, behind = unpack_from(flow[0])
    constant = (ip_id + checksum) % 0xFFFF
    for number, candidate in enumerate(flow):
        if len(candidate) != end:
            return number
        a, ip_id, b, checksum, c = unpack_from(candidate)
        if a != before or b != between or c != behind or (ip_id + checksum) % 0xFFFF != constant:
            return number
    return len(flow)


def _alike_ipv6(flow: Sequence[memoryview], start: int) -> int:
    """Return how many frames are as long as the first, with equal headers up to ``start``."""
    # Hot path.
    end, headers = len(flow[0]), bytes(flow[0][:start])
    for number, candidate in enumerate(flow):
        if len(candidate) != end or candidate[:start] != headers:
            return number
    return len(flow)


@functools.lru_cache(64)
def _around_id(network: int, payload: int) -> struct.Struct:
    """Return what unpacks all headers into the IPv4 id and checksum and the bytes around them."""
    ip = INNER_HEADER_BYTES + network
    return struct.Struct(f">{ip + 4}sH4sH{INNER_HEADER_BYTES + payload - ip - 12}s")
