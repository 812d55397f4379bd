"""mesh.net.upnp with a device that answers as routers do; a real one is in tests/netns."""

import functools
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import trio

from mesh.addresses import Endpoint
from mesh.net.router import PortMapping
from mesh.net.upnp import UpnpRouter

T = TypeVar("T")
INSIDE = Endpoint("192.168.1.2", 7801)
Arguments = tuple[int, str, str, int, str, str, int]


class ScriptedDevice:
    """What of `miniupnpc.UPnP` is used; blocks nobody and refuses what it is told to."""

    def __init__(self, refuses: Callable[[int, int], bool] = lambda *_: False) -> None:
        self.refuses = refuses
        self.table: dict[int, tuple[str, int]] = {}
        self.external = "45.0.0.1"

    def addportmapping(self, *arguments: object) -> bool:
        port, protocol, host, inside, _name, _remote, lifetime = arguments
        assert isinstance(port, int)
        assert isinstance(lifetime, int)
        assert protocol == "UDP"
        if self.refuses(port, lifetime):
            raise Exception("ConflictInMappingEntry")  # noqa: TRY002 - as the library does
        self.table[port] = (str(host), int(str(inside)))
        return True

    def externalipaddress(self) -> str:
        return self.external

    def getspecificportmapping(self, port: int, _protocol: str) -> tuple[object, ...] | None:
        found = self.table.get(port)
        return None if found is None else (*found, "mesh-edge", True, 7200)

    def deleteportmapping(self, port: int, _protocol: str) -> bool:
        if port not in self.table:
            raise Exception("NoSuchEntryInArray")  # noqa: TRY002 - as the library does
        del self.table[port]
        return True


def ask(device: ScriptedDevice, call: Callable[[UpnpRouter], Awaitable[T]]) -> T:
    return trio.run(functools.partial(call, UpnpRouter(device, INSIDE.host)))


async def map_it(router: UpnpRouter) -> PortMapping | None:
    return await router.map(INSIDE, 7801)


def test_the_wanted_port_is_mapped() -> None:
    mapping = ask(ScriptedDevice(), map_it)
    assert mapping is not None
    assert mapping.external == Endpoint("45.0.0.1", 7801)


def test_another_port_is_tried_where_the_wanted_one_is_taken() -> None:
    device = ScriptedDevice(lambda port, _: port == 7801)
    mapping = ask(device, map_it)
    assert mapping is not None
    assert mapping.external.port != 7801
    assert device.table == {mapping.external.port: (INSIDE.host, INSIDE.port)}


def test_a_mapping_for_ever_is_taken_where_there_is_no_other() -> None:
    mapping = ask(ScriptedDevice(lambda _, lifetime: lifetime != 0), map_it)
    assert mapping is not None
    assert mapping.external.port == 7801


def test_a_router_that_refuses_all_maps_nothing() -> None:
    assert ask(ScriptedDevice(lambda *_: True), map_it) is None


@pytest.mark.parametrize("said", ["", "router", "127.0.0.1", "224.0.0.1", "::1", "0.0.0.0"])  # noqa: S104
def test_an_external_address_that_nobody_can_use_is_refused(said: str) -> None:
    device = ScriptedDevice()
    device.external = said
    assert ask(device, map_it) is None


def test_a_mapping_that_is_gone_or_of_somebody_else_is_noticed() -> None:
    device = ScriptedDevice()

    async def look(router: UpnpRouter) -> list[bool | None]:
        mapping = await router.map(INSIDE, 7801)
        assert mapping is not None
        seen = [await router.still_knows([mapping])]
        device.table[7801] = ("192.168.1.66", 7801)
        seen.append(await router.still_knows([mapping]))
        device.table.clear()
        seen.append(await router.still_knows([mapping]))
        await router.unmap(mapping)  # harmless
        return seen

    assert ask(device, look) == [True, False, False]
