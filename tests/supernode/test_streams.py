"""A supernode that takes streams: TCP, WebSocket and TLS, on real sockets on loopback."""

import contextlib
import hashlib
import os
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio_websocket
from trio.testing import wait_all_tasks_blocked

from mesh.addresses import Endpoint
from mesh.constants import MAX_DATAGRAM_BYTES, SOURCE_HANDSHAKE_BURST
from mesh.crypto.community import CommunityKeys
from mesh.crypto.identity import Identity
from mesh.errors import ConfigError
from mesh.net.control import call
from mesh.net.paths import control_path
from mesh.net.port import PortClosed
from mesh.wire.inner import wrap_control
from mesh.wire.messages import Members, Ping, Pong, Registered, encode_message
from mesh.wire.stream import PREAMBLE
from supernode import streams
from supernode.config import SupernodeConfig
from supernode.limits import SupernodeLimits
from supernode.server import CONTROL_NAME, SupernodeServer
from tests.certificates import make_certificate
from tests.streams import StreamSocket
from tests.supernode.socket_edge import SocketEdge

LOOPBACK = "127.0.0.1:0"
HOME = CommunityKeys.from_root("home", hashlib.blake2s(b"home").digest())

UPGRADE = (
    b"GET /mesh HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


def serve(config: SupernodeConfig, test: Callable[[SupernodeServer], Awaitable[None]]) -> None:
    """Run a server, the test beside it, and stop."""

    async def main() -> None:
        server = SupernodeServer(config)
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                await nursery.start(server.run)
                await test(server)
                nursery.cancel_scope.cancel()

    trio.run(main)


def config(tmp_path: Path, **settings: object) -> SupernodeConfig:
    return SupernodeConfig(
        **{  # type: ignore[arg-type]
            "state_dir": tmp_path / "s",
            "runtime_dir": tmp_path / "run",
            "listen": (LOOPBACK,),
            # The TCP port of UDP's number may be anybody's.
            "takes_tcp": False,
            "listen_ws": (LOOPBACK,),
            **settings,
        }
    )


def edge_on(stream: StreamSocket, server: SupernodeServer) -> SocketEdge:
    edge = SocketEdge(server.endpoints[0], server.fingerprint, Identity.generate(os.urandom))
    edge.socket.close()
    edge.socket = stream  # type: ignore[assignment]
    return edge


def port_of(server: SupernodeServer, number: int = 0) -> int:
    return server.stream_endpoints[number].port


async def raw(server: SupernodeServer) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", port_of(server))


async def ask(tmp_path: Path, command: str) -> object:
    path = control_path(tmp_path / "run", CONTROL_NAME)
    [reply] = await trio.to_thread.run_sync(lambda: list(call(path, {"command": command})))
    return reply


@pytest.mark.parametrize(("scheme", "transport"), [("tcp", "tcp"), ("ws", "ws"), ("wss", "ws")])
def test_an_edge_registers_on_a_stream_and_is_told_no_port(
    tmp_path: Path, scheme: str, transport: str
) -> None:
    files = make_certificate(tmp_path, "127.0.0.1")

    async def test(server: SupernodeServer) -> None:
        stream = StreamSocket(f"{scheme}://127.0.0.1:{port_of(server)}", files.authority)
        edge = edge_on(stream, server)
        answer = await edge.register(HOME)
        assert isinstance(answer, Registered)
        assert answer.endpoint == Endpoint("127.0.0.1", 0)
        members = await edge.read()
        assert isinstance(members, Members)
        assert [one.endpoint for one in members.members] == [answer.endpoint]
        ping = Ping(token=bytes(8), pad=b"")
        await stream.send(edge.session.seal(wrap_control(encode_message(ping))))
        pong = await edge.read()
        assert isinstance(pong, Pong)
        assert pong.endpoint == answer.endpoint
        rows = await ask(tmp_path, "edges")
        assert [row["transport"] for row in rows] == [transport]  # type: ignore[attr-defined]
        stream.close()

    serve(config(tmp_path, tls_cert=files.certificate, tls_key=files.key), test)


def test_streams_are_taken_on_the_port_of_udp_unless_they_are_not_to_be(tmp_path: Path) -> None:
    found: list[tuple[list[Endpoint], list[Endpoint]]] = []

    async def test(server: SupernodeServer) -> None:
        found.append((server.endpoints, server.stream_endpoints))
        if not server.stream_endpoints:
            return
        for scheme in ("tcp", "ws"):
            stream = StreamSocket(f"{scheme}://127.0.0.1:{port_of(server)}")
            edge = edge_on(stream, server)
            assert isinstance(await edge.register(HOME), Registered)
            stream.close()

    serve(config(tmp_path, listen_ws=()), test)
    assert found.pop()[1] == []
    for _ in range(10):  # somebody else may have the port
        serve(config(tmp_path, takes_tcp=True, listen_ws=()), test)
        if found[-1][1]:
            break
    assert found[-1][0] == found[-1][1]


def test_a_certificate_of_nobody_we_trust_is_refused(tmp_path: Path) -> None:
    files = make_certificate(tmp_path, "127.0.0.1")

    async def test(server: SupernodeServer) -> None:
        for url, trusted in (
            (f"wss://127.0.0.1:{port_of(server)}", None),
            (f"wss://localhost:{port_of(server)}", files.authority),
        ):
            with pytest.raises(PortClosed, match=r"^TLS: .*(certificate|mismatch)"):
                await StreamSocket(url, trusted).connect(server.endpoints[0])

    serve(config(tmp_path, tls_cert=files.certificate, tls_key=files.key), test)


def test_another_websocket_library_understands_us(tmp_path: Path) -> None:
    async def test(server: SupernodeServer) -> None:
        url = f"ws://127.0.0.1:{port_of(server)}/anything"
        async with trio_websocket.open_websocket_url(url, subprotocols=["mesh"]) as socket_:
            assert socket_.subprotocol == "mesh"
            await socket_.send_message(PREAMBLE)
            assert await socket_.get_message() == PREAMBLE
            await socket_.ping(b"are you there")

    serve(config(tmp_path), test)


@pytest.mark.parametrize(
    "sent",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"mesh\x02\0\0\0",
        b"mest\x01\0\0\0",
        PREAMBLE + b"\0\0",
        PREAMBLE + (MAX_DATAGRAM_BYTES + 1).to_bytes(2, "big"),
        b"\x16\x03\x01\x02\x00\x01" + bytes(300),  # no certificate here
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \xff\xff\r\nConnection: upgrade\r\n\r\n",
        b"GET " + b"x" * 70000,
        UPGRADE + b"\r\n",  # for no subprotocol
    ],
)
def test_what_is_no_stream_of_ours_is_closed_at_once(tmp_path: Path, sent: bytes) -> None:
    async def test(server: SupernodeServer) -> None:
        async with await raw(server) as client:
            await client.send_all(sent)
            answer = b""
            try:
                while part := await client.receive_some():
                    answer += part
            except trio.BrokenResourceError:  # reset: we had sent more than it read
                pass
            assert len(answer) < 400
        edge = edge_on(StreamSocket(f"tcp://127.0.0.1:{port_of(server)}"), server)
        assert isinstance(await edge.register(HOME), Registered)
        edge.socket.close()

    serve(config(tmp_path), test)


def test_who_says_nothing_is_closed_and_so_is_who_registers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "OPENING_TIMEOUT", 0.2)
    monkeypatch.setattr(streams, "GUEST_TIMEOUT", 0.3)

    async def test(server: SupernodeServer) -> None:
        edge = edge_on(StreamSocket(f"tcp://127.0.0.1:{port_of(server)}"), server)
        assert isinstance(await edge.register(HOME), Registered)
        async with await raw(server) as silent, await raw(server) as guest:
            await guest.send_all(PREAMBLE)
            assert await guest.receive_some() == PREAMBLE
            assert await silent.receive_some() == b""
            assert await guest.receive_some() == b""
        assert isinstance(await edge.read(), Members)  # still there
        await trio.sleep(0.5)
        ping = Ping(token=bytes(8), pad=b"")
        await edge.socket.send(edge.session.seal(wrap_control(encode_message(ping))))
        assert isinstance(await edge.read(), Pong)
        edge.socket.close()

    serve(config(tmp_path), test)


def test_as_many_files_as_streams_are_asked_of_the_kernel(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = before[1] if before[1] != resource.RLIM_INFINITY else 1 << 20

    async def test(_: SupernodeServer) -> None:
        granted = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert granted == (min(700 + 256, hard), before[1])

    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(500, hard), before[1]))
        serve(config(tmp_path, limits=SupernodeLimits(max_streams=700)), test)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_of_all_streams_the_oldest_that_brings_no_edge_gives_way(tmp_path: Path) -> None:
    async def test(server: SupernodeServer) -> None:
        edge = edge_on(StreamSocket(f"tcp://127.0.0.1:{port_of(server)}"), server)
        assert isinstance(await edge.register(HOME), Registered)
        async with contextlib.AsyncExitStack() as stack:
            silent = await stack.enter_async_context(await raw(server))
            guest = await stack.enter_async_context(await raw(server))
            await guest.send_all(PREAMBLE)
            assert await guest.receive_some() == PREAMBLE
            for gives_way in (silent, guest):
                newcomer = await stack.enter_async_context(await raw(server))
                assert await gives_way.receive_some() == b""
                await newcomer.send_all(PREAMBLE)
                assert await newcomer.receive_some() == PREAMBLE
        assert isinstance(await edge.read(), Members)
        ping = Ping(token=bytes(8), pad=b"")
        await edge.socket.send(edge.session.seal(wrap_control(encode_message(ping))))
        assert isinstance(await edge.read(), Pong)
        status = await ask(tmp_path, "status")
        assert status["streams"] <= 3  # type: ignore[index]
        edge.socket.close()

    serve(config(tmp_path, limits=SupernodeLimits(max_streams=3)), test)


def test_there_is_a_cap_on_streams_with_edges(tmp_path: Path) -> None:
    async def test(server: SupernodeServer) -> None:
        edges = [
            edge_on(StreamSocket(f"tcp://127.0.0.1:{port_of(server)}"), server) for _ in range(2)
        ]
        for edge in edges:
            assert isinstance(await edge.register(HOME), Registered)
        async with await raw(server) as third:
            assert await third.receive_some() == b""
        edges[0].socket.close()
        await wait_all_tasks_blocked(0.05)
        async with await raw(server) as fourth:
            await fourth.send_all(PREAMBLE)
            assert await fourth.receive_some() == PREAMBLE
        edges[1].socket.close()

    serve(config(tmp_path, limits=SupernodeLimits(max_streams=2)), test)


def test_there_is_a_cap_on_streams_of_one_source_as_a_trusted_proxy_names_it(
    tmp_path: Path,
) -> None:
    limits = SupernodeLimits(max_streams_per_source=1)

    @asynccontextmanager
    async def connected(
        server: SupernodeServer, forwarded: str
    ) -> AsyncIterator[trio_websocket.WebSocketConnection]:
        url = f"ws://127.0.0.1:{port_of(server)}/"
        headers = [(b"X-Forwarded-For", forwarded.encode())]
        async with trio_websocket.open_websocket_url(
            url, subprotocols=["mesh"], extra_headers=headers
        ) as socket_:
            yield socket_

    async def greet(socket_: trio_websocket.WebSocketConnection) -> object:
        await socket_.send_message(PREAMBLE)
        return await socket_.get_message()

    async def test(server: SupernodeServer) -> None:
        async with (
            connected(server, "203.0.113.9, 198.51.100.1") as first,
            connected(server, "203.0.113.9, 198.51.100.2") as second,
        ):
            assert await greet(first) == PREAMBLE
            assert await greet(second) == PREAMBLE
            async with await raw(server) as third:
                await third.send_all(
                    UPGRADE + b"Sec-WebSocket-Protocol: mesh\r\n"
                    b"X-Forwarded-For: 203.0.113.8, 198.51.100.1\r\n\r\n"
                )
                assert (await third.receive_some()).startswith(b"HTTP/1.1 101 ")
                assert await third.receive_some() == b""

    serve(config(tmp_path, limits=limits, trust_proxy=("127.0.0.0/8",)), test)


def test_one_source_opens_so_many_at_once(tmp_path: Path) -> None:
    async def is_taken(server: SupernodeServer) -> bool:
        async with await raw(server) as client:
            await client.send_all(
                UPGRADE + b"Sec-WebSocket-Protocol: mesh\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n"
            )
            assert (await client.receive_some()).startswith(b"HTTP/1.1 101 ")
            with contextlib.suppress(trio.BrokenResourceError):
                # A binary message, masked with zeros.
                await client.send_all(b"\x82\x88\0\0\0\0" + PREAMBLE)
                return bool(await client.receive_some())
        return False

    async def test(server: SupernodeServer) -> None:
        taken = 0
        while await is_taken(server):
            taken += 1
        assert taken >= SOURCE_HANDSHAKE_BURST
        # On a slow machine the bucket gains some meanwhile.
        assert taken < 10 * SOURCE_HANDSHAKE_BURST

    serve(config(tmp_path, trust_proxy=("127.0.0.1",)), test)


def test_a_tcp_port_that_is_taken_leaves_udp(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"

        async def test(server: SupernodeServer) -> None:
            edge = SocketEdge(
                server.endpoints[0], server.fingerprint, Identity.generate(os.urandom)
            )
            assert isinstance(await edge.register(HOME), Registered)
            edge.socket.close()
            assert server.stream_endpoints == []

        serve(config(tmp_path, listen=(listen,), takes_tcp=True, listen_ws=()), test)
    assert "no streams" in caplog.text


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"tls_key": Path("/nowhere")}, "needs --tls-cert"),
        ({"tls_cert": Path("/nowhere")}, "/nowhere"),
        ({"listen_ws": ("192.0.2.1:443",)}, "TCP 192.0.2.1:443"),
    ],
)
def test_what_cannot_be_is_said(
    tmp_path: Path, settings: dict[str, object], complaint: str
) -> None:
    async def test(_: SupernodeServer) -> None:
        pytest.fail("it runs")

    with pytest.raises((ConfigError, ExceptionGroup)) as caught:
        serve(config(tmp_path, **settings), test)
    assert complaint in str(caught.value.exceptions[0])  # type: ignore[union-attr]
