"""What is computed about the TAP's networks."""

from ipaddress import IPv4Interface, IPv4Network, IPv6Interface

from mesh.cli.overlay import (
    advmss_ipv4,
    advmss_ipv6,
    clash_warning,
    networks_of,
    order_proposals,
)
from mesh.constants import (
    INNER_HEADER_BYTES,
    MIN_FRAME_BYTES,
    RELAY_HEADER_BYTES,
    TAG_BYTES,
    TRANSPORT_HEADER_BYTES,
)
from mesh.core.pmtu import likely_bytes
from mesh.net.link import LocalAddress

ROOM = (
    likely_bytes(is_ipv6=True)
    - RELAY_HEADER_BYTES
    - TRANSPORT_HEADER_BYTES
    - TAG_BYTES
    - INNER_HEADER_BYTES
    - MIN_FRAME_BYTES
)


def local(interface: str, address: IPv4Interface | IPv6Interface) -> LocalAddress:
    return LocalAddress(interface, 2, address, is_overlay=False, is_up=True, is_multicast=True)


def test_a_full_tcp_segment_fits_one_relayed_datagram() -> None:
    assert advmss_ipv4(1500) == 1340
    assert advmss_ipv6(1500) == 1320
    assert advmss_ipv4(9000) + 40 + 4 <= ROOM  # one VLAN tag included
    assert advmss_ipv6(9000) + 60 + 4 <= ROOM


def test_a_small_mtu_bounds_the_segment() -> None:
    assert advmss_ipv4(576) == 536
    assert advmss_ipv6(1280) == 1220


def test_proposals_that_clash_with_this_machine_come_last_in_their_order() -> None:
    proposals = [IPv4Network(f"10.{n}.0.0/22") for n in (20, 30, 40)]
    networks = [("eth0", IPv4Network("10.20.1.0/24")), ("vpn0", IPv4Network("10.30.0.0/16"))]
    assert order_proposals(proposals, networks) == [proposals[2], proposals[0], proposals[1]]
    assert order_proposals(proposals, []) == proposals


def test_a_clash_names_both_networks_the_interface_and_the_way_out() -> None:
    warning = clash_warning("10.20.0.7/22", [("eth0", IPv4Network("10.20.1.0/24"))])
    assert warning is not None
    for part in ("10.20.0.0/22", "10.20.1.0/24", "eth0", "--address"):
        assert part in warning


def test_no_clash_no_warning() -> None:
    networks = [("eth0", IPv4Network("192.168.1.0/24"))]
    assert clash_warning("10.20.0.7/22", networks) is None
    assert clash_warning("", networks) is None


def test_only_ipv4_networks_are_compared() -> None:
    addresses = [
        local("eth0", IPv4Interface("192.168.1.5/24")),
        local("eth0", IPv6Interface("fd00::1/64")),
    ]
    assert networks_of(addresses) == [("eth0", IPv4Network("192.168.1.0/24"))]
