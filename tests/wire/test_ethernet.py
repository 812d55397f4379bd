"""mesh.wire.ethernet: peeks at a frame's header."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.wire.ethernet import (
    addresses,
    arp_announcement,
    describe_frame,
    destination,
    ethertype,
    is_group,
    source,
)

TO = bytes.fromhex("02000000000b")
FROM = bytes.fromhex("02000000000a")
ARP = TO + FROM + b"\x08\x06" + bytes(28)


@pytest.mark.parametrize("frame", [ARP, bytearray(ARP), memoryview(ARP)])
def test_addresses_stand_at_the_start(frame: bytes) -> None:
    assert addresses(frame) == (TO, FROM)
    assert destination(frame) == TO
    assert source(frame) == FROM


def test_what_a_peek_returns_outlives_the_buffer() -> None:
    lent = bytearray(ARP)
    found = (destination(memoryview(lent)), source(memoryview(lent)), *addresses(memoryview(lent)))
    lent[:] = bytes(len(lent))
    assert found == (TO, FROM, TO, FROM)


@pytest.mark.parametrize(
    ("mac", "expected"),
    [
        ("ffffffffffff", True),
        ("01005e000001", True),
        ("333300000001", True),
        ("02000000000a", False),
    ],
)
def test_group_addresses_have_the_lowest_bit_of_the_first_byte(mac: str, *, expected: bool) -> None:
    assert is_group(bytes.fromhex(mac)) is expected


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (b"", 0x0800),
        (b"\x81\x00\x00\x07", 0x0800),
        (b"\x88\xa8\x00\x07\x81\x00\x00\x08", 0x0800),
        (b"\x91\x00\x00\x07\x81\x00\x00\x08", 0x0800),
    ],
)
def test_the_ethertype_stands_behind_all_tags(tags: bytes, expected: int) -> None:
    assert ethertype(TO + FROM + tags + b"\x08\x00" + bytes(20)) == expected


def test_a_frame_that_ends_in_its_tags_has_no_ethertype() -> None:
    assert ethertype(TO + FROM + b"\x81\x00\x00\x07") == 0


def test_a_frame_is_described_without_its_payload() -> None:
    described = describe_frame(ARP)
    assert described == "02:00:00:00:00:0a > 02:00:00:00:00:0b type 0x0806, 42 bytes"


@given(st.binary(max_size=40))
def test_any_bytes_can_be_described(frame: bytes) -> None:
    assert str(len(frame)) in describe_frame(frame)
    assert 0 <= ethertype(frame) < 65536


def test_an_arp_announcement_is_a_request_for_the_senders_own_address() -> None:
    mac, address = bytes.fromhex("020000000001"), bytes([10, 1, 2, 3])
    frame = arp_announcement(mac, address)
    assert frame[:14] == b"\xff" * 6 + mac + b"\x08\x06"
    assert frame[14:22] == bytes.fromhex("0001080006040001")
    assert frame[22:32] == mac + address
    assert frame[32:] == bytes(6) + address
