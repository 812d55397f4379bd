"""The border of the engine: what a driver may hand in, and when."""

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mesh.addresses import Endpoint
from mesh.core.edge import FATAL_ERRNOS, MAC_SWEEP_INTERVAL
from mesh.engine import ReceivedDatagrams
from mesh.events import DropReason, PathChanged, PathKind
from mesh.wire.datagram import PUNCH
from mesh.wire.messages import Bye, Hello, Members, Ping, Pong
from tests.core.edge_alone import HOME, SUPERNODE, Target
from tests.core.hostile_member import HostileMember
from tests.core.scripted_supernode import ScriptedSupernode, member_of
from tests.world import ethernet

PING = Ping(token=b"12345678")
MALLORY_RELAY_ID = 77
ENETUNREACH, EAGAIN = 101, 11


def joined() -> tuple[Target, ScriptedSupernode, HostileMember]:
    """A target with a supernode and a direct path to a member; it is 1 now."""
    target = Target()
    supernode = ScriptedSupernode(target)
    supernode.take_in(0.0)
    member = HostileMember(target)
    supernode.members = (member_of(member.identity, MALLORY_RELAY_ID, HOME),)
    supernode.say(Members(supernode.members, supernode.digest(), page=0, pages=0), 1.0)
    member.say_hello(1.0)
    target.engine.handle_timers(1.0)
    sent = target.sent()
    for ping in member.read([(d, to) for d, to in sent if d[0] == 4 and to == HOME]):
        if isinstance(ping, Ping):
            member.say(Pong(ping.token, None), 1.0)
    target.sent()
    target.engine.events_to_report()
    return target, supernode, member


def path_of(target: Target, now: float = 1.0) -> str:
    [view] = target.engine.peer_views(now)
    return view["path"]["kind"]


def test_a_ping_from_port_zero_is_survived() -> None:
    target = Target()
    member = HostileMember(target)
    target.receive(member.seal(PING), Endpoint(HOME.host, 0), 1.1)
    assert target.sent() == []


def test_a_batch_from_port_zero_is_counted_and_nothing_in_it_looked_at() -> None:
    target = Target()
    member = HostileMember(target)
    target.receive(member.seal(Bye()), Endpoint(HOME.host, 0), 1.1)
    assert target.drops() == {"malformed": 1}
    assert len(target.engine.peer_views(1.1)) == 1


@pytest.mark.parametrize("segment_bytes", [0, 1, 1452])
def test_an_empty_batch_is_nothing(segment_bytes: int) -> None:
    target = Target()
    target.engine.receive_datagrams(ReceivedDatagrams(b"", segment_bytes, HOME, 0), 1.0)
    assert target.drops() == {}


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_batch_is_cut_at_its_segment_size_and_the_last_datagram_may_be_shorter(
    kind: type,
) -> None:
    target = Target()
    member = HostileMember(target)
    padded = [member.seal(Ping(bytes([n]) * 8, bytes(40))) for n in range(3)]
    short = member.seal(PING)
    buffer = b"".join([*padded, short])
    batch = ReceivedDatagrams(kind(buffer), len(padded[0]), HOME, 0)
    target.engine.receive_datagrams(batch, 1.0)
    pongs = [m for m in member.read(target.sent()) if isinstance(m, Pong)]
    assert [pong.token for pong in pongs] == [b"\0" * 8, b"\1" * 8, b"\2" * 8, PING.token]


def test_one_bad_datagram_of_a_batch_does_not_spoil_the_others() -> None:
    target = Target()
    member = HostileMember(target)
    datagrams = [bytearray(member.seal(Ping(bytes([n]) * 8))) for n in range(3)]
    datagrams[1][-1] ^= 1
    buffer = b"".join(datagrams)
    target.engine.receive_datagrams(ReceivedDatagrams(buffer, len(datagrams[0]), HOME, 0), 1.0)
    assert len([m for m in member.read(target.sent()) if isinstance(m, Pong)]) == 2
    assert target.drops() == {"not_authentic": 1}


def test_a_segment_size_of_zero_does_not_hang_or_raise() -> None:
    target = Target()
    target.engine.receive_datagrams(ReceivedDatagrams(PUNCH, 0, HOME, 0), 1.0)
    assert target.sent() == []


def test_scoped_addresses_of_the_socket_layer_are_endpoints() -> None:
    target = Target()
    member = HostileMember(target)
    source = ("fe80::1%2", 5000, 0, 2)
    datagram = member.seal(PING)
    target.engine.receive_datagrams(ReceivedDatagrams(datagram, len(datagram), source, 1), 1.0)
    [(_, destination)] = target.sent()[:1]
    assert destination == ("fe80::1%2", 5000)


@pytest.mark.parametrize("errno", sorted(FATAL_ERRNOS))
def test_a_fatal_send_error_takes_frames_off_the_path_at_once(errno: int) -> None:
    target, _, _ = joined()
    assert path_of(target) == "direct"
    target.engine.receive_send_error(0, HOME, errno, 1.1)
    assert path_of(target) == "relay"
    [changed] = target.engine.events_to_report()
    assert isinstance(changed, PathChanged)
    assert changed.kind is PathKind.RELAY
    target.engine.receive_frames(bytes(10) + ethernet(b"\xff" * 6, b"\2" * 6, b""), 1.2)
    assert {to for _, to in target.sent()} == {SUPERNODE}
    assert target.drops()["send_error"] == 1


def test_a_passing_send_error_is_only_counted() -> None:
    target, _, _ = joined()
    target.engine.receive_send_error(0, HOME, EAGAIN, 1.1)
    assert path_of(target) == "direct"
    assert target.drops() == {"send_error": 1}


def test_a_send_error_elsewhere_moves_nobody() -> None:
    target, _, _ = joined()
    target.engine.receive_send_error(0, Endpoint(HOME.host, 1), ENETUNREACH, 1.1)
    target.engine.receive_send_error(1, HOME, ENETUNREACH, 1.1)
    assert path_of(target) == "direct"


def test_a_path_that_failed_comes_back_with_a_pong() -> None:
    target, _, member = joined()
    target.engine.receive_send_error(0, HOME, ENETUNREACH, 1.1)
    while path_of(target) != "direct" and target.engine.next_timer_at() < 10.0:
        now = target.engine.next_timer_at()
        target.engine.handle_timers(now)
        for message in member.read(target.sent()):
            if isinstance(message, Ping):
                member.say(Pong(message.token, HOME), now)
    assert path_of(target) == "direct"


def test_timers_that_are_asked_too_early_do_nothing() -> None:
    target, _, _ = joined()
    due_at = target.engine.next_timer_at()
    for step in range(10):
        target.engine.handle_timers(due_at - 0.01 + step * 0.0005)
    assert target.engine.next_timer_at() == due_at
    assert target.sent() == []
    assert target.engine.events_to_report() == []


@settings(max_examples=20)
@given(st.lists(st.floats(0.0, 200.0), max_size=6))
@example([48.67882109149018, 131.0, 0.5, 28.0])  # a probe of the size is due, the session too old
def test_timers_asked_late_are_made_up_for_without_a_storm(jumps: list[float]) -> None:
    target, _, _ = joined()
    now = 1.0
    for jump in jumps:
        now += jump
        target.engine.handle_timers(now)
        assert len(target.sent()) < 60
        assert target.engine.next_timer_at() > now


def test_an_engine_that_was_told_nothing_waits_for_its_sweep_only() -> None:
    target = Target()
    assert target.engine.next_timer_at() == MAC_SWEEP_INTERVAL
    target.engine.handle_timers(MAC_SWEEP_INTERVAL)
    assert target.engine.next_timer_at() == 2 * MAC_SWEEP_INTERVAL
    assert target.engine.next_timer_at() < math.inf
    assert target.sent() == []


def test_outputs_are_handed_out_once() -> None:
    target, _, member = joined()
    member.say(PING, 1.1)
    frame = ethernet(target.config.mac, member.identity.default_mac, b"once")
    member.deliver(member.session.seal(b"\1\0\0\0" + frame), 1.1)
    assert target.sent() != []
    assert target.sent() == []
    assert len(target.engine.frames_to_write()) == 1
    assert target.engine.frames_to_write() == []


def test_what_the_driver_dropped_is_counted_with_the_rest() -> None:
    target = Target()
    target.engine.count_drop(DropReason.TAP_ERROR, 3)
    target.engine.count_drop(DropReason.TAP_ERROR)
    assert target.drops() == {"tap_error": 4}


def test_stopping_says_goodbye_to_peers_and_supernode() -> None:
    target, supernode, member = joined()
    target.engine.stop(2.0)
    sent = target.sent()
    said = member.read([(d, to) for d, to in sent if to == HOME])
    assert said == [Bye()]
    assert any(to == supernode.endpoint for _, to in sent)


def test_new_addresses_are_told_to_peers_and_old_ones_are_not_told_again() -> None:
    target, _, member = joined()
    target.engine.set_local_addresses(["192.0.2.9"], 4000, 0, 2.0)
    hellos = [m for m in member.read(_to_home(target)) if isinstance(m, Hello)]
    [hello] = hellos
    assert Endpoint("192.0.2.9", 4000) in hello.candidates
    target.engine.set_local_addresses(["192.0.2.9"], 4000, 0, 2.1)
    assert [m for m in member.read(_to_home(target)) if isinstance(m, Hello)] == []


def _to_home(target: Target) -> list[tuple[bytes, Endpoint]]:
    return [(datagram, to) for datagram, to in target.sent() if to == HOME]


@given(st.binary(max_size=300), st.integers(0, 300), st.integers(1, 65535))
def test_no_bytes_from_anywhere_raise_or_draw_more_than_three_times_their_size(
    buffer: bytes, segment_bytes: int, port: int
) -> None:
    target = Target()
    source = Endpoint("192.0.2.66", port)
    target.engine.receive_datagrams(ReceivedDatagrams(buffer, segment_bytes, source, 0), 1.0)
    assert sum(len(datagram) for datagram, _ in target.sent()) <= 3 * len(buffer)


@given(st.binary(max_size=100))
def test_no_frame_from_the_tap_raises(read: bytes) -> None:
    Target().engine.receive_frames(read, 1.0)
