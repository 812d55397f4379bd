"""What becomes of a datagram, by its type; and that everything wrong is counted under its name."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.addresses import Endpoint
from mesh.constants import EDGE_LOAD_INITIATIONS_PER_SECOND, PROTOCOL_VERSION, REJECT_AFTER_TIME
from mesh.core.reception import HINTS_PER_SECOND
from mesh.crypto.cookie import add_macs, mac1_key_peer, open_cookie_reply_untrusted
from mesh.crypto.handshake import PeerInitiator
from mesh.crypto.identity import Identity
from mesh.crypto.session import Session
from mesh.crypto.suite import Suite
from mesh.wire.datagram import (
    EXACT_LENGTHS,
    PUNCH,
    DatagramType,
    decode_unknown_session,
    decode_version_refusal,
    encode_relay_header,
    encode_unknown_session,
    encode_version_refusal,
)
from mesh.wire.inner import encode_fragment_header, wrap_control
from mesh.wire.messages import Lookup, Ping, Pong, encode_message
from tests.core.edge_alone import COMMUNITY, HOME, SUPERNODE, Target, dice, of_type
from tests.core.hostile_member import HostileMember
from tests.core.joined import MEMBER_RELAY_ID, Joined
from tests.core.scripted_supernode import OUR_RELAY_ID, ScriptedSupernode

STRANGER = Endpoint("192.0.2.66", 6666)
PING = Ping(b"12345678")
UNKNOWN_TRANSPORT = bytes([4, 0, 0, 0]) + bytes(range(1, 13)) + bytes(16)


def drops_after(joined: Joined, datagram: bytes, source: Endpoint = STRANGER) -> dict[str, int]:
    """Return what a datagram adds to the drops; it must draw no answer but a hint."""
    joined.target.receive(datagram, source, 2.0)
    answers = [each for each, _ in joined.target.sent()]
    assert all(each[0] == DatagramType.UNKNOWN_SESSION for each in answers)
    return joined.target.drops()


def changed_at(datagram: bytes, at: int) -> bytes:
    changed = bytearray(datagram)
    changed[at] ^= 1
    return bytes(changed)


# Envelopes


def test_a_relayed_ping_is_answered_by_the_relay() -> None:
    joined = Joined()
    joined.supernode.relay(joined.member.seal(PING), MEMBER_RELAY_ID, 2.0)
    [(envelope, destination)] = joined.target.sent()
    assert destination == SUPERNODE
    assert envelope[:12] == encode_relay_header(OUR_RELAY_ID, MEMBER_RELAY_ID)
    [pong] = joined.member.read([(envelope[12:], destination)])
    assert pong == Pong(PING.token, None)


@pytest.mark.parametrize("source", [STRANGER, HOME, Endpoint(SUPERNODE.host, 7778)])
def test_an_envelope_counts_only_from_our_supernode(source: Endpoint) -> None:
    joined = Joined()
    envelope = encode_relay_header(MEMBER_RELAY_ID, OUR_RELAY_ID) + joined.member.seal(PING)
    assert drops_after(joined, envelope, source) == {"unknown_sender": 1}


def test_an_envelope_for_another_relay_id_is_not_for_us() -> None:
    joined = Joined()
    envelope = encode_relay_header(MEMBER_RELAY_ID, OUR_RELAY_ID + 1) + joined.member.seal(PING)
    assert drops_after(joined, envelope, SUPERNODE) == {"unknown_sender": 1}


def test_without_a_registration_there_are_no_envelopes() -> None:
    target = Target()
    member = HostileMember(target)
    target.receive(encode_relay_header(9, 8) + member.seal(PING), SUPERNODE, 1.0)
    assert target.drops() == {"unknown_sender": 1}
    assert target.sent() == []


@pytest.mark.parametrize(
    "inner",
    [
        encode_relay_header(MEMBER_RELAY_ID, OUR_RELAY_ID) + UNKNOWN_TRANSPORT,
        PUNCH,
        bytes([DatagramType.SUPERNODE_RESPONSE]) + bytes(107),
        bytes([DatagramType.TRANSPORT]) + bytes(30),
        bytes([DatagramType.TRANSPORT, 1]) + bytes(40),
    ],
)
def test_an_envelope_holds_only_what_it_may(inner: bytes) -> None:
    joined = Joined()
    envelope = encode_relay_header(MEMBER_RELAY_ID, OUR_RELAY_ID) + inner
    assert drops_after(joined, envelope, SUPERNODE) == {"malformed": 1}


def test_what_the_supernode_seals_does_not_count_inside_an_envelope() -> None:
    joined = Joined()
    joined.supernode.relay(joined.supernode.seal(PING), MEMBER_RELAY_ID, 2.0)
    assert joined.target.sent() == []


# Reasons


def test_every_wrong_datagram_is_counted_under_its_reason() -> None:
    joined = Joined()
    valid = joined.member.seal(PING)
    cases = [
        (b"\xc8" + bytes(20), "unknown_type"),
        (bytes([DatagramType.LAN_QUERY, 1]) + bytes(62), "unknown_type"),
        (bytes([DatagramType.SUPERNODE_INITIATION, 1, 1]) + bytes(69), "unknown_type"),
        (valid[:31], "malformed"),
        (changed_at(valid, 1), "malformed"),
        (changed_at(valid, 20), "not_authentic"),
        (changed_at(valid, 15), "not_authentic"),
        (UNKNOWN_TRANSPORT, "unknown_session"),
        (bytes([DatagramType.PEER_RESPONSE, 1, 1]) + bytes(57), "unknown_session"),
        (bytes([DatagramType.SUPERNODE_RESPONSE, 1, 1]) + bytes(105), "unknown_session"),
        (bytes([DatagramType.COOKIE_REPLY]) + bytes(47), "unknown_session"),
        (changed_at(joined.member.initiation(9).datagram, 120), "not_authentic"),
        (joined.member.initiation(1).datagram, "replayed"),
        (bytes([DatagramType.UNKNOWN_SESSION, 9]) + bytes(14), "malformed"),
    ]
    expected: dict[str, int] = {}
    for datagram, reason in cases:
        expected[reason] = expected.get(reason, 0) + 1
        assert drops_after(joined, datagram) == expected, (datagram[:1], reason)


def test_what_verifies_and_makes_no_sense_is_counted_under_its_reason() -> None:
    joined = Joined()
    cases = [
        (b"", "malformed"),
        (b"\x01\0\0\0short", "malformed"),
        (b"\x09\0\0\0" + bytes(60), "malformed"),
        (encode_fragment_header(1, 3, 2, 0, 0) + b"piece", "malformed"),
        (wrap_control(b"\xc1"), "malformed"),
        (wrap_control(b"\x81\xa1m\xa3new"), "unknown_message"),
        (wrap_control(b"\x81\xa1m\xa6lookup"), "unknown_message"),
    ]
    expected: dict[str, int] = {}
    for plaintext, reason in cases:
        expected[reason] = expected.get(reason, 0) + 1
        sealed = joined.member.session.seal(plaintext)
        assert drops_after(joined, sealed, HOME) == expected, plaintext


def test_a_replayed_datagram_is_counted_and_not_answered_again() -> None:
    joined = Joined()
    ping = joined.member.seal(PING)
    joined.target.receive(ping, HOME, 2.0)
    assert len(joined.said()) == 1
    assert drops_after(joined, ping, HOME) == {"replayed": 1}


def test_a_pong_that_answers_nothing_is_counted() -> None:
    joined = Joined()
    assert drops_after(joined, joined.member.seal(Pong(b"nothing!", HOME)), HOME) == {"replayed": 1}


def test_a_message_for_supernodes_from_a_peer_is_no_business_of_ours() -> None:
    joined = Joined()
    assert drops_after(joined, joined.member.seal(Lookup()), HOME) == {"unknown_message": 1}


def test_nothing_opens_under_a_session_that_has_expired() -> None:
    joined = Joined()
    joined.target.receive(joined.member.seal(PING), HOME, 1.0 + REJECT_AFTER_TIME)
    assert joined.target.drops() == {"expired_session": 1}
    assert joined.target.sent() == []


def test_a_punch_is_silence() -> None:
    joined = Joined()
    assert drops_after(joined, PUNCH) == {}


# Hints


def test_a_hint_repeats_index_and_counter_and_goes_to_whoever_sent() -> None:
    target = Target()
    target.receive(UNKNOWN_TRANSPORT, STRANGER, 1.0)
    [(hint, destination)] = target.sent()
    assert destination == STRANGER
    assert decode_unknown_session(hint) == (DatagramType.TRANSPORT, bytes(range(1, 13)))


def test_hints_have_a_rate() -> None:
    target = Target()
    for at in (1.0, 1.0, 2.0):
        for _ in range(50):
            target.receive(UNKNOWN_TRANSPORT, STRANGER, at)
    assert len(target.sent()) == 2 * HINTS_PER_SECOND
    assert target.drops() == {"unknown_session": 150}


def hint_about(joined: Joined, counter: int) -> bytes:
    index = (1).to_bytes(4, "big")
    return encode_unknown_session(DatagramType.TRANSPORT, index + counter.to_bytes(8, "big"))


def test_a_hint_about_something_we_sent_makes_us_ask_within_a_second() -> None:
    joined = Joined()
    joined.target.receive(hint_about(joined, 0), HOME, 2.0)
    joined.engine.handle_timers(2.0)
    assert any(isinstance(message, Ping) for message in joined.said())
    joined.engine.handle_timers(3.0)
    assert of_type(DatagramType.PEER_INITIATION, joined.target.sent())


def test_a_member_that_takes_the_index_of_another_does_not_hide_hints_about_it() -> None:
    joined = Joined()
    HostileMember(joined.target, 1.5, seed=17, endpoint=STRANGER)
    joined.target.receive(hint_about(joined, 0), HOME, 2.0)
    joined.engine.handle_timers(2.0)
    assert any(isinstance(message, Ping) for message in joined.said())


def test_a_hint_about_something_we_never_sent_is_a_forgery() -> None:
    joined = Joined()
    for datagram in (
        hint_about(joined, 2**40),
        encode_unknown_session(DatagramType.TRANSPORT, b"\x77" * 4 + bytes(8)),
    ):
        joined.target.receive(datagram, HOME, 2.0)
    joined.engine.handle_timers(2.0)
    assert joined.said() == []


def test_a_hint_that_a_pong_disproves_starts_no_handshake() -> None:
    joined = Joined()
    joined.target.receive(hint_about(joined, 0), HOME, 2.0)
    joined.engine.handle_timers(2.0)
    for message in joined.said():
        if isinstance(message, Ping):
            joined.member.say(Pong(message.token, HOME), 2.1)
    joined.engine.handle_timers(3.5)
    assert of_type(DatagramType.PEER_INITIATION, joined.target.sent()) == []


# Handshakes


def test_a_member_of_another_version_is_told_ours() -> None:
    target = Target()
    member = HostileMember(target)
    newer = bytearray(member.initiation(5).datagram[:-32])
    newer[1] = PROTOCOL_VERSION + 1
    k1 = mac1_key_peer(COMMUNITY, target.identity.public_key)
    target.receive(add_macs(bytes(newer), k1, None), STRANGER, 1.0)
    [(refusal, destination)] = target.sent()
    assert destination == STRANGER
    assert decode_version_refusal(refusal) == (PROTOCOL_VERSION, 1)
    assert target.drops() == {"malformed": 1}


def test_a_stranger_of_another_version_is_told_nothing() -> None:
    target = Target()
    datagram = bytes([1, PROTOCOL_VERSION + 1]) + bytes(142)
    target.receive(datagram, STRANGER, 1.0)
    assert target.sent() == []


def test_a_version_refusal_for_a_handshake_with_a_peer_changes_nothing() -> None:
    joined = Joined()
    joined.engine.events_to_report()
    [index] = joined.engine._context.indexes.sessions.keys() - {
        joined.supernode.session.their_index  # type: ignore[union-attr]
    }
    assert drops_after(joined, encode_version_refusal(2, index)) == {}
    assert joined.engine.events_to_report() == []


def test_under_load_a_member_is_asked_for_a_cookie_and_let_in_with_it() -> None:
    target = Target()
    member = HostileMember(target)
    for number in range(2, EDGE_LOAD_INITIATIONS_PER_SECOND + 2):
        member.deliver(member.initiation(number).datagram, 1.0)
    target.sent()
    assert target.drops() == {"under_load": 1}
    initiator = member.initiation(100)
    member.deliver(initiator.datagram, 1.0)
    [(reply, _)] = target.sent()
    k1 = mac1_key_peer(COMMUNITY, target.identity.public_key)
    _, cookie = open_cookie_reply_untrusted(reply, k1, initiator.mac1)
    member.deliver(member.initiation(101, cookie).datagram, 1.0)
    assert of_type(DatagramType.PEER_RESPONSE, target.sent())


def relay_only() -> tuple[Target, ScriptedSupernode, PeerInitiator, Session]:
    """A target that reaches a member by relay only, and that member's session with it."""
    target = Target(relay_only=True)
    supernode = ScriptedSupernode(target)
    supernode.take_in(0.0)
    them = Identity.generate(dice(7))
    initiator = PeerInitiator(
        them, COMMUNITY, target.identity.public_key, Suite.AESGCM_SHA256, 1, 1, dice(8)
    )
    supernode.relay(initiator.datagram, MEMBER_RELAY_ID, 1.0)
    [(envelope, destination)] = target.sent()
    assert destination == SUPERNODE
    return target, supernode, initiator, initiator.receive_response_untrusted(envelope[12:], 1.0)


def test_relay_only_answers_no_direct_initiation() -> None:
    target, _, initiator, _ = relay_only()
    target.receive(initiator.datagram, HOME, 1.0)
    assert target.sent() == []
    assert target.drops() == {"no_path": 1}


def test_relay_only_reads_what_comes_by_the_relay_and_nothing_else() -> None:
    target, supernode, _, session = relay_only()
    ping = session.seal(wrap_control(encode_message(PING)))
    target.receive(ping, HOME, 1.0)
    assert target.sent() == []
    assert target.drops() == {"no_path": 1}
    supernode.relay(ping, MEMBER_RELAY_ID, 1.0)
    assert {destination for _, destination in target.sent()} == {SUPERNODE}


# Anything


def datagrams() -> st.SearchStrategy[bytes]:
    """Any bytes behind a first byte and a length that get them past the first checks."""
    fixed = st.sampled_from(sorted(EXACT_LENGTHS)).flatmap(
        lambda kind: st.binary(min_size=EXACT_LENGTHS[kind] - 1, max_size=EXACT_LENGTHS[kind] - 1)
        .map(lambda rest: bytes([kind]) + rest)
    )  # fmt: skip
    tidy = fixed.map(lambda each: each[:1] + b"\x01\x01\0" + each[4:])
    free = st.builds(
        lambda kind, rest: bytes([kind, 0, 0, 0]) + rest,
        st.sampled_from([4, 5]),
        st.binary(max_size=200),
    )
    return st.one_of(fixed, tidy, free, st.binary(max_size=200))


JOINED = Joined()


@given(datagrams(), st.sampled_from([STRANGER, SUPERNODE, HOME]))
def test_nothing_unauthenticated_raises_or_draws_more_than_three_times_its_size(
    datagram: bytes, source: Endpoint
) -> None:
    JOINED.target.receive(datagram, source, 2.0)
    answers = JOINED.target.sent()
    assert {to for _, to in answers} <= {source}
    if source == STRANGER:
        assert sum(len(each) for each, _ in answers) <= 3 * len(datagram)


@settings(max_examples=200)
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=100).map(wrap_control)))
def test_nothing_that_a_member_or_the_supernode_seals_raises(plaintext: bytes) -> None:
    JOINED.member.deliver(JOINED.member.session.seal(plaintext), 2.0)
    assert JOINED.supernode.session is not None
    JOINED.supernode.deliver(JOINED.supernode.session.seal(plaintext), 2.0)
    JOINED.target.sent()
    JOINED.engine.frames_to_write()
