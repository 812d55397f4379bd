"""The virtio-net header that a TAP puts before every frame; virtio 1.2 section 5.1.6, if_tun.h.

```
 0       1          2         4          6            8             10
+-------+----------+---------+----------+------------+-------------+------
| flags | gso_type | hdr_len | gso_size | csum_start | csum_offset | frame
+-------+----------+---------+----------+------------+-------------+------
```

A TAP uses the machine's own byte order. All offsets count from the first byte of the frame.
"""

import struct

from mesh.constants import MIN_FRAME_BYTES
from mesh.errors import LocalError
from mesh.wire.datagram import Buffer
from mesh.wire.inner import is_checksum_inside

VIRTIO_NET_HEADER_BYTES = 10

FLAG_NEEDS_CSUM = 0x01
FLAG_DATA_VALID = 0x02
GSO_NONE = 0
GSO_TCPV4 = 1
GSO_UDP = 3
GSO_TCPV6 = 4
GSO_UDP_L4 = 5
GSO_ECN = 0x80  # joined to one of the TCP types

_HEADER = struct.Struct("=BBHHHH")

VnetFields = tuple[int, int, int, int, int, int]
"""flags, gso_type, hdr_len, gso_size, csum_start, csum_offset."""

_PLAIN = bytes(VIRTIO_NET_HEADER_BYTES)


def decode_vnet(read: Buffer) -> VnetFields | None:
    """Return the fields of the header of one TAP read, None where the read cannot be used.

    None means: no whole header, a frame of fewer than 14 bytes, or a partial checksum outside the
    frame. Without NEEDS_CSUM the csum fields are returned as zero. hdr_len is a hint that kernels
    get wrong, and is never more than the frame's length here.
    """
    # Hot path: a tuple and no exception.
    frame_bytes = len(read) - VIRTIO_NET_HEADER_BYTES
    if frame_bytes < MIN_FRAME_BYTES:
        return None
    flags, gso_type, hdr_len, gso_size, csum_start, csum_offset = _HEADER.unpack_from(read)
    if not flags & FLAG_NEEDS_CSUM:
        csum_start = csum_offset = 0
    elif not is_checksum_inside(frame_bytes, csum_start, csum_offset):
        return None
    hdr_len = hdr_len if hdr_len < frame_bytes else frame_bytes  # noqa: FURB136 - no call
    return flags, gso_type, hdr_len, gso_size, csum_start, csum_offset


def encode_vnet_plain() -> bytes:
    """Return the header of a frame whose checksums are complete: 10 zero bytes."""
    return _PLAIN


def encode_vnet_partial(csum_start: int, csum_offset: int) -> bytes:
    """Return the header of one frame whose checksum the kernel is to complete."""
    # Hot path.
    return _HEADER.pack(FLAG_NEEDS_CSUM, GSO_NONE, 0, 0, csum_start, csum_offset)


def encode_vnet_tcp(hdr_len: int, gso_size: int, csum_start: int, *, is_ipv4: bool) -> bytes:
    """Return the header of a TCP super-frame with a partial checksum.

    Args:
        hdr_len: bytes of all headers, Ethernet's included.
        gso_size: payload of every segment but the last.
        csum_start: where the TCP header starts.
        is_ipv4: else IPv6.
    """
    # Hot path.
    gso_type = GSO_TCPV4 if is_ipv4 else GSO_TCPV6
    return _HEADER.pack(FLAG_NEEDS_CSUM, gso_type, hdr_len, gso_size, csum_start, 16)


def encode_vnet_udp(hdr_len: int, gso_size: int, csum_start: int) -> bytes:
    """Return the header of a UDP super-frame with a partial checksum, as `encode_vnet_tcp` does."""
    # Hot path.
    return _HEADER.pack(FLAG_NEEDS_CSUM, GSO_UDP_L4, hdr_len, gso_size, csum_start, 6)


def complete_checksum(frame: Buffer, csum_start: int, csum_offset: int) -> bytes:
    """Return the frame with the internet checksum of RFC 1071 written where it belongs.

    The field holds the sum over the pseudo header, as kernels leave it there. A result of zero is
    written as 0xffff, as UDP wants it and TCP allows.

    Raises:
        LocalError: the partial checksum lies outside the frame.
    """
    if not is_checksum_inside(len(frame), csum_start, csum_offset):
        raise LocalError("a partial checksum outside its frame")
    covered = bytes(frame[csum_start:])
    if len(covered) & 1:
        covered += b"\0"
    # 2^16 is 1 modulo 0xffff, so the remainder of the one big number is the end-around-carry sum
    # of its words: 6 µs for 1,514 bytes, where a loop over them takes 93 µs.
    checksum = 0xFFFF - int.from_bytes(covered, "big") % 0xFFFF
    completed = bytearray(frame)
    at = csum_start + csum_offset
    completed[at : at + 2] = checksum.to_bytes(2, "big")
    return bytes(completed)
