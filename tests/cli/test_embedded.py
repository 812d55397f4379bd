"""Where an embedded supernode is reached, by us and by others."""

import socket
from ipaddress import ip_interface

import trio

from mesh.cli.embedded import embedded_host_ports, free_port, places_for_others
from mesh.cli.values import HostPort
from mesh.constants import DEFAULT_PORT
from mesh.net.link import LocalAddress
from mesh.net.udp import open_udp


def local(address: str, *, is_overlay: bool = False, is_up: bool = True) -> LocalAddress:
    return LocalAddress("eth0", 2, ip_interface(address), is_overlay, is_up, is_multicast=True)


def test_we_reach_our_own_supernode_by_the_addresses_that_others_can_use() -> None:
    addresses = [
        local("2001:db8::5/64"),
        local("192.168.1.5/24"),
        local("fe80::5/64"),
        local("169.254.1.5/16"),
        local("10.9.0.1/24", is_overlay=True),
        local("192.168.2.5/24", is_up=False),
    ]
    assert embedded_host_ports(addresses, 7777) == (
        HostPort("192.168.1.5", 7777),
        HostPort("2001:db8::5", 7777),
    )


def test_without_a_network_loopback_has_to_do() -> None:
    assert embedded_host_ports([], 7778) == (HostPort("127.0.0.1", 7778),)


def test_an_invite_names_loopback_only_where_there_is_nothing_else() -> None:
    loopback, remote = HostPort("127.0.0.1", 1), HostPort("vpn.example", 1)
    assert places_for_others([loopback, remote]) == (remote,)
    assert places_for_others([loopback]) == (loopback,)


def test_an_invite_never_names_a_zone() -> None:
    assert places_for_others([HostPort("fe80::1%2", 1)]) == ()


def test_a_taken_port_is_passed_over() -> None:
    async def ports() -> tuple[int, int]:
        first = free_port()
        with open_udp(socket.AF_INET, "", first):
            return first, free_port()

    first, second = trio.run(ports)
    assert DEFAULT_PORT <= first < second
