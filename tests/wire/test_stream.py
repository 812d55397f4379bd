"""mesh.wire.stream: the frames of a stream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.constants import MAX_DATAGRAM_BYTES
from mesh.errors import MalformedMessage
from mesh.wire.stream import (
    MAX_BATCH_DATAGRAMS,
    PREAMBLE,
    StreamDecoder,
    frame_datagrams,
)

sizes = st.sampled_from([1, 2, 60, 1452, MAX_DATAGRAM_BYTES])
batches = st.builds(
    lambda size, count, last: ([bytes([i + 1]) * size for i in range(count)] + [last[:size]], size),
    sizes,
    st.integers(0, 7),
    st.binary(min_size=1, max_size=100),
)


def datagrams_of(decoder: StreamDecoder, room: int = 65536) -> list[bytes]:
    """What the decoder has, cut as its batches say."""
    buffer = memoryview(bytearray(room))
    found = []
    while (batch := decoder.next_batch_into(buffer)) != (0, 0):
        length, segment_bytes = batch
        found += [
            bytes(buffer[start : min(start + segment_bytes, length)])
            for start in range(0, length, segment_bytes)
        ]
    return found


@given(
    st.lists(batches, max_size=5), st.lists(st.integers(0, 30000)), st.sampled_from([8972, 9000])
)
def test_datagrams_that_are_framed_are_decoded_however_the_stream_is_cut(
    sent: list[tuple[list[bytes], int]], cuts: list[int], room: int
) -> None:
    stream = b"".join(b"".join(frame_datagrams(batch, size)) for batch, size in sent)
    decoder, found, start = StreamDecoder(), [], 0
    for cut in [*sorted(cuts), len(stream)]:
        decoder.feed(stream[start:cut])
        start = max(start, cut)
        found += datagrams_of(decoder, room)
    assert found == [datagram for batch, _ in sent for datagram in batch]
    assert len(decoder) == 0


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_decoded_or_malformed(received: bytes) -> None:
    decoder = StreamDecoder()
    decoder.feed(received)
    try:
        found = datagrams_of(decoder)
    except MalformedMessage:
        return
    framed = b"".join(frame for datagram in found for frame in frame_datagrams([datagram], 9000))
    assert received.startswith(framed)
    assert len(decoder) == len(received) - len(framed)


@pytest.mark.parametrize("length", [0, MAX_DATAGRAM_BYTES + 1, 0xFFFF])
def test_a_length_that_no_datagram_has_ends_the_stream(length: int) -> None:
    decoder = StreamDecoder()
    decoder.feed(b"\x00\x01a" + length.to_bytes(2, "big"))
    buffer = memoryview(bytearray(65536))
    assert decoder.next_batch_into(buffer) == (1, 1)
    for _ in range(2):
        with pytest.raises(MalformedMessage):
            decoder.next_batch_into(buffer)


def test_datagrams_of_one_length_come_as_one_batch_up_to_a_shorter_one() -> None:
    decoder = StreamDecoder()
    decoder.feed(b"".join(frame_datagrams([b"a" * 100, b"b" * 100, b"c" * 7], 100)))
    decoder.feed(b"".join(frame_datagrams([b"d" * 100], 100)))
    buffer = memoryview(bytearray(65536))
    assert decoder.next_batch_into(buffer) == (207, 100)
    assert bytes(buffer[:207]) == b"a" * 100 + b"b" * 100 + b"c" * 7
    assert decoder.next_batch_into(buffer) == (100, 100)


def test_a_batch_has_as_many_datagrams_as_udp_delivers_at_once_however_small() -> None:
    decoder = StreamDecoder()
    decoder.feed(b"\0\1x" * (2 * MAX_BATCH_DATAGRAMS + 1))
    buffer = memoryview(bytearray(65536))
    counts = [decoder.next_batch_into(buffer) for _ in range(4)]
    assert counts == [(MAX_BATCH_DATAGRAMS, 1), (MAX_BATCH_DATAGRAMS, 1), (1, 1), (0, 0)]


def test_a_longer_datagram_begins_a_new_batch() -> None:
    decoder = StreamDecoder()
    for datagram in (b"short", b"much longer"):
        decoder.feed(b"".join(frame_datagrams([datagram], len(datagram))))
    buffer = memoryview(bytearray(65536))
    assert decoder.next_batch_into(buffer) == (5, 5)
    assert decoder.next_batch_into(buffer) == (11, 11)


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1", b"CONNECT a:1", b"\x16\x03\x01", b"SSH-2.0-"])
def test_no_other_protocol_starts_like_a_stream(start: bytes) -> None:
    assert not PREAMBLE.startswith(start[:2])
