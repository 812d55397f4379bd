"""Session.seal_run and open_run_untrusted: the batch says what datagram by datagram says."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.crypto.session import Session
from mesh.errors import LocalError, MalformedMessage, NotAuthentic, Replayed
from tests.crypto.actors import peer_sessions

SIZE = 40
STRIDE = SIZE + 32


def sealed_run(session: Session, count: int, envelope: bytes = b"") -> bytes:
    out = memoryview(bytearray(count * (STRIDE + len(envelope))))
    plaintexts = [bytes([number % 256]) * SIZE for number in range(count)]
    assert session.seal_run(out, plaintexts, envelope) == len(out)
    return bytes(out)


def cut(run: bytes, stride: int = STRIDE) -> list[bytes]:
    return [run[start : start + stride] for start in range(0, len(run), stride)]


def open_run(
    session: Session, run: bytes, envelope: bytes = b""
) -> tuple[list[bytes], int, int, int]:
    room = memoryview(bytearray(len(run)))
    stride = STRIDE + len(envelope)
    opened = session.open_run_untrusted(memoryview(run), 0, stride, room, envelope)
    plaintexts = [bytes(one) for one in opened.plaintexts]
    return plaintexts, opened.end, opened.replayed, opened.not_authentic


def test_a_run_is_what_single_datagrams_are() -> None:
    alice, bob = peer_sessions()
    for number, datagram in enumerate(cut(sealed_run(alice, 5))):
        assert bob.open_untrusted(datagram) == bytes([number]) * SIZE
    assert alice.sent_datagrams == 5


@pytest.mark.parametrize("envelope", [b"", b"twelve bytes"])
def test_a_run_opens_as_a_run(envelope: bytes) -> None:
    alice, bob = peer_sessions()
    run = sealed_run(alice, 44, envelope)
    plaintexts = [bytes([number]) * SIZE for number in range(44)]
    assert open_run(bob, run, envelope) == (plaintexts, len(run), 0, 0)
    assert bob.highest_counter == 43
    assert open_run(bob, run, envelope) == ([], len(run), 44, 0)


def test_the_last_of_a_run_may_be_shorter() -> None:
    alice, bob = peer_sessions()
    out = memoryview(bytearray(200))
    end = alice.seal_run(out, [b"a" * SIZE, b"b" * 3])
    assert open_run(bob, bytes(out[:end])) == ([b"a" * SIZE, b"b" * 3], end, 0, 0)


def test_a_run_ends_where_another_envelope_or_session_or_a_stub_starts() -> None:
    alice, bob = peer_sessions()
    assert open_run(bob, sealed_run(alice, 2) + b"\4" * STRIDE)[1] == 2 * STRIDE
    assert open_run(bob, sealed_run(alice, 2) + b"\4" * 31)[1] == 2 * STRIDE
    run = sealed_run(alice, 2, b"one!") + sealed_run(alice, 2, b"two!")
    assert open_run(bob, run, b"one!")[1] == 2 * (STRIDE + 4)


def test_a_buffer_too_short_for_a_run_spends_counters_but_never_twice() -> None:
    alice, bob = peer_sessions()
    with pytest.raises(LocalError, match="too short"):
        alice.seal_run(memoryview(bytearray(STRIDE + 20)), [b"x" * SIZE] * 2)
    datagram = alice.seal(b"next")
    assert int.from_bytes(datagram[8:16], "big") >= 1
    assert bob.open_untrusted(datagram) == b"next"


def test_no_counter_is_left_at_the_end() -> None:
    alice, _ = peer_sessions()
    alice.sent_datagrams = 2**64 - 2
    with pytest.raises(LocalError, match="spent"):
        alice.seal_run(memoryview(bytearray(1000)), [b"x", b"y"])
    assert alice.sent_datagrams == 2**64 - 1


@given(
    seed=st.integers(0, 2**32), edits=st.lists(st.tuples(st.integers(0, 63), st.integers(16, 71)))
)
def test_a_hostile_batch_opens_to_what_its_datagrams_open_to_one_by_one(
    seed: int, edits: list[tuple[int, int]]
) -> None:
    alice, bob = peer_sessions()
    _, twin = peer_sessions()
    dice = random.Random(seed)
    datagrams = [bytearray(one) for one in cut(sealed_run(alice, 64))]
    for number, at in edits:
        datagrams[number][at] ^= 1 + dice.randrange(255)
    for _ in range(dice.randrange(30)):
        counter = dice.choice([dice.randrange(64), dice.randrange(10_000), 2**64 - 1])
        datagrams[dice.randrange(64)][8:16] = counter.to_bytes(8, "big")
    batch = [dice.choice(datagrams) if dice.random() < 0.3 else one for one in datagrams]
    expected: list[bytes] = []
    replayed = not_authentic = 0
    for datagram in batch:
        try:
            expected.append(bytes(twin.open_untrusted(bytes(datagram))))
        except Replayed:
            replayed += 1
        except (NotAuthentic, MalformedMessage):
            not_authentic += 1
    found = open_run(bob, b"".join(batch))
    assert found == (expected, 64 * STRIDE, replayed, not_authentic)
    assert bob.highest_counter == twin.highest_counter
