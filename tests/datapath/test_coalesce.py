import random
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mesh.datapath.coalesce import MAX_PACKET_BYTES, join
from mesh.datapath.segment import split, splittable_layout
from mesh.datapath.vnet import GSO_NONE, complete_checksum, decode_vnet
from mesh.errors import MalformedMessage
from mesh.wire.inner import PLAIN_FRAME_HEADER, decode_frame, encode_frame_header
from tests.datapath.tcp_frames import ACK, FIN, PSH, TcpFrame, frames_of, segments_of, tcp_frames


def plaintexts_of(frame: TcpFrame, size: int) -> list[memoryview]:
    """Split a super-frame as the sending edge does."""
    read = frame.read(size)
    fields = decode_vnet(read)
    assert fields is not None
    view = memoryview(read)
    layout = splittable_layout(view[10:], fields)
    assert layout is not None
    return [memoryview(bytes(one)) for one in split(view, layout, size)]


def written(plaintexts: list[memoryview]) -> list[bytes]:
    """Join what can be joined; return the writes to the TAP."""
    writes = []
    number = 0
    while number < len(plaintexts):
        frame, csum_start, csum_offset = decode_frame(plaintexts[number])
        joined = join(plaintexts, number)
        if joined is None:
            flags = 1 if csum_start else 0
            header = bytes([flags, 0, 0, 0, 0, 0]) + b"".join(
                value.to_bytes(2, "little") for value in (csum_start, csum_offset)
            )
            writes.append(header + bytes(frame))
            number += 1
        else:
            write = b"".join(joined.iovec)
            sizes = [len(one) - 4 for one in plaintexts[number : number + joined.segments]]
            assert joined.frame_bytes == sum(sizes)
            writes.append(write)
            number += joined.segments
    return writes


@given(frame=tcp_frames(), size=st.integers(1, 3000))
def test_split_then_join_is_the_identity(frame: TcpFrame, size: int) -> None:
    size = max(size, len(frame.payload) // 200 + 1)
    read = bytes(frame.read(size))
    writes = written(plaintexts_of(frame, size))
    assert len(writes) == 1
    fields = decode_vnet(writes[0])
    assert fields is not None
    assert writes[0][10:] == read[10:]
    if len(frame.payload) > size:
        assert fields[1] == (1 if frame.is_ipv4 else 4)
        assert fields[3:] == (size, frame.transport, 16)
    else:
        assert fields[1] == GSO_NONE


@given(
    frames=st.lists(tcp_frames(max_payload=2000), min_size=1, max_size=4),
    size=st.integers(100, 900),
    seed=st.integers(0, 2**32),
    trouble=st.sampled_from(["none", "loss", "reordering", "duplication", "all"]),
)
def test_a_troubled_batch_delivers_exactly_the_surviving_frames(
    frames: list[TcpFrame], size: int, seed: int, trouble: str
) -> None:
    dice = random.Random(seed)
    batch = [one for frame in frames for one in plaintexts_of(frame, size)]
    if trouble in {"loss", "all"}:
        batch = [one for one in batch if dice.random() > 0.2]
    if trouble in {"duplication", "all"}:
        batch = [one for one in batch for _ in range(dice.choice([1, 1, 1, 2]))]
    if trouble in {"reordering", "all"} and batch:
        for _ in range(3):
            batch.insert(dice.randrange(len(batch)), batch.pop(dice.randrange(len(batch))))
    expected = [complete_checksum(*decode_frame(bytes(one))) for one in batch]
    found = [frame for write in written(batch) for frame in frames_of(write)]
    assert found == expected


WRONG_HEADER_CHECKSUM = TcpFrame(payload=bytes(700)), (14 + 10, 1)
"""A full segment with a wrong IPv4 header checksum, and a shorter one with a right one."""


@given(frame=tcp_frames(max_payload=1500), edit=st.tuples(st.integers(0, 200), st.integers(1, 255)))
@example(*WRONG_HEADER_CHECKSUM)
def test_a_segment_that_differs_anywhere_in_its_headers_is_delivered_as_it_is(
    frame: TcpFrame, edit: tuple[int, int]
) -> None:
    batch = plaintexts_of(frame, 300)
    odd = bytearray(batch[len(batch) // 2])
    odd[4 + edit[0] % (len(odd) - 4)] ^= edit[1]
    batch[len(batch) // 2] = memoryview(odd)
    expected = [complete_checksum(*decode_frame(bytes(one))) for one in batch]
    assert [one for write in written(batch) for one in frames_of(write)] == expected


@given(
    frame=tcp_frames(max_payload=600),
    edits=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 90), st.integers(0, 255))),
    cut=st.integers(1, 200),
)
def test_hostile_members_plaintexts_never_raise(
    frame: TcpFrame, edits: list[tuple[int, int, int]], cut: int
) -> None:
    batch = [bytearray(one) for one in plaintexts_of(frame, 100)]
    batch[-1] = batch[-1][:cut]
    for number, at, value in edits:
        if number < len(batch) and at < len(batch[number]):
            batch[number][at] = value
    views = [memoryview(one) for one in batch]
    for number in range(len(views)):
        try:
            decode_frame(views[number])
        except MalformedMessage:
            continue
        joined = join(views, number)
        if joined is not None:
            write = b"".join(joined.iovec)
            assert decode_vnet(write) is not None
            assert len(write) <= 10 + 14 + 16 + MAX_PACKET_BYTES


def test_no_packet_grows_beyond_what_an_ip_length_counts_to() -> None:
    segments = segments_of(TcpFrame(bytes(70_000)), 1000)
    header = encode_frame_header(34, 16)
    batch = [memoryview(header + one.build()) for one in segments]
    writes = written(batch)
    assert [len(write) - 10 for write in writes] == [54 + 65_000, 54 + 5_000]


def test_complete_checksums_are_left_alone() -> None:
    segments = segments_of(TcpFrame(bytes(3000)), 1000)
    batch = [memoryview(PLAIN_FRAME_HEADER + one.build(is_partial=False)) for one in segments]
    assert join(batch, 0) is None


@pytest.mark.parametrize("flag", [FIN, PSH])
def test_a_flag_ends_a_run(flag: int) -> None:
    segments = segments_of(TcpFrame(bytes(5000)), 1000)
    segments[2] = replace(segments[2], flags=ACK | flag)
    batch = [memoryview(encode_frame_header(34, 16) + one.build()) for one in segments]
    assert [len(write) - 10 - 54 for write in written(batch)] == [3000, 2000]
