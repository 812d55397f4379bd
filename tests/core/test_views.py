"""The JSON of the command line: exactly the keys that users script against."""

import json

import pytest

from mesh.addresses import Endpoint, format_mac
from mesh.constants import REJECT_AFTER_TIME
from mesh.core.frame_sender import OVERHEAD_BYTES
from mesh.core.pmtu import IPV4_HEADERS_BYTES
from mesh.core.views import milliseconds
from mesh.events import DropReason
from mesh.wire.inner import PLAIN_FRAME_HEADER
from tests.core.edge_alone import COMMUNITY, HOME, SUPERNODE, Target
from tests.core.hostile_member import HostileMember
from tests.core.joined import LEASE, Joined
from tests.core.scripted_supernode import SEEN_AS
from tests.world import ethernet

PEER_KEYS = {
    "id",
    "name",
    "mac",
    "addresses",
    "path",
    "why",
    "paths",
    "session",
    "tx_bytes",
    "rx_bytes",
    "tx_frames",
    "rx_frames",
    "last_seen_s",
}
# What `status` shows besides (tap, offload, uptime, version) is known to the program only.
SUPERNODE_KEYS = {"name", "endpoint", "connected", "rtt_ms", "transport", "is_primary"}
STATUS_KEYS = {
    "community",
    "id",
    "name",
    "mac",
    "addresses",
    "mtu",
    "supernode",
    "supernodes",
    "endpoint",
    "nat",
    "nat_detail",
    "peers",
    "drops",
}


def test_a_row_of_peers_has_exactly_the_keys_of_the_contract() -> None:
    [view] = Joined().engine.peer_views(2.0)
    assert set(view) == PEER_KEYS
    assert set(view["path"]) == {"kind", "transport", "endpoint", "rtt_ms", "mtu"}
    assert set(view["session"]) == {"established", "suite", "age_s"}
    assert json.loads(json.dumps(view)) == view


def test_a_row_of_peers_says_what_is() -> None:
    joined = Joined()
    joined.member.say_hello(2.0, name="bob", addresses=("10.1.2.3/22", "fd00::3/64"))
    [view] = joined.engine.peer_views(4.5)
    assert (view["id"], view["name"]) == (joined.member.identity.edge_id.hex(), "bob")
    assert view["mac"] == format_mac(joined.member.identity.default_mac)
    assert view["addresses"] == ["10.1.2.3/22", "fd00::3/64"]
    assert view["path"] == {
        "kind": "direct", "transport": "udp", "endpoint": str(HOME), "rtt_ms": 0.0,
        "mtu": 1500 + 18 + OVERHEAD_BYTES + IPV4_HEADERS_BYTES,
    }  # fmt: skip
    assert view["session"] == {"established": True, "suite": "25519_AESGCM_SHA256", "age_s": 3.5}
    assert view["last_seen_s"] == 2.5


def test_a_peer_without_session_or_path_has_the_same_keys() -> None:
    target = Target(no_relay=True)
    HostileMember(target)
    [view] = target.engine.peer_views(2.0)
    assert set(view) == PEER_KEYS
    assert view["path"] == {
        "kind": "none",
        "transport": "udp",
        "endpoint": "",
        "rtt_ms": None,
        "mtu": None,
    }
    assert view["session"] == {"established": False, "suite": "", "age_s": 0.0}
    assert view["last_seen_s"] is None


def test_a_session_that_may_not_seal_any_more_is_not_established() -> None:
    [view] = Joined().engine.peer_views(1.0 + REJECT_AFTER_TIME)
    assert not view["session"]["established"]


def test_status_has_exactly_the_keys_of_the_contract_joined_or_not() -> None:
    for view in (Target().engine.edge_view(1.0), Joined().engine.edge_view(1.0)):
        assert set(view) == STATUS_KEYS
        assert set(view["supernode"]) == SUPERNODE_KEYS
        assert view["supernodes"] == [view["supernode"]]
        assert json.loads(json.dumps(view)) == view


def test_status_of_a_joined_edge_says_what_is() -> None:
    joined = Joined(LEASE)
    view = joined.engine.edge_view(2.0)
    ula = str(COMMUNITY.ipv6_address(joined.target.identity.interface_id))
    assert (view["community"], view["name"], view["mtu"]) == ("home", "target", 1500)
    assert view["id"] == joined.target.identity.edge_id.hex()
    assert view["mac"] == format_mac(joined.target.config.mac)
    assert view["addresses"] == [LEASE, ula]
    assert (view["supernode"]["endpoint"], view["supernode"]["connected"]) == (str(SUPERNODE), True)
    assert view["endpoint"] == str(SEEN_AS)
    assert view["peers"] == 1


def test_status_before_joining_names_the_supernode_as_the_user_did() -> None:
    view = Target().engine.edge_view(1.0)
    assert view["supernode"] == {
        "endpoint": "supernode.example:7777", "connected": False, "rtt_ms": None,
        "transport": "udp", "name": "supernode.example:7777", "is_primary": True,
    }  # fmt: skip
    assert (view["endpoint"], view["nat"], view["peers"]) == ("", "unknown", 0)


def test_the_nat_is_one_of_the_words_of_the_contract() -> None:
    joined = Joined()
    assert joined.engine.edge_view(2.0)["nat"] in {"open", "easy", "hard", "blocked", "unknown"}
    joined.engine.set_local_addresses([SEEN_AS.host], SEEN_AS.port, 0, 2.0)
    assert joined.engine.edge_view(2.0)["nat"] == "open"


def test_drops_are_keyed_by_reason_and_only_what_was_dropped_is_shown() -> None:
    target = Target()
    assert target.engine.edge_view(1.0)["drops"] == {}
    target.engine.count_drop(DropReason.TAP_ERROR, 2)
    assert target.engine.edge_view(1.0)["drops"] == {"tap_error": 2}
    assert target.engine.edge_view(1.0)["drops"] == {"tap_error": 2}


def test_a_row_of_the_fdb_has_exactly_its_keys() -> None:
    joined = Joined()
    mac = bytes.fromhex("020000000099")
    frame = PLAIN_FRAME_HEADER + ethernet(b"\xff" * 6, mac, b"")
    joined.member.deliver(joined.member.session.seal(frame), 2.0)
    peer = joined.member.identity.edge_id.hex()
    assert joined.engine.fdb_views(2.5) == [
        {"mac": format_mac(mac), "peer": peer, "name": "member", "age_s": 0.5}
    ]


def test_peers_are_sorted_by_name() -> None:
    joined = Joined()
    other = HostileMember(joined.target, 1.0, seed=17, endpoint=Endpoint("203.0.113.19", 1))
    other.say_hello(1.1, name="aaron")
    assert [view["name"] for view in joined.engine.peer_views(2.0)] == ["aaron", "member"]


def test_a_peer_is_found_by_all_its_names() -> None:
    joined = Joined()
    joined.member.say_hello(2.0, name="Bob", addresses=("10.1.2.3/22", "fd00::A/64"))
    identity = joined.member.identity
    mac = format_mac(identity.default_mac)
    known = identity.edge_id.hex()
    for text in ("bob", "BOB", " Bob ", "10.1.2.3", "fd00::a", mac, mac.upper(), known, known[:4]):
        assert joined.engine.find_peer(text) == [identity.edge_id], text


@pytest.mark.parametrize("text", ["", "bo", "10.1.2", "10.1.2.3/22", "zzzz"])
def test_nothing_else_is_a_peer(text: str) -> None:
    joined = Joined()
    joined.member.say_hello(2.0, name="Bob", addresses=("10.1.2.3/22",))
    assert joined.engine.find_peer(text) == []
    assert joined.engine.find_peer(joined.member.identity.edge_id.hex()[:3]) == []


def test_an_empty_text_is_no_peer_though_one_has_not_told_its_name_yet() -> None:
    target = Target()
    HostileMember(target)
    assert target.engine.find_peer("") == []


def test_milliseconds_are_rounded_for_people() -> None:
    assert milliseconds(None) is None
    assert milliseconds(0.0123456789) == 12.346
