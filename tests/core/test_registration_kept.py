"""A registration that stands: heartbeats, hints, lookups, renewal, loss, and how it ends."""

import pytest

from mesh import events
from mesh.addresses import Endpoint
from mesh.constants import (
    DIGEST_GRACE,
    REKEY_AFTER_TIME,
    RETURN_AFTER_SHUTDOWN,
    SUPERNODE_HEARTBEAT_INTERVAL,
    SUPERNODE_MAX_UNANSWERED,
    SUPERNODE_RETRY_INTERVAL,
)
from mesh.core.registration import Registration
from mesh.crypto.identity import Identity
from mesh.events import StreamWanted, SupernodeLost
from mesh.wire.datagram import DatagramType, encode_unknown_session
from mesh.wire.messages import (
    Bye,
    Gone,
    Leave,
    Lookup,
    Members,
    Ping,
    Pong,
    Register,
    ReplacedMessage,
    Shutdown,
)
from tests.core.edge_alone import Target, dice
from tests.core.scripted_supernode import SEEN_AS, ScriptedSupernode, member_of
from tests.virtual_network import LinkConditions, Packet, Segment
from tests.virtual_topology import Attacker
from tests.world import World

MOVED = Endpoint("198.51.100.1", 5353)
ALICE = member_of(Identity.generate(dice(80)), 9, Endpoint("203.0.113.50", 5000))
HINT = encode_unknown_session(DatagramType.TRANSPORT, bytes(12))


def connected() -> tuple[Target, ScriptedSupernode]:
    """A registered target whose first ping, if it has sent one, is answered; it is 1 now."""
    target = Target()
    supernode = ScriptedSupernode(target)
    supernode.take_in(0.0)
    run(target, supernode, 1.0)
    supernode.answer_pings(1.0)
    target.engine.events_to_report()
    return target, supernode


def current(target: Target) -> Registration:
    return target.engine._supernodes.primary


def run(target: Target, supernode: ScriptedSupernode, until: float) -> None:
    """Let time pass; nothing is answered."""
    while (now := target.engine.next_timer_at()) <= until:
        target.engine.handle_timers(now)
        supernode.collect(now)


def run_answering(target: Target, supernode: ScriptedSupernode, until: float) -> list[float]:
    """Let time pass, answering all pings at once; return when they were sent."""
    times = []
    while (now := target.engine.next_timer_at()) <= until:
        target.engine.handle_timers(now)
        supernode.collect(now)
        times += [now] * supernode.answer_pings(now)
    return times


def test_an_answered_heartbeat_comes_every_five_seconds() -> None:
    target, supernode = connected()
    assert run_answering(target, supernode, 60.0) == [
        1.0 + count * SUPERNODE_HEARTBEAT_INTERVAL for count in range(1, 12)
    ]


def test_the_round_trip_time_is_shown() -> None:
    target = Target()
    supernode = ScriptedSupernode(target)
    supernode.take_in(0.0)
    run(target, supernode, 0.0)
    assert supernode.answer_pings(0.05) == 1
    assert target.engine.edge_view(1.0)["supernode"]["rtt_ms"] == pytest.approx(50.0)


def test_a_pong_to_no_ping_of_ours_keeps_no_registration_alive() -> None:
    target, supernode = connected()
    run(target, supernode, 7.0)
    before = len(supernode.take(Ping))
    assert before
    supernode.say(Pong(b"\0" * 8, MOVED, supernode.digest()), 7.0)
    assert current(target).contact.seen_as == SEEN_AS
    run(target, supernode, 20.0)
    assert target.engine.events_to_report()


def test_five_unanswered_pings_are_a_lost_supernode_and_a_new_handshake() -> None:
    target, supernode = connected()
    run(target, supernode, 6.0 + (SUPERNODE_MAX_UNANSWERED - 1) * SUPERNODE_RETRY_INTERVAL)
    assert len(supernode.take(Ping)) == SUPERNODE_MAX_UNANSWERED
    assert target.engine.events_to_report() == [StreamWanted(0)]
    assert current(target).is_connected
    run(target, supernode, 6.0 + SUPERNODE_MAX_UNANSWERED * SUPERNODE_RETRY_INTERVAL)
    [lost] = target.engine.events_to_report()
    assert lost == SupernodeLost(0, pytest.approx(10.0))
    assert not current(target).is_connected
    assert len(supernode.initiations) == 2


def test_an_edge_that_comes_back_keeps_its_instance_and_says_it_is_not_the_first_time() -> None:
    target, supernode = connected()
    run(target, supernode, 11.0)
    target.engine.events_to_report()
    supernode.respond(11.1)
    [register] = supernode.take(Register)
    assert register.instance == target.engine._context.instance
    supernode.say(supernode.registered(), 11.2)
    assert target.engine.events_to_report() == [
        events.StreamUnwanted(0),
        events.Registered(0, "", SEEN_AS, is_first=False),
    ]


def test_a_renewal_interrupts_nothing_and_is_no_news() -> None:
    target, supernode = connected()
    old = supernode.session
    run_answering(target, supernode, REKEY_AFTER_TIME + 2.0)
    assert len(supernode.initiations) >= 2
    supernode.respond(REKEY_AFTER_TIME + 2.0)
    assert supernode.session is not old
    supernode.say(supernode.registered(), REKEY_AFTER_TIME + 2.1)
    assert current(target).contact.session.our_index == supernode.session.their_index
    assert target.engine.events_to_report() == []
    assert len(target.engine._context.indexes.sessions) == 2


def test_an_answer_under_the_old_session_does_not_finish_a_renewal() -> None:
    target, supernode = connected()
    old = supernode.session
    run_answering(target, supernode, REKEY_AFTER_TIME + 2.0)
    supernode.respond(REKEY_AFTER_TIME + 2.0)
    renewed, supernode.session = supernode.session, old
    supernode.say(supernode.registered(), REKEY_AFTER_TIME + 2.1)
    assert len(target.engine._context.indexes.sessions) == 2
    assert current(target).contact.session.their_index == old.our_index
    supernode.session = renewed
    supernode.say(supernode.registered(), REKEY_AFTER_TIME + 2.2)
    assert current(target).contact.session.their_index == renewed.our_index


def test_many_renewals_keep_no_more_than_two_sessions() -> None:
    target, supernode = connected()
    for renewal in range(1, 4):
        done = len(supernode.initiations)
        at = renewal * 125.0
        run_answering(target, supernode, at)
        assert len(supernode.initiations) > done
        supernode.respond(at)
        supernode.say(supernode.registered(), at)
    assert len(target.engine._context.indexes) == 2


def test_a_hint_makes_it_ping_at_once_and_a_second_of_silence_starts_a_handshake() -> None:
    target, supernode = connected()
    supernode.deliver(HINT, 3.0)
    supernode.collect()
    assert len(supernode.take(Ping)) == 1
    run(target, supernode, 3.9)
    assert len(supernode.initiations) == 1
    run(target, supernode, 4.0)
    assert len(supernode.initiations) == 2
    assert current(target).is_connected


def test_a_hint_that_a_pong_disproves_changes_nothing() -> None:
    target, supernode = connected()
    supernode.deliver(HINT, 3.0)
    supernode.collect()
    supernode.answer_pings(3.05)
    run_answering(target, supernode, 10.0)
    assert len(supernode.initiations) == 1


def test_one_hint_per_heartbeat_is_taken() -> None:
    target, supernode = connected()
    pings = 0
    for step in range(40):
        now = 3.0 + step / 10
        supernode.deliver(HINT, now)
        supernode.collect()
        pings += supernode.answer_pings(now)
    assert pings == 1
    supernode.deliver(HINT, 8.0)
    supernode.collect()
    assert supernode.answer_pings(8.0) == 1
    assert target.engine.events_to_report() == []


def test_a_hint_from_somewhere_else_is_not_about_the_supernode() -> None:
    _target, supernode = connected()
    supernode.deliver(HINT, 3.0, Endpoint("203.0.113.99", 7777))
    supernode.collect()
    assert supernode.take(Ping) == []


def test_a_moved_endpoint_is_taken_from_the_pong_and_counted_in_the_digest() -> None:
    target, supernode = connected()
    run(target, supernode, 6.0)
    [ping] = supernode.take(Ping)
    supernode.say(Pong(ping.token, MOVED, supernode.digest()), 6.0)
    assert target.engine.edge_view(6.0)["endpoint"] == str(MOVED)
    assert current(target).membership.lookup_at < 10.0


def test_a_digest_that_differs_for_a_second_is_looked_up() -> None:
    target, supernode = connected()
    supernode.members = (ALICE,)
    run(target, supernode, 6.0)
    supernode.answer_pings(6.0)
    run(target, supernode, 6.0 + DIGEST_GRACE - 0.1)
    assert supernode.take(Lookup) == []
    run(target, supernode, 6.0 + DIGEST_GRACE)
    assert supernode.take(Lookup) == [Lookup()]
    supernode.say(Members((ALICE,), supernode.digest(), page=0, pages=1), 7.1)
    run_answering(target, supernode, 20.0)
    assert supernode.take(Lookup) == []
    assert len(target.engine.peer_views(20.0)) == 1


def test_a_departure_is_taken_and_its_digest_compared() -> None:
    target, supernode = connected()
    supernode.members = (ALICE,)
    supernode.say(Members((ALICE,), supernode.digest(), page=0, pages=0), 2.0)
    assert list(current(target).membership.members.values()) == [ALICE]
    [peer] = target.engine._peers
    supernode.members = ()
    supernode.say(Gone(peer.edge_id, supernode.digest()), 3.0)
    assert peer.member is None
    assert current(target).membership.lookup_at == float("inf")


def test_a_ping_of_the_supernode_is_answered() -> None:
    _, supernode = connected()
    supernode.say(Ping(b"question"), 2.0)
    assert supernode.take(Pong) == [Pong(b"question", None)]


def test_a_message_that_no_supernode_sends_is_counted() -> None:
    target, supernode = connected()
    supernode.say(Bye(), 2.0)
    assert target.drops() == {"unknown_message": 1}


def test_a_replaced_edge_reports_it_and_never_registers_again() -> None:
    target, supernode = connected()
    supernode.say(ReplacedMessage(), 2.0)
    assert target.engine.events_to_report() == [events.Replaced(0)]
    supernode.messages.clear()
    run(target, supernode, 300.0)
    target.engine.set_local_addresses(["192.0.2.9"], 4000, 0, 301.0)
    run(target, supernode, 600.0)
    assert len(supernode.initiations) == 1
    assert supernode.messages == []


def test_a_session_that_was_renewed_cannot_say_that_we_were_replaced() -> None:
    target, supernode = connected()
    old = supernode.session
    run_answering(target, supernode, REKEY_AFTER_TIME + 2.0)
    supernode.respond(REKEY_AFTER_TIME + 2.0)
    supernode.say(supernode.registered(), REKEY_AFTER_TIME + 2.1)
    supernode.session = old
    supernode.say(ReplacedMessage(), REKEY_AFTER_TIME + 2.2)
    assert current(target).is_connected
    assert target.engine.events_to_report() == []


def test_after_a_shutdown_the_edge_comes_back_within_a_second_or_so() -> None:
    target, supernode = connected()
    supernode.say(Shutdown(), 2.0)
    assert not current(target).is_connected
    run(target, supernode, 2.0 + RETURN_AFTER_SHUTDOWN - 0.01)
    assert len(supernode.initiations) == 1
    run(target, supernode, 2.0 + 2 * RETURN_AFTER_SHUTDOWN)
    assert len(supernode.initiations) == 2


def test_a_session_that_was_renewed_cannot_shut_the_new_one_down() -> None:
    target, supernode = connected()
    old = supernode.session
    run_answering(target, supernode, REKEY_AFTER_TIME + 2.0)
    supernode.respond(REKEY_AFTER_TIME + 2.0)
    supernode.say(supernode.registered(), REKEY_AFTER_TIME + 2.1)
    supernode.session = old
    supernode.say(Shutdown(), REKEY_AFTER_TIME + 2.2)
    assert current(target).is_connected


def test_new_addresses_are_told_by_a_ping_at_once() -> None:
    target, supernode = connected()
    target.engine.set_local_addresses(["192.0.2.9"], 4000, 0, 2.0)
    run(target, supernode, 2.0)
    assert len(supernode.take(Ping)) == 1


def test_a_send_error_towards_the_supernode_is_verified_within_a_second() -> None:
    target, supernode = connected()
    target.engine.receive_send_error(0, supernode.endpoint, 101, 2.0)
    run(target, supernode, 3.0)
    assert len(supernode.take(Ping)) == 1


def test_leaving_says_so_once_and_ends_everything() -> None:
    target, supernode = connected()
    target.engine.stop(2.0)
    supernode.collect()
    assert supernode.take(Leave) == [Leave()]
    run(target, supernode, 50.0)
    assert len(supernode.initiations) == 1
    assert supernode.messages == []


def test_one_raced_pong_does_not_take_the_supernode_away() -> None:
    world = World(6)
    supernode = world.add_supernode()
    a, b = world.add_edges("ab", relay_only=True)
    world.run_until_all_are_joined()
    world.run_for(4)
    ours = Endpoint(a.host.addresses()[0], a.udp_port)
    raced: list[Packet] = []

    def race(_now: float, _segment: Segment, packet: Packet) -> None:
        is_transport = packet.payload[0] == DatagramType.TRANSPORT
        if not raced and (packet.source, packet.destination) == (supernode.endpoint, ours):
            if not is_transport:
                return
            raced.append(packet)
            a.driver.receive_packet(Packet(Endpoint("5.0.77.77", 99), ours, packet.payload))

    world.taps.append(race)
    world.run_for(6)
    assert raced
    frames = []
    for _ in range(20):
        frames.append(world.send_frame(b, a))
        world.run_for(0.25)
    assert all(world.count_received(a, frame) for frame in frames)


def test_forged_hints_do_not_turn_a_little_loss_into_outages() -> None:
    world = World(5)
    supernode = world.add_supernode()
    lossy = LinkConditions(latency=0.01, loss=0.03)
    a, _ = world.add_edges("ab", conditions=lossy)
    world.run_until_all_are_joined(60)
    attacker = Attacker(world)
    for _ in range(1500):
        ours = Endpoint(a.host.addresses()[0], a.udp_port)
        attacker.send(ours, HINT, spoofed_source=supernode.endpoint)
        world.run_for(0.02)
    assert not a.reported(SupernodeLost)
