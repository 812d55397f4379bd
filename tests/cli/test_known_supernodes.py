"""mesh.cli.known_supernodes: what an edge tells others of its supernodes."""

import hashlib

import pytest

from mesh.cli.invite import parse_invite
from mesh.cli.known_supernodes import KnownSupernodes
from mesh.cli.membership import Membership
from mesh.cli.supernodes import SupernodeTarget
from mesh.cli.values import HostPort, SupernodeAddress, read_way
from mesh.crypto.community import CommunityKeys
from mesh.errors import MeshError

KEYS = CommunityKeys.from_root("home", hashlib.blake2s(b"home").digest())
MEMBERSHIP = Membership(KEYS, "s3cret", was_made=False)
FIRST, SECOND = HostPort("a.example", 7777), HostPort("b.example", 7777)
LINK_LOCAL = HostPort("fe80::1%2", 7777)
KEY, OTHER_KEY = "a" * 32, "b" * 32
WAY = read_way("wss://a.example/mesh")


def known(*targets: SupernodeTarget) -> KnownSupernodes:
    return KnownSupernodes(targets, MEMBERSHIP)


def test_an_invite_names_the_primary_with_its_streams_and_then_the_others() -> None:
    supernodes = known(
        SupernodeTarget((FIRST,), KEY, "", ways=(WAY,)), SupernodeTarget((SECOND,), OTHER_KEY, "")
    )
    invite = parse_invite(supernodes.invite(0, ()))
    assert (invite.host_ports, invite.fingerprint, invite.ways) == ((FIRST,), KEY, (WAY,))
    assert invite.spares == (SupernodeAddress((SECOND,), OTHER_KEY),)
    assert invite.secret == MEMBERSHIP.secret
    assert parse_invite(supernodes.invite(1, ())).spares == (
        SupernodeAddress((FIRST,), KEY, (WAY,)),
    )


def test_ports_of_a_router_come_second() -> None:
    mapped = HostPort("203.0.113.1", 40000)
    target = SupernodeTarget((FIRST, SECOND), KEY, "")
    invite = parse_invite(known(target).invite(0, (mapped,)))
    assert invite.host_ports == (FIRST, mapped, SECOND)


def test_there_is_no_invite_before_the_key_is_known() -> None:
    supernodes = known(SupernodeTarget((FIRST,), "", ""), SupernodeTarget((SECOND,), "", ""))
    with pytest.raises(MeshError, match="no supernode has answered yet"):
        supernodes.invite(0, ())
    supernodes.fingerprints[0] = KEY
    assert parse_invite(supernodes.invite(0, ())).spares == ()


def test_a_place_that_means_nothing_elsewhere_makes_no_invite() -> None:
    supernodes = known(SupernodeTarget((LINK_LOCAL,), KEY, ""))
    with pytest.raises(MeshError, match="means nothing elsewhere"):
        supernodes.invite(0, ())
    supernodes.host_ports[0] = (FIRST,)
    assert parse_invite(supernodes.invite(0, ())).host_ports == (FIRST,)


def test_supernodes_are_named_as_the_option_takes_them() -> None:
    by_stream = SupernodeTarget((HostPort("a.example", 443),), KEY, "", ways=(WAY,), has_udp=False)
    supernodes = known(by_stream, SupernodeTarget((SECOND,), "", ""))
    assert supernodes.named() == [f"wss://a.example:443/mesh#{KEY}", "b.example:7777"]
