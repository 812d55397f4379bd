"""The life of mappings, in virtual time, with a router that does what a test says."""

from collections.abc import Awaitable, Callable, Iterable

import trio
from trio.testing import MockClock

from mesh.addresses import Endpoint
from mesh.net.port_keeper import (
    CHECK_INTERVAL,
    CHECKS_MISSED,
    FAREWELL_TIMEOUT,
    LONGEST_PAUSE,
    SHORTEST_PAUSE,
    PortKeeper,
)
from mesh.net.router import LEASE_LIFETIME, PortMapping, Router, RouterLink

HOME = RouterLink("192.168.1.1", ("192.168.1.2",))
CAFE = RouterLink("10.0.0.1", ("10.0.0.9",))
PORT = 7801
EXTERNAL_PORT = 40001  # somebody else had ours


class ScriptedRouter:
    """Grants, forgets, refuses or is silent as it is told.

    Attributes:
        wanted: the ports that were wished for, in order.
        table: what is mapped.
    """

    def __init__(self, protocol: str = "pcp") -> None:
        self.protocol = protocol
        self.wanted: list[int] = []
        self.table: set[Endpoint] = set()
        self.refuses = False
        self.answers: bool | None = True
        self.hangs_at_the_end = False
        self.opened = 0

    async def map(self, inside: Endpoint, wanted_port: int) -> PortMapping | None:
        await trio.lowlevel.checkpoint()
        self.wanted.append(wanted_port)
        if self.refuses:
            return None
        self.table.add(inside)
        external = Endpoint("45.0.0.1", EXTERNAL_PORT)
        return PortMapping(self.protocol, inside, external, trio.current_time() + LEASE_LIFETIME)

    async def unmap(self, mapping: PortMapping) -> None:
        if self.hangs_at_the_end:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        self.table.discard(mapping.inside)

    async def still_knows(self, mappings: Iterable[PortMapping]) -> bool | None:
        await trio.lowlevel.checkpoint()
        if self.answers is None:
            return None
        return self.answers and {one.inside for one in mappings} <= self.table

    def close(self) -> None:
        self.opened -= 1


class House:
    """A keeper and what it is told of the world."""

    def __init__(self, *routers: ScriptedRouter) -> None:
        self.link: RouterLink | None = HOME
        self.routers = routers
        self.searches = 0
        self.told: list[int] = []
        self.keeper = PortKeeper([PORT], self._link, self._search, self._tell)

    async def _link(self) -> RouterLink | None:
        await trio.lowlevel.checkpoint()
        return self.link

    async def _search(self, _link: RouterLink) -> list[Router]:
        await trio.lowlevel.checkpoint()
        self.searches += 1
        for router in self.routers:
            router.opened += 1
        return list(self.routers)

    def _tell(self) -> None:
        self.told.append(len(self.keeper.mappings))

    def live(self, story: Callable[[], Awaitable[None]]) -> None:
        """Run the keeper while ``story`` happens, then end it."""

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.keeper.run)
                await trio.sleep(1.0)
                await story()
                nursery.cancel_scope.cancel()

        trio.run(main, clock=MockClock(autojump_threshold=0))
        assert all(router.opened == 0 for router in self.routers), "a router was not closed"


def test_a_port_is_mapped_and_given_back_at_the_end() -> None:
    router = ScriptedRouter()
    house = House(router)

    async def story() -> None:
        await trio.lowlevel.checkpoint()
        assert router.table == {Endpoint("192.168.1.2", PORT)}
        assert [one.external.port for one in house.keeper.mappings] == [EXTERNAL_PORT]

    house.live(story)
    assert router.table == set()
    assert house.told == [1], "nobody is to be told at the end"


def test_it_is_renewed_at_half_of_its_lifetime_with_the_port_it_had() -> None:
    router = ScriptedRouter()

    async def story() -> None:
        await trio.sleep(LEASE_LIFETIME / 2 - 2 * CHECK_INTERVAL)
        assert router.wanted == [PORT]
        await trio.sleep(3 * CHECK_INTERVAL)
        assert router.wanted == [PORT, EXTERNAL_PORT]

    House(router).live(story)


def test_a_router_that_forgot_is_asked_again_at_its_next_check() -> None:
    router = ScriptedRouter()
    house = House(router)

    async def story() -> None:
        router.table.clear()
        await trio.sleep(CHECK_INTERVAL)
        assert router.table
        router.table.clear()
        house.keeper.wake()  # its announcement
        await trio.sleep(0.1)
        assert router.table

    house.live(story)
    assert house.searches == 1


def test_the_second_best_protocol_is_used_where_the_best_refuses() -> None:
    best, second = ScriptedRouter("pcp"), ScriptedRouter("upnp")
    best.refuses = True
    house = House(best, second)

    async def story() -> None:
        await trio.lowlevel.checkpoint()
        assert [one.protocol for one in house.keeper.mappings] == ["upnp"]

    house.live(story)
    assert second.table == set()


def test_a_silent_router_is_given_up_after_a_while_and_looked_for_again() -> None:
    router = ScriptedRouter()
    house = House(router)

    async def story() -> None:
        router.answers = None
        await trio.sleep(CHECK_INTERVAL + (CHECKS_MISSED - 2) * SHORTEST_PAUSE)
        assert house.keeper.mappings
        await trio.sleep(SHORTEST_PAUSE)
        assert house.told[-1] == 0
        router.answers = True
        await trio.sleep(SHORTEST_PAUSE)
        assert house.keeper.mappings

    house.live(story)
    assert house.searches == 2


def test_another_network_means_another_mapping() -> None:
    router = ScriptedRouter()
    house = House(router)

    async def story() -> None:
        house.link = CAFE
        house.keeper.wake()
        await trio.sleep(SHORTEST_PAUSE + 1.0)
        assert [one.inside.host for one in house.keeper.mappings] == ["10.0.0.9"]

    house.live(story)


def test_without_a_router_it_is_looked_for_ever_more_rarely_and_at_once_when_woken() -> None:
    house = House()

    async def story() -> None:
        await trio.sleep(24 * 3600)
        assert house.searches < 24 * 3600 / LONGEST_PAUSE + 10
        before = house.searches
        house.keeper.wake()
        await trio.sleep(0.1)
        assert house.searches == before + 1

    house.live(story)


def test_a_router_that_hangs_delays_the_end_by_no_more_than_a_second() -> None:
    router = ScriptedRouter()
    router.hangs_at_the_end = True
    house = House(router)
    began_at = ended_at = 0.0

    async def main() -> None:
        nonlocal began_at, ended_at
        async with trio.open_nursery() as nursery:
            nursery.start_soon(house.keeper.run)
            await trio.sleep(1.0)
            began_at = trio.current_time()
            nursery.cancel_scope.cancel()
        ended_at = trio.current_time()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert ended_at - began_at <= FAREWELL_TIMEOUT
