"""A supernode with real sockets on loopback, a real store and a real control socket."""

import hashlib
import os
import socket
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from mesh.addresses import EdgeId, Endpoint
from mesh.crypto.community import CommunityKeys
from mesh.crypto.identity import Identity
from mesh.errors import ConfigError, RefusalReason, StateError
from mesh.net.control import call
from mesh.net.paths import control_path
from mesh.wire.lan import lan_query_tag
from mesh.wire.messages import (
    Ping,
    Pong,
    RefusedMessage,
    Registered,
    Shutdown,
)
from supernode.config import SupernodeConfig
from supernode.lease_keeper import LeaseKeeper
from supernode.server import CONTROL_NAME, SupernodeServer
from supernode.store.contract import Changes
from supernode.store.sqlite import SqliteStore
from tests.supernode.socket_edge import SocketEdge

LOOPBACK = "127.0.0.1:0"
HOME = CommunityKeys.from_root("home", hashlib.blake2s(b"home").digest())
ELSEWHERE = CommunityKeys.from_root("elsewhere", hashlib.blake2s(b"elsewhere").digest())


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


def edge_of(server: SupernodeServer, identity: Identity | None = None) -> SocketEdge:
    identity = identity or Identity.generate(os.urandom)
    return SocketEdge(server.endpoints[0], server.fingerprint, identity)


async def registered(server: SupernodeServer, identity: Identity | None = None) -> Registered:
    edge = edge_of(server, identity)
    answer = await edge.register(HOME)
    edge.socket.close()
    assert isinstance(answer, Registered)
    return answer


def rows(path: Path) -> list[tuple[bytes, str]]:
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT edge, address FROM leases").fetchall()
    connection.close()
    return found


def config(tmp_path: Path, **settings: object) -> SupernodeConfig:
    return SupernodeConfig(**{"state_dir": tmp_path / "s", "listen": (LOOPBACK,), **settings})  # type: ignore[arg-type]


@pytest.mark.parametrize("listen", [LOOPBACK, "[::1]:0"])
def test_an_edge_registers_and_its_lease_is_stored(tmp_path: Path, listen: str) -> None:
    identity = Identity.generate(os.urandom)
    answers: list[Registered] = []

    async def test(server: SupernodeServer) -> None:
        answers.append(await registered(server, identity))

    serve(config(tmp_path, listen=(listen,)), test)
    stored = rows(tmp_path / "s" / "leases.sqlite3")
    assert stored == [(identity.edge_id, answers[0].address)]


def test_key_and_leases_outlive_a_restart(tmp_path: Path) -> None:
    identity = Identity.generate(os.urandom)
    seen: list[tuple[str, str]] = []

    async def test(server: SupernodeServer) -> None:
        answer = await registered(server, identity)
        seen.append((server.fingerprint, answer.address))

    serve(config(tmp_path), test)
    serve(config(tmp_path), test)
    assert seen[0] == seen[1]


def test_every_edge_is_told_of_the_stop(tmp_path: Path) -> None:
    async def main() -> None:
        server = SupernodeServer(config(tmp_path))
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                await nursery.start(server.run)
                edge = edge_of(server)
                await edge.register(HOME)
                await edge.read()
                nursery.cancel_scope.cancel()
            assert isinstance(await edge.read(), Shutdown)
            edge.socket.close()

    trio.run(main)


def test_commands_are_answered_on_the_control_socket(tmp_path: Path) -> None:
    path = control_path(tmp_path / "r", CONTROL_NAME)

    async def ask(command: str) -> object:
        [reply] = await trio.to_thread.run_sync(lambda: list(call(path, {"command": command})))
        return reply

    async def test(server: SupernodeServer) -> None:
        answer = await registered(server)
        status = await ask("status")
        assert isinstance(status, dict)
        assert (status["edges"], status["communities"]) == (1, 1)
        assert status["listen"] == [str(server.endpoints[0])]
        assert status["store"]["problem"] == ""
        [edge] = await ask("edges")  # type: ignore[misc]
        assert edge["address"] == answer.address
        [community] = await ask("communities")  # type: ignore[misc]
        assert community["community"] == HOME.community_id.hex()

    serve(config(tmp_path, runtime_dir=tmp_path / "r"), test)
    assert not path.exists()


def test_an_embedded_supernode_serves_one_community(tmp_path: Path) -> None:
    async def test(server: SupernodeServer) -> None:
        stranger = edge_of(server)
        answer = await stranger.register(ELSEWHERE)
        stranger.socket.close()
        assert isinstance(answer, RefusedMessage)
        assert answer.reason is RefusalReason.NOT_A_MEMBER
        assert (await registered(server)).address

    serve(config(tmp_path, only_community=HOME.community_id), test)


def test_several_addresses_are_served_by_one_engine(tmp_path: Path) -> None:
    async def test(server: SupernodeServer) -> None:
        assert len(server.endpoints) == 3
        members = set()
        for endpoint in server.endpoints:
            edge = edge_of(server)
            edge.endpoint = endpoint
            answer = await edge.register(HOME)
            edge.socket.close()
            assert isinstance(answer, Registered)
            members.add(answer.members)
        assert members == {1, 2, 3}

    serve(config(tmp_path, listen=(LOOPBACK, LOOPBACK, "127.0.0.2:0")), test)


@pytest.mark.parametrize("wanted", [(), "free"])
def test_observation_ports_are_open_on_every_address_and_answer(
    tmp_path: Path, wanted: object
) -> None:
    ports = free_ports() if wanted else ()

    async def test(server: SupernodeServer) -> None:
        for endpoint in (server.endpoints[0], server.endpoints[2]):
            edge = edge_of(server)
            edge.endpoint = endpoint
            answer = await edge.register(HOME)
            assert isinstance(answer, Registered)
            assert len(set(answer.probes)) == 2
            assert not ports or answer.probes == ports
            probe = Endpoint(endpoint.host, answer.probes[0])
            pong, source, ours = await edge.ask(Ping(b"12345678", other=True), probe)
            assert pong == Pong(b"12345678", ours)
            assert source == Endpoint(endpoint.host, answer.probes[1])
            edge.socket.close()

    settings = config(tmp_path, listen=(LOOPBACK, LOOPBACK, "127.0.0.2:0"), probe_ports=ports)
    serve(settings, test)


def test_an_observation_port_that_is_taken_is_an_error_that_names_the_option(
    tmp_path: Path,
) -> None:
    one, other = free_ports()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", other))
        with pytest.raises(ConfigError, match="--probe-ports"):
            trio.run(
                SupernodeServer(config(tmp_path, listen=(LOOPBACK,), probe_ports=(one, other))).run
            )


def free_ports() -> tuple[int, int]:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def test_a_lan_query_for_a_served_community_is_recognised(tmp_path: Path) -> None:
    nonce = bytes(range(16))

    async def test(server: SupernodeServer) -> None:
        tag = lan_query_tag(HOME.community_id, nonce)
        assert server._community_of(nonce, tag) is None
        await registered(server)
        assert server._community_of(nonce, tag) == HOME.community_id
        assert server._community_of(bytes(16), tag) is None

    serve(config(tmp_path), test)


def test_a_taken_port_is_an_error_unless_any_will_do(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        listen = (str(Endpoint(*taken.getsockname())),)

        async def test(server: SupernodeServer) -> None:
            await trio.lowlevel.checkpoint()
            assert server.endpoints[0].port != taken.getsockname()[1]

        with pytest.raises(ConfigError, match="taken by another program"):
            trio.run(SupernodeServer(config(tmp_path, listen=listen)).run)
        serve(config(tmp_path, listen=listen, may_change_port=True), test)


def test_a_second_supernode_on_the_same_state_is_refused_in_one_sentence(tmp_path: Path) -> None:
    async def test(server: SupernodeServer) -> None:
        assert server.endpoints
        with pytest.raises(StateError, match="in use by another supernode"):
            await SupernodeServer(config(tmp_path)).run()

    serve(config(tmp_path), test)


def test_a_second_supernode_on_the_same_control_socket_is_refused(tmp_path: Path) -> None:
    async def test(server: SupernodeServer) -> None:
        assert server.endpoints
        other = config(tmp_path, state_dir=tmp_path / "other", runtime_dir=tmp_path / "r")
        with pytest.raises(ConfigError, match="already running"):
            await SupernodeServer(other).run()

    serve(config(tmp_path, runtime_dir=tmp_path / "r"), test)


def test_corrupt_leases_stop_the_start_and_are_kept(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "leases.sqlite3").write_bytes(b"no database at all" * 100)
    with pytest.raises(StateError, match="corrupt-1"):
        trio.run(SupernodeServer(config(tmp_path)).run)


def test_a_full_disk_is_told_and_what_waited_is_stored_later(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "leases.sqlite3")
    keeper = LeaseKeeper(store, lambda: 100.0)
    many = {(b"h" * 32, EdgeId(n.to_bytes(16, "big"))): "10.0.0.2/22" for n in range(2000)}

    async def main() -> None:
        store._connection.execute("PRAGMA max_page_count = 4")
        keeper.note(Changes(leases=many))
        await keeper.flush()
        assert "full" in keeper.problem
        store._connection.execute("PRAGMA max_page_count = 100000")
        await keeper.flush()
        assert keeper.problem == ""

    trio.run(main)
    assert len(store.load(100).leases) == 2000
    store.close()


def test_changes_that_come_while_the_store_is_busy_go_along_in_order(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "leases.sqlite3")
    keeper = LeaseKeeper(store, lambda: 100.0)
    key = (b"h" * 32, EdgeId(b"e" * 16))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(1, 20):
                keeper.note(Changes(leases={key: f"10.0.0.{number}/22"}))
                nursery.start_soon(keeper.flush)

    trio.run(main)
    assert [record.address for record in store.load(100).leases] == ["10.0.0.19/22"]
    store.close()
