import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.crypto.layout import (
    UnsupportedVersion,
    decode_confirmation_untrusted,
    decode_initiation_untrusted,
    decode_response_untrusted,
    encode_index,
    encode_prefix,
)
from mesh.crypto.suite import Suite
from mesh.errors import LocalError, MalformedMessage, NotAuthentic
from mesh.wire.datagram import EXACT_LENGTHS, DatagramType

INITIATIONS = [DatagramType.PEER_INITIATION, DatagramType.SUPERNODE_INITIATION]
RESPONSES = [DatagramType.PEER_RESPONSE, DatagramType.SUPERNODE_RESPONSE]


def padded(kind: DatagramType, start: bytes) -> bytes:
    return start.ljust(EXACT_LENGTHS[kind], b"\x55")


@pytest.mark.parametrize("kind", INITIATIONS)
@pytest.mark.parametrize("suite", Suite)
def test_an_initiation_comes_apart_where_the_diagram_says(kind: DatagramType, suite: Suite) -> None:
    datagram = padded(kind, bytes([kind, 1, suite, 0, 0, 0, 0, 9]))
    parts = decode_initiation_untrusted(datagram, kind)
    assert parts == (datagram[:4], suite, 9, datagram[8:-32])


@pytest.mark.parametrize("kind", INITIATIONS)
@pytest.mark.parametrize("length", [8, 72, 144, 500])
@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_is_told_whatever_else_it_changed(
    kind: DatagramType, length: int, version: int
) -> None:
    datagram = bytes([kind, version, 77, 77, 0, 0, 1, 0]).ljust(length, b"\x55")
    with pytest.raises(UnsupportedVersion) as caught:
        decode_initiation_untrusted(datagram, kind)
    assert caught.value.version == version
    assert caught.value.sender_index == 256


@pytest.mark.parametrize("kind", INITIATIONS)
@pytest.mark.parametrize(
    "start",
    [
        bytes([99, 1, 1, 0, 0, 0, 0, 9]),
        bytes([0, 1, 1, 0, 0, 0, 0, 9]),
        bytes([1, 1, 0, 0, 0, 0, 0, 9]),
        bytes([1, 1, 5, 0, 0, 0, 0, 9]),
        bytes([1, 1, 1, 1, 0, 0, 0, 9]),
        bytes([1, 1, 1, 0, 0, 0, 0, 0]),
    ],
    ids=["type", "type zero", "suite zero", "suite", "reserved", "index zero"],
)
def test_a_wrong_field_makes_an_initiation_malformed(kind: DatagramType, start: bytes) -> None:
    start = bytes([kind]) + start[1:] if start[0] == 1 else start
    with pytest.raises(MalformedMessage):
        decode_initiation_untrusted(padded(kind, start), kind)


@pytest.mark.parametrize("kind", INITIATIONS)
@given(noise=st.binary(max_size=160), suite=st.sampled_from(Suite), whole=st.booleans())
def test_arbitrary_bytes_are_an_initiation_or_malformed(
    kind: DatagramType, noise: bytes, suite: Suite, *, whole: bool
) -> None:
    datagram = padded(kind, encode_prefix(kind, suite) + noise) if whole else noise
    try:
        parts = decode_initiation_untrusted(datagram, kind)
    except MalformedMessage:
        return
    assert len(datagram) == EXACT_LENGTHS[kind]
    assert parts.sender_index == int.from_bytes(datagram[4:8], "big") != 0


@pytest.mark.parametrize("kind", RESPONSES)
def test_a_response_is_taken_only_for_our_index_suite_and_version(kind: DatagramType) -> None:
    suite = Suite.AESGCM_SHA256
    datagram = padded(kind, encode_prefix(kind, suite) + encode_index(5) + encode_index(6))
    assert decode_response_untrusted(datagram, kind, suite, 6) == (5, datagram[12:])
    with pytest.raises(NotAuthentic):
        decode_response_untrusted(datagram, kind, suite, 7)
    with pytest.raises(MalformedMessage):
        decode_response_untrusted(datagram, kind, Suite.CHACHAPOLY_BLAKE2S, 6)
    with pytest.raises(MalformedMessage):
        decode_response_untrusted(datagram + b"\0", kind, suite, 6)
    with pytest.raises(MalformedMessage):
        decode_response_untrusted(datagram[:1] + b"\x02" + datagram[2:], kind, suite, 6)
    with pytest.raises(MalformedMessage):
        decode_response_untrusted(datagram[:4] + bytes(4) + datagram[8:], kind, suite, 6)


def test_a_confirmation_is_taken_only_for_our_index() -> None:
    kind, suite = DatagramType.SUPERNODE_CONFIRMATION, Suite.AESGCM_SHA256
    datagram = padded(kind, encode_prefix(kind, suite) + encode_index(6))
    assert decode_confirmation_untrusted(datagram, suite, 6) == datagram[8:]
    with pytest.raises(NotAuthentic):
        decode_confirmation_untrusted(datagram, suite, 7)
    with pytest.raises(MalformedMessage):
        decode_confirmation_untrusted(datagram[:4] + bytes(4) + datagram[8:], suite, 0)


@pytest.mark.parametrize("index", [0, -1, 2**32])
def test_an_index_of_ours_is_never_zero_and_fits(index: int) -> None:
    with pytest.raises(LocalError):
        encode_index(index)
