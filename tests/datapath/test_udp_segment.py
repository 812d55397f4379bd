"""Super-frames of UDP: splitting and joining changes nothing that a program could see."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.datapath.udp_segment import MAX_JOINED, join_udp, split_udp, udp_super_layout
from mesh.datapath.vnet import complete_checksum, decode_vnet
from mesh.wire.inner import decode_frame
from tests.datapath.udp_frames import UdpFrame, datagrams_of, udp_frames, written


def cut(read: bytearray, size: int) -> list[bytes]:
    """Split one read; return the frames, checksums complete."""
    fields = decode_vnet(read)
    assert fields is not None
    view = memoryview(read)
    layout = udp_super_layout(view[10:], fields)
    assert layout is not None
    return [complete_checksum(*decode_frame(bytes(one))) for one in split_udp(view, layout, size)]


def joined(frames: list[UdpFrame]) -> list[bytes]:
    """Join what can be; return what the kernel makes of each write."""
    plaintexts = [frame.plaintext() for frame in frames]
    found, number = [], 0
    while number < len(plaintexts):
        taken = join_udp(plaintexts, number)
        if taken is None:
            found.append(frames[number].build(is_partial=False))
            number += 1
            continue
        assert taken.segments > 2
        size = sum(len(one) - 4 for one in plaintexts[number : number + taken.segments])
        assert taken.frame_bytes == size
        found += written(b"".join(taken.iovec))
        number += taken.segments
    return found


@given(frame=udp_frames(is_atomic=st.booleans()), size=st.integers(1, 3000))
def test_datagrams_are_those_of_a_kernel_without_offloads(frame: UdpFrame, size: int) -> None:
    size = max(size, len(frame.payload) // 200 + 1)
    expected = [one.build(is_partial=False) for one in datagrams_of(frame, size)]
    assert cut(frame.read(size), size) == expected


@given(frame=udp_frames(), size=st.integers(1, 1000))
def test_joining_what_was_split_is_the_identity(frame: UdpFrame, size: int) -> None:
    frames = datagrams_of(frame, size)
    assert joined(frames) == [one.build(is_partial=False) for one in frames]


def test_equal_datagrams_enter_the_kernel_in_one_write() -> None:
    plaintexts = [UdpFrame(bytes([n]) * 64).plaintext() for n in range(30)]
    taken = join_udp(plaintexts, 0)
    assert taken is not None
    assert taken.segments == 30


def test_ids_of_connected_sockets_do_not_keep_datagrams_apart() -> None:
    frames = [UdpFrame(bytes([n]) * 64, ip_id=65530 + n) for n in range(30)]
    plaintexts = [frame.plaintext() for frame in frames]
    taken = join_udp(plaintexts, 0)
    assert taken is not None
    assert taken.segments == 30
    [first, *_] = written(b"".join(taken.iovec))
    assert first == frames[0].build(is_partial=False)


def test_no_more_are_joined_than_any_kernel_takes() -> None:
    taken = join_udp([UdpFrame(bytes(64)).plaintext() for _ in range(100)], 0)
    assert taken is not None
    assert taken.segments == MAX_JOINED
    taken = join_udp([UdpFrame(bytes(1400)).plaintext() for _ in range(100)], 0)
    assert taken is not None
    assert taken.segments == (65535 - 42) // 1400


@given(st.data())
def test_what_comes_mixed_comes_out_in_order_and_unchanged(data: st.DataObject) -> None:
    kinds = [
        UdpFrame(b"abc"),
        UdpFrame(b"xyz"),
        UdpFrame(b"longer"),
        UdpFrame(b"abc", ports=(1, 2)),
        UdpFrame(b"abc", is_ipv4=False),
        UdpFrame(b"abc", vlan_tags=1),
        UdpFrame(b"abc", ip_options=bytes(4)),
        UdpFrame(b"abc", addresses=(bytes(16), bytes(16))),
    ]
    frames = data.draw(st.lists(st.sampled_from(kinds), max_size=30))
    assert joined(frames) == [frame.build(is_partial=False) for frame in frames]


@pytest.mark.parametrize(
    "frame",
    [
        UdpFrame(b""),
        UdpFrame(b"abc", is_atomic=False),
        replace(UdpFrame(b"abc"), ip_options=b"\0"),  # a header whose length is wrong
    ],
)
def test_what_is_not_plain_is_not_joined(frame: UdpFrame) -> None:
    assert join_udp([frame.plaintext()] * 3, 0) is None


def test_group_addresses_and_complete_checksums_are_not_joined() -> None:
    group = bytearray(UdpFrame(b"abc").plaintext())
    group[4] |= 1
    assert join_udp([memoryview(group)] * 3, 0) is None
    complete = memoryview(b"\x01\0\0\0" + UdpFrame(b"abc").build(is_partial=False))
    assert join_udp([complete] * 3, 0) is None


def test_an_ipv4_header_that_is_broken_is_not_mended() -> None:
    good = UdpFrame(b"abc").plaintext()
    broken = bytearray(good)
    broken[4 + 14 + 10] ^= 1  # its checksum
    assert join_udp([good, memoryview(broken), good, good], 0) is None


def test_what_is_no_super_frame_of_udp_has_no_layout() -> None:
    read = UdpFrame(bytes(100)).read(10)
    for at, value in ((1, 1), (4, 0), (8, 16), (6, 20)):
        spoilt = bytearray(read)
        spoilt[at] = value
        fields = decode_vnet(spoilt)
        if fields is not None:
            assert udp_super_layout(memoryview(spoilt)[10:], fields) is None
    fields = decode_vnet(UdpFrame(b"").read(10))
    assert fields is not None
    assert udp_super_layout(memoryview(UdpFrame(b"").read(10))[10:], fields) is None


@given(frame=udp_frames(max_payload=300), seed=st.integers(0, 2**32), size=st.integers(1, 400))
def test_hostile_bytes_never_raise_and_nothing_is_read_beyond_them(
    frame: UdpFrame, seed: int, size: int
) -> None:
    dice = random.Random(seed)
    read = frame.read(size)
    for _ in range(dice.randint(1, 4)):
        read[dice.randrange(len(read))] = dice.randrange(256)
    del read[dice.randint(24, len(read)) :]
    fields = decode_vnet(read)
    if fields is not None and fields[3]:
        view = memoryview(read)
        layout = udp_super_layout(view[10:], fields)
        if layout is not None:
            payload = b"".join(
                one[4 + layout.payload :] for one in split_udp(view, layout, fields[3])
            )
            assert len(payload) == len(read) - 10 - layout.payload
    hostile = memoryview(b"\x01\x06" + frame.transport.to_bytes(2, "big") + read[10:])
    join_udp([hostile] * 3, 0)
