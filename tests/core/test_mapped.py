"""Endpoints that routers forward to us, among our own candidates."""

from mesh.addresses import Endpoint
from mesh.constants import MAX_CANDIDATES
from mesh.core.local import LocalEndpoints

ADVERTISED = Endpoint("45.0.0.1", 7801)
MAPPED = Endpoint("45.0.0.2", 7802)
SEEN = Endpoint("45.0.0.2", 40000)


def test_advertised_and_mapped_endpoints_come_first() -> None:
    local = LocalEndpoints((ADVERTISED,))
    local.set_addresses(["192.168.1.2"], 7803, 0)
    assert local.set_mapped([MAPPED])
    local.set_seen(0, SEEN)
    lan = Endpoint("192.168.1.2", 7803)
    assert local.candidates == (ADVERTISED, MAPPED, lan, SEEN)


def test_the_same_mapping_again_is_no_change() -> None:
    local = LocalEndpoints(())
    assert local.set_mapped([MAPPED])
    assert not local.set_mapped([MAPPED])
    assert local.set_mapped([])
    assert local.candidates == ()


def test_what_a_router_must_not_name_is_left_out() -> None:
    local = LocalEndpoints(())
    local.set_overlays(["10.86.0.0/16"])
    named = [
        Endpoint("127.0.0.1", 1),
        Endpoint("224.0.0.1", 1),
        Endpoint("0.0.0.0", 1),  # noqa: S104
        Endpoint("10.86.1.1", 1),
        Endpoint("45.0.0.2", 0),
    ]
    assert not local.set_mapped(named)
    assert local.candidates == ()


def test_no_more_is_told_than_a_hello_holds() -> None:
    local = LocalEndpoints((ADVERTISED,))
    local.set_mapped([Endpoint("45.0.0.2", port) for port in range(1, 100)])
    assert len(local.candidates) == MAX_CANDIDATES
    assert local.candidates[0] == ADVERTISED
