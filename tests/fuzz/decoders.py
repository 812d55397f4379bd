"""Fuzz targets: everything that turns bytes of others into values.

A target takes any bytes. The one error that a decoder may raise is MalformedMessage; what it
returns is checked against what it promises.
"""

import contextlib
from collections.abc import Callable
from typing import TypeVar

from mesh.cli.invite import parse_invite
from mesh.constants import (
    MAX_DATAGRAM_BYTES,
    MAX_FRAME_BYTES,
    MAX_INCOMPLETE_FRAMES,
    MIN_FRAME_BYTES,
)
from mesh.datapath.fragment import Reassembler, cut
from mesh.errors import ConfigError, MalformedMessage
from mesh.net.port import PortClosed
from mesh.net.stream_layers import WebSocketLayer
from mesh.wire import datagram as outer
from mesh.wire.inner import (
    decode_fragment,
    decode_frame,
    inner_kind,
    is_checksum_inside,
    open_control_untrusted,
)
from mesh.wire.lan import LanAnswer, LanQuery
from mesh.wire.messages import Message, decode_message, encode_message
from mesh.wire.portmap import (
    PcpOpcode,
    PcpRequest,
    PcpResponse,
    PmpAddress,
    PmpMapped,
    PmpMapRequest,
)
from mesh.wire.ssdp import decode_location, is_on
from mesh.wire.stream import StreamDecoder, frame_datagrams
from tests.fuzz.bodies import fuzzed_body
from tests.fuzz.cursor import Cursor

_T = TypeVar("_T")
_BUFFER_BYTES = 65_535


def decoded(decode: Callable[[bytes], _T], data: bytes) -> _T | None:
    """Return what a decoder made of bytes, None where it refused them."""
    try:
        return decode(data)
    except MalformedMessage:
        return None


def fuzz_datagram(data: bytes) -> None:
    """The outer header of a datagram, and the small datagrams without a session."""
    kind = decoded(outer.classify_untrusted, data)
    assert outer.peek_transport_index_untrusted(data, 0, len(data)) <= 0xFFFFFFFF
    for decode in (
        outer.decode_relay_header,
        outer.decode_unknown_session,
        outer.decode_version_refusal,
    ):
        decoded(decode, data)
    if kind is None:
        return
    assert data[0] == kind
    outer.peek_receiver_index_untrusted(data)
    outer.echo_untrusted(data)
    if outer.is_transport_untrusted(data):
        index, _ = outer.peek_transport_untrusted(data)
        assert index == outer.peek_transport_index_untrusted(data, 0, len(data))


def fuzz_message(data: bytes) -> None:
    """The body of a control message."""
    cursor = Cursor(data)
    body = fuzzed_body(cursor) if cursor.choice(2) else cursor.rest()
    message = decoded(decode_message, body)
    if message is not None:
        again: Message = decode_message(encode_message(message))
        assert again == message


def fuzz_inner(data: bytes) -> None:
    """The inner header, of a plaintext that verified."""
    inner_kind(data)
    decoded(open_control_untrusted, data)
    frame = decoded(decode_frame, data)
    if frame is not None:
        content, csum_start, csum_offset = frame
        assert MIN_FRAME_BYTES <= len(content) <= MAX_FRAME_BYTES
        assert not csum_start or is_checksum_inside(len(content), csum_start, csum_offset)
    fragment = decoded(decode_fragment, data)
    if fragment is not None:
        assert 0 <= fragment[1] < fragment[2]
        assert fragment[3]


def fuzz_fragment(data: bytes) -> None:
    """Pieces of frames: of a frame cut as a peer does it, in any order, and of any kind."""
    cursor = Cursor(data)
    reassembler = Reassembler()
    frame = bytes(range(256)) * 35
    frame = frame[: MIN_FRAME_BYTES + cursor.number(2) % (MAX_FRAME_BYTES - MIN_FRAME_BYTES)]
    pieces = cut(frame, max(600, cursor.number(2) % 2000))
    now = 0.0
    while len(cursor):
        now += cursor.number() / 50
        if cursor.choice(2):
            index = cursor.choice(len(pieces))
            whole = reassembler.add(1, index, len(pieces), (0, 0), pieces[index], now)
            assert whole is None or whole == (frame, (0, 0))
        else:
            number, index, count = cursor.number(2), cursor.number(), cursor.number()
            csum = cursor.number(2), cursor.number()
            whole = reassembler.add(2 + number, index, count, csum, cursor.piece(), now)
        if whole is not None:
            content, csum = whole
            assert MIN_FRAME_BYTES <= len(content) <= MAX_FRAME_BYTES
            assert csum == (0, 0) or is_checksum_inside(len(content), *csum)
        assert len(reassembler) <= MAX_INCOMPLETE_FRAMES
    reassembler.expire(now + 3600)
    assert not len(reassembler)


def fuzz_stream(data: bytes) -> None:
    """Frames on a stream, cut anywhere; what was taken in can be told again."""
    cursor = Cursor(data)
    decoder, buffer = StreamDecoder(), memoryview(bytearray(_BUFFER_BYTES))
    received, told = bytearray(), bytearray()
    while len(cursor):
        part = cursor.some(1 + cursor.number())
        received += part
        decoder.feed(part)
        while True:
            try:
                written, segment_bytes = decoder.next_batch_into(buffer)
            except MalformedMessage:
                assert told == received[: len(told)]
                return
            if not written:
                break
            assert 0 < segment_bytes <= min(written, MAX_DATAGRAM_BYTES)
            told += b"".join(frame_datagrams([buffer[:written]], segment_bytes))
    assert told == received[: len(told)]
    assert len(decoder) == len(received) - len(told) <= MAX_DATAGRAM_BYTES + 2


def fuzz_websocket(data: bytes) -> None:
    """Both sides of a WebSocket, from its first byte on; the one error they know is the end."""
    for host in (None, "supernode.example"):
        cursor = Cursor(data)
        layer = WebSocketLayer(host)
        layer.owed()
        try:
            while len(cursor):
                part = cursor.some(1 + cursor.number(2))
                assert len(layer.receive(part)) <= len(part)
                layer.owed()
                if layer.is_ready:
                    layer.wrap(b"a datagram")
        except PortClosed:
            layer.owed()


def fuzz_lan(data: bytes) -> None:
    """Questions and answers on the LAN."""
    for decode in (LanQuery.decode, LanAnswer.decode):
        found = decoded(decode, data)
        if found is not None:
            assert decode(found.encode()) == found


def fuzz_portmap(data: bytes) -> None:
    """What a router, or somebody who says to be one, answers."""
    for decode in (PmpAddress.decode, PmpMapRequest.decode, PmpMapped.decode, PcpRequest.decode):
        found = decoded(decode, data)
        if found is not None:
            decode(found.encode())
    for opcode in PcpOpcode:
        response = decoded(lambda answer, opcode=opcode: PcpResponse.decode(answer, opcode), data)
        if response is not None:
            assert PcpResponse.decode(response.encode(opcode), opcode) == response
    url = decoded(lambda answer: decode_location(answer, "192.0.2.1"), data)
    assert url is None or is_on(url, "192.0.2.1")


def fuzz_invite(data: bytes) -> None:
    """What somebody pastes behind ``mesh-edge join``."""
    text = data.decode("utf-8", "surrogateescape")
    for invite in (text, f"mesh://{text}"):
        with contextlib.suppress(ConfigError):
            parse_invite(invite)
