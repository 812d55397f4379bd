"""mesh.datapath.vnet: the header of a TAP read, and the checksum that a kernel left to others."""

import struct
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mesh.datapath.vnet import (
    FLAG_DATA_VALID,
    FLAG_NEEDS_CSUM,
    GSO_NONE,
    GSO_TCPV4,
    VIRTIO_NET_HEADER_BYTES,
    complete_checksum,
    decode_vnet,
    encode_vnet_partial,
    encode_vnet_plain,
)
from mesh.errors import LocalError

U8 = st.integers(0, 255)
U16 = st.integers(0, 65535)

# Ethernet, then IPv4 10.0.0.1 > 10.0.0.2 protocol 17 of 8 + 4 bytes, UDP 1000 > 2000, "mesh". The
# UDP checksum holds the sum over the pseudo header: 0a00 + 0001 + 0a00 + 0002 + 0011 + 000c = 1420.
UDP_FRAME = bytes.fromhex(
    "02000000000b02000000000a08004500002000004000401100000a0000010a00000203e807d0000c14206d657368"
)
UDP_START = 34
UDP_OFFSET = 6


def naive_checksum(data: bytes) -> int:
    """RFC 1071 section 4.1, word by word."""
    total = 0
    for at in range(0, len(data), 2):
        total += data[at] << 8
        total += data[at + 1] if at + 1 < len(data) else 0
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def header(flags: int = 0, *, csum_start: int = 0, csum_offset: int = 0) -> bytes:
    return struct.pack("=BBHHHH", flags, GSO_NONE, 0, 0, csum_start, csum_offset)


class TestTheHeader:
    def test_ten_zero_bytes_stand_before_a_complete_frame(self) -> None:
        assert encode_vnet_plain() == bytes(VIRTIO_NET_HEADER_BYTES) == bytes(10)
        assert decode_vnet(encode_vnet_plain() + UDP_FRAME) == (0, 0, 0, 0, 0, 0)

    def test_a_partial_checksum_is_left_to_the_kernel(self) -> None:
        written = encode_vnet_partial(UDP_START, UDP_OFFSET)
        order = sys.byteorder
        assert written == bytes([1, 0, 0, 0, 0, 0]) + (34).to_bytes(2, order) + (6).to_bytes(
            2, order
        )
        assert decode_vnet(written + UDP_FRAME) == (FLAG_NEEDS_CSUM, GSO_NONE, 0, 0, 34, 6)

    @given(U8, U8, U16, U16, U16, U16, st.binary(max_size=200))
    def test_hostile_headers_never_raise_and_never_point_outside(  # noqa: PLR0917 - one per field
        self,
        flags: int,
        gso_type: int,
        hdr_len: int,
        gso_size: int,
        csum_start: int,
        csum_offset: int,
        frame: bytes,
    ) -> None:
        packed = struct.pack("=BBHHHH", flags, gso_type, hdr_len, gso_size, csum_start, csum_offset)
        fields = decode_vnet(memoryview(packed + frame))
        if fields is None:
            is_outside = csum_start < 14 or csum_start + csum_offset + 2 > len(frame)
            assert len(frame) < 14 or (flags & FLAG_NEEDS_CSUM and is_outside)
            return
        assert fields[:2] == (flags, gso_type)
        assert fields[2] == min(hdr_len, len(frame))
        assert fields[3] == gso_size
        if flags & FLAG_NEEDS_CSUM:
            assert fields[4:] == (csum_start, csum_offset)
            assert len(complete_checksum(frame, *fields[4:])) == len(frame)
        else:
            assert fields[4:] == (0, 0)

    @given(st.binary(max_size=30))
    def test_arbitrary_reads_never_raise(self, read: bytes) -> None:
        fields = decode_vnet(read)
        assert fields is None or len(read) >= 24

    def test_a_super_frame_of_64_kib_is_read(self) -> None:
        packed = struct.pack("=BBHHHH", FLAG_NEEDS_CSUM, GSO_TCPV4, 54, 1448, 34, 16)
        assert decode_vnet(packed + bytes(65535)) == (FLAG_NEEDS_CSUM, GSO_TCPV4, 54, 1448, 34, 16)

    def test_the_csum_fields_of_a_valid_checksum_mean_nothing(self) -> None:
        read = header(FLAG_DATA_VALID, csum_start=60000, csum_offset=9) + UDP_FRAME
        assert decode_vnet(read) == (FLAG_DATA_VALID, 0, 0, 0, 0, 0)

    @pytest.mark.parametrize(
        ("csum_start", "csum_offset"), [(13, 0), (34, 11), (44, 1), (45, 0), (65535, 65535)]
    )
    def test_a_checksum_outside_the_frame_makes_a_read_useless(
        self, csum_start: int, csum_offset: int
    ) -> None:
        packed = header(FLAG_NEEDS_CSUM, csum_start=csum_start, csum_offset=csum_offset)
        assert decode_vnet(packed + UDP_FRAME) is None

    def test_a_checksum_in_the_last_two_bytes_is_inside(self) -> None:
        assert len(UDP_FRAME) == 46
        packed = header(FLAG_NEEDS_CSUM, csum_start=34, csum_offset=10)
        assert decode_vnet(packed + UDP_FRAME) is not None


class TestChecksums:
    def test_a_udp_checksum_is_completed(self) -> None:
        completed = complete_checksum(UDP_FRAME, UDP_START, UDP_OFFSET)
        # 1420 + 03e8 + 07d0 + 000c + 6d65 + 7368 = 0001 00b1, folded 00b2, inverted ff4d.
        assert completed[40:42] == bytes.fromhex("ff4d")
        assert completed[:40] + completed[42:] == UDP_FRAME[:40] + UDP_FRAME[42:]

    @example(bytes(20), 14, 0)
    @example(b"\xff" * 20, 14, 2)
    @example(b"\xff" * 21, 14, 2)
    @given(st.binary(min_size=17, max_size=300), st.integers(14, 400), st.integers(0, 400))
    def test_it_agrees_with_a_naive_sum(
        self, frame: bytes, csum_start: int, csum_offset: int
    ) -> None:
        start = 14 + csum_start % (len(frame) - 15)
        offset = csum_offset % (len(frame) - start - 1)
        expected = naive_checksum(frame[start:]) or 0xFFFF
        completed = complete_checksum(memoryview(frame), start, offset)
        at = start + offset
        assert completed == frame[:at] + expected.to_bytes(2, "big") + frame[at + 2 :]

    @given(st.binary(min_size=16, max_size=100).filter(lambda rest: any(rest[2:])))
    def test_a_receiver_finds_the_sum_right(self, rest: bytes) -> None:
        frame = bytes(14) + b"\0\0" + rest[2:]
        completed = complete_checksum(frame, 14, 0)
        assert naive_checksum(completed[14:]) == 0

    def test_a_result_of_zero_is_written_as_all_ones(self) -> None:
        assert complete_checksum(bytes(14) + b"\xff\xff\0\0", 14, 2)[16:] == b"\xff\xff"

    @pytest.mark.parametrize(("start", "offset"), [(13, 0), (34, 11), (46, 0), (34, 255)])
    def test_a_checksum_outside_the_frame_is_our_own_fault(self, start: int, offset: int) -> None:
        with pytest.raises(LocalError):
            complete_checksum(UDP_FRAME, start, offset)
