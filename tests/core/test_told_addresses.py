"""Addresses that peers merely name get so many pings, whoever and however many name them."""

import pytest

from mesh.addresses import Endpoint
from mesh.constants import (
    SHOWN_ADDRESS_BURST,
    SHOWN_ADDRESS_RATE,
    TOLD_ADDRESS_BURST,
    TOLD_ADDRESS_RATE,
)
from mesh.core.outbox import Via
from mesh.core.path import Source
from mesh.core.paths import PathTable
from mesh.core.told_addresses import LAN_FACTOR, MAX_ADDRESSES, ToldAddresses

VICTIM = "198.51.100.7"
MINUTE = 60.0


def taken(told: ToldAddresses, host: str, now: float = 0.0, *, is_lan: bool = False) -> int:
    return sum(told.take(host, now, is_lan=is_lan) for _ in range(1000))


def test_an_address_gets_its_burst_and_then_its_rate() -> None:
    told = ToldAddresses()
    assert taken(told, VICTIM) == TOLD_ADDRESS_BURST
    assert taken(told, VICTIM, 10.0) == 10 * TOLD_ADDRESS_RATE
    assert taken(told, "198.51.100.8", 10.0) == TOLD_ADDRESS_BURST


def test_private_networks_get_more() -> None:
    assert taken(ToldAddresses(), "192.168.1.2", is_lan=True) == LAN_FACTOR * TOLD_ADDRESS_BURST


def test_the_addresses_of_one_ipv6_network_share_what_they_get() -> None:
    told = ToldAddresses()
    assert taken(told, "2a0f:1:2:3::1") == TOLD_ADDRESS_BURST
    assert taken(told, "2a0f:1:2:3:ffff::") == 0
    assert taken(told, "2a0f:1:2:4::1") == TOLD_ADDRESS_BURST


def test_no_more_addresses_are_remembered_than_fit() -> None:
    told = ToldAddresses()
    for number in range(2 * MAX_ADDRESSES):
        took = told.take(f"198.18.{number >> 8}.{number & 255}", 0.0, is_lan=False)
        assert took == (number < MAX_ADDRESSES)
    assert len(told) == MAX_ADDRESSES
    # What has been pinged once is as good as new soon after, and gives way.
    assert told.take(VICTIM, 1 / TOLD_ADDRESS_RATE, is_lan=False)
    assert len(told) == 1


def test_an_address_in_use_is_not_forgotten_for_others() -> None:
    told = ToldAddresses()
    assert taken(told, VICTIM) == TOLD_ADDRESS_BURST
    for number in range(2 * MAX_ADDRESSES):
        told.take(f"198.18.{number >> 8}.{number & 255}", 1.0, is_lan=False)
    assert taken(told, VICTIM, 1.0) == TOLD_ADDRESS_RATE


def _pings_of_peers(source: Source, peers: int) -> int:
    """Have many peers name many endpoints of the victim; count the pings of a minute."""
    told, shown = ToldAddresses(), ToldAddresses(SHOWN_ADDRESS_BURST, SHOWN_ADDRESS_RATE)
    tables = [PathTable(told, shown, may_relay=True, may_be_direct=True) for _ in range(peers)]
    pings, token, now = 0, 0, 0.0
    while now < MINUTE:
        for table in tables:
            for port in range(1000, 1032):
                table.add_candidate(Via(0, Endpoint(VICTIM, port)), source, now)
            for path in table.pings_due(now):
                token += 1
                table.ping_sent(path, token.to_bytes(8), now)
                pings += path.via.endpoint.host == VICTIM
        now += 0.1
    return pings


@pytest.mark.parametrize("peers", [1, 20])
def test_many_peers_get_a_third_party_pinged_no_more_than_one_could(peers: int) -> None:
    pings = _pings_of_peers(Source.TOLD, peers)
    assert 50 < pings <= TOLD_ADDRESS_BURST + MINUTE * TOLD_ADDRESS_RATE


@pytest.mark.parametrize("source", [Source.INTRODUCED, Source.SEEN])
def test_a_lying_supernode_or_forged_sources_get_a_third_party_pinged_so_often(
    source: Source,
) -> None:
    pings = _pings_of_peers(source, 60)
    assert 1000 < pings <= SHOWN_ADDRESS_BURST + MINUTE * SHOWN_ADDRESS_RATE


def test_of_more_addresses_than_there_is_room_for_each_may_still_be_pinged() -> None:
    shown = ToldAddresses(refuses_strangers=False)
    for number in range(2 * MAX_ADDRESSES):
        assert shown.take(f"198.18.{number >> 8}.{number & 255}", 0.0, is_lan=False)
    assert len(shown) == MAX_ADDRESSES


@pytest.mark.parametrize("source", [Source.INTRODUCED, Source.SEEN])
def test_where_a_peer_was_seen_counts_apart(source: Source) -> None:
    """Else a member could keep us from another one by naming that one's address all the time."""
    told = ToldAddresses()
    taken(told, VICTIM)
    table = PathTable(told, ToldAddresses(), may_relay=True, may_be_direct=True)
    table.add_candidate(Via(0, Endpoint(VICTIM, 1)), source, 0.0)
    table.add_candidate(Via(0, Endpoint(VICTIM, 2)), Source.TOLD, 0.0)
    assert [path.via.endpoint.port for path in table.pings_due(0.0)] == [1]
