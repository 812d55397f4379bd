"""Runs: what a driver cuts out of the batches is what was sent, way by way and in order."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from mesh.addresses import Endpoint
from mesh.core.outbox import MAX_RUN_BYTES, MAX_RUN_DATAGRAMS, Outbox, Via
from mesh.engine import OutgoingDatagrams
from mesh.wire.datagram import decode_relay_header, encode_relay_header

US, THEM = 0x0A11CE, 0x0B0B
PEER = Endpoint("198.51.100.7", 5000)
SUPERNODE = Endpoint("203.0.113.1", 7777)
DIRECT = Via(0, PEER)
DIRECT_IPV6 = Via(1, Endpoint("2001:db8::7", 5000))
RELAYED = Via(0, SUPERNODE, THEM)
TO_SUPERNODE = Via(0, SUPERNODE)
WAYS = (DIRECT, DIRECT_IPV6, RELAYED, Via(0, SUPERNODE, 7), TO_SUPERNODE)

Sent = dict[tuple[int, Endpoint, int], list[bytes]]


def outbox() -> Outbox:
    box = Outbox()
    box.set_our_relay_id(TO_SUPERNODE, US)
    return box


def cut(batch: OutgoingDatagrams) -> list[bytes]:
    joined = b"".join(batch.buffers)
    step = batch.segment_bytes
    return [joined[start : start + step] for start in range(0, len(joined), step)]


def on_wire(via: Via, datagram: bytes) -> bytes:
    return (encode_relay_header(US, via.relay_id) if via.relay_id else b"") + datagram


def relay_id_of(datagram: bytes) -> int:
    return decode_relay_header(datagram)[1] if datagram[:1] == b"\x05" else 0


sizes = st.one_of(st.integers(1, 4), st.sampled_from([200, 1000, 1001, 9000]))
sendings = st.lists(
    st.tuples(st.sampled_from(WAYS), sizes, st.sampled_from([0, 0, 0, 3])), max_size=300
)


@given(sendings)
def test_cutting_the_batches_gives_back_what_was_sent_by_each_way_in_order(
    wanted: list[tuple[Via, int, int]],
) -> None:
    box = outbox()
    sent: dict[Via, list[tuple[bytes, int]]] = defaultdict(list)
    for number, (via, size, ttl) in enumerate(wanted):
        # Type 4 is one that may stand in an envelope, and no envelope itself.
        datagram = b"\x04" + number.to_bytes(2, "big") + bytes(size)
        box.send(via, datagram, ttl)
        sent[via].append((on_wire(via, datagram), ttl))
    received: dict[Via, list[tuple[bytes, int]]] = defaultdict(list)
    for batch in box.take():
        for datagram in cut(batch):
            via = Via(batch.socket, batch.destination, relay_id_of(datagram))
            received[via].append((datagram, batch.ttl))
    assert received == sent


@given(sendings)
def test_every_batch_is_one_that_a_kernel_takes(wanted: list[tuple[Via, int, int]]) -> None:
    box = outbox()
    for via, size, ttl in wanted:
        box.send(via, bytes(size), ttl)
    for batch in box.take():
        lengths = [len(datagram) for datagram in cut(batch)]
        assert len(lengths) <= MAX_RUN_DATAGRAMS
        assert sum(lengths) <= MAX_RUN_BYTES
        assert set(lengths[:-1]) <= {batch.segment_bytes}
        assert lengths[-1] <= batch.segment_bytes


def test_equal_datagrams_for_one_way_leave_together_though_others_come_between() -> None:
    box = outbox()
    for _ in range(3):
        box.send(DIRECT, bytes(100))
        box.send(RELAYED, bytes(100))
    batches = box.take()
    assert [len(cut(batch)) for batch in batches] == [3, 3]
    assert [batch.segment_bytes for batch in batches] == [100, 112]


def test_a_run_ends_after_64_datagrams() -> None:
    box = outbox()
    for _ in range(130):
        box.send(DIRECT, b"x")
    assert [len(cut(batch)) for batch in box.take()] == [64, 64, 2]


def test_relayed_runs_end_after_64_datagrams_too() -> None:
    box = outbox()
    for _ in range(65):
        box.send(RELAYED, b"\x04")
    assert [len(cut(batch)) for batch in box.take()] == [64, 1]


def test_a_run_ends_before_the_kernel_would_refuse_its_bytes() -> None:
    box = outbox()
    for _ in range(60):
        box.send(DIRECT, bytes(1400))
    assert [len(cut(batch)) for batch in box.take()] == [46, 14]
    assert 46 * 1400 <= MAX_RUN_BYTES < 47 * 1400


def test_a_shorter_datagram_ends_its_run_and_a_longer_one_starts_another() -> None:
    box = outbox()
    for size in (100, 100, 60, 60, 100):
        box.send(DIRECT, bytes(size))
    assert [[len(d) for d in cut(batch)] for batch in box.take()] == [[100, 100, 60], [60], [100]]


def test_a_hop_limit_is_for_its_own_datagrams_only() -> None:
    box = outbox()
    box.send(DIRECT, b"a")
    box.send(DIRECT, b"b", ttl=3)
    box.send(DIRECT, b"c")
    assert [(cut(batch), batch.ttl) for batch in box.take()] == [
        ([b"a"], 0), ([b"b"], 3), ([b"c"], 0),
    ]  # fmt: skip


def test_what_was_taken_is_forgotten() -> None:
    box = outbox()
    box.send(DIRECT, b"a")
    first = box.take()
    box.send(DIRECT, b"b")
    assert [cut(batch) for batch in first] == [[b"a"]]
    assert [cut(batch) for batch in box.take()] == [[b"b"]]
    assert box.take() == []


def test_envelopes_name_us_by_the_relay_id_of_the_present_registration() -> None:
    box = outbox()
    box.send(RELAYED, b"\x04")
    box.set_our_relay_id(TO_SUPERNODE, 77)
    box.send(RELAYED, b"\x04")
    datagrams = [datagram for batch in box.take() for datagram in cut(batch)]
    assert [decode_relay_header(datagram + b"\0") for datagram in datagrams] == [
        (US, THEM), (77, THEM),
    ]  # fmt: skip


def test_the_kept_headers_have_a_cap() -> None:
    box = outbox()
    for relay_id in range(1, 10_000):
        box.send(Via(0, SUPERNODE, relay_id), b"\x04")
        box.take()
    assert len(box._relay_headers) <= 4098
