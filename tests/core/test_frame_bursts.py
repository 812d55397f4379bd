"""A burst of TAP reads leaves as the same reads would one by one, whatever is in them."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.addresses import BROADCAST_MAC
from mesh.datapath.vnet import GSO_TCPV4, encode_vnet_partial
from tests.core.edge_alone import HOME
from tests.core.joined import Joined
from tests.world import ethernet

PLAIN = bytes(10)
STRANGER = bytes.fromhex("020000000077")

Case = tuple[bytes, int, int]
"""Virtio-net header, whom the frame is for (0 the member, 1 nobody known, 2 all), its length."""

HEADERS = [PLAIN, encode_vnet_partial(34, 6), encode_vnet_partial(34, 16), bytes([0, GSO_TCPV4])]
cases = st.lists(
    st.tuples(
        st.sampled_from([header.ljust(10, b"\0") for header in HEADERS]),
        st.sampled_from([0, 0, 0, 0, 1, 2]),
        st.sampled_from([60, 60, 60, 61, 1400, 1514, 1600]),
    ),
    min_size=1,
    max_size=40,
)


def reads_of(joined: Joined, chosen: Sequence[Case]) -> list[memoryview]:
    destinations = [joined.member.identity.default_mac, STRANGER, BROADCAST_MAC]
    mine = joined.target.config.mac
    return [
        memoryview(
            bytearray(
                header + ethernet(destinations[to], mine, number.to_bytes(2, "big")).ljust(size)
            )
        )
        for number, (header, to, size) in enumerate(chosen)
    ]


def outcome(joined: Joined) -> tuple[list[bytes], object, object]:
    view = joined.engine.edge_view(2.0)
    [peer] = joined.engine.peer_views(2.0)
    counts = {key: peer[key] for key in ("tx_frames", "tx_bytes")}  # type: ignore[literal-required]
    return [plaintext for plaintext, _ in joined.sealed()], view["drops"], counts


@given(cases)
def test_together_is_as_one_by_one(chosen: list[Case]) -> None:
    together, single = Joined(), Joined()
    together.engine.receive_burst(reads_of(together, chosen), 2.0)
    for read in reads_of(single, chosen):
        single.engine.receive_frames(read, 2.0)
    got, expected = outcome(together), outcome(single)
    assert got == expected


def test_neighbours_that_are_alike_leave_in_one_send() -> None:
    joined = Joined()
    joined.engine.receive_burst(reads_of(joined, [(PLAIN, 0, 60)] * 20), 2.0)
    [batch] = joined.engine.datagrams_to_send()
    assert batch.destination == HOME
    assert sum(map(len, batch.buffers)) == 20 * batch.segment_bytes


@pytest.mark.parametrize("size", [0, 9, 10, 21, 23])
def test_reads_without_a_whole_header_are_dropped(size: int) -> None:
    joined = Joined()
    joined.engine.receive_burst([memoryview(bytearray(size))] * 5, 2.0)
    assert joined.engine.edge_view(2.0)["drops"]["malformed"] == 5
    assert joined.engine.datagrams_to_send() == []


def test_frames_from_a_mac_that_a_peer_had_take_it_over() -> None:
    joined = Joined()
    theirs = joined.member.identity.default_mac
    moved = memoryview(bytearray(PLAIN + ethernet(theirs, STRANGER, b"from here now")))
    joined.member.deliver(
        joined.member.session.seal(b"\x01\0\0\0" + ethernet(BROADCAST_MAC, STRANGER, bytes(50))),
        2.0,
    )
    assert [row["mac"] for row in joined.engine.fdb_views(2.0)].count(STRANGER.hex(":")) == 1
    joined.engine.receive_burst([moved, memoryview(bytearray(moved))], 2.0)
    assert STRANGER.hex(":") not in [row["mac"] for row in joined.engine.fdb_views(2.0)]
    assert len(joined.sealed()) == 2
