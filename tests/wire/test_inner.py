"""mesh.wire.inner: what stands before a frame, a fragment and a message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import MalformedMessage
from mesh.wire.inner import (
    MESSAGE_HEADER,
    PLAIN_FRAME_HEADER,
    InnerKind,
    decode_fragment,
    decode_frame,
    encode_fragment_header,
    encode_frame_header,
    inner_kind,
    is_checksum_inside,
    open_control_untrusted,
    wrap_control,
)

U8 = st.integers(0, 255)
U16 = st.integers(0, 65535)


class TestFrames:
    def test_the_header_is_kind_offset_start(self) -> None:
        assert encode_frame_header(0x0122, 0x10) == b"\x01\x10\x01\x22"
        assert encode_frame_header(0, 0) == PLAIN_FRAME_HEADER

    @given(st.binary(min_size=14, max_size=80), st.data())
    def test_a_frame_with_its_partial_checksum_is_decoded(
        self, frame: bytes, data: st.DataObject
    ) -> None:
        inside = [
            (start, offset)
            for start in range(14, len(frame) - 1)
            for offset in range(len(frame) - start - 1)
        ]
        csum_start, csum_offset = data.draw(st.sampled_from([(0, 0), *inside]))
        plaintext = memoryview(encode_frame_header(csum_start, csum_offset) + frame)
        assert inner_kind(plaintext) == InnerKind.FRAME
        assert decode_frame(plaintext) == (frame, csum_start, csum_offset)

    def test_an_offset_without_a_start_means_nothing(self) -> None:
        assert decode_frame(encode_frame_header(0, 77) + bytes(14)) == (bytes(14), 0, 0)

    @pytest.mark.parametrize("length", [0, 13, 9019])
    def test_a_frame_has_14_to_9018_bytes(self, length: int) -> None:
        with pytest.raises(MalformedMessage, match="bytes"):
            decode_frame(PLAIN_FRAME_HEADER + bytes(length))

    @pytest.mark.parametrize("length", [14, 9018])
    def test_the_shortest_and_the_longest_frame_are_taken(self, length: int) -> None:
        assert decode_frame(PLAIN_FRAME_HEADER + bytes(length)) == (bytes(length), 0, 0)

    @pytest.mark.parametrize(
        ("csum_start", "csum_offset"), [(34, 65), (98, 1), (99, 0), (65535, 255), (13, 0), (1, 16)]
    )
    def test_a_partial_checksum_outside_the_frame_is_malformed(
        self, csum_start: int, csum_offset: int
    ) -> None:
        with pytest.raises(MalformedMessage, match="checksum"):
            decode_frame(encode_frame_header(csum_start, csum_offset) + bytes(100))

    @given(st.binary(max_size=60))
    def test_arbitrary_bytes_decode_or_are_malformed(self, plaintext: bytes) -> None:
        try:
            frame, csum_start, csum_offset = decode_frame(plaintext)
        except MalformedMessage:
            return
        assert len(frame) >= 14
        assert csum_start == 0 or is_checksum_inside(len(frame), csum_start, csum_offset)


class TestFragments:
    def test_the_header_is_that_of_section_8_2(self) -> None:
        header = encode_fragment_header(0x0304, 1, 2, csum_start=0x22, csum_offset=0x10)
        assert header == b"\x02\x10\x00\x22\x03\x04\x01\x02"

    @given(U16, st.integers(1, 16), U16, U8, st.binary(min_size=1, max_size=30), st.data())
    def test_what_is_encoded_is_decoded(  # noqa: PLR0917 - one per field
        self,
        frame_number: int,
        count: int,
        csum_start: int,
        csum_offset: int,
        piece: bytes,
        data: st.DataObject,
    ) -> None:
        index = data.draw(st.integers(0, count - 1))
        header = encode_fragment_header(frame_number, index, count, csum_start, csum_offset)
        plaintext = memoryview(header + piece)
        assert inner_kind(plaintext) == InnerKind.FRAGMENT
        assert decode_fragment(plaintext) == (
            frame_number,
            index,
            count,
            piece,
            csum_start,
            csum_offset,
        )

    @pytest.mark.parametrize(("index", "count"), [(0, 0), (1, 1), (16, 16), (0, 17), (255, 255)])
    def test_index_and_count_that_do_not_fit_are_malformed(self, index: int, count: int) -> None:
        with pytest.raises(MalformedMessage, match="fragment"):
            decode_fragment(encode_fragment_header(0, index, count, 0, 0) + b"piece")

    def test_a_fragment_has_a_piece(self) -> None:
        with pytest.raises(MalformedMessage, match="piece"):
            decode_fragment(encode_fragment_header(0, 0, 1, 0, 0))

    @given(st.binary(max_size=30))
    def test_arbitrary_bytes_decode_or_are_malformed(self, plaintext: bytes) -> None:
        try:
            _, index, count, piece, _, _ = decode_fragment(plaintext)
        except MalformedMessage:
            return
        assert 0 <= index < count <= 16
        assert piece


class TestMessages:
    @given(st.binary(max_size=100))
    def test_what_is_wrapped_is_opened(self, body: bytes) -> None:
        assert inner_kind(wrap_control(body)) == InnerKind.MESSAGE
        assert open_control_untrusted(wrap_control(body)) == body
        assert open_control_untrusted(memoryview(wrap_control(body))) == body

    @pytest.mark.parametrize(
        "plaintext", [b"", b"\x03\0\0", b"\x01\0\0\0x", b"\x03\x01\0\0x", b"\x03\0\0\x01x"]
    )
    def test_another_kind_or_a_checksum_is_malformed(self, plaintext: bytes) -> None:
        with pytest.raises(MalformedMessage):
            open_control_untrusted(plaintext)

    def test_the_header_is_kind_and_zeros(self) -> None:
        assert MESSAGE_HEADER == b"\x03\0\0\0"


@pytest.mark.parametrize("plaintext", [b"", b"\x01", b"\x01\0\0"])
def test_without_a_whole_header_there_is_no_kind(plaintext: bytes) -> None:
    assert inner_kind(plaintext) == 0
