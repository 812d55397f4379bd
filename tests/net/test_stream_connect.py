"""mesh.net.stream_connect: the ways to a supernode as URLs, and one that leads nowhere."""

import socket

import pytest
import trio

from mesh.engine import Transport
from mesh.net.stream_connect import make_tls_context, open_way
from mesh.net.stream_way import StreamWay, read_stream_way

WEBSOCKET = Transport.WEBSOCKET


@pytest.mark.parametrize(
    ("text", "way", "shown"),
    [
        ("tcp://vpn.example:7777", StreamWay(Transport.TCP, "vpn.example", 7777), ""),
        ("tcp://[fd00::1]:443", StreamWay(Transport.TCP, "fd00::1", 443), ""),
        (
            "ws://vpn.example",
            StreamWay(WEBSOCKET, "vpn.example", 80, path="/mesh"),
            "ws://vpn.example:80/mesh",
        ),
        (
            "wss://VPN.example/a/b",
            StreamWay(WEBSOCKET, "vpn.example", 443, is_tls=True, path="/a/b"),
            "wss://vpn.example:443/a/b",
        ),
        (
            "wss://10.0.0.1:8443/",
            StreamWay(WEBSOCKET, "10.0.0.1", 8443, is_tls=True, path="/mesh"),
            "wss://10.0.0.1:8443/mesh",
        ),
    ],
)
def test_a_way_is_read_and_shown(text: str, way: StreamWay, shown: str) -> None:
    assert read_stream_way(text) == way
    assert str(way) == (shown or text)


@pytest.mark.parametrize(
    "text",
    [
        "vpn.example:7777",
        "udp://vpn.example:7777",
        "tcp://vpn.example",
        "tcp://vpn.example:7777/path",
        "tcp://vpn.example:0",
        "wss://",
        "wss://me@vpn.example",
        "wss://vpn.example/a?b",
        "wss://vpn.example:70000",
        "wss://vpn.example/a b",
        "wss://vpn.example/a,b",
        "wss://vpn.example/ü",
        "wss://[fd00::1",
    ],
)
def test_what_is_no_way_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|characters"):
        read_stream_way(text)


def test_a_closed_port_is_an_error_of_the_network() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        way = StreamWay(Transport.TCP, "127.0.0.1", closed.getsockname()[1])
        with pytest.raises(OSError, match="failed"):
            trio.run(open_way, way, None, make_tls_context)
