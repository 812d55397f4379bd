"""Two handshake machines talk to each other directly: retries, cookies, crossing, lifetimes."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.addresses import Endpoint
from mesh.constants import (
    HANDSHAKE_RETRY_INTERVALS,
    HANDSHAKE_RETRY_JITTER,
    REJECT_AFTER_TIME,
    REKEY_AFTER_TIME,
    REKEY_RESPONDER_GRACE,
)
from mesh.core.handshakes import EAGER_ATTEMPTS, GIVE_UP_INTERVAL, PeerHandshake
from mesh.core.outbox import Via
from mesh.core.timers import Timer
from mesh.crypto.cookie import CookieSecret, mac1_key_peer
from mesh.crypto.handshake import PeerInitiation
from mesh.crypto.session import Session
from mesh.crypto.suite import Suite
from mesh.errors import NotAuthentic
from mesh.wire.datagram import DatagramType
from mesh.wire.messages import Ping
from tests.core.edge_alone import COMMUNITY, Target, dice, edge_context, of_type, split
from tests.core.hostile_member import HostileMember

VIA = Via(0, Endpoint("203.0.113.9", 5000))
OTHER_VIA = Via(0, Endpoint("203.0.113.1", 7777), 9)
SOURCE = Endpoint("198.51.100.1", 4242)


class Side:
    """One of the two, with an engine's shared state of its own."""

    def __init__(self, seed: int, their_seed: int, *, epoch: int = 1, has_aes: bool = True) -> None:
        self.context = edge_context(seed, epoch=epoch, has_aes=has_aes)
        self.identity = self.context.config.identity
        theirs = edge_context(their_seed).config.identity
        self.their_id = theirs.edge_id
        self.handshake = PeerHandshake(theirs.public_key, theirs.edge_id, self.context, "owner")

    def start(self, now: float = 0.0, *, peer_has_aes: bool = True) -> bytes:
        """Start a handshake; return the initiation."""
        self.handshake.start([VIA], now, peer_has_aes=peer_has_aes)
        [initiation] = of_type(DatagramType.PEER_INITIATION, split(self.context.outbox.take()))
        return initiation

    def answer(self, initiation: bytes, now: float = 0.0) -> bytes:
        """Return the response to an initiation of the other side."""
        received = PeerInitiation.receive_untrusted(initiation, self.identity, COMMUNITY)
        return self.handshake.respond(received, now)

    def retry_at(self) -> float:
        return self.context.timers.due_at(Timer.HANDSHAKE, self.their_id)

    def rekey_at(self) -> float:
        return self.context.timers.due_at(Timer.REKEY, self.their_id)

    @property
    def current(self) -> Session:
        current = self.handshake.sessions.current
        assert current is not None
        return current


def two_sides() -> tuple[Side, Side]:
    return Side(1, 2), Side(2, 1)


def shake(initiator: Side, responder: Side, now: float = 0.0) -> None:
    """Go through a whole handshake, the confirming datagram included."""
    response = responder.answer(initiator.start(now), now)
    assert initiator.handshake.receive_response_untrusted(response, now)
    deliver(initiator.current.seal(b"first"), responder, now)


def deliver(datagram: bytes, side: Side, now: float = 0.0) -> bytes:
    """Open a datagram under whichever session of the side it is for."""
    session, owner = side.context.indexes.sessions[int.from_bytes(datagram[4:8], "big")]
    assert owner == "owner"
    plaintext = session.open_untrusted(datagram)
    if session is side.handshake.sessions.next:
        side.handshake.confirm_next(now)
    return plaintext


def test_both_sides_end_with_the_same_session() -> None:
    a, b = two_sides()
    shake(a, b)
    assert a.current.handshake_hash == b.current.handshake_hash
    assert (a.current.is_initiator, b.current.is_initiator) == (True, False)
    assert deliver(b.current.seal(b"back"), a) == b"back"


def test_the_responder_seals_nothing_before_something_has_opened() -> None:
    a, b = two_sides()
    response = b.answer(a.start())
    assert b.handshake.sessions.current is None
    assert b.handshake.sessions.next is not None
    a.handshake.receive_response_untrusted(response, 0.0)
    deliver(a.current.seal(b"first"), b)
    assert b.current is not None


def test_what_drew_no_answer_is_retried_at_the_times_of_the_specification() -> None:
    a, _ = two_sides()
    a.start(0.0)
    now = 0.0
    for expected in (*HANDSHAKE_RETRY_INTERVALS, 3.0, 3.0):
        interval = a.retry_at() - now
        assert expected <= interval <= expected * (1 + HANDSHAKE_RETRY_JITTER)
        now = a.retry_at()
        a.handshake.count_failure()
        a.handshake.start([VIA], now, peer_has_aes=True)


def test_after_many_attempts_a_silent_member_is_bothered_seldom() -> None:
    a, _ = two_sides()
    now = 0.0
    a.start(now)
    times = [now]
    for _ in range(EAGER_ATTEMPTS + 3):
        now = a.retry_at()
        times.append(now)
        a.handshake.count_failure()
        a.handshake.start([VIA], now, peer_has_aes=True)
    intervals = [b - a for a, b in itertools.pairwise(times)]
    assert all(interval <= 3.0 * 1.2 for interval in intervals[: EAGER_ATTEMPTS + 1])
    assert all(interval >= GIVE_UP_INTERVAL for interval in intervals[EAGER_ATTEMPTS + 1 :])


def test_every_attempt_has_a_fresh_key_index_and_number_and_only_the_last_one_waits() -> None:
    a, b = two_sides()
    first = a.start()
    a.handshake.count_failure()
    a.handshake.start([VIA], 1.0, peer_has_aes=True)
    [second] = of_type(DatagramType.PEER_INITIATION, split(a.context.outbox.take()))
    assert first[4:8] != second[4:8]
    assert first[8:40] != second[8:40]
    numbers = [
        PeerInitiation.receive_untrusted(each, b.identity, COMMUNITY).number
        for each in (first, second)
    ]
    assert numbers == [(1 << 32) + 1, (1 << 32) + 2]
    assert list(a.context.indexes.waiting) == [int.from_bytes(second[4:8], "big")]


def test_the_answer_to_an_attempt_that_was_given_up_is_not_taken() -> None:
    a, b = two_sides()
    response = b.answer(a.start())
    a.start(1.0)
    with pytest.raises(NotAuthentic):
        a.handshake.receive_response_untrusted(response, 1.0)
    assert a.handshake.is_under_way
    assert a.handshake.sessions.current is None


def test_one_initiation_leaves_by_all_ways_and_one_answer_to_it_counts() -> None:
    a, b = two_sides()
    a.handshake.start([VIA, OTHER_VIA], 0.0, peer_has_aes=True)
    sent = split(a.context.outbox.take())
    assert len(sent) == 2
    assert sent[1][0].endswith(sent[0][0])
    answers = [b.answer(sent[0][0]), b.answer(sent[0][0])]
    assert a.handshake.receive_response_untrusted(answers[0], 0.0)
    assert not a.handshake.receive_response_untrusted(answers[1], 0.0)


def test_without_a_way_nothing_is_sent_and_it_is_tried_again() -> None:
    a, _ = two_sides()
    a.handshake.start([], 5.0, peer_has_aes=True)
    assert a.context.outbox.take() == []
    assert not a.handshake.is_under_way
    assert 5.0 < a.retry_at() <= 5.6


@pytest.mark.parametrize(
    ("ours", "theirs", "suite"),
    [
        (True, True, Suite.AESGCM_SHA256),
        (True, False, Suite.CHACHAPOLY_BLAKE2S),
        (False, True, Suite.CHACHAPOLY_BLAKE2S),
    ],
)
def test_aes_is_used_only_where_both_have_it(*, ours: bool, theirs: bool, suite: Suite) -> None:
    a = Side(1, 2, has_aes=ours)
    assert a.start(peer_has_aes=theirs)[2] == suite


def test_a_wish_for_a_handshake_never_delays_one() -> None:
    a, _ = two_sides()
    a.handshake.want(3.0)
    a.handshake.want(5.0)
    assert a.retry_at() == 3.0
    a.handshake.want(1.0)
    assert a.retry_at() == 1.0


def test_a_wish_does_not_hurry_an_initiation_that_waits() -> None:
    a, _ = two_sides()
    a.start(0.0)
    before = a.retry_at()
    a.handshake.want(0.0)
    assert a.retry_at() == before


def cookie_reply(initiation: bytes, responder: Side, secret: CookieSecret) -> bytes:
    k1 = mac1_key_peer(COMMUNITY, responder.identity.public_key)
    return secret.reply(initiation, SOURCE, k1, 0.0)


def test_the_next_initiation_shows_the_cookie() -> None:
    a, b = two_sides()
    secret = CookieSecret(dice(9))
    assert a.handshake.receive_cookie_untrusted(cookie_reply(a.start(), b, secret))
    assert secret.has_valid_mac2(a.start(), SOURCE, 0.0)


def test_cookies_draw_one_initiation_per_retry() -> None:
    a, b = two_sides()
    secret = CookieSecret(dice(9))
    assert a.handshake.receive_cookie_untrusted(cookie_reply(a.start(), b, secret))
    assert not a.handshake.receive_cookie_untrusted(cookie_reply(a.start(), b, secret))
    a.handshake.count_failure()
    a.handshake.start([VIA], 1.0, peer_has_aes=True)
    [third] = of_type(DatagramType.PEER_INITIATION, split(a.context.outbox.take()))
    assert a.handshake.receive_cookie_untrusted(cookie_reply(third, b, secret))


def test_a_cookie_for_another_initiation_changes_nothing() -> None:
    a, b = two_sides()
    secret = CookieSecret(dice(9))
    stale = cookie_reply(a.start(), b, secret)
    a.start()
    with pytest.raises(NotAuthentic):
        a.handshake.receive_cookie_untrusted(stale)
    assert not secret.has_valid_mac2(a.start(), SOURCE, 0.0)


def test_a_cookie_that_nobody_waits_for_is_ignored() -> None:
    a, b = two_sides()
    reply = cookie_reply(a.start(), b, CookieSecret(dice(9)))
    a.handshake.abandon()
    assert not a.handshake.receive_cookie_untrusted(reply)


def test_a_cookie_older_than_its_lifetime_is_not_shown() -> None:
    a, b = two_sides()
    secret = CookieSecret(dice(9))
    a.handshake.receive_cookie_untrusted(cookie_reply(a.start(), b, secret))
    assert a.start(500.0)[-16:] == bytes(16)


def test_handshakes_that_cross_leave_both_sides_with_a_session_that_the_other_opens() -> None:
    a, b = two_sides()
    from_a, from_b = a.start(), b.start()
    to_a, to_b = b.answer(from_a), a.answer(from_b)
    assert a.handshake.receive_response_untrusted(to_a, 0.1)
    assert b.handshake.receive_response_untrusted(to_b, 0.1)
    crossing = a.current.seal(b"from a"), b.current.seal(b"from b")
    assert deliver(crossing[0], b, 0.2) == b"from a"
    assert deliver(crossing[1], a, 0.2) == b"from b"
    assert deliver(a.current.seal(b"again"), b, 0.3) == b"again"
    assert deliver(b.current.seal(b"again"), a, 0.3) == b"again"


def test_their_handshake_that_came_through_first_ends_ours() -> None:
    a, b = two_sides()
    a.start()
    response = a.answer(b.start())
    b.handshake.receive_response_untrusted(response, 0.0)
    deliver(b.current.seal(b"first"), a)
    assert not a.handshake.is_under_way
    assert a.context.indexes.waiting == {}
    assert a.retry_at() == float("inf")


class Exchange:
    """Two sides and the datagrams of handshakes that fly between them."""

    def __init__(self) -> None:
        self.sides = {"a": Side(1, 2), "b": Side(2, 1)}
        self.flying: list[tuple[str, bytes]] = []

    def deliver_next(self) -> None:
        """Let what was sent first arrive, and what it brings about be sent."""
        sender, datagram = self.flying.pop(0)
        receiver = "b" if sender == "a" else "a"
        side = self.sides[receiver]
        if datagram[0] == DatagramType.PEER_INITIATION:
            self.flying.append((receiver, side.answer(datagram)))
        elif int.from_bytes(datagram[8:12], "big") in side.context.indexes.waiting:
            side.handshake.receive_response_untrusted(datagram, 0.0)
            deliver(side.current.seal(b"confirmed"), self.sides[sender])

    def talk(self) -> None:
        """Let each side that can seal something send it, and the other open it."""
        a, b = self.sides.values()
        for side, other in ((a, b), (b, a)):
            if side.handshake.sessions.current is not None:
                assert deliver(side.current.seal(b"data"), other) == b"data"


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["a", "b", "lose", "deliver", "deliver", "talk"]), max_size=40))
def test_in_any_order_of_events_what_is_sealed_opens(steps: list[str]) -> None:
    exchange = Exchange()
    for step in steps:
        if step in exchange.sides:
            exchange.flying.append((step, exchange.sides[step].start()))
        elif step == "talk":
            exchange.talk()
        elif exchange.flying and step == "lose":
            del exchange.flying[0]
        elif exchange.flying:
            exchange.deliver_next()
        for side in exchange.sides.values():
            ours = {session.our_index for session in side.handshake.sessions}
            assert set(side.context.indexes.sessions) == ours
            assert len(side.context.indexes.waiting) <= 1


def test_the_initiator_renews_a_session_first_and_the_responder_if_it_does_not() -> None:
    a, b = two_sides()
    shake(a, b, 10.0)
    assert a.rekey_at() == 10.0 + REKEY_AFTER_TIME
    assert b.rekey_at() == 10.0 + REKEY_AFTER_TIME + REKEY_RESPONDER_GRACE
    assert a.handshake.wants_rekey(a.rekey_at())
    assert not b.handshake.wants_rekey(a.rekey_at())
    assert b.handshake.wants_rekey(b.rekey_at())


def test_a_rekey_that_is_late_is_looked_at_again() -> None:
    a, b = two_sides()
    shake(a, b, 10.0)
    a.handshake.set_rekey_timer(140.0)
    assert a.rekey_at() == 140.0 + REKEY_RESPONDER_GRACE


def test_expired_sessions_give_their_indexes_back() -> None:
    a, b = two_sides()
    shake(a, b, 10.0)
    shake(a, b, 100.0)
    assert len(a.context.indexes) == 2
    a.handshake.drop_expired(10.0 + REJECT_AFTER_TIME)
    assert list(a.context.indexes.sessions) == [a.current.our_index]
    a.handshake.drop_expired(100.0 + REJECT_AFTER_TIME)
    assert len(a.context.indexes) == 0
    assert a.handshake.wants_rekey(300.0)


def test_a_peer_that_is_closed_keeps_no_index() -> None:
    a, b = two_sides()
    for at in range(4):
        shake(a, b, float(at))
        shake(b, a, at + 0.5)
    a.start(9.0)
    a.answer(b.start(9.0))
    a.handshake.close()
    assert len(a.context.indexes) == 0


def test_a_new_epoch_is_a_restart_of_the_peer_and_a_new_number_is_not() -> None:
    a, b = two_sides()
    shake(a, b)
    b.handshake.has_restarted = False
    b.answer(a.start())
    assert not b.handshake.has_restarted
    b.answer(Side(1, 2, epoch=2).start())
    assert b.handshake.has_restarted


def test_a_restart_is_noticed_though_the_first_answer_to_it_was_lost() -> None:
    target = Target()
    member = HostileMember(target)
    member.say(Ping(b"12345678"), 1.0)
    for attempt in (1, 2):
        member.initiate(2.0 + attempt, number=(1 << 32) + attempt)
    peer = target.engine._peers.get(member.identity.edge_id)
    assert peer is not None
    assert peer._handshake.has_restarted
