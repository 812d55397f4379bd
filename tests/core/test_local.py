"""Our own candidates, the overlay filter and the verdict on the NAT."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.addresses import Endpoint
from mesh.constants import MAX_CANDIDATES
from mesh.core.local import OBSERVATIONS, LocalEndpoints

SEEN = Endpoint("198.51.100.1", 4242)
OTHER_PORT = Endpoint("198.51.100.1", 4243)


def behind_nat() -> LocalEndpoints:
    local = LocalEndpoints(())
    local.set_addresses(["192.168.1.5"], 4000, 4001)
    local.set_seen(0, SEEN)
    return local


def test_each_family_gets_the_port_of_its_socket() -> None:
    local = LocalEndpoints(())
    local.set_addresses(["192.0.2.5", "2001:db8::5"], 4000, 4001)
    assert local.candidates == (Endpoint("192.0.2.5", 4000), Endpoint("2001:db8::5", 4001))


def test_a_family_without_a_socket_has_no_candidates() -> None:
    local = LocalEndpoints(())
    local.set_addresses(["192.0.2.5", "2001:db8::5"], 4000, 0)
    assert local.candidates == (Endpoint("192.0.2.5", 4000),)


UNUSABLE = (
    "127.0.0.1",
    "::1",
    "0.0.0.0",  # noqa: S104 - nothing is bound
    "224.0.0.1",
    "ff02::1",
    "fe80::1%2",
    "240.0.0.1",
)


@pytest.mark.parametrize("address", UNUSABLE)
def test_addresses_that_mean_nothing_elsewhere_are_not_told(address: str) -> None:
    local = LocalEndpoints(())
    local.set_addresses([address], 4000, 4001)
    assert local.candidates == ()


def test_advertised_candidates_come_first_and_what_the_supernode_saw_last() -> None:
    advertised = Endpoint("203.0.113.77", 7000)
    local = LocalEndpoints((advertised,))
    local.set_addresses(["192.168.1.5"], 4000, 0)
    local.set_seen(0, SEEN)
    assert local.candidates == (advertised, Endpoint("192.168.1.5", 4000), SEEN)


def test_nothing_is_told_twice() -> None:
    local = LocalEndpoints((SEEN,))
    local.set_addresses([SEEN.host], SEEN.port, 0)
    local.set_seen(0, SEEN)
    assert local.candidates == (SEEN,)


def test_no_more_candidates_are_told_than_a_hello_holds_and_advertised_ones_stay() -> None:
    advertised = Endpoint("203.0.113.77", 7000)
    local = LocalEndpoints((advertised,))
    local.set_addresses([f"192.0.2.{host}" for host in range(1, 100)], 4000, 0)
    assert len(local.candidates) == MAX_CANDIDATES
    assert local.candidates[0] == advertised


def test_only_a_change_is_reported_as_one() -> None:
    local = LocalEndpoints(())
    assert local.set_addresses(["192.0.2.5"], 4000, 0)
    assert not local.set_addresses(["192.0.2.5"], 4000, 0)
    assert not local.set_addresses(["192.0.2.5", "fe80::1%2"], 4000, 4001)
    assert local.set_addresses(["192.0.2.5"], 4009, 0)
    assert local.set_addresses([], 4009, 0)


def test_addresses_of_an_overlay_are_never_candidates() -> None:
    local = LocalEndpoints(())
    local.set_overlays(["10.20.0.7/22", "fd00:1::/64"])
    assert not local.may_be_candidate(Endpoint("10.20.3.254", 1))
    assert not local.may_be_candidate(Endpoint("fd00:1::9", 1))
    assert not local.may_be_candidate(Endpoint("fd00:1::9%3", 1))
    assert local.may_be_candidate(Endpoint("10.20.4.1", 1))
    assert local.may_be_candidate(Endpoint("fd00:2::9", 1))


def test_overlays_that_are_gone_are_no_obstacle() -> None:
    local = LocalEndpoints(())
    local.set_overlays(["10.20.0.0/22"])
    local.set_overlays([])
    assert local.may_be_candidate(Endpoint("10.20.3.254", 1))


@given(st.ip_addresses())
def test_without_overlays_everything_may_be_tried(address: object) -> None:
    assert LocalEndpoints(()).may_be_candidate(Endpoint(str(address), 1))


def test_the_nat_is_unknown_before_a_supernode_and_a_peer_have_seen_us() -> None:
    local = LocalEndpoints(())
    assert local.nat == "unknown"
    local.observe(SEEN)
    assert local.nat == "unknown"
    assert behind_nat().nat == "unknown"


def test_an_address_of_our_own_is_seen_where_there_is_no_nat() -> None:
    local = behind_nat()
    local.set_addresses([SEEN.host], SEEN.port, 0)
    assert local.nat == "open"


def test_a_mapping_that_is_the_same_towards_everybody_is_easy() -> None:
    local = behind_nat()
    local.observe(SEEN)
    assert local.nat == "easy"


def test_a_mapping_that_depends_on_the_destination_is_hard() -> None:
    local = behind_nat()
    local.observe(SEEN)
    local.observe(OTHER_PORT)
    assert local.nat == "hard"


def test_what_peers_of_our_own_lan_see_says_nothing_about_the_nat() -> None:
    local = behind_nat()
    local.observe(Endpoint("192.168.1.5", 4000))
    local.observe(Endpoint("2001:db8::5", 4000))
    assert local.nat == "unknown"


def test_a_nat_that_was_replaced_is_judged_by_what_was_seen_lately() -> None:
    local = behind_nat()
    local.observe(OTHER_PORT)
    for _ in range(OBSERVATIONS - 1):
        local.observe(SEEN)
    assert local.nat == "hard"
    local.observe(SEEN)
    assert local.nat == "easy"


def test_link_local_addresses_are_inside_an_overlay_only_on_its_interface() -> None:
    local = LocalEndpoints(())
    local.set_overlays(["fe80::/64%5", "10.1.0.0/22"])
    assert local.may_be_candidate(Endpoint("fe80::1%4", 7801))
    assert not local.may_be_candidate(Endpoint("fe80::1%5", 7801))
    assert not local.may_be_candidate(Endpoint("fe80::1", 7801))
    assert not local.may_be_candidate(Endpoint("10.1.2.3", 7801))
