"""Announcements tell members who is where, and strangers nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.addresses import EdgeId
from mesh.errors import MalformedMessage, NotAuthentic, RemoteError
from mesh.wire.lan_peer import encode_announcement, open_announcement_untrusted

KEY = bytes(range(32))
EDGE = EdgeId(b"an edge's own id")
NONCE = bytes(range(16))


@given(
    st.binary(min_size=16, max_size=16), st.integers(1, 65535), st.binary(min_size=16, max_size=16)
)
def test_members_read_what_a_member_announces(edge_id: bytes, port: int, nonce: bytes) -> None:
    datagram = encode_announcement(KEY, EdgeId(edge_id), port, nonce)
    assert len(datagram) == 64
    assert open_announcement_untrusted(KEY, datagram) == (edge_id, port, nonce)


def test_the_layout_is_that_of_the_specification() -> None:
    datagram = encode_announcement(KEY, EDGE, 7801, NONCE)
    assert datagram.hex() == (
        "0e010000000102030405060708090a0b0c0d0e0f" + datagram[20:54].hex() + "00" * 10
    )


def test_nothing_of_an_announcement_means_anything_to_strangers() -> None:
    one = encode_announcement(KEY, EDGE, 7801, NONCE)
    other = encode_announcement(KEY, EDGE, 7801, NONCE[::-1])
    assert EDGE not in one
    assert not set(one[4:54:2]) <= {0}
    assert sum(a == b for a, b in zip(one[20:54], other[20:54], strict=True)) < 6
    with pytest.raises(NotAuthentic):
        open_announcement_untrusted(bytes(32), one)


@pytest.mark.parametrize("position", [*range(4, 54)])
def test_a_changed_announcement_is_none(position: int) -> None:
    datagram = bytearray(encode_announcement(KEY, EDGE, 7801, NONCE))
    datagram[position] ^= 0x40
    with pytest.raises(NotAuthentic):
        open_announcement_untrusted(KEY, bytes(datagram))


def test_an_announcement_has_a_port() -> None:
    with pytest.raises(MalformedMessage):
        open_announcement_untrusted(KEY, encode_announcement(KEY, EDGE, 0, NONCE))


@given(st.binary(max_size=100) | st.binary(min_size=64, max_size=64))
def test_arbitrary_bytes_are_an_error_of_the_networks(datagram: bytes) -> None:
    with pytest.raises(RemoteError):
        open_announcement_untrusted(KEY, datagram)
