"""mesh.net.pcp against routers of our making, honest ones and others, on loopback addresses."""

import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import trio
from trio.testing import MockClock

from mesh.addresses import Endpoint
from mesh.errors import MalformedMessage
from mesh.net.pcp import PcpRouter, PmpRouter
from mesh.net.router import LEASE_LIFETIME, PortMapping
from mesh.wire.portmap import (
    PORT_MAP_PORT,
    PcpMap,
    PcpOpcode,
    PcpRequest,
    PcpResponse,
    PmpAddress,
    PmpMapped,
    PmpMapRequest,
)

T = TypeVar("T")
OURS = "127.0.0.1"
ROUTER = "127.77.0.1"  # all of 127.0.0.0/8 is this machine
STRANGER = "127.77.0.2"
INSIDE = Endpoint(OURS, 7801)
KEY = bytes(range(32))
OUTSIDE = "45.0.0.1"

Answers = Callable[[bytes], list[bytes]]


class FakeRouter:
    """Answers on port 5351 what it is told to; notes what it was asked."""

    def __init__(self, answers: Answers, stranger: Answers | None = None) -> None:
        self._answers = answers
        self._stranger = stranger
        self.asked: list[bytes] = []

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        with (
            trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as router,
            trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
        ):
            await router.bind((ROUTER, PORT_MAP_PORT))
            await stranger.bind((STRANGER, PORT_MAP_PORT))
            task_status.started()
            while True:
                request, source = await router.recvfrom(2048)
                self.asked.append(request)
                for answer in self._stranger(request) if self._stranger else []:
                    await stranger.sendto(answer, source)
                for answer in self._answers(request):
                    await router.sendto(answer, source)


def pcp(
    epoch: int = 100,
    *,
    lifetime: int = LEASE_LIFETIME,
    host: str = OUTSIDE,
    port: int = 7801,
    nonce: bytes | None = None,
    result: int = 0,
) -> Answers:
    """Answer PCP as a router would, or nearly."""

    def answer(request: bytes) -> list[bytes]:
        asked = PcpRequest.decode(request)
        if asked.map is None:
            return [PcpResponse(0, epoch).encode(PcpOpcode.ANNOUNCE)]
        granted = lifetime if asked.lifetime else 0
        said = PcpMap(nonce or asked.map.nonce, asked.map.inside, Endpoint(host, port))
        return [PcpResponse(result, epoch, granted, said).encode(PcpOpcode.MAP)]

    return answer


def pmp(epoch: int = 100, host: str = OUTSIDE, inside: int | None = None) -> Answers:
    """Answer NAT-PMP as a router would, or nearly."""

    def answer(request: bytes) -> list[bytes]:
        try:
            asked = PmpMapRequest.decode(request)
        except MalformedMessage:
            return [PmpAddress(0, epoch, host).encode()]
        port = asked.inside if inside is None else inside
        return [PmpMapped(0, epoch, port, asked.outside, asked.lifetime).encode()]

    return answer


def asking_pcp(
    fake: FakeRouter, ask: Callable[[PcpRouter], Awaitable[T]], *, key: bytes = KEY
) -> T:
    return asking(fake, lambda: PcpRouter([OURS], ROUTER, key), ask)


def asking_pmp(fake: FakeRouter, ask: Callable[[PmpRouter], Awaitable[T]]) -> T:
    return asking(fake, lambda: PmpRouter(OURS, ROUTER), ask)


Asked = TypeVar("Asked", PcpRouter, PmpRouter)


def asking(fake: FakeRouter, make: Callable[[], Asked], ask: Callable[[Asked], Awaitable[T]]) -> T:
    async def main() -> T:
        async with trio.open_nursery() as nursery:
            await nursery.start(fake.run)
            router = make()
            try:
                return await ask(router)
            finally:
                router.close()
                nursery.cancel_scope.cancel()
        raise AssertionError  # mypy cannot know that the nursery swallows nothing

    return trio.run(main, clock=MockClock(autojump_threshold=0.05))


async def map_it(router: PcpRouter | PmpRouter) -> PortMapping | None:
    return await router.map(INSIDE, 7801)


def test_pcp_maps_what_was_asked_for() -> None:
    fake = FakeRouter(pcp())
    mapping = asking_pcp(fake, map_it)
    assert mapping is not None
    assert mapping.external == Endpoint(OUTSIDE, 7801)
    assert mapping.inside == INSIDE
    [request] = [PcpRequest.decode(asked) for asked in fake.asked]
    assert (request.our_host, request.lifetime) == (OURS, LEASE_LIFETIME)


def test_nat_pmp_maps_what_was_asked_for() -> None:
    mapping = asking_pmp(FakeRouter(pmp()), map_it)
    assert mapping is not None
    assert mapping.external == Endpoint(OUTSIDE, 7801)


def test_the_nonce_survives_a_restart_and_depends_on_the_key() -> None:
    def nonce(key: bytes) -> bytes:
        fake = FakeRouter(pcp())
        asking_pcp(fake, map_it, key=key)
        wish = PcpRequest.decode(fake.asked[0]).map
        assert wish is not None
        return wish.nonce

    assert nonce(KEY) == nonce(KEY)
    assert nonce(KEY) != nonce(bytes(32))


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(pcp(nonce=bytes(12)), id="another nonce"),
        pytest.param(pcp(result=2), id="a refusal"),
        pytest.param(pcp(lifetime=0), id="no lifetime"),
        pytest.param(pcp(host="127.0.0.1"), id="loopback"),
        pytest.param(pcp(host="224.0.0.1"), id="a multicast group"),
        pytest.param(pcp(host="0.0.0.0"), id="no address"),  # noqa: S104
        pytest.param(pcp(host="2a0f::1"), id="another family"),
        pytest.param(pcp(host="169.254.0.1"), id="a link-local address"),
        pytest.param(pcp(port=0), id="no port"),
        pytest.param(lambda request: [request], id="our own request"),
        pytest.param(lambda _: [b"", b"\x02", b"\x02\x81" + bytes(1400)], id="garbage"),
        pytest.param(lambda _: [], id="silence"),
    ],
)
def test_no_mapping_comes_of_a_bad_pcp_answer(answers: Answers) -> None:
    fake = FakeRouter(answers)
    assert asking_pcp(fake, map_it) is None
    assert len(fake.asked) <= 3


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(pmp(inside=1), id="another port"),
        pytest.param(pmp(host="127.0.0.1"), id="loopback"),
        pytest.param(lambda _: [b"\0\x81\0\x02" + bytes(4)], id="a refusal"),
        pytest.param(lambda _: [b"\0\x80", b"\0\x81" + bytes(1400)], id="garbage"),
    ],
)
def test_no_mapping_comes_of_a_bad_nat_pmp_answer(answers: Answers) -> None:
    assert asking_pmp(FakeRouter(answers), map_it) is None


def test_an_answer_from_elsewhere_is_not_heard() -> None:
    fake = FakeRouter(lambda _: [], stranger=pcp())
    assert asking_pcp(fake, map_it) is None
    fake = FakeRouter(pcp(), stranger=pcp(host="45.6.6.6"))
    mapping = asking_pcp(fake, map_it)
    assert mapping is not None
    assert mapping.external.host == OUTSIDE


def test_a_century_is_not_believed() -> None:
    async def remaining(router: PcpRouter) -> float:
        mapping = await router.map(INSIDE, 7801)
        assert mapping is not None
        return mapping.expires_at - trio.current_time()

    assert asking_pcp(FakeRouter(pcp(lifetime=2**32 - 1)), remaining) <= LEASE_LIFETIME
    assert asking_pcp(FakeRouter(pcp(lifetime=1)), remaining) > 1


@pytest.mark.parametrize("protocol", ["pcp", "nat-pmp"])
def test_a_clock_that_began_anew_shows_that_the_mapping_is_lost(protocol: str) -> None:
    epoch = 1000

    def answers(request: bytes) -> list[bytes]:
        return (pcp(epoch) if protocol == "pcp" else pmp(epoch))(request)

    async def knows(router: PcpRouter | PmpRouter) -> tuple[bool | None, bool | None]:
        nonlocal epoch
        mapping = await router.map(INSIDE, 7801)
        assert mapping is not None
        before = await router.still_knows([mapping])
        epoch = 1
        return before, await router.still_knows([mapping])

    ask = asking_pcp if protocol == "pcp" else asking_pmp
    assert ask(FakeRouter(answers), knows) == (True, False)  # type: ignore[operator]


def test_a_router_that_is_gone_knows_nothing_and_is_asked_a_few_times() -> None:
    fake = FakeRouter(lambda _: [])
    assert asking_pcp(fake, lambda router: router.still_knows([])) is None
    assert len(fake.asked) == 3


def test_nobody_on_the_port_is_found_out_at_once() -> None:
    async def main() -> bool:
        router = PcpRouter([OURS], STRANGER, KEY)
        try:
            return await router.is_there()
        finally:
            router.close()

    assert not trio.run(main)
