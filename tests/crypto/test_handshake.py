from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.crypto.community import CommunityKeys
from mesh.crypto.cookie import MAC1_KEY_SUPERNODE, add_macs, mac1_key_peer
from mesh.crypto.handshake import (
    PeerInitiation,
    PeerInitiator,
    SupernodeInitiation,
    SupernodeInitiator,
    UnsupportedVersion,
)
from mesh.crypto.keypair import KeyPair
from mesh.crypto.session import Session
from mesh.crypto.suite import Suite
from mesh.errors import LocalError, MalformedMessage, NotAuthentic, Replayed
from tests.crypto.actors import (
    ALICE,
    ALICE_INDEX,
    BOB,
    BOB_INDEX,
    COMMUNITY,
    MALLORY,
    OTHER_COMMUNITY,
    SUPERNODE,
    flip_bit,
    initiate_to_bob,
    peer_sessions,
    seeded_entropy,
    supernode_sessions,
)

SENDER_INDEX_BITS = range(4 * 8, 8 * 8)


class UntouchableKey(KeyPair):
    """A static key that says when somebody makes it work."""

    def exchange(self, their_public: bytes) -> bytes:  # noqa: ARG002 - the inherited signature
        raise AssertionError("a Diffie-Hellman for an initiation that has proved nothing")


def untouchable(private_key: bytes) -> UntouchableKey:
    return UntouchableKey(private_key)


@dataclass
class Keys:
    """Those of the community, or some of them."""

    community_id: bytes = COMMUNITY.community_id
    mac1_key: bytes = COMMUNITY.mac1_key
    psk: bytes = COMMUNITY.psk


def initiate_as_mallory(community: CommunityKeys | Keys) -> PeerInitiator:
    return PeerInitiator(
        MALLORY,
        community,  # type: ignore[arg-type]
        BOB.public_key,
        Suite.AESGCM_SHA256,
        ALICE_INDEX,
        1,
        seeded_entropy(5),
    )


def assert_they_talk(first: Session, second: Session) -> None:
    assert second.open_untrusted(first.seal(b"there")) == b"there"
    assert first.open_untrusted(second.seal(b"and back")) == b"and back"


# Between edges


@pytest.mark.parametrize("suite", Suite)
def test_two_edges_make_a_session_and_know_each_other(suite: Suite) -> None:
    initiator = initiate_to_bob(suite)
    initiation = PeerInitiation.receive_untrusted(initiator.datagram, BOB, COMMUNITY)
    assert initiation.their_static == ALICE.public_key
    assert initiation.sender_index == ALICE_INDEX
    assert initiation.number == 7
    assert initiation.suite == suite
    response, bobs = initiation.respond(BOB_INDEX, seeded_entropy(11), 3.0)
    alices = initiator.receive_response_untrusted(response, 4.0)

    assert (len(initiator.datagram), len(response)) == (144, 60)
    assert (alices.is_initiator, bobs.is_initiator) == (True, False)
    assert (alices.our_index, alices.their_index) == (ALICE_INDEX, BOB_INDEX)
    assert (bobs.our_index, bobs.their_index) == (BOB_INDEX, ALICE_INDEX)
    assert (alices.their_static, bobs.their_static) == (BOB.public_key, ALICE.public_key)
    assert (alices.created_at, bobs.created_at) == (4.0, 3.0)
    assert alices.handshake_hash == bobs.handshake_hash
    assert alices.suite == bobs.suite == suite
    assert_they_talk(alices, bobs)


def test_datagrams_may_come_as_memoryviews() -> None:
    initiator = initiate_to_bob()
    initiation = PeerInitiation.receive_untrusted(memoryview(initiator.datagram), BOB, COMMUNITY)
    response, bobs = initiation.respond(BOB_INDEX, seeded_entropy(11), 0.0)
    assert_they_talk(initiator.receive_response_untrusted(memoryview(response), 0.0), bobs)


def test_every_handshake_has_other_keys_even_between_the_same_edges() -> None:
    hashes = set()
    for seed in range(20, 24):
        initiator = initiate_to_bob(seed=seed)
        initiation = PeerInitiation.receive_untrusted(initiator.datagram, BOB, COMMUNITY)
        _, session = initiation.respond(BOB_INDEX, seeded_entropy(seed), 0.0)
        hashes.add(session.handshake_hash)
    assert len(hashes) == 4


@pytest.mark.parametrize("suite", Suite)
@given(bit=st.integers(0, (144 - 16) * 8 - 1))
def test_a_peer_initiation_with_a_flipped_bit_costs_no_diffie_hellman(
    suite: Suite, bit: int
) -> None:
    # mac2, the last 16 bytes, is looked at under load only: tests/crypto/test_cookie.py.
    with pytest.raises((MalformedMessage, NotAuthentic)):
        PeerInitiation.receive_untrusted(
            flip_bit(initiate_to_bob(suite).datagram, bit),
            untouchable(BOB.private_bytes),
            COMMUNITY,
        )


@given(bit=st.integers(0, (144 - 32) * 8 - 1))
def test_a_member_cannot_change_another_members_initiation_either(bit: int) -> None:
    k1 = mac1_key_peer(COMMUNITY, BOB.public_key)
    changed = add_macs(flip_bit(initiate_to_bob().datagram, bit)[:-32], k1, None)
    if bit in SENDER_INDEX_BITS:  # it stands outside the Noise message, under mac1 alone
        initiation = PeerInitiation.receive_untrusted(changed, BOB, COMMUNITY)
        assert initiation.sender_index != ALICE_INDEX
        return
    with pytest.raises((MalformedMessage, NotAuthentic)):
        PeerInitiation.receive_untrusted(changed, BOB, COMMUNITY)


def test_an_initiation_of_a_stranger_to_the_community_costs_no_diffie_hellman() -> None:
    stranger = initiate_as_mallory(OTHER_COMMUNITY)
    with pytest.raises(NotAuthentic):
        PeerInitiation.receive_untrusted(
            stranger.datagram, untouchable(BOB.private_bytes), COMMUNITY
        )


def test_an_initiation_for_another_edge_is_not_ours() -> None:
    with pytest.raises(NotAuthentic):
        PeerInitiation.receive_untrusted(
            initiate_to_bob().datagram, untouchable(MALLORY.private_bytes), COMMUNITY
        )


def test_an_edge_that_knows_only_the_mac1_key_gets_no_session() -> None:
    pretender = initiate_as_mallory(Keys(psk=OTHER_COMMUNITY.psk))
    initiation = PeerInitiation.receive_untrusted(pretender.datagram, BOB, COMMUNITY)
    response, _ = initiation.respond(BOB_INDEX, seeded_entropy(6), 0.0)
    with pytest.raises(NotAuthentic):
        pretender.receive_response_untrusted(response, 0.0)


def test_the_handshake_is_bound_to_the_community_id() -> None:
    stranger = initiate_as_mallory(Keys(community_id=OTHER_COMMUNITY.community_id))
    with pytest.raises(NotAuthentic):
        PeerInitiation.receive_untrusted(stranger.datagram, BOB, COMMUNITY)


@pytest.mark.parametrize("suite", Suite)
@given(bit=st.integers(0, 60 * 8 - 1))
def test_after_a_peer_response_with_a_flipped_bit_the_true_one_still_counts(
    suite: Suite, bit: int
) -> None:
    initiator = initiate_to_bob(suite)
    initiation = PeerInitiation.receive_untrusted(initiator.datagram, BOB, COMMUNITY)
    response, bobs = initiation.respond(BOB_INDEX, seeded_entropy(11), 0.0)
    forged = flip_bit(response, bit)
    if bit in SENDER_INDEX_BITS:
        # Outside the Noise message: the session it makes reaches nobody, forged or not.
        useless = initiator.receive_response_untrusted(forged, 0.0)
        with pytest.raises(NotAuthentic):
            bobs.open_untrusted(useless.seal(b"text"))
        return
    with pytest.raises((MalformedMessage, NotAuthentic)):
        initiator.receive_response_untrusted(forged, 0.0)
    assert_they_talk(initiator.receive_response_untrusted(response, 0.0), bobs)


def test_a_response_makes_one_session_only() -> None:
    initiator = initiate_to_bob()
    initiation = PeerInitiation.receive_untrusted(initiator.datagram, BOB, COMMUNITY)
    response, _ = initiation.respond(BOB_INDEX, seeded_entropy(11), 0.0)
    initiator.receive_response_untrusted(response, 0.0)
    with pytest.raises(Replayed):
        initiator.receive_response_untrusted(response, 0.0)
    with pytest.raises(LocalError):
        initiation.respond(BOB_INDEX, seeded_entropy(12), 0.0)


def test_a_response_to_an_earlier_initiation_does_not_count() -> None:
    earlier, later = initiate_to_bob(seed=1), initiate_to_bob(seed=2)
    initiation = PeerInitiation.receive_untrusted(earlier.datagram, BOB, COMMUNITY)
    response, _ = initiation.respond(BOB_INDEX, seeded_entropy(11), 0.0)
    with pytest.raises(NotAuthentic):
        later.receive_response_untrusted(response, 0.0)


def test_a_replayed_initiation_shows_its_old_number_for_the_caller_to_refuse() -> None:
    datagram = initiate_to_bob().datagram
    first, second = (PeerInitiation.receive_untrusted(datagram, BOB, COMMUNITY) for _ in range(2))
    assert first.number == second.number


def test_a_key_of_low_order_from_the_supernode_is_refused() -> None:
    with pytest.raises(NotAuthentic):
        PeerInitiator(
            ALICE, COMMUNITY, bytes(32), Suite.AESGCM_SHA256, ALICE_INDEX, 1, seeded_entropy()
        )


def test_initiations_carry_a_cookie_in_mac2() -> None:
    cookie = bytes(range(16))
    k1 = mac1_key_peer(COMMUNITY, BOB.public_key)
    datagram = initiate_to_bob(cookie=cookie).datagram
    assert datagram == add_macs(datagram[:-32], k1, cookie)
    assert initiate_to_bob().datagram[-16:] == bytes(16)


# With a supernode


@pytest.mark.parametrize("suite", Suite)
def test_an_edge_and_a_supernode_make_a_session_and_know_each_other(suite: Suite) -> None:
    initiator = SupernodeInitiator(ALICE, suite, ALICE_INDEX, seeded_entropy(10))
    initiation = SupernodeInitiation.receive_untrusted(initiator.datagram, SUPERNODE)
    assert initiation.sender_index == ALICE_INDEX
    response = initiation.respond(BOB_INDEX, seeded_entropy(11))
    assert initiator.receive_response_untrusted(response) == SUPERNODE.public_key
    confirmation, alices = initiator.confirm(4.0)
    theirs = initiation.receive_confirmation_untrusted(confirmation, 5.0)

    assert [len(d) for d in (initiator.datagram, response, confirmation)] == [72, 108, 72]
    assert (alices.is_initiator, theirs.is_initiator) == (True, False)
    assert (alices.our_index, alices.their_index) == (ALICE_INDEX, BOB_INDEX)
    assert (theirs.our_index, theirs.their_index) == (BOB_INDEX, ALICE_INDEX)
    assert (alices.their_static, theirs.their_static) == (SUPERNODE.public_key, ALICE.public_key)
    assert (alices.created_at, theirs.created_at) == (4.0, 5.0)
    assert alices.handshake_hash == theirs.handshake_hash
    assert_they_talk(alices, theirs)


@pytest.mark.parametrize("suite", Suite)
@given(bit=st.integers(0, (72 - 16) * 8 - 1))
def test_a_supernode_initiation_with_a_flipped_bit_is_refused(suite: Suite, bit: int) -> None:
    initiator = SupernodeInitiator(ALICE, suite, ALICE_INDEX, seeded_entropy(10))
    with pytest.raises((MalformedMessage, NotAuthentic)):
        SupernodeInitiation.receive_untrusted(flip_bit(initiator.datagram, bit), SUPERNODE)


@pytest.mark.parametrize("suite", Suite)
@given(bit=st.integers(0, 108 * 8 - 1))
def test_after_a_supernode_response_with_a_flipped_bit_the_true_one_still_counts(
    suite: Suite, bit: int
) -> None:
    initiator = SupernodeInitiator(ALICE, suite, ALICE_INDEX, seeded_entropy(10))
    initiation = SupernodeInitiation.receive_untrusted(initiator.datagram, SUPERNODE)
    response = initiation.respond(BOB_INDEX, seeded_entropy(11))
    if bit in SENDER_INDEX_BITS:
        # Outside the Noise message: the confirmation then goes to an index that is not ours.
        initiator.receive_response_untrusted(flip_bit(response, bit))
        confirmation, _ = initiator.confirm(0.0)
        with pytest.raises(NotAuthentic):
            initiation.receive_confirmation_untrusted(confirmation, 0.0)
        return
    with pytest.raises((MalformedMessage, NotAuthentic)):
        initiator.receive_response_untrusted(flip_bit(response, bit))
    with pytest.raises(LocalError):
        initiator.confirm(0.0)
    initiator.receive_response_untrusted(response)
    confirmation, alices = initiator.confirm(0.0)
    assert_they_talk(alices, initiation.receive_confirmation_untrusted(confirmation, 0.0))


@pytest.mark.parametrize("suite", Suite)
@given(bit=st.integers(0, 72 * 8 - 1))
def test_after_a_confirmation_with_a_flipped_bit_the_true_one_still_counts(
    suite: Suite, bit: int
) -> None:
    initiator = SupernodeInitiator(ALICE, suite, ALICE_INDEX, seeded_entropy(10))
    initiation = SupernodeInitiation.receive_untrusted(initiator.datagram, SUPERNODE)
    initiator.receive_response_untrusted(initiation.respond(BOB_INDEX, seeded_entropy(11)))
    confirmation, alices = initiator.confirm(0.0)
    with pytest.raises((MalformedMessage, NotAuthentic)):
        initiation.receive_confirmation_untrusted(flip_bit(confirmation, bit), 0.0)
    assert_they_talk(alices, initiation.receive_confirmation_untrusted(confirmation, 0.0))


def test_an_impostor_who_answers_first_does_not_keep_the_supernode_out() -> None:
    initiator = SupernodeInitiator(ALICE, Suite.AESGCM_SHA256, ALICE_INDEX, seeded_entropy(10))
    impostors = SupernodeInitiation.receive_untrusted(initiator.datagram, MALLORY)
    forged = impostors.respond(BOB_INDEX, seeded_entropy(12))
    assert initiator.receive_response_untrusted(forged) == MALLORY.public_key
    true = SupernodeInitiation.receive_untrusted(initiator.datagram, SUPERNODE)
    response = true.respond(BOB_INDEX, seeded_entropy(11))
    assert initiator.receive_response_untrusted(response) == SUPERNODE.public_key
    confirmation, alices = initiator.confirm(0.0)
    assert alices.their_static == SUPERNODE.public_key
    assert_they_talk(alices, true.receive_confirmation_untrusted(confirmation, 0.0))


def test_repeated_responses_and_confirmations_make_no_second_session() -> None:
    initiator = SupernodeInitiator(ALICE, Suite.AESGCM_SHA256, ALICE_INDEX, seeded_entropy(10))
    initiation = SupernodeInitiation.receive_untrusted(initiator.datagram, SUPERNODE)
    response = initiation.respond(BOB_INDEX, seeded_entropy(11))
    with pytest.raises(LocalError):
        initiation.respond(BOB_INDEX, seeded_entropy(11))
    initiator.receive_response_untrusted(response)
    confirmation, _ = initiator.confirm(0.0)
    with pytest.raises(Replayed):
        initiator.receive_response_untrusted(response)
    with pytest.raises(LocalError):
        initiator.confirm(0.0)
    initiation.receive_confirmation_untrusted(confirmation, 0.0)
    with pytest.raises(Replayed):
        initiation.receive_confirmation_untrusted(confirmation, 0.0)


def test_an_ephemeral_key_of_low_order_is_refused_by_the_supernode() -> None:
    datagram = SupernodeInitiator(
        ALICE, Suite.AESGCM_SHA256, ALICE_INDEX, seeded_entropy(10)
    ).datagram
    forged = add_macs(datagram[:8] + bytes(32), MAC1_KEY_SUPERNODE, None)
    initiation = SupernodeInitiation.receive_untrusted(forged, SUPERNODE)
    with pytest.raises(NotAuthentic):
        initiation.respond(BOB_INDEX, seeded_entropy(11))


def test_a_confirmation_before_the_response_is_malformed() -> None:
    initiator = SupernodeInitiator(ALICE, Suite.AESGCM_SHA256, ALICE_INDEX, seeded_entropy(10))
    initiation = SupernodeInitiation.receive_untrusted(initiator.datagram, SUPERNODE)
    with pytest.raises(MalformedMessage):
        initiation.receive_confirmation_untrusted(bytes([8, 1, 1, 0]) + bytes(68), 0.0)


# Both


def test_another_version_is_named_so_that_it_can_be_refused() -> None:
    peers = bytearray(initiate_to_bob().datagram)
    supernodes = bytearray(
        SupernodeInitiator(ALICE, Suite.AESGCM_SHA256, ALICE_INDEX, seeded_entropy()).datagram
    )
    peers[1] = supernodes[1] = 2
    for receive in (
        lambda: PeerInitiation.receive_untrusted(peers, BOB, COMMUNITY),
        lambda: SupernodeInitiation.receive_untrusted(supernodes, SUPERNODE),
    ):
        with pytest.raises(UnsupportedVersion) as caught:
            receive()
        assert (caught.value.version, caught.value.sender_index) == (2, ALICE_INDEX)


@given(st.binary(max_size=160))
def test_arbitrary_bytes_raise_only_what_the_network_may_cause(noise: bytes) -> None:
    initiator = initiate_to_bob()
    registrar = SupernodeInitiator(ALICE, Suite.AESGCM_SHA256, ALICE_INDEX, seeded_entropy(10))
    pending = SupernodeInitiation.receive_untrusted(registrar.datagram, SUPERNODE)
    pending.respond(BOB_INDEX, seeded_entropy(11))
    index = ALICE_INDEX.to_bytes(4, "big")
    for receive in (
        lambda: PeerInitiation.receive_untrusted(noise, BOB, COMMUNITY),
        lambda: SupernodeInitiation.receive_untrusted(noise, SUPERNODE),
        lambda: initiator.receive_response_untrusted(noise, 0.0),
        lambda: initiator.receive_response_untrusted(
            bytes([2, 1, 1, 0]) + index + index + noise[:48].ljust(48), 0.0
        ),
        lambda: registrar.receive_response_untrusted(
            bytes([7, 1, 1, 0]) + index + index + noise[:96].ljust(96)
        ),
        lambda: pending.receive_confirmation_untrusted(
            bytes([8, 1, 1, 0]) + BOB_INDEX.to_bytes(4, "big") + noise[:64].ljust(64), 0.0
        ),
    ):
        with pytest.raises((MalformedMessage, NotAuthentic)):
            receive()


@given(st.binary(max_size=104), st.sampled_from(Suite))
def test_an_initiation_of_arbitrary_bytes_by_a_member_is_not_authentic(
    noise: bytes, suite: Suite
) -> None:
    message = bytes([1, 1, suite, 0, 0, 0, 0, 1]) + noise.ljust(104)
    k1 = mac1_key_peer(COMMUNITY, BOB.public_key)
    with pytest.raises(NotAuthentic):
        PeerInitiation.receive_untrusted(add_macs(message, k1, None), BOB, COMMUNITY)


def test_a_session_with_a_peer_does_not_open_what_a_supernode_sealed() -> None:
    alices, _ = peer_sessions()
    _, supernodes = supernode_sessions()
    with pytest.raises(NotAuthentic):
        alices.open_untrusted(supernodes.seal(b"text"))


def test_no_secret_is_shown() -> None:
    initiator = initiate_to_bob()
    for shown in (repr(initiator), repr(initiator._noise), repr(initiator._noise._progress)):
        assert COMMUNITY.psk.hex() not in shown
        assert repr(COMMUNITY.psk) not in shown
        assert "chaining" not in shown
