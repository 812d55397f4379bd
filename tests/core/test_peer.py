"""One remote edge: hellos, goodbyes, pieces, and what a hostile one must not get out of us."""

import pytest

from mesh.addresses import Endpoint
from mesh.constants import BASE_DATAGRAM_BYTES, REJECT_AFTER_TIME
from mesh.core.timers import Timer
from mesh.events import PathChanged, PathKind, PeerDown, PeerUp, ProbeAnswered
from mesh.wire.datagram import DatagramType
from mesh.wire.inner import wrap_control
from mesh.wire.messages import Bye, Hello, Ping, Pong, encode_message
from tests.core.edge_alone import HOME, Target, of_type
from tests.core.hostile_member import HostileMember
from tests.virtual_network import Packet
from tests.world import World, ethernet

PING = Ping(token=b"12345678")
BYSTANDER = "198.51.100.7"


def up() -> tuple[Target, HostileMember]:
    """A target that has a session and a direct path to the member."""
    target = Target()
    member = HostileMember(target)
    member.say_hello(1.0)
    target.engine.handle_timers(1.0)
    for ping in member.read(target.sent()):
        if isinstance(ping, Ping):
            member.say(Pong(ping.token, None), 1.02)
    target.sent()
    return target, member


def test_a_peer_is_up_with_its_first_hello_and_only_once() -> None:
    target = Target()
    member = HostileMember(target)
    member.say(PING, 1.0)
    assert target.engine.events_to_report() == []
    member.say_hello(1.1, name="bob")
    member.say_hello(1.2, name="bob")
    assert target.engine.events_to_report() == [PeerUp(member.identity.edge_id, "bob")]


def test_a_hello_is_answered_only_where_it_asks_for_an_answer() -> None:
    target, member = up()
    member.say_hello(2.0, answer=False)
    assert not any(isinstance(m, Hello) for m in member.read(target.sent()))
    member.say_hello(2.1, answer=True)
    [ours] = [m for m in member.read(target.sent()) if isinstance(m, Hello)]
    assert not ours.answer
    assert (ours.name, ours.mac) == ("target", target.config.mac)


def test_a_path_is_reported_when_a_pong_has_validated_it() -> None:
    target, member = up()
    changed = [e for e in target.engine.events_to_report() if isinstance(e, PathChanged)]
    [direct] = changed
    assert (direct.peer, direct.kind, direct.endpoint) == (
        member.identity.edge_id, PathKind.DIRECT, HOME,
    )  # fmt: skip
    assert direct.rtt == pytest.approx(0.02)


def test_a_probe_that_was_asked_for_is_answered_by_an_event_once() -> None:
    target, member = up()
    target.engine.events_to_report()
    assert target.engine.probe(member.identity.edge_id, b"asked-fo", 2.0)
    assert Ping(b"asked-fo") in member.read(target.sent())
    member.say(Pong(b"asked-fo", None), 2.03)
    member.say(Pong(b"asked-fo", None), 2.04)
    [answer] = [e for e in target.engine.events_to_report() if isinstance(e, ProbeAnswered)]
    assert (answer.token, answer.kind, answer.endpoint) == (b"asked-fo", PathKind.DIRECT, HOME)
    assert answer.rtt == pytest.approx(0.03)


def test_without_a_path_there_is_nothing_to_probe() -> None:
    target = Target()
    member = HostileMember(target)
    assert not target.engine.probe(member.identity.edge_id, b"asked-fo", 2.0)
    target.sent()


def test_what_the_control_socket_asks_for_is_remembered_up_to_a_cap() -> None:
    target, member = up()
    for number in range(1000):
        target.engine.probe(member.identity.edge_id, number.to_bytes(8, "big"), 2.0)
    peer = target.engine._peers.get(member.identity.edge_id)
    assert peer is not None
    assert len(peer._asked_tokens) <= 64
    assert all(len(path.outstanding) <= 64 for path in peer.paths.paths())


@pytest.mark.parametrize("payload_bytes", [0, 46, 1134, 1138, 1139, 1150, 1151, 1500])
def test_a_frame_of_any_size_arrives_and_no_datagram_is_longer_than_allowed(
    payload_bytes: int,
) -> None:
    target, member = up()
    frame = ethernet(b"\xff" * 6, target.config.mac, bytes(payload_bytes))
    target.engine.receive_frames(bytes(10) + frame, 2.0)
    datagrams = of_type(DatagramType.TRANSPORT, target.sent())
    assert all(len(datagram) <= BASE_DATAGRAM_BYTES for datagram in datagrams)
    inner = [member.session.open_untrusted(datagram) for datagram in datagrams]
    kinds = {plain[0] for plain in inner if plain[0] != 3}
    if kinds == {1}:
        [plain] = inner
        assert plain[4:] == frame
    else:
        assert kinds == {2}
        assert b"".join(plain[8:] for plain in inner) == frame
        assert len(frame) > BASE_DATAGRAM_BYTES - 36 - 12


def test_nothing_is_sealed_under_a_session_that_has_expired() -> None:
    target, member = up()
    frame = bytes(10) + ethernet(b"\xff" * 6, target.config.mac, b"late")
    sealed = member.session.highest_counter
    target.engine.receive_frames(frame, 1.0 + REJECT_AFTER_TIME)
    assert of_type(DatagramType.TRANSPORT, target.sent()) == []
    assert target.drops()["no_session"] == 1
    assert member.session.highest_counter == sealed


def test_a_frame_that_finds_no_session_any_more_starts_a_handshake() -> None:
    target, member = up()
    late = 1.0 + REJECT_AFTER_TIME
    target.engine.receive_frames(bytes(10) + ethernet(b"\xff" * 6, target.config.mac, b""), late)
    timers = target.engine._context.timers
    assert timers.due_at(Timer.HANDSHAKE, member.identity.edge_id) == late


def test_a_goodbye_takes_the_peer_away_and_all_that_was_learnt_from_it() -> None:
    target, member = up()
    frame = b"\1\0\0\0" + ethernet(target.config.mac, member.identity.default_mac, b"")
    member.deliver(member.session.seal(frame), 2.0)
    assert len(target.engine.fdb_views(2.0)) == 1
    target.engine.events_to_report()
    member.say(Bye(), 2.1)
    assert target.engine.events_to_report() == [PeerDown(member.identity.edge_id, "hostile")]
    assert target.engine.fdb_views(2.1) == []
    assert target.engine.peer_views(2.1) == []
    assert len(target.engine._context.indexes.sessions) == 0


def test_candidates_of_a_hello_make_no_reflector_of_us() -> None:
    target = Target()
    member = HostileMember(target)
    target.receive(member.seal(PING), HOME, 1.0)
    target.sent()
    invented = tuple(Endpoint(BYSTANDER, port) for port in range(1000, 1032))
    hello = Hello("m", member.identity.default_mac, (), invented, 1500, answer=False)
    received = reflected = 0
    for step in range(200):
        now = 1.0 + step / 10
        if step % 21 == 0:
            datagram = member.seal(hello)
            received += len(datagram)
            target.receive(datagram, HOME, now)
        target.engine.handle_timers(now)
        reflected += sum(len(d) for d, to in target.sent() if to.host == BYSTANDER)
    assert reflected <= 6 * received


def test_a_goodbye_of_an_earlier_life_says_nothing_about_this_one() -> None:
    world = World(6)
    world.add_supernode()
    a, b = world.add_edges("ab")
    world.run_until_all_are_joined()
    world.run_for(4)
    session = b.engine._peers.get(a.edge_id).sessions.current
    goodbye = session.seal(wrap_control(encode_message(Bye())))
    b.crash()
    world.run_for(0.2)
    b.restart(udp_port=b.udp_port)
    world.run_for(8)
    ours = Endpoint(a.host.addresses()[0], a.udp_port)
    downs = len(a.reported(PeerDown))
    a.driver.receive_packet(Packet(Endpoint("5.0.9.9", 1), ours, goodbye))
    world.run_for(1)
    assert len(a.reported(PeerDown)) == downs


def test_a_goodbye_counts_at_once_when_both_sides_have_initiated() -> None:
    world = World(1)
    world.add_supernode()
    a, b = world.add_edges("ab")
    world.run_until_all_are_joined()
    world.run_for(4)
    for edge, other in ((a, b), (b, a)):
        peer = edge.engine._peers.get(other.edge_id)
        edge.driver.step(peer._start_handshake)
    world.run_for(1)
    b.stop()
    world.run_for(1)
    assert a.reported(PeerDown)
