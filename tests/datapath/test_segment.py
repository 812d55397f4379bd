from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.datapath.segment import reopened_layout, segment_payload_bytes, split, splittable_layout
from mesh.datapath.tcp_layout import tcp_layout
from mesh.datapath.vnet import complete_checksum, decode_vnet
from mesh.wire.inner import decode_frame
from tests.datapath.tcp_frames import ACK, CWR, PSH, TcpFrame, segments_of, tcp_frames


def cut(read: bytearray, payload_bytes: int) -> list[bytes]:
    """Split one read; return the plaintexts."""
    fields = decode_vnet(read)
    assert fields is not None
    view = memoryview(read)
    layout = splittable_layout(view[10:], fields)
    assert layout is not None
    return [bytes(plaintext) for plaintext in split(view, layout, payload_bytes)]


@given(
    frame=tcp_frames(
        flags=st.integers(0, 255).map(lambda f: f & ~(2 | 4 | 32)), is_atomic=st.booleans()
    ),
    size=st.integers(1, 3000),
)
def test_segments_are_those_of_a_kernel_without_offloads(frame: TcpFrame, size: int) -> None:
    size = max(size, len(frame.payload) // 200 + 1)
    found = []
    for plaintext in cut(frame.read(size), size):
        segment, csum_start, csum_offset = decode_frame(plaintext)
        found.append(complete_checksum(segment, csum_start, csum_offset))
    assert found == [one.build(is_partial=False) for one in segments_of(frame, size)]


def completed(frame: TcpFrame) -> bytearray:
    """Return what a TAP without offloads hands over."""
    return bytearray(bytes(10) + frame.build(is_partial=False))


@given(frame=tcp_frames(), size=st.integers(1, 3000))
def test_a_complete_checksum_is_taken_back_so_that_a_segment_can_be_cut(
    frame: TcpFrame, size: int
) -> None:
    size = max(size, len(frame.payload) // 200 + 1)
    read = completed(frame)
    view = memoryview(read)
    fields = decode_vnet(read)
    assert fields is not None
    layout = reopened_layout(view[10:], fields)
    assert layout is not None
    found = [complete_checksum(*decode_frame(bytes(one))) for one in split(view, layout, size)]
    assert found == [one.build(is_partial=False) for one in segments_of(frame, size)]


@given(frame=tcp_frames(), bit=st.integers(0, 7), where=st.floats(0, 1, exclude_max=True))
def test_a_wrong_checksum_stays_wrong(frame: TcpFrame, bit: int, where: float) -> None:
    read = completed(frame)
    payload_at = len(read) - len(frame.payload)
    read[payload_at + int(where * len(frame.payload))] ^= 1 << bit
    before = bytes(read)
    fields = decode_vnet(read)
    assert fields is not None
    assert reopened_layout(memoryview(read)[10:], fields) is None
    assert read == before


@pytest.mark.parametrize(
    "read",
    [
        completed(TcpFrame(b"")),
        completed(TcpFrame(bytes(100), flags=2)),
        TcpFrame(bytes(100)).read(0),
        TcpFrame(bytes(100)).read(50),
        bytearray(10) + bytes(12) + b"\x08\x00" + bytes(100),
    ],
)
def test_a_checksum_is_taken_back_of_plain_data_alone(read: bytearray) -> None:
    before = bytes(read)
    fields = decode_vnet(read)
    assert fields is not None
    assert reopened_layout(memoryview(read)[10:], fields) is None
    assert read == before


@given(frame=tcp_frames(), hdr_len=st.integers(0, 65535))
def test_hdr_len_is_not_trusted(frame: TcpFrame, hdr_len: int) -> None:
    assert cut(frame.read(700, hdr_len=hdr_len), 700) == cut(frame.read(700), 700)


def test_segments_are_cut_to_the_path_rather_than_to_what_the_kernel_asks_for() -> None:
    frame = TcpFrame(bytes(5000), tcp_options=bytes(12))
    layout = tcp_layout(frame.build())
    assert layout is not None
    assert segment_payload_bytes(layout, 1448, 1416) == 1416 - 66
    assert segment_payload_bytes(layout, 1000, 1416) == 1000
    assert segment_payload_bytes(layout, 0, 1416) == 1416 - 66
    assert segment_payload_bytes(layout, 1000, 60) == 0
    assert all(len(one) <= 4 + 1416 for one in cut(frame.read(1448), 1416 - 66))


def test_a_frame_that_is_no_super_frame_is_cut_too() -> None:
    frame = TcpFrame(bytes(1448), tcp_options=bytes(12), flags=ACK | PSH)
    assert len(cut(frame.read(0), 1000)) == 2


def test_the_congestion_flag_stays_on_the_first_segment() -> None:
    flags = [
        one[4 + 14 + 20 + 13] for one in cut(TcpFrame(bytes(300), flags=ACK | CWR).read(100), 100)
    ]
    assert flags == [ACK | CWR, ACK, ACK]


@pytest.mark.parametrize(
    "frame",
    [
        TcpFrame(b""),
        TcpFrame(bytes(100), flags=2),
        TcpFrame(bytes(100), flags=4),
        TcpFrame(bytes(100), flags=ACK | 32),
    ],
)
def test_what_is_not_plain_data_is_not_split(frame: TcpFrame) -> None:
    read = frame.read(50)
    fields = decode_vnet(read)
    assert fields is not None
    assert splittable_layout(memoryview(read)[10:], fields) is None


@pytest.mark.parametrize("field", [(0, 1), (1, 4), (1, 5), (3, 0), (4, 35), (5, 6)])
def test_a_virtio_header_that_contradicts_the_frame_is_refused(field: tuple[int, int]) -> None:
    read = TcpFrame(bytes(5000)).read(1000)
    fields = list(decode_vnet(read) or ())
    fields[field[0]] = field[1]
    layout = splittable_layout(memoryview(read)[10:], tuple(fields))  # type: ignore[arg-type]
    assert (layout is None) == (field[0] > 0)


@given(
    frame=tcp_frames(max_payload=300),
    edits=st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=6),
    length=st.integers(14, 400),
    noise=st.binary(max_size=200),
)
def test_hostile_frames_never_raise_and_nothing_is_read_or_written_beyond_them(
    frame: TcpFrame, edits: list[tuple[int, int]], length: int, noise: bytes
) -> None:
    read = frame.read(64)[: 10 + length]
    for at, value in edits:
        if at < len(read):
            read[at] = value
    for hostile in (read, bytearray(read[:10] + noise)):
        fields = decode_vnet(hostile)
        if fields is None:
            continue
        guarded = bytearray(b"\x5a" * 50 + hostile + b"\x5a" * 50)
        view = memoryview(guarded)[50:-50]
        layout = splittable_layout(view[10:], fields)
        if layout is None:
            continue
        payload = segment_payload_bytes(layout, fields[3], 1400)
        if payload:
            sizes = [len(one) - 4 - layout.payload for one in split(view, layout, payload)]
            assert sum(sizes) == len(hostile) - 10 - layout.payload
        assert guarded[:50] == guarded[-50:] == b"\x5a" * 50


@given(noise=st.binary(min_size=14, max_size=300))
def test_any_bytes_have_a_layout_inside_them_or_none(noise: bytes) -> None:
    layout = tcp_layout(noise)
    if layout is not None:
        assert 14 <= layout.network < layout.transport < layout.payload <= len(noise)


def test_a_layout_is_not_found_behind_too_many_tags_or_a_fragment() -> None:
    assert tcp_layout(TcpFrame(b"x", vlan_tags=4).build()) is not None
    assert tcp_layout(TcpFrame(b"x", vlan_tags=9).build()) is None
    assert tcp_layout(TcpFrame(b"x", is_ipv4=False, extensions=((44, bytes(6)),)).build()) is None
    fragment = bytearray(TcpFrame(b"x").build())
    fragment[20:22] = b"\x20\x00"
    assert tcp_layout(fragment) is None
    assert tcp_layout(replace(TcpFrame(b"x"), ports=(1, 2)).build() + b"\0") is None
