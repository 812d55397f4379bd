"""A registration from the first datagram to `registered`, and what may go wrong on the way."""

import random

import pytest

from mesh import events
from mesh.addresses import Endpoint
from mesh.constants import HANDSHAKE_RETRY_INTERVALS, PROTOCOL_VERSION
from mesh.core.config import SupernodeConfig
from mesh.core.registration import REFUSED_RETRY_INTERVAL, Registration
from mesh.core.timers import Timer
from mesh.crypto.community import verify_registration
from mesh.crypto.cookie import MAC1_KEY_SUPERNODE, CookieSecret
from mesh.crypto.identity import Identity
from mesh.errors import RefusalReason
from mesh.wire.datagram import encode_version_refusal
from mesh.wire.messages import AddressMode, Lookup, Members, RefusedMessage, Register
from tests.core.edge_alone import COMMUNITY, PROPOSALS, SUPERNODE, Target, dice
from tests.core.scripted_supernode import SEEN_AS, ScriptedSupernode, member_of

LEASE = PROPOSALS[0].replace(".0/22", ".5/22")
FOREIGN = "8.8.8.9/8"
PIN = Identity.generate(dice(40)).fingerprint


def initiated(**changes: object) -> tuple[Target, ScriptedSupernode]:
    """A target that has sent its initiation at 0."""
    target = Target(**changes)
    supernode = ScriptedSupernode(target)
    target.engine.set_supernode_endpoints(0, [SUPERNODE], 0.0)
    supernode.collect()
    return target, supernode


def current(target: Target) -> Registration:
    return target.engine._supernodes.primary


def run(target: Target, supernode: ScriptedSupernode, until: float) -> list[float]:
    """Let time pass with no answers; return when something was due."""
    times = []
    while (now := target.engine.next_timer_at()) <= until:
        target.engine.handle_timers(now)
        supernode.collect(now)
        times.append(now)
    return times


def test_a_registration_is_reported_once_with_lease_and_endpoint() -> None:
    target, supernode = initiated()
    supernode.take_in(0.1, LEASE)
    assert current(target).is_connected
    seen, registered = target.engine.events_to_report()
    assert seen == events.SupernodeSeen(0, supernode.identity.fingerprint)
    assert registered == events.Registered(0, LEASE, SEEN_AS, is_first=True)


def test_register_proves_membership_for_this_session_and_asks_for_what_was_configured() -> None:
    _target, supernode = initiated(address="10.1.2.3/22", has_aes=False)
    supernode.respond(0.1)
    [register] = supernode.take(Register)
    assert isinstance(register, Register)
    assert supernode.session is not None
    hashed = supernode.session.handshake_hash
    assert verify_registration(COMMUNITY.community_id, hashed, register.signature)
    assert register.community == COMMUNITY.community_id
    assert (register.mode, register.address) == (AddressMode.AUTO, "10.1.2.3/22")
    assert (register.subnets, register.aes) == (PROPOSALS, False)
    assert register.version == PROTOCOL_VERSION


def test_a_pinned_supernode_is_not_news() -> None:
    target, supernode = initiated(supernodes=(SupernodeConfig("s:1", PIN),))
    supernode.take_in(0.1)
    reported = target.engine.events_to_report()
    assert [type(event) for event in reported] == [events.Registered]


def test_a_wrong_key_is_reported_and_ignored_and_the_right_one_still_taken() -> None:
    target, supernode = initiated(supernodes=(SupernodeConfig("s:1", PIN),))
    impostor = ScriptedSupernode(target, seed=70)
    impostor.initiations = supernode.initiations
    impostor.respond(0.1)
    assert impostor.confirmations == []
    [mismatch] = target.engine.events_to_report()
    assert mismatch == events.SupernodeKeyMismatch(0, PIN, impostor.identity.fingerprint)
    assert target.drops() == {"not_authentic": 1}
    supernode.respond(0.2)
    supernode.say(supernode.registered(), 0.3)
    assert current(target).is_connected


def test_a_key_seen_once_is_a_pin() -> None:
    target, supernode = initiated()
    supernode.respond(0.1)
    target.engine.events_to_report()
    for _ in range(6):
        now = target.engine.next_timer_at()
        run(target, supernode, now)
    impostor = ScriptedSupernode(target, seed=70)
    impostor.initiations = supernode.initiations
    impostor.respond(now)
    [mismatch] = target.engine.events_to_report()
    assert isinstance(mismatch, events.SupernodeKeyMismatch)


def test_an_initiation_without_an_answer_is_repeated_at_growing_intervals() -> None:
    target, supernode = initiated()
    now = 0.0
    for expected in (*HANDSHAKE_RETRY_INTERVALS, 3.0):
        at = target.engine._context.timers.due_at(Timer.REGISTER, 0)
        assert expected <= at - now <= expected * 1.2
        now = at
        run(target, supernode, now)
    assert len(supernode.initiations) == len(HANDSHAKE_RETRY_INTERVALS) + 2
    assert len({initiation[8:40] for initiation in supernode.initiations}) == 9


def test_a_lost_confirmation_is_made_up_for_by_the_next_one() -> None:
    target, supernode = initiated()
    supernode.respond(0.1)
    supernode.take(Register)
    run(target, supernode, target.engine.next_timer_at())
    assert len(supernode.confirmations) == 2
    assert supernode.confirmations[0] == supernode.confirmations[1]
    assert len(supernode.take(Register)) == 1
    supernode.say(supernode.registered(), 1.0)
    assert current(target).is_connected


def test_after_five_confirmations_the_handshake_starts_anew() -> None:
    target, supernode = initiated()
    supernode.respond(0.1)
    while len(supernode.initiations) == 1:
        run(target, supernode, target.engine.next_timer_at())
    assert len(supernode.confirmations) == 5
    assert len(target.engine._context.indexes) == 1


def test_a_lost_registered_is_made_up_for_and_a_second_one_changes_nothing() -> None:
    target, supernode = initiated()
    supernode.respond(0.1)
    supernode.seal(supernode.registered(LEASE))
    run(target, supernode, target.engine.next_timer_at())
    supernode.say(supernode.registered(LEASE), 1.0)
    assert current(target).is_connected
    target.engine.events_to_report()
    supernode.say(supernode.registered(FOREIGN), 1.1)
    assert target.engine._context.lease.address == LEASE
    assert target.engine.events_to_report() == []


def test_members_that_overtake_registered_are_not_lost() -> None:
    target, supernode = initiated()
    other = Identity.generate(dice(80))
    supernode.members = (member_of(other, 9, Endpoint("203.0.113.50", 5000)),)
    supernode.respond(0.1)
    supernode.say(Members(supernode.members, supernode.digest(), page=0, pages=1), 0.2)
    assert target.engine.peer_views(0.2) == []
    supernode.say(supernode.registered(), 0.3)
    assert [view["id"] for view in target.engine.peer_views(0.3)] == [other.edge_id.hex()]


def test_a_refusal_is_reported_and_asked_about_again_later() -> None:
    target, supernode = initiated()
    supernode.respond(0.1)
    target.engine.events_to_report()
    supernode.say(RefusedMessage(RefusalReason.ADDRESS_TAKEN, "by somebody"), 1.0)
    [refused] = target.engine.events_to_report()
    assert refused == events.Refused(0, RefusalReason.ADDRESS_TAKEN, "by somebody")
    assert len(target.engine._context.indexes) == 0
    assert target.engine.next_timer_at() >= 1.0 + REFUSED_RETRY_INTERVAL
    assert target.engine.next_timer_at() <= 1.0 + 1.2 * REFUSED_RETRY_INTERVAL
    run(target, supernode, target.engine.next_timer_at())
    assert len(supernode.initiations) == 2


def test_a_lease_of_a_foreign_network_is_reported_and_not_configured() -> None:
    target, supernode = initiated()
    supernode.take_in(0.1, FOREIGN)
    reported = target.engine.events_to_report()
    assert events.LeaseDistrusted(0, FOREIGN) in reported
    assert events.Registered(0, "", SEEN_AS, is_first=True) in reported
    assert target.engine._context.lease.address == ""
    assert not any("8.8.8.9" in address for address in target.engine.edge_view(1.0)["addresses"])


def test_a_lease_that_is_not_taken_still_counts_in_the_digest() -> None:
    target, supernode = initiated()
    supernode.take_in(0.1, FOREIGN)
    supernode.answer_pings(0.2, FOREIGN)
    target.engine.handle_timers(0.2)
    supernode.collect()
    supernode.answer_pings(0.3, FOREIGN)
    run(target, supernode, 4.0)
    assert supernode.take(Lookup) == []


def test_a_cookie_is_shown_by_the_next_initiation_and_drawn_once_per_retry() -> None:
    target, supernode = initiated()
    supernode.deliver(supernode.cookie_reply(0.0), 0.1)
    supernode.collect()
    assert len(supernode.initiations) == 2
    assert supernode.has_cookie(supernode.initiations[1], 0.1)
    supernode.deliver(supernode.cookie_reply(0.1), 0.2)
    supernode.collect()
    assert len(supernode.initiations) == 2
    run(target, supernode, target.engine.next_timer_at())
    assert supernode.has_cookie(supernode.initiations[2], 0.1)


def test_a_cookie_older_than_its_lifetime_is_not_shown() -> None:
    target, supernode = initiated()
    supernode.deliver(supernode.cookie_reply(0.0), 0.1)
    run(target, supernode, 400.0)
    assert supernode.initiations[-1][-16:] == bytes(16)


def test_changing_cookies_draw_no_more_than_a_few_initiations() -> None:
    target = Target()
    secret = CookieSecret(random.Random(3).randbytes)
    target.engine.set_supernode_endpoints(0, [SUPERNODE], 0.0)
    initiations = 0
    for port in range(1, 200):
        for datagram, _ in target.sent():
            initiations += 1
            claimed = Endpoint("203.0.113.50", port)
            reply = secret.reply(datagram, claimed, MAC1_KEY_SUPERNODE, 0.0)
            target.receive(reply, SUPERNODE, 0.0)
    assert initiations <= 3


def test_another_version_is_reported_and_the_attempt_goes_on() -> None:
    target, supernode = initiated()
    index = int.from_bytes(supernode.initiations[0][4:8], "big")
    supernode.deliver(encode_version_refusal(2, index), 0.1)
    assert target.engine.events_to_report() == [events.SupernodeVersion(0, 2)]
    supernode.take_in(0.2)
    assert current(target).is_connected


@pytest.mark.parametrize(("version", "off_by"), [(PROTOCOL_VERSION, 0), (2, 1)])
def test_a_version_refusal_that_makes_no_sense_is_no_news(version: int, off_by: int) -> None:
    target, supernode = initiated()
    index = int.from_bytes(supernode.initiations[0][4:8], "big") ^ off_by
    supernode.deliver(encode_version_refusal(version, index), 0.1)
    assert target.engine.events_to_report() == []
