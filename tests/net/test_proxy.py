"""mesh.net.proxy: which HTTP proxy, and the tunnel through it."""

import socket

import pytest
import trio

from mesh.net.port import PortClosed
from mesh.net.proxy import (
    Proxy,
    is_proxied,
    no_proxy_from_environment,
    proxy_from_environment,
    read_proxy,
)
from mesh.net.stream_opening import Opening
from mesh.net.tunnel import open_tunnel


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://proxy.example:3128", Proxy("proxy.example", 3128)),
        ("proxy.example:3128", Proxy("proxy.example", 3128)),
        ("http://proxy.example", Proxy("proxy.example", 80)),
        ("https://proxy.example/", Proxy("proxy.example", 443, is_tls=True)),
        ("http://[fd00::1]:8080", Proxy("fd00::1", 8080)),
        ("http://me:p%40ss:w@10.0.0.1:8080", Proxy("10.0.0.1", 8080, credentials="me:p@ss:w")),
    ],
)
def test_a_proxy_is_read(text: str, proxy: Proxy) -> None:
    assert read_proxy(text) == proxy


@pytest.mark.parametrize(
    "text", ["socks5://a:1", "http://", "http://a:0", "http://a:70000", "http://a/b", "http://[a]"]
)
def test_what_is_no_http_proxy_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"HTTP proxy|PASSWORD"):
        read_proxy(text)


def test_passwords_are_neither_shown_nor_quoted() -> None:
    assert "secret" not in repr(read_proxy("http://me:secret@proxy.example"))
    assert "secret" not in str(read_proxy("http://me:secret@proxy.example"))
    with pytest.raises(ValueError, match=r"\.\.\.@") as caught:
        read_proxy("socks5://me:secret@proxy.example")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "http://me:/secret@proxy.example:1",
        "me:a/secret/b@proxy.example",
        "http://me:a@secret@proxy.example:99999",
        "http://me:?secret#secret@proxy.example/x",
        "http://me:\nsecret/@proxy.example",
    ],
)
def test_a_password_that_no_url_has_is_not_quoted_either(text: str) -> None:
    with pytest.raises(ValueError, match="proxy") as caught:
        read_proxy(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "host"),
    [
        ({}, None),
        ({"https_proxy": ""}, None),
        ({"all_proxy": "http://all:1"}, "all"),
        ({"all_proxy": "http://all:1", "http_proxy": "http://plain:1"}, "plain"),
        ({"http_proxy": "http://plain:1", "https_proxy": "http://tls:1"}, "tls"),
        ({"HTTPS_PROXY": "http://large:1"}, "large"),
        ({"HTTPS_PROXY": "http://large:1", "https_proxy": "http://small:1"}, "small"),
    ],
)
def test_the_environment_names_a_proxy(environment: dict[str, str], host: str | None) -> None:
    proxy, complaint = proxy_from_environment(environment)
    assert (proxy and proxy.host) == host
    assert not complaint


def test_a_useless_variable_is_complained_of() -> None:
    proxy, complaint = proxy_from_environment({"all_proxy": "socks5://localhost:1080"})
    assert proxy is None
    assert complaint.startswith("all_proxy is not used: 'socks5://localhost:1080'")


@pytest.mark.parametrize(
    ("no_proxy", "host", "expected"),
    [
        ("", "vpn.example", True),
        ("*", "vpn.example", False),
        ("example", "vpn.example", False),
        (".example", "vpn.example", False),
        ("*.example", "vpn.example", False),
        ("other, VPN.example:443", "vpn.example", False),
        ("ample", "vpn.example", True),
        ("10.0.0.0/8", "10.1.2.3", False),
        ("10.0.0.0/8,", "11.1.2.3", True),
        ("10.1.2.3", "10.1.2.3", False),
        ("[fd00::1]", "fd00::1", False),
        ("fd00::/8", "10.1.2.3", True),
    ],
)
def test_no_proxy_is_honoured(no_proxy: str, host: str, expected: object) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        assert is_proxied(host, no_proxy_from_environment({name: no_proxy})) is expected


PROXY = Proxy("127.0.0.1", 1)


async def tunnel(
    answer: bytes, proxy: Proxy = PROXY, host: str = "vpn.example"
) -> tuple[bytes, bytes]:
    """What a proxy that answers like this reads, and what came behind its answer."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    opening = Opening(ours)
    with theirs, trio.fail_after(5):
        try:
            theirs.send(answer)
            theirs.shutdown(socket.SHUT_WR)
            await open_tunnel(opening, proxy, host, 443)
            return theirs.recv(4096), opening.take_rest()
        finally:
            opening.close()


def test_a_tunnel_is_asked_for_and_what_follows_is_kept() -> None:
    request, rest = trio.run(tunnel, b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\nmesh")
    assert request == b"CONNECT vpn.example:443 HTTP/1.1\r\nHost: vpn.example:443\r\n\r\n"
    assert rest == b"mesh"


def test_credentials_are_given_to_the_proxy() -> None:
    proxy = Proxy("127.0.0.1", 1, credentials="Aladdin:open sesame")
    request, _ = trio.run(tunnel, b"HTTP/1.0 200\r\n\r\n", proxy, "fd00::1")
    assert request.startswith(b"CONNECT [fd00::1]:443 HTTP/1.1\r\n")
    assert b"\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n" in request


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407 Proxy Authentication"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "100"),
        (b"SSH-2.0-OpenSSH\r\n\r\n\r\n", "does not answer as"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 4000, "more than a proxy"),
        (b"HTTP/1.1 200 OK\r\n", "closed"),
        (b"", "closed"),
    ],
)
def test_a_proxy_that_refuses_is_quoted(answer: bytes, complaint: str) -> None:
    with pytest.raises(PortClosed, match=complaint):
        trio.run(tunnel, answer)
