"""mesh.cli.streams: the ways to a supernode, in which order and how often they are tried."""

import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.lowlevel
import trio.testing

from mesh.addresses import Endpoint
from mesh.cli.settings import StreamSettings
from mesh.cli.streams import (
    LONGEST_PAUSE,
    STAGGER,
    WAY_TIMEOUT,
    Need,
    StreamKeeper,
    StreamOpener,
    StreamUser,
    _race,
    ways_to,
)
from mesh.cli.supernodes import SupernodeTarget
from mesh.cli.values import HostPort
from mesh.engine import Transport
from mesh.errors import ConfigError
from mesh.net.counters import DriverCounters
from mesh.net.port import PortClosed
from mesh.net.stream import StreamPort
from mesh.net.stream_opening import Opening
from mesh.net.stream_way import StreamWay, read_stream_way

PLACE = HostPort("vpn.example", 7777)
ENDPOINT = Endpoint("192.0.2.1", 7777)
TCP, WEB = StreamWay(Transport.TCP, "a", 1), StreamWay(Transport.WEBSOCKET, "a", 2, path="/mesh")


def target(**settings: object) -> SupernodeTarget:
    return SupernodeTarget((PLACE,), "", "", **settings)  # type: ignore[arg-type]


def test_what_may_be_there_is_tried_from_the_cheapest_to_the_last_resort() -> None:
    assert list(map(str, ways_to(target(), None))) == [
        "tcp://vpn.example:7777",
        "tcp://vpn.example:443",
        "wss://vpn.example:443/mesh",
        "ws://vpn.example:80/mesh",
    ]


def test_what_was_named_comes_first_and_nothing_is_guessed_where_only_it_was() -> None:
    named = read_stream_way("wss://vpn.example/other")
    assert ways_to(target(ways=(named,)), None)[0] == named
    assert ways_to(target(ways=(named,), has_udp=False), None) == (named,)


def test_one_transport_leaves_the_others_out() -> None:
    assert {way.transport for way in ways_to(target(), Transport.TCP)} == {Transport.TCP}
    assert {way.transport for way in ways_to(target(), Transport.WEBSOCKET)} == {
        Transport.WEBSOCKET
    }
    assert ways_to(target(), Transport.UDP) == ()


def test_a_supernode_of_the_lan_has_no_other_ways() -> None:
    assert ways_to(target(is_kept=False), None) == ()


def test_a_file_of_authorities_that_is_none_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tls-ca"):
        StreamOpener(StreamSettings(tls_ca=tmp_path / "missing.pem"))


class Scene:
    """A keeper with a network of its own: what each way leads to is a script."""

    def __init__(
        self, ways: dict[StreamWay, float | Exception | None], *, is_always_wanted: bool = False
    ) -> None:
        """Seconds until it is open, an error, or None: silence."""
        self.ways = ways
        self.tried: list[tuple[float, StreamWay]] = []
        self.streams: dict[int, StreamPort] = {}
        self.ends: list[socket.socket] = []
        self.given_up: list[Opening] = []
        self.used: list[tuple[int, Transport, Endpoint]] = []
        user = StreamUser(lambda: 1000 + len(self.used), self.use, self.remove, DriverCounters())
        self.keeper = StreamKeeper(
            3, "supernode x", ways, self.open_way, user, is_always_wanted=is_always_wanted
        )

    async def open_way(self, way: StreamWay) -> tuple[Opening, Endpoint]:
        self.tried.append((round(trio.current_time() - self.started_at, 3), way))
        script = self.ways[way]
        if script is None:
            await trio.sleep_forever()
        if isinstance(script, Exception):
            raise script
        await trio.sleep(script)  # type: ignore[arg-type]
        with socket.create_server(("127.0.0.1", 0)) as listening:
            ours = socket.create_connection(listening.getsockname())
            theirs, _ = listening.accept()
        ours.setblocking(False)
        self.ends += [ours, theirs]
        return Opening(ours), ENDPOINT

    def use(self, number: int, port: StreamPort, endpoint: Endpoint) -> None:
        assert number == 3
        self.streams[port.socket_id] = port
        self.used.append((port.socket_id, port.transport, endpoint))

    def remove(self, socket_id: int) -> None:
        self.streams.pop(socket_id).close()

    def run(self, script: Callable[["Scene"], Awaitable[None]]) -> None:
        async def main() -> None:
            self.started_at = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.keeper.run)
                await script(self)
                nursery.cancel_scope.cancel()

        try:
            trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
        finally:
            for end in self.ends:
                end.close()


def test_nothing_is_tried_before_it_is_wanted() -> None:
    async def script(scene: Scene) -> None:
        await trio.sleep(100)
        scene.keeper.unwant(Need.NO_ADDRESS)
        await trio.sleep(100)
        assert scene.tried == []
        scene.keeper.want(Need.NO_UDP_ANSWER)
        await trio.sleep(1)
        assert list(scene.streams) == [1000]

    Scene({TCP: 0.1}).run(script)


def test_the_next_way_is_tried_soon_and_the_first_to_open_is_used() -> None:
    async def script(scene: Scene) -> None:
        scene.keeper.want(Need.NO_UDP_ANSWER)
        await trio.sleep(2.0)
        assert scene.tried == [(0.0, TCP), (STAGGER, WEB)]
        assert scene.used == [(1000, Transport.WEBSOCKET, ENDPOINT)]
        await trio.sleep(100)
        assert len(scene.tried) == 2

    Scene({TCP: None, WEB: 0.1}).run(script)


def test_a_way_that_is_refused_makes_room_for_the_next_at_once() -> None:
    async def script(scene: Scene) -> None:
        scene.keeper.want(Need.NO_UDP_ANSWER)
        await trio.sleep(0.5)
        assert scene.tried == [(0.0, TCP), (0.0, WEB)]

    Scene({TCP: PortClosed("no"), WEB: 0.1}).run(script)


def test_ways_are_tried_again_less_and_less_often_and_the_user_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def script(scene: Scene) -> None:
        scene.keeper.want(Need.NO_UDP_ANSWER)
        await trio.sleep(120)
        moments = [moment for moment, way in scene.tried if way == TCP]
        assert moments[:5] == [0.0, 0.5, 1.5, 3.5, 7.5]
        assert len(moments) == 5 + (120 - 8) // LONGEST_PAUSE
        before = len(scene.tried)
        scene.keeper.addresses_changed(())
        await trio.sleep(0.1)
        assert len(scene.tried) == before + 2

    refused = OSError("all attempts to connect failed")
    refused.__cause__ = ExceptionGroup("x", [ConnectionRefusedError(111, "Connection refused")])
    with caplog.at_level(logging.WARNING, "mesh"):
        Scene({TCP: refused, WEB: PortClosed("TLS: self-signed certificate")}).run(script)
    [record] = caplog.records
    assert record.getMessage() == (
        "supernode x: no way leads there: tcp://a:1: Connection refused;"
        " ws://a:2/mesh: TLS: self-signed certificate; trying on"
    )


def test_a_way_that_says_nothing_is_given_up_and_tried_again() -> None:
    async def script(scene: Scene) -> None:
        scene.keeper.want(Need.NO_UDP_ANSWER)
        await trio.sleep(WAY_TIMEOUT + 5)
        assert len(scene.tried) == 2

    Scene({TCP: None}).run(script)


def test_a_stream_that_is_not_wanted_any_more_is_closed_and_another_opened_later() -> None:
    async def script(scene: Scene) -> None:
        scene.keeper.want(Need.NO_UDP_ANSWER)
        await trio.sleep(1.0)
        assert list(scene.streams) == [1000]
        scene.keeper.unwant(Need.NO_UDP_ANSWER)
        await trio.sleep(100)
        assert scene.streams == {}
        scene.keeper.want(Need.NO_UDP_ANSWER)
        await trio.sleep(1.0)
        assert list(scene.streams) == [1001]

    Scene({TCP: 0.1}).run(script)


def test_opening_is_given_up_when_udp_passes_meanwhile() -> None:
    async def script(scene: Scene) -> None:
        scene.keeper.want(Need.NO_UDP_ANSWER)
        await trio.sleep(0.3)
        scene.keeper.unwant(Need.NO_UDP_ANSWER)
        await trio.sleep(100)
        assert len(scene.tried) == 1

    Scene({TCP: 0.4, WEB: 0.1}).run(script)


def test_a_way_that_opens_as_it_is_given_up_is_closed() -> None:
    ours, theirs = socket.socketpair()

    async def main() -> None:
        async def open_way(_: StreamWay) -> tuple[Opening, Endpoint]:
            given_up.cancel()
            return Opening(ours), ENDPOINT

        with trio.CancelScope() as given_up:
            await _race([TCP], open_way, lambda _: None)

    with theirs:
        trio.run(main)
        assert ours.fileno() == -1


def test_a_stream_that_ends_while_it_is_wanted_is_replaced() -> None:
    async def script(scene: Scene) -> None:
        scene.keeper.want(Need.NO_UDP_ANSWER)
        await trio.sleep(1.0)
        scene.remove(1000)
        await trio.sleep(2.0)
        assert list(scene.streams) == [1001]

    Scene({TCP: 0.1}).run(script)


def test_the_way_that_led_there_is_the_first_to_be_tried_again() -> None:
    async def script(scene: Scene) -> None:
        scene.keeper.want(Need.NO_UDP_ANSWER)
        await trio.sleep(2.0)
        scene.remove(1000)
        await trio.sleep(0.3)
        assert [way for _, way in scene.tried] == [TCP, WEB, WEB]
        assert list(scene.streams) == [1001]

    Scene({TCP: None, WEB: 0.1}).run(script)


def test_a_stream_from_an_address_that_is_gone_is_replaced_at_once() -> None:
    async def script(scene: Scene) -> None:
        scene.keeper.want(Need.NO_UDP_ANSWER)
        await trio.sleep(1.0)
        scene.keeper.addresses_changed({scene.streams[1000].local_host, "192.0.2.9"})
        await trio.sleep(1.0)
        assert list(scene.streams) == [1000]
        scene.keeper.addresses_changed({"192.0.2.9"})
        await trio.sleep(0.5)
        assert list(scene.streams) == [1001]

    Scene({TCP: 0.1}).run(script)


def test_without_udp_there_is_always_a_stream() -> None:
    async def script(scene: Scene) -> None:
        await trio.sleep(1.0)
        scene.keeper.unwant(Need.NO_UDP_ANSWER)
        assert list(scene.streams) == [1000]
        scene.remove(1000)
        await trio.sleep(2.0)
        assert list(scene.streams) == [1001]

    Scene({TCP: 0.1}, is_always_wanted=True).run(script)


def test_a_stream_stays_while_there_is_one_need_for_it() -> None:
    async def script(scene: Scene) -> None:
        scene.keeper.want(Need.NO_ADDRESS)
        scene.keeper.want(Need.NO_UDP_ANSWER)
        await trio.sleep(1.0)
        scene.keeper.unwant(Need.NO_ADDRESS)
        await trio.sleep(1.0)
        assert list(scene.streams) == [1000]
        scene.keeper.unwant(Need.NO_UDP_ANSWER)
        assert scene.streams == {}

    Scene({TCP: 0.1}).run(script)
