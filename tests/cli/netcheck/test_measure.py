"""The check on loopback: real sockets, a real supernode, and TCP ports of every kind."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from mesh.addresses import Endpoint
from mesh.cli.netcheck import measure as measuring
from mesh.cli.netcheck.facts import Answer, Key
from mesh.cli.netcheck.measure import TIME_LIMIT, measure, try_tcp
from mesh.cli.supernodes import SupernodeTarget
from mesh.cli.values import HostPort
from mesh.engine import Transport
from mesh.net.link import Gateway
from mesh.net.router import PortMapping
from mesh.net.stream_way import StreamWay
from supernode.config import SupernodeConfig
from supernode.server import SupernodeServer

LOOPBACK = "127.0.0.1"


@pytest.fixture(autouse=True)
def nothing_leaves_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_gateways() -> list[Gateway]:
        await trio.lowlevel.checkpoint()
        return []

    async def resolve(place: HostPort) -> list[Endpoint]:
        await trio.lowlevel.checkpoint()
        if not place.is_numeric:
            raise OSError(socket.EAI_NONAME, "Name or service not known")
        return [Endpoint(*place)]

    for variable in ("https_proxy", "http_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    monkeypatch.setattr(measuring, "default_gateways", no_gateways)
    monkeypatch.setattr(measuring, "resolve", resolve)


@contextmanager
def listening() -> Iterator[tuple[socket.socket, Endpoint]]:
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server, Endpoint(*server.getsockname())


def test_a_supernode_on_loopback_is_measured_and_not_joined(tmp_path: Path) -> None:
    async def scene() -> None:
        server = SupernodeServer(SupernodeConfig(tmp_path, listen=(f"{LOOPBACK}:0",)))
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            place = HostPort(LOOPBACK, server.endpoints[0].port)
            way = StreamWay(Transport.TCP, LOOPBACK, place.port)
            targets = [
                SupernodeTarget((place,), server.fingerprint, "", ways=(way,)),
                SupernodeTarget((place,), "b" * 32, "", is_kept=False),
                SupernodeTarget((HostPort("no-such-host", 1),), "", "", is_kept=False),
            ]
            with trio.fail_after(2 * TIME_LIMIT):
                facts = await measure("the test", targets)
            right, wrong = facts.supernodes
            assert right.udp is right.tcp is Answer.ANSWERED
            assert right.key is Key.RIGHT
            assert right.mtu == 1500
            assert right.seen_as.startswith(LOOPBACK)
            assert (wrong.key, wrong.fingerprint) == (Key.WRONG, server.fingerprint)
            assert wrong.seen_as == ""
            named, *guessed = facts.streams
            assert (named.way, named.answer) == (str(way), Answer.ANSWERED)
            assert [one.way.partition(":")[0] for one in guessed] == ["wss", "ws"]
            assert facts.nat.seen_as == ()  # a supernode on this machine sees no NAT
            nursery.cancel_scope.cancel()

    trio.run(scene)


def test_nobody_at_all_still_comes_to_an_end() -> None:
    facts = trio.run(measure, "the test", [])
    assert facts.supernodes == ()


def test_a_port_that_nobody_listens_on_refuses() -> None:
    with listening() as (server, endpoint):
        server.close()
        assert trio.run(try_tcp, endpoint) is Answer.REFUSED


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"mesh\x09\0\0\0"])
def test_whoever_is_no_supernode_is_only_open(says: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "PREAMBLE_PATIENCE", 0.1)

    async def scene() -> None:
        with listening() as (server, endpoint):
            async with trio.open_nursery() as nursery:

                async def answer() -> None:
                    connection, _ = await trio.to_thread.run_sync(server.accept)
                    with connection:
                        connection.sendall(says)
                        await trio.sleep(0.2)

                nursery.start_soon(answer)
                assert await try_tcp(endpoint) is Answer.OPEN

    trio.run(scene)


class SlowRouter:
    """A router that grants a mapping when asked, if it answers in time."""

    def __init__(self, protocol: str, *, answers: bool = True, refuses: bool = False) -> None:
        self.protocol = protocol
        self.given_back: list[PortMapping] = []
        self._answers, self._refuses = answers, refuses

    async def map(self, inside: Endpoint, wanted_port: int) -> PortMapping | None:
        if not self._answers:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        if self._refuses:
            return None
        return PortMapping(self.protocol, inside, Endpoint("45.0.0.1", wanted_port), 9.0)

    async def unmap(self, mapping: PortMapping) -> None:
        await trio.lowlevel.checkpoint()
        self.given_back.append(mapping)

    async def still_knows(self, _mappings: object) -> bool | None:
        await trio.lowlevel.checkpoint()
        return None

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("router", "granted", "given_back"),
    [
        (SlowRouter("pcp"), True, ["45.0.0.1"]),
        (SlowRouter("upnp"), True, ["45.0.0.1"]),
        (SlowRouter("pcp", answers=False), False, ["192.168.1.2"]),
        # Its port might be somebody else's: UPnP deletes by number.
        (SlowRouter("upnp", answers=False), False, []),
        (SlowRouter("upnp", refuses=True), False, []),
    ],
)
def test_what_a_router_granted_is_given_back(
    router: SlowRouter,
    granted: bool,  # noqa: FBT001
    given_back: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measuring, "MAPPING_PATIENCE", 0.05)
    inside = Endpoint("192.168.1.2", 4000)
    mapping = trio.run(measuring._ask_and_give_back, router, inside)
    assert (mapping is not None) is granted
    assert [one.external.host for one in router.given_back] == given_back
