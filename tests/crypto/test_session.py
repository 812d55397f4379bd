import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.constants import (
    REJECT_AFTER_TIME,
    REKEY_AFTER_DATAGRAMS,
    REKEY_AFTER_TIME,
    REKEY_RESPONDER_GRACE,
    REPLAY_WINDOW_DATAGRAMS,
)
from mesh.crypto.handshake import PeerInitiator
from mesh.crypto.session import Session
from mesh.crypto.suite import Suite
from mesh.errors import LocalError, MalformedMessage, NotAuthentic, Replayed
from tests.crypto.actors import ALICE_INDEX, BOB_INDEX, flip_bit, initiate_to_bob, peer_sessions

KEY_TO_BOB = bytes(range(32))
KEY_TO_ALICE = bytes(range(32, 64))


def make_sessions(suite: Suite = Suite.AESGCM_SHA256, at: float = 0.0) -> tuple[Session, Session]:
    """Alice's (the initiator's) and Bob's, under known keys."""

    def make(ours: int, theirs: int, seal: bytes, unseal: bytes, *, is_initiator: bool) -> Session:
        return Session(
            our_index=ours,
            their_index=theirs,
            suite=suite,
            seal_key=seal,
            open_key=unseal,
            is_initiator=is_initiator,
            their_static=bytes(32),
            handshake_hash=bytes(32),
            created_at=at,
        )

    return (
        make(ALICE_INDEX, BOB_INDEX, KEY_TO_BOB, KEY_TO_ALICE, is_initiator=True),
        make(BOB_INDEX, ALICE_INDEX, KEY_TO_ALICE, KEY_TO_BOB, is_initiator=False),
    )


def state_of(session: Session) -> tuple[int, int, bytes]:
    return session.sent_datagrams, session.highest_counter, bytes(session._window._seen)


@pytest.mark.parametrize("suite", Suite)
@given(plaintexts=st.lists(st.binary(max_size=1400), max_size=5))
def test_what_one_side_seals_the_other_opens(suite: Suite, plaintexts: list[bytes]) -> None:
    alice, bob = make_sessions(suite)
    for counter, plaintext in enumerate(plaintexts):
        datagram = alice.seal(plaintext)
        assert bob.open_untrusted(memoryview(datagram)) == plaintext
        assert bob.highest_counter == counter
        assert alice.open_untrusted(bob.seal(plaintext)) == plaintext


@pytest.mark.parametrize("suite", Suite)
def test_a_datagram_has_the_layout_of_the_specification(suite: Suite) -> None:
    alice, _ = make_sessions(suite)
    alice.seal(b"spends counter 0")
    datagram = alice.seal(b"hello")
    header = bytes([4, 0, 0, 0]) + BOB_INDEX.to_bytes(4, "big") + (1).to_bytes(8, "big")
    assert datagram[:16] == header
    assert datagram[16:] == suite.aead(KEY_TO_BOB).encrypt(header[4:], b"hello", header[:4])


@given(st.binary(max_size=1400), st.integers(0, 40), st.booleans())
def test_sealing_into_a_buffer_gives_the_same_bytes(
    plaintext: bytes,
    spare: int,
    as_view: bool,  # noqa: FBT001 - drawn by hypothesis
) -> None:
    buffer = bytearray(len(plaintext) + 32 + spare)
    length = make_sessions()[0].seal_into(
        memoryview(buffer), memoryview(plaintext) if as_view else plaintext
    )
    assert length == len(plaintext) + 32
    assert buffer[:length] == make_sessions()[0].seal(plaintext)
    assert not any(buffer[length:])


@given(st.lists(st.sampled_from(["seal", "seal_into", "too short"]), max_size=30))
def test_a_counter_is_never_used_twice(how: list[str]) -> None:
    alice, _ = make_sessions()
    counters = []
    for step in how:
        buffer = bytearray(40)
        if step == "too short":
            with pytest.raises(LocalError):
                alice.seal_into(memoryview(buffer)[:35], b"text")
        elif step == "seal_into":
            alice.seal_into(memoryview(buffer), b"text")
        else:
            buffer[:] = alice.seal(b"text")
        counters.append(bytes(buffer[8:16]))
    used = [counter for counter, step in zip(counters, how, strict=True) if step != "too short"]
    assert len(set(used)) == len(used)
    assert alice.sent_datagrams == len(how)


def test_when_all_counters_are_spent_nothing_is_sealed() -> None:
    alice, bob = make_sessions()
    alice.sent_datagrams = 2**64 - 2
    assert bob.open_untrusted(alice.seal(b"the last one")) == b"the last one"
    assert bob.highest_counter == 2**64 - 2
    for _ in range(2):
        with pytest.raises(LocalError):
            alice.seal(b"one too many")
        with pytest.raises(LocalError):
            alice.seal_into(memoryview(bytearray(100)), b"one too many")


@pytest.mark.parametrize("suite", Suite)
@given(data=st.data())
def test_a_flipped_bit_anywhere_never_verifies_and_changes_nothing(
    suite: Suite, data: st.DataObject
) -> None:
    alice, bob = make_sessions(suite)
    bob.open_untrusted(alice.seal(b"one"))
    datagram = alice.seal(data.draw(st.binary(max_size=60)))
    before = state_of(bob)
    bit = data.draw(st.integers(0, len(datagram) * 8 - 1))
    with pytest.raises((MalformedMessage, NotAuthentic)):
        bob.open_untrusted(flip_bit(datagram, bit))
    assert state_of(bob) == before
    bob.open_untrusted(datagram)


@given(st.binary(max_size=200), st.booleans())
def test_arbitrary_bytes_raise_only_what_the_network_may_cause(
    noise: bytes,
    with_header: bool,  # noqa: FBT001 - drawn by hypothesis
) -> None:
    _, bob = make_sessions()
    before = state_of(bob)
    header = bytes([4, 0, 0, 0]) + BOB_INDEX.to_bytes(4, "big") if with_header else b""
    with pytest.raises((MalformedMessage, NotAuthentic)):
        bob.open_untrusted(header + noise)
    assert state_of(bob) == before


@given(st.permutations(range(12)), st.integers(0, 11))
def test_each_datagram_opens_once_in_any_order(order: list[int], again: int) -> None:
    alice, bob = make_sessions()
    datagrams = [alice.seal(bytes([number])) for number in range(12)]
    for number in order:
        assert bob.open_untrusted(datagrams[number]) == bytes([number])
    with pytest.raises(Replayed):
        bob.open_untrusted(datagrams[again])


def test_a_datagram_below_the_window_is_dropped() -> None:
    alice, bob = make_sessions()
    late = alice.seal(b"late")
    just_in_time = alice.seal(b"just in time")
    alice.sent_datagrams = REPLAY_WINDOW_DATAGRAMS
    bob.open_untrusted(alice.seal(b"far ahead"))
    with pytest.raises(Replayed):
        bob.open_untrusted(late)
    assert bob.open_untrusted(just_in_time) == b"just in time"


def test_a_forged_counter_does_not_move_the_window() -> None:
    alice, bob = make_sessions()
    forged = bytearray(alice.seal(b"text"))
    forged[8:16] = (2**63).to_bytes(8, "big")
    with pytest.raises(NotAuthentic):
        bob.open_untrusted(forged)
    assert bob.highest_counter == -1


def test_a_datagram_does_not_open_on_the_side_that_sealed_it() -> None:
    alice, _ = make_sessions()
    datagram = bytearray(alice.seal(b"text"))
    with pytest.raises(NotAuthentic):
        alice.open_untrusted(datagram)
    datagram[4:8] = ALICE_INDEX.to_bytes(4, "big")
    with pytest.raises(NotAuthentic):
        alice.open_untrusted(datagram)


def test_a_datagram_of_another_session_of_the_same_pair_does_not_open() -> None:
    alice, _ = peer_sessions()
    _, bob = make_sessions()
    with pytest.raises(NotAuthentic):
        bob.open_untrusted(alice.seal(b"text"))


def test_a_session_expires_after_its_lifetime() -> None:
    alice, bob = make_sessions(at=1000.0)
    for session in (alice, bob):
        assert not session.is_expired(1000.0 + REJECT_AFTER_TIME - 0.001)
        assert session.is_expired(1000.0 + REJECT_AFTER_TIME)


def test_the_initiator_wants_a_rekey_and_the_responder_some_time_later() -> None:
    alice, bob = make_sessions(at=1000.0)
    due = 1000.0 + REKEY_AFTER_TIME
    assert not alice.wants_rekey(due - 0.001)
    assert alice.wants_rekey(due)
    assert not bob.wants_rekey(due + REKEY_RESPONDER_GRACE - 0.001)
    assert bob.wants_rekey(due + REKEY_RESPONDER_GRACE)


def test_a_session_that_has_sealed_very_much_wants_a_rekey() -> None:
    alice, _ = make_sessions()
    alice.sent_datagrams = REKEY_AFTER_DATAGRAMS - 1
    assert not alice.wants_rekey(0.0)
    alice.seal(b"")
    assert alice.wants_rekey(0.0)


def test_no_session_comes_of_an_unfinished_handshake() -> None:
    initiator: PeerInitiator = initiate_to_bob()
    with pytest.raises(LocalError):
        Session.from_handshake(initiator._noise, 1, 2, 0.0)


def test_no_key_is_shown_or_kept() -> None:
    alice, _ = make_sessions()
    kept = [getattr(alice, name) for name in Session.__slots__]
    assert KEY_TO_BOB not in kept
    assert KEY_TO_ALICE not in kept
    assert repr(alice) == "<Session 0xa11ce001 AESGCM_SHA256 sent=0>"


def test_a_session_knows_its_own_datagrams_again() -> None:
    ours, theirs = make_sessions()
    datagram = ours.seal(b"frame")
    assert ours.has_sealed_untrusted(datagram)
    assert not theirs.has_sealed_untrusted(datagram)
    assert not ours.has_sealed_untrusted(theirs.seal(b"frame"))
    for end in range(len(datagram)):
        assert not ours.has_sealed_untrusted(datagram[:end])
    assert not ours.has_sealed_untrusted(datagram[:-1] + bytes([datagram[-1] ^ 1]))
