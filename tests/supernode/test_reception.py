"""Strangers: handshakes, cookies, refusals, and never more out than three times what came in."""

import hashlib
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.addresses import Endpoint
from mesh.constants import MAX_PING_BYTES, SOURCE_HANDSHAKE_BURST
from mesh.crypto.cookie import MAC1_KEY_SUPERNODE, open_cookie_reply_untrusted
from mesh.crypto.handshake import SupernodeInitiator
from mesh.crypto.identity import Identity
from mesh.crypto.suite import Suite
from mesh.wire.datagram import (
    DatagramType,
    decode_unknown_session,
    decode_version_refusal,
)
from mesh.wire.messages import Lookup, Ping, Pong, Registered, padded_ping
from supernode.limits import SupernodeLimits
from supernode.reception import MAX_GUEST_MESSAGES, STRANGER_LIFETIME
from tests.supernode.bench import Bench, community_keys, is_within_limit

ELSEWHERE = Endpoint("203.0.113.9", 9)


def test_every_suite_comes_to_a_session() -> None:
    bench = Bench()
    for suite in Suite:
        edge = bench.edge(suite=suite)
        edge.shake()
        assert any(isinstance(each, Registered) for each in edge.register())


def test_an_initiation_with_a_wrong_mac1_is_dropped_and_counted() -> None:
    bench = Bench()
    edge = bench.edge()
    datagram = bytearray(edge.initiate().datagram)
    datagram[50] ^= 1
    assert edge.send(bytes(datagram)) == []
    assert bench.drops == {"bad_mac1": 1}


def test_a_newer_version_of_any_length_is_refused_with_ours() -> None:
    bench = Bench()
    for length in (8, 72, 500):
        datagram = bytes([6, 2, 1, 0, 0, 0, 0, 9]) + bytes(length - 8)
        [answer] = bench.receive(datagram, ELSEWHERE)
        refusal = decode_version_refusal(answer.datagram)
        assert (refusal.version, refusal.receiver_index) == (1, 9)


def test_a_confirmation_that_does_not_verify_leaves_the_handshake_waiting() -> None:
    bench = Bench()
    edge = bench.edge()
    confirmation, session = edge.begin()
    forged = confirmation[:-1] + bytes([confirmation[-1] ^ 1])
    edge.send(forged)
    assert bench.drops == {"not_authentic": 1}
    edge.send(confirmation)
    edge.sessions.append(session)
    assert edge.register()


def test_a_repeated_confirmation_changes_nothing() -> None:
    bench = Bench()
    edge = bench.edge()
    confirmation, session = edge.begin()
    edge.sessions.append(session)
    edge.send(confirmation)
    assert edge.send(confirmation) == []
    edge.register()
    assert edge.send(confirmation) == []
    assert bench.drops == {}
    assert edge.ping()


def test_a_confirmation_from_elsewhere_is_dropped() -> None:
    bench = Bench()
    edge = bench.edge()
    confirmation, _ = edge.begin()
    assert bench.receive(confirmation, ELSEWHERE) == []
    assert bench.drops == {"unknown_sender": 1}


def test_a_registration_from_elsewhere_than_the_handshake_draws_nothing() -> None:
    bench = Bench()
    edge = bench.edge()
    edge.shake()
    assert bench.receive(edge.seal(edge.registration()), ELSEWHERE) == []


def test_a_handshake_is_forgotten_after_its_time() -> None:
    bench = Bench()
    edge = bench.edge()
    confirmation, _ = edge.begin()
    bench.pass_time(STRANGER_LIFETIME + 1)
    assert bench.engine.status_view(bench.now)["pending_handshakes"] == 0
    edge.send(confirmation)
    assert bench.drops == {"unknown_session": 1}


def test_a_session_that_never_registers_is_forgotten() -> None:
    bench = Bench()
    edge = bench.edge()
    edge.shake()
    bench.pass_time(STRANGER_LIFETIME + 1)
    assert bench.engine.status_view(bench.now)["pending_handshakes"] == 0
    assert bench.engine.next_timer_at() == float("inf")


def test_a_guest_that_does_not_register_is_soon_ignored() -> None:
    bench = Bench()
    edge = bench.edge()
    edge.shake()
    for _ in range(MAX_GUEST_MESSAGES + 3):
        assert edge.say(Lookup()) == []
    assert bench.drops == {"not_a_member": MAX_GUEST_MESSAGES, "unknown_sender": 3}


def test_a_guest_that_pings_is_told_where_it_is_seen_and_nothing_else() -> None:
    bench = Bench()
    bench.registered()
    edge = bench.edge()
    edge.shake()
    for _ in range(MAX_GUEST_MESSAGES):
        assert edge.say(Ping(b"12345678")) == [Pong(b"12345678", edge.endpoint, b"")]
    assert edge.say(Ping(b"12345678")) == []
    assert bench.drops == {"unknown_sender": 1}


def test_a_guest_of_an_embedded_supernode_may_ping_whatever_its_community() -> None:
    ours = community_keys("home").community_id
    bench = Bench(SupernodeLimits(only_community=ours))
    stranger = bench.edge("elsewhere")
    stranger.shake()
    assert stranger.ping().endpoint == stranger.endpoint


def test_a_ping_in_a_guests_name_from_elsewhere_draws_nothing() -> None:
    bench = Bench()
    edge = bench.edge()
    edge.shake()
    assert bench.receive(edge.seal(Ping(b"12345678")), ELSEWHERE) == []


def test_the_longest_ping_of_a_guest_draws_a_short_answer() -> None:
    bench = Bench()
    edge = bench.edge()
    edge.shake()
    ping = edge.seal(padded_ping(b"12345678", MAX_PING_BYTES))
    [sent] = edge.send(ping)
    assert len(sent.datagram) < 100
    [sent] = edge.send(edge.seal(Ping(b"12345678")))
    assert is_within_limit([sent], len(edge.seal(Ping(b"12345678"))))


def test_a_source_beyond_its_burst_is_asked_for_a_cookie_and_admitted_with_it() -> None:
    bench = Bench()
    edge = bench.edge()
    for _ in range(SOURCE_HANDSHAKE_BURST):
        edge.begin()
    edge.inbox.clear()
    initiator = edge.initiate()
    [answer] = edge.send(initiator.datagram)
    index, cookie = open_cookie_reply_untrusted(answer.datagram, MAC1_KEY_SUPERNODE, initiator.mac1)
    assert index == initiator.our_index
    [answer] = edge.send(edge.initiate(cookie).datagram)
    assert answer.type == DatagramType.SUPERNODE_RESPONSE


def test_a_cookie_is_worth_nothing_at_another_source() -> None:
    bench = Bench()
    edge = bench.edge()
    for _ in range(SOURCE_HANDSHAKE_BURST):
        edge.begin()
    initiator = edge.initiate()
    [answer] = edge.send(initiator.datagram)
    _, cookie = open_cookie_reply_untrusted(answer.datagram, MAC1_KEY_SUPERNODE, initiator.mac1)
    elsewhere = Endpoint(edge.endpoint.host, edge.endpoint.port + 1)
    [answer] = bench.receive(edge.initiate(cookie).datagram, elsewhere)
    assert answer.type == DatagramType.COOKIE_REPLY


def test_half_a_table_of_handshakes_asks_everybody_for_cookies() -> None:
    bench = Bench(SupernodeLimits(max_pending_handshakes=8))
    types = [bench.edge() for _ in range(5)]
    answers = [edge.send(edge.initiate().datagram)[0].type for edge in types]
    assert answers == [DatagramType.SUPERNODE_RESPONSE] * 4 + [DatagramType.COOKIE_REPLY]


def test_strangers_take_bounded_memory() -> None:
    bench = Bench(SupernodeLimits(max_pending_handshakes=8))
    for number in range(40):
        edge = bench.edge()
        initiator = edge.initiate()
        answer = edge.send(initiator.datagram)[0]
        if answer.type == DatagramType.COOKIE_REPLY:
            _, cookie = open_cookie_reply_untrusted(
                answer.datagram, MAC1_KEY_SUPERNODE, initiator.mac1
            )
            edge.send(edge.initiate(cookie).datagram)
        assert bench.engine.status_view(bench.now)["pending_handshakes"] <= 8, number
    assert bench.drops["table_full"] > 0


def test_an_unknown_session_draws_a_hint_and_few_of_them() -> None:
    bench = Bench()
    datagram = bytes([4, 0, 0, 0]) + b"IDXXCOUNTERX" + bytes(16)
    [answer] = bench.receive(datagram, ELSEWHERE)
    hint = decode_unknown_session(answer.datagram)
    assert (hint.what, hint.echo) == (DatagramType.TRANSPORT, b"IDXXCOUNTERX")
    hints = sum(len(bench.receive(datagram, ELSEWHERE)) for _ in range(100))
    assert hints < 5


def test_hints_leave_the_handshakes_of_a_source_alone() -> None:
    bench = Bench()
    edge = bench.edge()
    for _ in range(100):
        edge.send(bytes([4, 0, 0, 0]) + bytes(40))
    edge.shake()
    assert edge.register()


def test_datagrams_that_are_not_for_a_supernode_are_counted_and_draw_nothing() -> None:
    bench = Bench()
    for datagram in (b"\x0d\x00", bytes(1), b"\x63" * 40, bytes([11]) + bytes(63), b"\x06"):
        assert bench.receive(datagram, ELSEWHERE) == []
    assert bench.drops == {"malformed": 1, "unknown_type": 3}


def test_a_source_without_a_port_cannot_be_answered() -> None:
    bench = Bench()
    assert bench.receive(bench.edge().initiate().datagram, Endpoint("192.0.2.1", 0)) == []


datagrams = st.one_of(
    st.binary(min_size=1, max_size=200),
    st.builds(
        lambda kind, rest: bytes([kind, 1, 1, 0]) + rest,
        st.integers(1, 13),
        st.binary(max_size=150),
    ),
    st.builds(
        lambda kind, rest: bytes([kind, 0, 0, 0]) + rest,
        st.integers(1, 13),
        st.sampled_from([0, 4, 10, 12, 28, 44, 56, 60, 68, 104, 140]).map(bytes),
    ),
)


@given(st.lists(datagrams, max_size=20), st.integers(1, 300))
def test_arbitrary_bytes_never_draw_more_than_three_times_their_size(
    received: list[bytes], segment_bytes: int
) -> None:
    bench = Bench()
    for datagram in received:
        assert is_within_limit(bench.receive(datagram, ELSEWHERE), len(datagram))
    joined = b"".join(received)
    if joined:
        assert is_within_limit(
            bench.receive(joined, ELSEWHERE, segment_bytes=segment_bytes), len(joined)
        )


@settings(max_examples=25)
@given(
    st.integers(0, 2**32),
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(list(Suite)), st.sampled_from([0.0, 0.3])),
        min_size=1,
        max_size=60,
    ),
)
def test_valid_initiations_from_forged_sources_never_draw_more_than_three_times_their_size(
    seed: int, floods: list[tuple[int, Suite, float]]
) -> None:
    bench = Bench(SupernodeLimits(max_pending_handshakes=16))
    entropy = random.Random(seed).randbytes
    attacker = Identity.generate(entropy)
    received: dict[Endpoint, int] = {}
    for host, suite, pause in floods:
        bench.pass_time(pause)
        source = Endpoint(f"192.0.2.{host + 1}", 7)
        datagram = SupernodeInitiator(attacker, suite, 5, entropy).datagram
        received[source] = received.get(source, 0) + len(datagram)
        bench.receive(datagram, source)
    for source, received_bytes in received.items():
        answers = [each for each in bench.sent if each.destination == source]
        assert is_within_limit(answers, received_bytes)


@given(st.data())
def test_a_flipped_bit_in_a_handshake_draws_no_session(data: st.DataObject) -> None:
    bench = Bench()
    edge = bench.edge()
    confirmation, _ = edge.begin()
    bit = data.draw(st.integers(0, len(confirmation) * 8 - 1))
    flipped = bytearray(confirmation)
    flipped[bit // 8] ^= 1 << bit % 8
    assert is_within_limit(edge.send(bytes(flipped)), len(flipped))
    before = hashlib.blake2s(repr(bench.engine.edge_views(bench.now)).encode()).digest()
    assert before == hashlib.blake2s(b"[]").digest()
