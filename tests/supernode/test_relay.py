"""The relay: whole batches, one community, the registered source, and a bucket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.addresses import Endpoint
from mesh.engine import OutgoingDatagrams, ReceivedDatagrams
from mesh.wire.datagram import DatagramType, decode_unknown_session, encode_relay_header
from supernode.limits import SupernodeLimits
from supernode.registry import FORMER_GRACE
from tests.supernode.bench import Bench, ScriptedEdge

PAYLOAD = b"\x04\0\0\0" + b"p" * 60


def pair(limits: SupernodeLimits | None = None) -> tuple[Bench, ScriptedEdge, ScriptedEdge]:
    bench = Bench(limits)
    alice, bob = bench.registered(), bench.registered()
    alice.read()
    bench.sent.clear()
    bench.batches_sent = 0
    return bench, alice, bob


def test_an_envelope_arrives_unchanged() -> None:
    _, alice, bob = pair()
    [sent] = alice.send(alice.envelope(bob))
    assert sent.datagram == alice.envelope(bob)
    assert (sent.destination, sent.socket) == (bob.endpoint, bob.socket)


def test_a_whole_batch_leaves_as_one_batch_with_the_same_buffer() -> None:
    bench, alice, bob = pair()
    buffer = bytearray(alice.envelope(bob, PAYLOAD) * 44)
    bench.engine.receive_datagrams(
        ReceivedDatagrams(memoryview(buffer), 76, alice.endpoint, 0), bench.now
    )
    [batch] = bench.engine.datagrams_to_send()
    [piece] = batch.buffers
    assert isinstance(batch, OutgoingDatagrams)
    assert piece.obj is buffer  # type: ignore[union-attr]
    assert (len(piece), batch.segment_bytes) == (44 * 76, 76)


def test_a_shorter_last_datagram_stays_in_its_batch() -> None:
    bench, alice, bob = pair()
    data = alice.envelope(bob, PAYLOAD) * 3 + alice.envelope(bob, b"\x04\0")
    alice.send(data, 76)
    assert bench.batches_sent == 1
    assert b"".join(bob.inbox) == data


def whole_envelope(source: ScriptedEdge, to: ScriptedEdge, size: int) -> bytes:
    header = encode_relay_header(source.relay_id, to.relay_id, dont_fragment=True)
    return header + b"\x04\0\0\0" + bytes(size - len(header) - 4)


def test_what_is_not_to_be_fragmented_leaves_as_such_and_nothing_else_does() -> None:
    bench, alice, bob = pair()
    plain, whole = alice.envelope(bob, bytes([4]) * 188), whole_envelope(alice, bob, 200)
    bench.engine.receive_datagrams(
        ReceivedDatagrams(plain + whole + plain, 200, alice.endpoint, 0), bench.now
    )
    batches = bench.engine.datagrams_to_send()
    assert [batch.dont_fragment for batch in batches] == [False, True, False]
    assert [b"".join(batch.buffers) for batch in batches] == [plain, whole, plain]


def test_a_whole_envelope_too_large_for_our_interface_is_counted() -> None:
    bench, alice, bob = pair()
    alice.send(whole_envelope(alice, bob, 1600))
    bench.engine.receive_too_large(bob.socket, bob.endpoint, 1600, bench.now)
    assert bench.engine.status_view(bench.now)["drops"] == {"send_error": 1}


def test_a_batch_is_split_where_the_destination_changes() -> None:
    bench, alice, bob = pair()
    carol = bench.registered()
    bench.batches_sent = 0
    bob.inbox.clear()
    to_bob, to_carol = alice.envelope(bob, PAYLOAD), alice.envelope(carol, PAYLOAD)
    alice.send(to_bob * 2 + to_carol * 3 + to_bob, 76)
    assert bench.batches_sent == 3
    assert bob.inbox == [to_bob] * 3
    assert carol.inbox.count(to_carol) == 3


@pytest.mark.parametrize("inner", range(256))
def test_only_the_types_that_edges_exchange_are_relayed(inner: int) -> None:
    _, alice, bob = pair()
    sent = alice.send(alice.envelope(bob, bytes([inner, 0, 0, 0])))
    assert bool(sent) == (inner in {1, 2, 3, 4, 9, 10})


def test_a_forbidden_datagram_in_a_batch_is_dropped_alone() -> None:
    bench, alice, bob = pair()
    good = alice.envelope(bob, PAYLOAD)
    bad = alice.envelope(bob, b"\x05" + PAYLOAD[1:])
    alice.send(good + bad + good, 76)
    assert bob.inbox == [good, good]
    assert bench.drops["malformed"] == 1


def test_nothing_crosses_from_one_community_to_another() -> None:
    bench, alice, _ = pair()
    mallory = bench.registered("elsewhere")
    assert mallory.send(mallory.envelope(alice)) == []
    assert bench.drops["unknown_destination"] == 1


def test_an_envelope_in_the_name_of_another_edge_is_dropped() -> None:
    bench, alice, bob = pair()
    [answer] = bob.send(alice.envelope(bob))
    assert answer.type == DatagramType.UNKNOWN_SESSION
    assert bench.drops["unknown_sender"] == 1


def test_the_right_endpoint_on_another_socket_is_another_place() -> None:
    bench, alice, bob = pair()
    bench.receive(alice.envelope(bob), alice.endpoint, socket=5)
    assert bob.inbox == []


def test_an_edge_that_has_moved_may_still_send_from_where_it_was_for_a_moment() -> None:
    bench, alice, bob = pair()
    before = alice.endpoint
    alice.roam(Endpoint("203.0.113.77", 7), 5)
    for place in ((before, 0), (alice.endpoint, 5)):
        bench.receive(alice.envelope(bob), place[0], socket=place[1])
        assert bob.take(DatagramType.RELAY)
    bench.receive(alice.envelope(bob), before, socket=5)
    bench.pass_time(FORMER_GRACE)
    bench.receive(alice.envelope(bob), before, socket=0)
    assert not [each for each in bob.inbox if each[0] == DatagramType.RELAY]


def test_an_unknown_source_is_told_with_its_own_header() -> None:
    bench = Bench()
    [answer] = bench.receive(encode_relay_header(7, 8) + b"\x04\0", Endpoint("203.0.113.9", 9))
    hint = decode_unknown_session(answer.datagram)
    assert hint.what == DatagramType.RELAY
    assert hint.echo == (7).to_bytes(4, "big") + (8).to_bytes(4, "big") + bytes(4)


def test_an_edge_that_left_is_relayed_to_no_more() -> None:
    bench, alice, bob = pair()
    bench.pass_time(19.0)
    alice.ping()
    bench.pass_time(10.0)
    alice.ping()
    bob.inbox.clear()
    alice.send(alice.envelope(bob))
    assert bob.inbox == []
    assert bench.drops["unknown_destination"] == 1


def test_relayed_bytes_have_a_bucket_per_edge_charged_per_batch() -> None:
    bench, alice, bob = pair(SupernodeLimits(relay_burst_bytes=200, relay_rate_bytes=100))
    two = alice.envelope(bob, PAYLOAD) * 2
    alice.send(two, 76)
    alice.send(two, 76)
    assert len(bob.inbox) == 2
    assert bench.drops["rate_limited"] == 2
    bench.now += 1.1
    alice.send(two, 76)
    assert len(bob.inbox) == 4


def test_what_was_relayed_is_counted_per_edge_community_and_in_all() -> None:
    bench, alice, bob = pair()
    alice.send(alice.envelope(bob, PAYLOAD) * 3, 76)
    status = bench.engine.status_view(bench.now)
    assert (status["relayed_bytes"], status["relayed_datagrams"]) == (228, 3)
    by_id = {view["id"]: view["relayed_bytes"] for view in bench.engine.edge_views(bench.now)}
    assert by_id == {alice.identity.edge_id.hex(): 228, bob.identity.edge_id.hex(): 0}
    [community] = bench.engine.community_views(bench.now)
    assert community["relayed_bytes"] == 228


def test_an_envelope_among_other_datagrams_is_copied_and_relayed() -> None:
    bench, alice, bob = pair()
    envelope = alice.envelope(bob, b"\x04" + bytes(3) + b"q" * 56)
    other = b"\x63" + bytes(71)
    alice.send(other + envelope, 72)
    assert bob.inbox == [envelope]
    assert bench.drops["unknown_type"] == 1


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 2, 3]),
            st.sampled_from([0, 1, 2, 3]),
            st.sampled_from([1, 2, 4, 5, 9, 12]),
        ),
        min_size=1,
        max_size=20,
    ),
    st.integers(0, 40),
)
def test_a_batch_is_relayed_exactly_as_its_datagrams_one_by_one(
    pieces: list[tuple[int, int, int]], cut: int
) -> None:
    def run(*, as_one_batch: bool) -> tuple[list[bytes], list[bytes], dict[str, int]]:
        bench, alice, bob = pair()
        mallory = bench.registered("elsewhere")
        ids = [alice.relay_id, bob.relay_id, mallory.relay_id, 77]
        datagrams = []
        for source, destination, kind in pieces:
            header = encode_relay_header(ids[source], ids[destination])
            datagrams.append(header + bytes([kind]) + bytes(31))
        datagrams[-1] = datagrams[-1][: max(13, 44 - cut)]
        if as_one_batch:
            alice.send(b"".join(datagrams), 44)
        else:
            for datagram in datagrams:
                alice.send(datagram)
        hint_free = [each for each in alice.inbox if each[0] == DatagramType.RELAY]
        return hint_free, bob.inbox, bench.drops

    assert run(as_one_batch=True) == run(as_one_batch=False)


@pytest.mark.parametrize("size", range(1, 14))
def test_a_batch_of_envelopes_too_short_for_a_header_is_dropped_as_malformed(size: int) -> None:
    bench, alice, bob = pair()
    header = alice.envelope(bob)[:size]
    for one in (header, b"\x05\0\0\0".ljust(size, b"\x01")[:size]):
        for source in (alice.endpoint, Endpoint("203.0.113.66", 6666)):
            assert bench.receive(one * 5, source, segment_bytes=size) == []
    assert bench.drops == {"malformed": 20}


@given(
    st.sampled_from([b"\x05", b"\x05\0\0\0", b"\x04\0\0\0", b""]),
    st.binary(min_size=1, max_size=40),
    st.integers(1, 40),
    st.integers(1, 60),
)
def test_any_batch_from_a_member_or_a_stranger_is_survived(
    start: bytes, rest: bytes, copies: int, segment_bytes: int
) -> None:
    bench, alice, _ = _SURVIVOR
    for source in (alice.endpoint, Endpoint("203.0.113.66", 6666)):
        bench.receive((start + rest) * copies, source, segment_bytes=segment_bytes)


_SURVIVOR = pair()
