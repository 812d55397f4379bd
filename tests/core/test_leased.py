"""Which leases an edge takes, and that no supernode can put anything else on its interface."""

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.leased import is_acceptable
from mesh.wire.messages import AddressMode
from tests.core.edge_alone import PROPOSALS, edge_config

FIRST = IPv4Network(PROPOSALS[0])
AUTO = edge_config()
FIXED = edge_config(address_mode=AddressMode.FIXED, address="192.168.7.5/24")
NONE = edge_config(address_mode=AddressMode.NONE)


@pytest.mark.parametrize("proposal", PROPOSALS)
def test_a_host_address_of_any_proposal_is_taken(proposal: str) -> None:
    network = IPv4Network(proposal)
    for host in (network[1], network[2], network[-2]):
        assert is_acceptable(f"{host}/{network.prefixlen}", AUTO)


def test_the_network_and_the_broadcast_address_are_no_hosts() -> None:
    assert not is_acceptable(f"{FIRST[0]}/22", AUTO)
    assert not is_acceptable(f"{FIRST[-1]}/22", AUTO)


@pytest.mark.parametrize("prefix", [0, 1, 8, 21, 23, 30, 31, 32])
def test_a_host_of_a_proposal_with_another_prefix_is_not_taken(prefix: int) -> None:
    assert not is_acceptable(f"{FIRST[5]}/{prefix}", AUTO)


@pytest.mark.parametrize(
    "address", ["8.8.8.9/1", "8.1.2.3/8", "192.168.1.77/24", "192.168.0.1/16", "10.0.0.5/16"]
)
def test_a_lease_outside_the_communitys_own_proposals_is_not_configured(address: str) -> None:
    assert not is_acceptable(address, AUTO)


def test_no_lease_is_news_only_where_none_was_wanted() -> None:
    assert not is_acceptable("", AUTO)
    assert is_acceptable("", NONE)


def test_without_an_address_wanted_none_is_taken() -> None:
    assert not is_acceptable(f"{FIRST[5]}/22", NONE)


def test_of_a_fixed_address_only_exactly_that_one_is_taken() -> None:
    assert is_acceptable("192.168.7.5/24", FIXED)
    assert not is_acceptable("192.168.7.5/16", FIXED)
    assert not is_acceptable("192.168.7.6/24", FIXED)
    assert not is_acceptable(f"{FIRST[5]}/22", FIXED)
    assert not is_acceptable("", FIXED)


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_in_auto_mode_nothing_but_hosts_of_proposals_is_taken(host: object, prefix: int) -> None:
    networks = map(IPv4Network, PROPOSALS)
    expected = prefix == 22 and any(host in list(network.hosts()) for network in networks)
    assert is_acceptable(f"{host}/{prefix}", AUTO) == expected
