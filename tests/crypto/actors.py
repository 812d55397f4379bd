"""Who plays in the tests of this room: two members of a community, a supernode, seeded dice."""

import random
from collections.abc import Callable

from mesh.crypto.community import CommunityKeys
from mesh.crypto.handshake import (
    PeerInitiation,
    PeerInitiator,
    SupernodeInitiation,
    SupernodeInitiator,
)
from mesh.crypto.identity import Identity
from mesh.crypto.session import Session
from mesh.crypto.suite import Suite


def seeded_entropy(seed: int = 0) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


# A root needs no Argon2id here: any 32 bytes do.
COMMUNITY = CommunityKeys.from_root("lan party", bytes(range(32)))
OTHER_COMMUNITY = CommunityKeys.from_root("lan party", bytes(range(1, 33)))
ALICE = Identity.generate(seeded_entropy(1))
BOB = Identity.generate(seeded_entropy(2))
MALLORY = Identity.generate(seeded_entropy(3))
SUPERNODE = Identity.generate(seeded_entropy(4))

ALICE_INDEX = 0xA11CE001
BOB_INDEX = 0xB0B00002


def initiate_to_bob(
    suite: Suite = Suite.AESGCM_SHA256, *, seed: int = 10, cookie: bytes | None = None
) -> PeerInitiator:
    return PeerInitiator(
        ALICE,
        COMMUNITY,
        BOB.public_key,
        suite,
        ALICE_INDEX,
        7,
        seeded_entropy(seed),
        cookie,
    )


def peer_sessions(suite: Suite = Suite.AESGCM_SHA256, now: float = 0.0) -> tuple[Session, Session]:
    """Alice's (the initiator's) and Bob's."""
    initiator = initiate_to_bob(suite)
    initiation = PeerInitiation.receive_untrusted(initiator.datagram, BOB, COMMUNITY)
    response, bobs = initiation.respond(BOB_INDEX, seeded_entropy(11), now)
    return initiator.receive_response_untrusted(response, now), bobs


def supernode_sessions(suite: Suite = Suite.AESGCM_SHA256) -> tuple[Session, Session]:
    """Alice's (the initiator's) and the supernode's."""
    initiator = SupernodeInitiator(ALICE, suite, ALICE_INDEX, seeded_entropy(10))
    initiation = SupernodeInitiation.receive_untrusted(initiator.datagram, SUPERNODE)
    initiator.receive_response_untrusted(initiation.respond(BOB_INDEX, seeded_entropy(11)))
    confirmation, alices = initiator.confirm(0.0)
    return alices, initiation.receive_confirmation_untrusted(confirmation, 0.0)


def flip_bit(datagram: bytes, bit: int) -> bytes:
    """The datagram with one bit changed; bit 0 is the lowest of the first byte."""
    changed = bytearray(datagram)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
