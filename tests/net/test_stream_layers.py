"""mesh.net.stream_layers: TLS and WebSocket as bytes in, bytes out."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.net.port import PortClosed
from mesh.net.stream_layers import LayerStack, TlsLayer, WebSocketLayer
from tests.certificates import Certificate, make_certificate

UPGRADE = (
    b"GET /mesh HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: mesh\r\n\r\n"
)

CONTEXT = ssl.create_default_context()  # takes 20 ms


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder: Path = tmp_path_factory.mktemp("certificates")
    return make_certificate(folder, "supernode.example")


def tls_pair(files: Certificate) -> tuple[TlsLayer, TlsLayer]:
    ours = ssl.create_default_context(cafile=str(files.authority))
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    theirs.load_cert_chain(files.certificate, files.key)
    return TlsLayer(ours, "supernode.example"), TlsLayer(theirs)


def websocket_pair(_: Certificate) -> tuple[WebSocketLayer, WebSocketLayer]:
    return WebSocketLayer("supernode.example", "/mesh"), WebSocketLayer()


def stacks(
    *pairs: tuple[TlsLayer, TlsLayer] | tuple[WebSocketLayer, WebSocketLayer],
) -> tuple[LayerStack, LayerStack]:
    """Two ends with these layers, each ready before the next one is put on."""
    client, server = LayerStack(), LayerStack()
    for ours, theirs in pairs:
        client.push(ours)
        server.push(theirs)
        while not (ours.is_ready and theirs.is_ready):
            moved = [server.receive(client.owed()), client.receive(server.owed())]
            assert moved == [b"", b""]
    return client, server


@pytest.mark.parametrize(
    "kinds",
    [
        (),
        (tls_pair,),
        (websocket_pair,),
        (tls_pair, websocket_pair),
        (tls_pair, tls_pair, websocket_pair),  # inside the TLS of a proxy
    ],
)
def test_what_one_end_wraps_the_other_receives_however_it_is_cut(
    files: Certificate, kinds: tuple[Callable[..., tuple[TlsLayer, TlsLayer]], ...]
) -> None:
    client, server = stacks(*(make(files) for make in kinds))
    for ours, theirs in ((client, server), (server, client)):
        sent = [bytes([number]) * size for number, size in enumerate((1, 125, 126, 16384, 70000))]
        wire = ours.owed() + b"".join(map(ours.wrap, sent))
        received = b"".join(
            theirs.receive(wire[start : start + 1000]) for start in range(0, len(wire), 1000)
        )
        assert received == b"".join(sent)


def test_a_websocket_ping_is_answered(files: Certificate) -> None:
    client, server = stacks(websocket_pair(files))
    assert server.receive(b"\x89\x80\0\0\0\0") == b""
    assert server.owed() == b"\x8a\x00"
    assert server.owed() == b""
    assert client.receive(b"\x89\x02hi") == b""
    assert client.owed()[:2] == b"\x8a\x82"


@pytest.mark.parametrize("kind", [tls_pair, websocket_pair])
def test_the_end_of_a_layer_ends_the_stream(
    files: Certificate, kind: Callable[..., tuple[TlsLayer, TlsLayer]]
) -> None:
    _, server = stacks(kind(files))
    with pytest.raises(PortClosed):
        server.receive(b"\x88\x80\0\0\0\0" + bytes(60))


EMPTY_FRAMES = {
    "binary": b"\x82\x80\0\0\0\0",
    "text": b"\x81\x80\0\0\0\0",
    "ping": b"\x89\x80\0\0\0\0",
}


@pytest.mark.parametrize("frame", EMPTY_FRAMES.values(), ids=EMPTY_FRAMES)
def test_a_websocket_of_frames_without_content_ends_before_they_cost_much(
    files: Certificate, frame: bytes
) -> None:
    _, server = stacks(websocket_pair(files))
    flood = frame * (65536 // len(frame))
    with pytest.raises(PortClosed, match="very small"):
        server.receive(flood)
    assert len(server.owed()) < 4096


def test_datagrams_as_small_as_ours_get_may_each_have_a_frame(files: Certificate) -> None:
    client, server = stacks(websocket_pair(files))
    frames = b"".join(client.wrap(bytes(64)) for _ in range(900))
    assert server.receive(frames) == bytes(64 * 900)


def test_text_is_not_content(files: Certificate) -> None:
    _, server = stacks(websocket_pair(files))
    assert server.receive(b"\x81\x82\0\0\0\0ab") == b""


def test_a_web_server_that_refuses_is_quoted() -> None:
    client = WebSocketLayer("supernode.example", "/mesh")
    with pytest.raises(PortClosed, match="status 404"):
        client.receive(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


@given(st.lists(st.binary(max_size=200), max_size=4), st.sampled_from([b"", b"GET ", UPGRADE]))
def test_a_websocket_server_receives_anything_and_raises_nothing_else(
    received: list[bytes], start: bytes
) -> None:
    server = WebSocketLayer()
    try:
        for part in (start, *received):
            server.receive(part)
    except PortClosed:
        pass
    assert len(server.owed()) < 400 + 150 * 400


@given(st.lists(st.binary(max_size=200), max_size=4), st.sampled_from([b"", b"HTTP/1.1 101 "]))
def test_a_websocket_client_receives_anything_and_raises_nothing_else(
    received: list[bytes], start: bytes
) -> None:
    client = WebSocketLayer("supernode.example", "/mesh")
    try:
        for part in (start, *received):
            client.receive(part)
    except PortClosed:
        pass


@given(st.lists(st.binary(max_size=200), max_size=4), st.sampled_from([b"", b"\x16\x03\x03"]))
def test_tls_receives_anything_and_raises_nothing_else(received: list[bytes], start: bytes) -> None:
    layer = TlsLayer(CONTEXT, "supernode.example")
    try:
        for part in (start, *received):
            layer.receive(part)
    except PortClosed:
        pass
