import hmac
import unicodedata
from ipaddress import IPv4Network, IPv6Interface, IPv6Network

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from mesh.crypto.community import (
    CommunityKeys,
    derive_root,
    generate_secret,
    normalise_name,
    verify_registration,
)
from mesh.errors import LocalError
from tests.crypto.actors import ALICE, COMMUNITY, OTHER_COMMUNITY, flip_bit, seeded_entropy

ROOT = bytes(range(32))
HANDSHAKE_HASH = bytes(range(100, 132))


def expand(key: bytes, info: bytes, length: int) -> bytes:
    """The first block of HKDF-Expand, RFC 5869 section 2.3."""
    return hmac.digest(key, info + b"\x01", "sha256")[:length]


def test_the_root_is_argon2id_with_the_parameters_of_the_specification() -> None:
    assert derive_root("lan party", "correct horse").hex() == (
        "dce474afd95c1e475e37d5b448923bfce8f965b1023f55d8f2fcee2620841552"
    )


def test_an_open_community_has_another_root_than_any_closed_one() -> None:
    assert derive_root("lan party", None).hex() == (
        "18198d5c03e66570889764c13c70341f604aaef6645f1ad70e595c0f1cba2c6b"
    )


def test_name_and_secret_mean_the_same_however_they_are_composed() -> None:
    composed, decomposed = (
        unicodedata.normalize(form, "caf\N{LATIN SMALL LETTER E WITH ACUTE}")
        for form in ("NFC", "NFD")
    )
    assert composed != decomposed
    assert derive_root(composed, composed) == derive_root(decomposed, decomposed)
    assert normalise_name(decomposed) == composed
    assert CommunityKeys.from_root(decomposed, ROOT).name == composed


@pytest.mark.parametrize(
    "name", ["", "x" * 65, "\N{LATIN SMALL LETTER E WITH ACUTE}" * 33, "a\x1b[31m", "a\0", "\udcff"]
)
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="community name"):
        derive_root(name, "secret")
    with pytest.raises(ValueError, match="community name"):
        CommunityKeys.from_root(name, ROOT)


def test_a_name_may_have_64_bytes() -> None:
    assert normalise_name("x" * 64) == "x" * 64
    assert normalise_name("\N{LATIN SMALL LETTER E WITH ACUTE}" * 32)


@pytest.mark.parametrize("secret", ["", "hush\udcff"])
def test_a_bad_secret_is_refused_without_being_quoted(secret: str) -> None:
    with pytest.raises(ValueError, match="secret") as caught:
        derive_root("lan party", secret)
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_keys_are_expanded_from_the_root_with_the_labels_of_the_specification() -> None:
    assert COMMUNITY.psk == expand(ROOT, b"mesh v1 psk", 32)
    assert COMMUNITY.mac1_key == expand(ROOT, b"mesh v1 mac1", 32)
    assert COMMUNITY.ula_network == IPv6Network(
        (b"\xfd" + expand(ROOT, b"mesh v1 ula", 5) + bytes(10), 64)
    )


def test_a_root_has_32_bytes() -> None:
    with pytest.raises(LocalError):
        CommunityKeys.from_root("lan party", ROOT[:-1])


def test_a_signature_proves_membership_in_its_session_only() -> None:
    signature = COMMUNITY.sign_registration(HANDSHAKE_HASH)
    assert len(signature) == 64
    assert verify_registration(COMMUNITY.community_id, HANDSHAKE_HASH, signature)
    assert not verify_registration(COMMUNITY.community_id, bytes(32), signature)
    assert not verify_registration(OTHER_COMMUNITY.community_id, HANDSHAKE_HASH, signature)


@given(st.integers(0, 64 * 8 - 1))
def test_a_signature_with_a_flipped_bit_proves_nothing(bit: int) -> None:
    signature = flip_bit(COMMUNITY.sign_registration(HANDSHAKE_HASH), bit)
    assert not verify_registration(COMMUNITY.community_id, HANDSHAKE_HASH, signature)


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_arbitrary_bytes_prove_nothing(community_id: bytes, signature: bytes) -> None:
    assert not verify_registration(community_id, HANDSHAKE_HASH, signature)


@given(st.binary(min_size=32, max_size=32))
def test_all_members_propose_the_same_eight_subnets_in_their_range(root: bytes) -> None:
    proposals = CommunityKeys.from_root("lan party", root).subnet_proposals()
    key = expand(root, b"mesh v1 subnet", 32)
    assert len(proposals) == 8
    for number, proposal in enumerate(proposals):
        second, third = expand(key, b"subnet" + bytes([number]), 2)
        assert proposal == IPv4Network(f"10.{16 + second % 224}.{third & 0xFC}.0/22")


def test_an_ipv6_address_is_prefix_and_interface_id() -> None:
    address = COMMUNITY.ipv6_address(ALICE.interface_id)
    assert isinstance(address, IPv6Interface)
    assert address.network == COMMUNITY.ula_network
    assert address.ip.packed[8:] == ALICE.interface_id


def test_communities_of_one_name_and_two_secrets_share_nothing() -> None:
    assert COMMUNITY.name == OTHER_COMMUNITY.name
    assert COMMUNITY.community_id != OTHER_COMMUNITY.community_id
    assert COMMUNITY.psk != OTHER_COMMUNITY.psk
    assert COMMUNITY.mac1_key != OTHER_COMMUNITY.mac1_key
    assert COMMUNITY.ula_network != OTHER_COMMUNITY.ula_network


def test_a_generated_secret_is_32_characters_of_base32_from_160_bits() -> None:
    secret = generate_secret(seeded_entropy(1))
    assert len(secret) == 32
    assert secret != generate_secret(seeded_entropy(2))
    assert set(secret) <= set("abcdefghijklmnopqrstuvwxyz234567")


def test_no_key_is_shown() -> None:
    shown = repr(COMMUNITY)
    assert "lan party" in shown
    for secret in (COMMUNITY.psk, COMMUNITY.mac1_key, ROOT):
        assert secret.hex()[:8] not in shown
        assert repr(secret)[2:10] not in shown


def test_the_community_id_is_the_ed25519_key_of_the_membership_seed() -> None:
    seed = expand(ROOT, b"mesh v1 membership", 32)
    public_key = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    assert COMMUNITY.community_id == public_key.public_bytes_raw()
