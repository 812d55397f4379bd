"""The forwarding database equals a naive dict, and its caps hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.addresses import EdgeId
from mesh.constants import MAC_LIFETIME, MAX_MACS, MAX_MACS_PER_PEER
from mesh.core import switch as switch_module
from mesh.core.switch import Switch

A, B = EdgeId(b"a" * 16), EdgeId(b"b" * 16)
MAC = bytes.fromhex("020000000001")


def mac(number: int) -> bytes:
    return b"\x02" + number.to_bytes(5, "big")


def test_an_address_is_forwarded_to_the_port_it_was_learnt_on() -> None:
    switch = Switch()
    switch.learn(MAC, A, 0.0)
    assert switch.port_of(MAC, 1.0) == A


def test_an_unknown_address_has_no_port() -> None:
    assert Switch().port_of(MAC, 0.0) is None


def test_an_address_that_moves_is_relearnt_at_once() -> None:
    switch = Switch()
    switch.learn(MAC, A, 0.0)
    switch.learn(MAC, B, 0.1)
    assert switch.port_of(MAC, 0.2) == B
    assert len(switch) == 1


def test_group_addresses_are_never_learnt() -> None:
    switch = Switch()
    switch.learn(b"\xff" * 6, A, 0.0)
    switch.learn(bytes.fromhex("01005e000001"), A, 0.0)
    assert len(switch) == 0


def test_an_address_ages_unless_it_is_seen_again() -> None:
    switch = Switch()
    switch.learn(MAC, A, 0.0)
    switch.learn(mac(7), A, 0.0)
    switch.learn(MAC, A, 200.0)
    switch.age(MAC_LIFETIME + 1)
    assert switch.port_of(MAC, MAC_LIFETIME + 1) == A
    assert not switch.knows(mac(7))


def test_a_lookup_finds_an_aged_address_before_the_sweep_does() -> None:
    switch = Switch()
    switch.learn(MAC, A, 0.0)
    assert switch.port_of(MAC, MAC_LIFETIME + 1) is None
    assert len(switch) == 0


def test_a_peer_that_invents_addresses_fills_only_its_own_share() -> None:
    switch = Switch()
    switch.learn(mac(10**9), B, 0.0)
    for number in range(MAX_MACS_PER_PEER + 10):
        switch.learn(mac(number), A, 0.0)
    assert len(switch) == MAX_MACS_PER_PEER + 1
    assert switch.refused == 10
    assert switch.port_of(mac(10**9), 1.0) == B
    switch.learn(mac(10**9), A, 1.0)  # not even somebody else's
    assert switch.port_of(mac(10**9), 1.0) == B


def test_the_whole_table_has_a_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch_module, "MAX_MACS", 5)
    switch = Switch()
    for number in range(9):
        switch.learn(mac(number), EdgeId(bytes([number]) * 16), 0.0)
    assert len(switch) == 5
    assert switch.refused == 4
    assert MAX_MACS > MAX_MACS_PER_PEER


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["learn", "forget_port", "forget", "age"]),
            st.integers(0, 4),
            st.sampled_from([A, B]),
            st.floats(0, 200),
        ),
        max_size=80,
    )
)
def test_the_switch_equals_a_naive_dict(steps: list[tuple[str, int, EdgeId, float]]) -> None:
    switch = Switch()
    naive: dict[bytes, tuple[EdgeId, float]] = {}
    now = 0.0
    for what, number, port, pause in steps:
        now += pause
        if what == "learn":
            known = naive.get(mac(number))
            # The switch stores a new time once a second at most.
            if known is None or known[0] != port or now - known[1] > 1.0:
                naive[mac(number)] = (port, now)
            switch.learn(mac(number), port, now)
        elif what == "forget_port":
            naive = {m: e for m, e in naive.items() if e[0] != port}
            switch.forget_port(port)
        elif what == "forget":
            naive.pop(mac(number), None)
            switch.forget(mac(number))
        else:
            switch.age(now)
        naive = {m: e for m, e in naive.items() if what == "learn" or now - e[1] <= MAC_LIFETIME}
        for probe in range(5):
            entry = naive.get(mac(probe))
            expected = entry[0] if entry is not None and now - entry[1] <= MAC_LIFETIME else None
            assert switch.port_of(mac(probe), now) == expected
        naive = {m: e for m, e in naive.items() if now - e[1] <= MAC_LIFETIME}
    assert sum(switch._per_port.values()) == len(switch) == len(naive)


def test_the_address_that_a_peers_key_hashes_to_cannot_be_taken_over() -> None:
    switch = Switch()
    switch.reserve(MAC, B)
    switch.learn(MAC, A, 0.0)
    assert switch.port_of(MAC, 0.0) is None
    switch.learn(MAC, B, 0.0)
    switch.learn(MAC, A, 1.0)
    assert switch.port_of(MAC, 1.0) == B
    assert switch.refused == 2


def test_a_reserved_address_is_learnt_even_when_the_table_is_full() -> None:
    switch = Switch()
    for number in range(MAX_MACS_PER_PEER):
        switch.learn(mac(number), A, 0.0)
    own = mac(10**9)
    switch.reserve(own, A)
    switch.learn(own, A, 0.0)
    assert switch.port_of(own, 0.0) == A


def test_a_peer_that_is_gone_reserves_nothing() -> None:
    switch = Switch()
    switch.reserve(MAC, B)
    switch.forget_port(B)
    switch.learn(MAC, A, 0.0)
    assert switch.port_of(MAC, 0.0) == A
