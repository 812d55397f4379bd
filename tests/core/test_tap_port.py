"""Frames between the TAP and the peers: sizes, checksums, flooding, learning."""

import struct

import pytest

from mesh.addresses import BROADCAST_MAC, Endpoint
from mesh.constants import MAX_FRAME_BYTES
from mesh.datapath.vnet import FLAG_NEEDS_CSUM, GSO_TCPV4, GSO_UDP_L4, encode_vnet_partial
from mesh.wire.inner import PLAIN_FRAME_HEADER, encode_frame_header
from mesh.wire.messages import Member, Members, Ping, Pong
from tests.core.edge_alone import HOME, SUPERNODE
from tests.core.hostile_member import HostileMember
from tests.core.joined import MEMBER_RELAY_ID, Joined
from tests.world import ethernet

PLAIN = bytes(10)
HOST = bytes.fromhex("020000000099")
SECOND_HOME = Endpoint("203.0.113.19", 5000)


def to_member(joined: Joined, frame: bytes, header: bytes = PLAIN) -> list[bytes]:
    """Let the kernel send a frame; return what comes out at the member, inner header included."""
    joined.engine.receive_frames(header + frame, 2.0)
    return [plaintext for plaintext, _ in joined.sealed()]


def from_member(joined: Joined, frame: bytes, inner: bytes = PLAIN_FRAME_HEADER) -> None:
    joined.member.deliver(joined.member.session.seal(inner + frame), 2.0)


def test_a_frame_crosses_in_both_directions_unchanged() -> None:
    joined = Joined()
    mine, theirs = joined.target.config.mac, joined.member.identity.default_mac
    frame = ethernet(theirs, mine, b"there")
    assert to_member(joined, frame) == [PLAIN_FRAME_HEADER + frame]
    back = ethernet(mine, theirs, b"back")
    from_member(joined, back)
    assert joined.frames() == [(PLAIN, back)]


def test_a_partial_checksum_crosses_as_one_in_both_directions() -> None:
    joined = Joined()
    frame = ethernet(BROADCAST_MAC, HOST, bytes(60))
    header = encode_vnet_partial(34, 16)
    assert to_member(joined, frame, header) == [encode_frame_header(34, 16) + frame]
    from_member(joined, frame, encode_frame_header(34, 16))
    assert joined.frames() == [(header, frame)]


def test_csum_fields_without_the_flag_mean_a_complete_checksum() -> None:
    joined = Joined()
    frame = ethernet(BROADCAST_MAC, HOST, bytes(60))
    header = struct.pack("=BBHHHH", 0, 0, 0, 0, 34, 16)
    assert to_member(joined, frame, header) == [PLAIN_FRAME_HEADER + frame]


@pytest.mark.parametrize(("start", "offset"), [(13, 0), (34, 39), (34, 255), (73, 0), (65535, 0)])
def test_a_partial_checksum_outside_its_frame_is_refused_from_either_side(
    start: int, offset: int
) -> None:
    joined = Joined()
    frame = ethernet(BROADCAST_MAC, HOST, bytes(60))
    header = struct.pack("=BBHHHH", FLAG_NEEDS_CSUM, 0, 0, 0, start, offset)
    assert to_member(joined, frame, header) == []
    from_member(joined, frame, encode_frame_header(start, offset))
    assert joined.frames() == []
    assert joined.target.drops()["malformed"] == 2


@pytest.mark.parametrize("gso_type", [GSO_TCPV4, GSO_UDP_L4])
def test_a_super_frame_is_refused(gso_type: int) -> None:
    joined = Joined()
    header = struct.pack("=BBHHHH", FLAG_NEEDS_CSUM, gso_type, 54, 1400, 34, 16)
    assert to_member(joined, ethernet(BROADCAST_MAC, HOST, bytes(3000)), header) == []
    assert joined.target.drops() == {"malformed": 1}


@pytest.mark.parametrize("size", [0, 9, 10, 23])
def test_a_read_without_a_whole_frame_is_refused(size: int) -> None:
    joined = Joined()
    joined.engine.receive_frames(bytes(size), 2.0)
    assert joined.target.sent() == []
    assert joined.target.drops() == {"malformed": 1}


@pytest.mark.parametrize("mtu", [1280, 1500, 9000])
def test_frames_of_the_mtu_and_a_tag_fit_and_no_longer_ones(mtu: int) -> None:
    joined = Joined(mtu=mtu)
    longest = ethernet(BROADCAST_MAC, HOST, bytes(mtu + 4))
    pieces = to_member(joined, longest)
    assert sum(len(piece) - (4 if piece[0] == 1 else 8) for piece in pieces) == len(longest)
    assert to_member(joined, longest + b"\0") == []
    assert joined.target.drops() == {"frame_size": 1}


def test_a_peer_with_a_larger_mtu_cannot_hand_our_kernel_more_than_its_own() -> None:
    joined = Joined(mtu=1280)
    longest = ethernet(BROADCAST_MAC, HOST, bytes(1280 + 4))
    from_member(joined, longest)
    from_member(joined, longest + b"\0")
    assert [len(frame) for _, frame in joined.frames()] == [len(longest)]
    assert joined.target.drops() == {"frame_size": 1}


@pytest.mark.parametrize("size", [0, 13, MAX_FRAME_BYTES + 1])
def test_a_frame_of_no_legal_size_is_malformed(size: int) -> None:
    joined = Joined(mtu=9000)
    from_member(joined, bytes(size))
    assert joined.frames() == []
    assert joined.target.drops() == {"malformed": 1}


def joined_twice() -> tuple[Joined, HostileMember]:
    """A target with a direct path to one member, and to another one."""
    joined = Joined()
    other = HostileMember(joined.target, 1.0, seed=17, endpoint=SECOND_HOME)
    other.say_hello(1.0, name="other")
    joined.engine.handle_timers(1.0)
    for ping in other.read([each for each in joined.target.sent() if each[1] == SECOND_HOME]):
        if isinstance(ping, Ping):
            other.say(Pong(ping.token, SECOND_HOME), 1.0)
    joined.target.sent()
    return joined, other


def receivers(joined: Joined, frame: bytes, now: float = 2.0) -> list[Endpoint]:
    joined.engine.receive_frames(PLAIN + frame, now)
    return sorted(to for datagram, to in joined.target.sent() if len(datagram) > 32 + 4)


def test_a_frame_from_a_peer_goes_to_the_tap_and_to_no_other_peer() -> None:
    joined, other = joined_twice()
    from_member(joined, ethernet(BROADCAST_MAC, HOST, b"to all"))
    from_member(joined, ethernet(other.identity.default_mac, HOST, b"to the other one"))
    assert len(joined.frames()) == 2
    assert joined.target.sent() == []


def test_unknown_and_group_addresses_are_flooded_to_all_peers_with_a_session() -> None:
    joined, _ = joined_twice()
    unknown = bytes.fromhex("020000000001")
    multicast = bytes.fromhex("01005e000001")
    for destination in (unknown, multicast, BROADCAST_MAC):
        assert receivers(joined, ethernet(destination, HOST, b"")) == [SECOND_HOME, HOME]


def test_a_peer_without_a_session_gets_no_flood_and_counts_none() -> None:
    joined = Joined()
    stranger = Member(b"\x09" * 32, SECOND_HOME, 78, "", aes=True)
    members = (*joined.supernode.members, stranger)
    joined.supernode.members = members
    news = Members(members, joined.supernode.digest(), page=0, pages=0)
    joined.supernode.deliver(joined.supernode.seal(news), 1.0)
    joined.target.sent()
    assert len(joined.engine.peer_views(1.0)) == 2
    assert receivers(joined, ethernet(BROADCAST_MAC, HOST, b"")) == [HOME]
    assert joined.target.drops() == {}


def test_a_learnt_address_gets_its_frames_alone() -> None:
    joined, other = joined_twice()
    other.deliver(other.session.seal(PLAIN_FRAME_HEADER + ethernet(BROADCAST_MAC, HOST, b"")), 1.5)
    assert receivers(joined, ethernet(HOST, joined.target.config.mac, b"")) == [SECOND_HOME]


def test_an_address_that_moves_to_another_peer_is_followed() -> None:
    joined, other = joined_twice()
    frame = PLAIN_FRAME_HEADER + ethernet(BROADCAST_MAC, HOST, b"")
    other.deliver(other.session.seal(frame), 1.5)
    joined.member.deliver(joined.member.session.seal(frame), 1.6)
    assert receivers(joined, ethernet(HOST, joined.target.config.mac, b"")) == [HOME]


def test_an_address_that_moves_to_our_side_is_flooded_again() -> None:
    joined, other = joined_twice()
    frame = PLAIN_FRAME_HEADER + ethernet(BROADCAST_MAC, HOST, b"")
    other.deliver(other.session.seal(frame), 1.5)
    receivers(joined, ethernet(BROADCAST_MAC, HOST, b"we have it now"))
    assert receivers(joined, ethernet(HOST, joined.target.config.mac, b"")) == [SECOND_HOME, HOME]


def test_nobody_takes_our_own_address_or_that_of_another_peers_key() -> None:
    joined, other = joined_twice()
    mine, theirs = joined.target.config.mac, joined.member.identity.default_mac
    for stolen in (mine, theirs):
        frame = PLAIN_FRAME_HEADER + ethernet(BROADCAST_MAC, stolen, b"")
        other.deliver(other.session.seal(frame), 1.5)
    assert joined.engine.fdb_views(1.6) == []
    assert len(joined.engine.frames_to_write()) == 2


def test_group_addresses_are_never_learnt() -> None:
    joined = Joined()
    from_member(joined, ethernet(BROADCAST_MAC, BROADCAST_MAC, b""))
    assert joined.engine.fdb_views(2.0) == []


def test_without_a_relay_wanted_frames_that_came_relayed_are_dropped() -> None:
    joined = Joined(no_relay=True)
    datagram = joined.member.session.seal(PLAIN_FRAME_HEADER + ethernet(HOST, HOST, b""))
    joined.supernode.relay(datagram, MEMBER_RELAY_ID, 2.0)
    assert joined.frames() == []
    assert joined.target.drops() == {"no_path": 1}


def test_without_a_relay_wanted_frames_wait_for_a_direct_path() -> None:
    joined = Joined(no_relay=True)
    joined.engine.receive_send_error(0, HOME, 101, 1.5)
    assert SUPERNODE not in receivers(joined, ethernet(BROADCAST_MAC, HOST, b""))
    assert joined.target.drops()["no_path"] == 1


def test_frames_are_counted_per_peer_without_headers() -> None:
    joined = Joined()
    frame = ethernet(BROADCAST_MAC, HOST, bytes(100))
    to_member(joined, frame)
    to_member(joined, frame)
    from_member(joined, frame)
    [view] = joined.engine.peer_views(2.0)
    assert (view["tx_frames"], view["tx_bytes"]) == (2, 228)
    assert (view["rx_frames"], view["rx_bytes"]) == (1, 114)
