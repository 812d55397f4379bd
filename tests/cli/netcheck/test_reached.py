"""What talks, routers and the machine's own addresses come to."""

from dataclasses import dataclass
from ipaddress import ip_interface

import pytest

from mesh.addresses import Endpoint
from mesh.cli.netcheck.facts import Answer, Filtering, Key, Mapping
from mesh.cli.netcheck.reached import (
    answer_of,
    is_afar,
    key_of,
    local_facts,
    nat_facts,
    router_facts,
)
from mesh.net.link import Gateway, LocalAddress
from mesh.net.router import PortMapping, RouterLink

OURS = {"192.168.1.2"}
PORT = 4000
LINK = RouterLink("192.168.1.1", ("192.168.1.2",))


@dataclass
class Talk:
    """What is read of a conversation."""

    seen_as: Endpoint | None = None
    observed: tuple[Endpoint, ...] = ()
    lets_in_strangers: bool | None = None
    rtt: float | None = None
    errno: int = 0
    fingerprint: str = ""
    is_key_right: bool | None = None


def public(port: int, host: str = "45.0.1.2") -> Endpoint:
    return Endpoint(host, port)


@pytest.mark.parametrize(
    ("talks", "mapping", "ports"),
    [
        ([], Mapping.UNKNOWN, "unknown"),
        ([Talk()], Mapping.UNKNOWN, "unknown"),
        ([Talk(public(5000))], Mapping.UNKNOWN, "unknown"),
        ([Talk(public(5000), (public(5000),))], Mapping.INDEPENDENT, "changed"),
        ([Talk(public(PORT), (public(PORT),))], Mapping.INDEPENDENT, "preserved"),
        ([Talk(public(5000)), Talk(public(5000))], Mapping.INDEPENDENT, "changed"),
        ([Talk(public(5000)), Talk(public(5001))], Mapping.DEPENDENT, "sequential"),
        ([Talk(public(5000), (public(5002), public(5003)))], Mapping.DEPENDENT, "sequential"),
        ([Talk(public(5000), (public(9000), public(40000)))], Mapping.DEPENDENT, "random"),
        ([Talk(public(5000)), Talk(public(5000, "45.0.1.3"))], Mapping.DEPENDENT, "random"),
        ([Talk(public(PORT, "192.168.1.2"))], Mapping.NONE, "preserved"),
    ],
)
def test_the_mapping_is_told_from_where_a_socket_is_seen(
    talks: list[Talk], mapping: Mapping, ports: str
) -> None:
    found = nat_facts(talks, OURS, PORT)  # type: ignore[arg-type]
    assert (found.mapping, found.ports) == (mapping, ports)


@pytest.mark.parametrize(
    ("strangers", "filtering"),
    [
        ([None], Filtering.UNKNOWN),
        ([True], Filtering.ADDRESS),
        ([False], Filtering.PORT),
        ([False, True, None], Filtering.ADDRESS),
    ],
)
def test_the_filtering_is_told_from_who_gets_in(
    strangers: list[bool | None], filtering: Filtering
) -> None:
    talks = [Talk(lets_in_strangers=one) for one in strangers]
    assert nat_facts(talks, OURS, PORT).filtering is filtering  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("talk", "answer", "key"),
    [
        (Talk(), Answer.SILENT, Key.UNKNOWN),
        (Talk(errno=101), Answer.NO_ROUTE, Key.UNKNOWN),
        (Talk(errno=1), Answer.SILENT, Key.UNKNOWN),
        (Talk(rtt=0.1, fingerprint="a"), Answer.ANSWERED, Key.NEW),
        (Talk(rtt=0.1, fingerprint="a", is_key_right=True), Answer.ANSWERED, Key.RIGHT),
        (Talk(rtt=0.1, fingerprint="a", is_key_right=False), Answer.ANSWERED, Key.WRONG),
    ],
)
def test_answers_and_keys(talk: Talk, answer: Answer, key: Key) -> None:
    assert answer_of(talk) is answer  # type: ignore[arg-type]
    assert key_of(talk) is key  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("external", "seen", "is_public"),
    [
        ("45.0.1.2", {"45.0.1.2"}, True),
        ("100.64.0.2", {"45.0.1.2"}, False),
        ("100.64.0.2", set(), False),
        ("192.168.2.7", set(), False),
        ("8.8.4.4", set(), True),
        ("8.8.4.4", {"45.0.1.2"}, False),
    ],
)
def test_a_router_is_of_use_if_the_world_reaches_it(
    external: str,
    seen: set[str],
    is_public: bool,  # noqa: FBT001
) -> None:
    mapping = PortMapping("pcp", Endpoint("192.168.1.2", PORT), Endpoint(external, PORT), 9.0)
    found = router_facts(LINK, "pcp", mapping, seen)
    assert (found.external, found.is_public) == (f"{external}:{PORT}", is_public)


def test_a_router_that_refuses_is_told_as_such() -> None:
    found = router_facts(LINK, "upnp", None, {"45.0.1.2"})
    assert (found.external, found.is_public, found.family) == ("", False, "ipv4")


def local(
    text: str, index: int = 2, *, is_overlay: bool = False, is_up: bool = True
) -> LocalAddress:
    return LocalAddress(f"if{index}", index, ip_interface(text), is_overlay, is_up, True)


def test_overlays_dead_links_and_link_local_addresses_are_left_out() -> None:
    found = local_facts(
        [
            local("192.168.1.2/24"),
            local("2a0f:1::2/64"),
            local("fe80::2/64"),
            local("10.5.0.1/22", 3, is_overlay=True),
            local("172.16.0.1/24", 4, is_up=False),
        ],
        [Gateway("192.168.1.1", 2), Gateway("fe80::1%2", 2), Gateway("10.5.0.9", 3)],
    )
    assert found.addresses == ("192.168.1.2/24", "2a0f:1::2/64")
    assert found.gateways == ("192.168.1.1", "fe80::1%2")
    assert found.has_ipv4
    assert found.has_ipv6


def test_addresses_without_a_route_are_no_internet() -> None:
    found = local_facts([local("192.168.1.2/24"), local("fd00::2/64")], [Gateway("fd00::1", 2)])
    assert not found.has_ipv4
    assert not found.has_ipv6  # a private one


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", False),
        ("::1", False),
        ("fe80::1%2", False),
        ("192.168.1.77", False),
        ("192.168.2.77", True),
        ("45.0.1.2", True),
        ("2a0f:1::7", True),
    ],
)
def test_a_supernode_beside_us_says_nothing_of_a_nat(host: str, expected: bool) -> None:  # noqa: FBT001
    assert is_afar(Endpoint(host, 7777), [local("192.168.1.2/24")]) is expected
