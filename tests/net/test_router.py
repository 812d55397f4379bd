"""Which router is asked: never one that is public, or behind an overlay."""

from ipaddress import ip_interface

import pytest

from mesh.net.link import Gateway, LocalAddress
from mesh.net.router import choose_link


def local(address: str, index: int = 2, *, is_overlay: bool = False) -> LocalAddress:
    return LocalAddress(
        interface=f"if{index}",
        index=index,
        address=ip_interface(address),
        is_overlay=is_overlay,
        is_up=True,
        is_multicast=True,
    )


HOME = [
    local("192.168.1.2/24"),
    local("fe80::2/64"),
    local("2a0f::2/64"),
    local("2a0f::3/64"),
    local("fd00::2/64"),
]
GATEWAYS = [Gateway("192.168.1.1", 2), Gateway("fe80::1%2", 2)]


def test_the_router_at_home_is_asked_from_our_address() -> None:
    link = choose_link(GATEWAYS, HOME, (), is_ipv6=False)
    assert link is not None
    assert (link.router, link.our_hosts) == ("192.168.1.1", ("192.168.1.2",))


def test_pinholes_are_for_global_addresses() -> None:
    link = choose_link(GATEWAYS, HOME, (), is_ipv6=True)
    assert link is not None
    assert (link.router, link.our_hosts) == ("fe80::1%2", ("2a0f::2", "2a0f::3"))


@pytest.mark.parametrize("router", ["45.0.0.1", "100.64.0.1", "127.0.0.1"])
def test_a_router_without_a_private_address_is_left_alone(router: str) -> None:
    here = [local(f"{router}/24")]
    assert choose_link([Gateway(router, 2)], here, (), is_ipv6=False) is None


def test_a_provider_at_a_global_ipv6_address_is_left_alone() -> None:
    assert choose_link([Gateway("2a0f::1", 2)], HOME, (), is_ipv6=True) is None


def test_an_overlay_is_left_alone() -> None:
    tunnel = [local("10.0.0.2/24", 3, is_overlay=True)]
    assert choose_link([Gateway("10.0.0.1", 3)], tunnel, (), is_ipv6=False) is None


def test_our_own_bridge_is_left_alone() -> None:
    assert choose_link(GATEWAYS, HOME, {2}, is_ipv6=False) is None


def test_the_favourite_default_route_decides() -> None:
    gateways = [Gateway("45.0.0.1", 3), *GATEWAYS]
    assert choose_link(gateways, [*HOME, local("45.0.0.2/24", 3)], (), is_ipv6=False) is None


def test_without_an_address_beside_the_router_nobody_is_asked() -> None:
    assert choose_link(GATEWAYS, [local("10.0.0.2/24")], (), is_ipv6=False) is None
    assert choose_link([], HOME, (), is_ipv6=False) is None
