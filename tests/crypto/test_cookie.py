import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.addresses import Endpoint
from mesh.constants import COOKIE_LIFETIME
from mesh.crypto.cookie import (
    MAC1_KEY_SUPERNODE,
    CookieSecret,
    add_macs,
    has_valid_mac1,
    mac1_key_peer,
    mac1_of,
    open_cookie_reply_untrusted,
)
from mesh.errors import MalformedMessage, NotAuthentic
from tests.crypto.actors import (
    ALICE,
    ALICE_INDEX,
    BOB,
    COMMUNITY,
    OTHER_COMMUNITY,
    flip_bit,
    initiate_to_bob,
    seeded_entropy,
)

K1 = mac1_key_peer(COMMUNITY, BOB.public_key)
SOURCE = Endpoint("192.0.2.1", 40000)
INITIATOR = initiate_to_bob()


def keyed(length: int, key: bytes, data: bytes) -> bytes:
    return hashlib.blake2s(data, key=key, digest_size=length).digest()


def test_the_macs_are_those_of_the_specification() -> None:
    cookie = bytes(range(16))
    mac1 = keyed(16, K1, b"message")
    mac2 = keyed(16, cookie, b"message" + mac1)
    assert add_macs(b"message", K1, cookie) == b"message" + mac1 + mac2
    assert add_macs(b"message", K1, None) == b"message" + mac1 + bytes(16)
    assert keyed(32, COMMUNITY.mac1_key, BOB.public_key) == K1
    assert hashlib.blake2s(b"mesh v1 mac1 supernode", digest_size=32).digest() == MAC1_KEY_SUPERNODE


@given(st.integers(0, (144 - 16) * 8 - 1))
def test_a_flipped_bit_anywhere_before_mac2_makes_mac1_wrong(bit: int) -> None:
    assert has_valid_mac1(INITIATOR.datagram, K1)
    assert not has_valid_mac1(flip_bit(INITIATOR.datagram, bit), K1)


def test_mac1_is_wrong_for_another_responder_or_community() -> None:
    assert not has_valid_mac1(INITIATOR.datagram, mac1_key_peer(COMMUNITY, ALICE.public_key))
    assert not has_valid_mac1(INITIATOR.datagram, mac1_key_peer(OTHER_COMMUNITY, BOB.public_key))
    assert not has_valid_mac1(INITIATOR.datagram, MAC1_KEY_SUPERNODE)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_have_no_valid_mac(noise: bytes) -> None:
    assert not has_valid_mac1(noise, K1)
    assert not CookieSecret(seeded_entropy()).has_valid_mac2(noise, SOURCE, 0.0)


def cookie_from(secret: CookieSecret, now: float, source: Endpoint = SOURCE) -> bytes:
    reply = secret.reply(INITIATOR.datagram, source, K1, now)
    index, cookie = open_cookie_reply_untrusted(reply, K1, INITIATOR.mac1)
    assert index == ALICE_INDEX
    return cookie


def test_an_initiation_with_the_cookie_of_its_source_is_recognised() -> None:
    secret = CookieSecret(seeded_entropy())
    again = initiate_to_bob(seed=99, cookie=cookie_from(secret, 5.0))
    assert secret.has_valid_mac2(again.datagram, SOURCE, 6.0)
    assert not secret.has_valid_mac2(again.datagram, Endpoint(SOURCE.host, 40001), 6.0)
    assert not secret.has_valid_mac2(again.datagram, Endpoint("2001:db8::1", 40000), 6.0)
    assert not secret.has_valid_mac2(INITIATOR.datagram, SOURCE, 6.0)
    assert not CookieSecret(seeded_entropy(1)).has_valid_mac2(again.datagram, SOURCE, 6.0)


@given(
    given_at=st.floats(0, 1e6),
    age=st.floats(0, COOKIE_LIFETIME - 0.001),
)
def test_a_cookie_is_recognised_for_at_least_its_lifetime(given_at: float, age: float) -> None:
    secret = CookieSecret(seeded_entropy())
    again = initiate_to_bob(cookie=cookie_from(secret, given_at))
    assert secret.has_valid_mac2(again.datagram, SOURCE, given_at + age)


@given(given_at=st.floats(0, 1e6), age=st.floats(2 * COOKIE_LIFETIME, 1e6))
def test_a_cookie_is_forgotten_after_twice_its_lifetime(given_at: float, age: float) -> None:
    secret = CookieSecret(seeded_entropy())
    again = initiate_to_bob(cookie=cookie_from(secret, given_at))
    assert not secret.has_valid_mac2(again.datagram, SOURCE, given_at + age)


def test_cookies_change_between_periods_but_not_within() -> None:
    secret = CookieSecret(seeded_entropy())
    first = cookie_from(secret, 0.0)
    assert cookie_from(secret, COOKIE_LIFETIME - 1.0) == first
    assert cookie_from(secret, COOKIE_LIFETIME) != first


@given(st.integers(0, (144) * 8 - 1))
def test_mac2_covers_the_whole_initiation(bit: int) -> None:
    secret = CookieSecret(seeded_entropy())
    again = initiate_to_bob(cookie=cookie_from(secret, 0.0))
    assert not secret.has_valid_mac2(flip_bit(again.datagram, bit), SOURCE, 0.0)


def test_a_reply_has_the_layout_of_the_specification_and_is_shorter_than_any_initiation() -> None:
    reply = CookieSecret(seeded_entropy()).reply(INITIATOR.datagram, SOURCE, K1, 0.0)
    assert len(reply) == 48
    assert reply[:4] == bytes([3, 0, 0, 0])
    assert reply[4:8] == ALICE_INDEX.to_bytes(4, "big")


def test_two_replies_never_share_a_nonce() -> None:
    secret = CookieSecret(seeded_entropy())
    replies = {secret.reply(INITIATOR.datagram, SOURCE, K1, 0.0)[8:16] for _ in range(50)}
    assert len(replies) == 50


@given(st.integers(0, 48 * 8 - 1))
def test_a_reply_with_a_flipped_bit_gives_no_cookie_for_this_initiation(bit: int) -> None:
    reply = CookieSecret(seeded_entropy()).reply(INITIATOR.datagram, SOURCE, K1, 0.0)
    try:
        index, _ = open_cookie_reply_untrusted(flip_bit(reply, bit), K1, INITIATOR.mac1)
    except (MalformedMessage, NotAuthentic):
        return
    assert index != ALICE_INDEX, "only the index is for the caller to compare"


def test_a_reply_opens_only_with_the_mac1_and_key_of_its_initiation() -> None:
    reply = CookieSecret(seeded_entropy()).reply(INITIATOR.datagram, SOURCE, K1, 0.0)
    with pytest.raises(NotAuthentic):
        open_cookie_reply_untrusted(reply, MAC1_KEY_SUPERNODE, INITIATOR.mac1)
    with pytest.raises(NotAuthentic):
        open_cookie_reply_untrusted(reply, K1, mac1_of(initiate_to_bob(seed=99).datagram))


@given(st.one_of(st.binary(max_size=80), st.binary(min_size=44, max_size=44)), st.booleans())
def test_arbitrary_bytes_are_no_reply(
    noise: bytes,
    with_prefix: bool,  # noqa: FBT001 - drawn by hypothesis
) -> None:
    prefix = bytes([3, 0, 0, 0]) if with_prefix else b""
    with pytest.raises((MalformedMessage, NotAuthentic)):
        open_cookie_reply_untrusted(prefix + noise, K1, INITIATOR.mac1)
