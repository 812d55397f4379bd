import hashlib

from hypothesis import given
from hypothesis import strategies as st

from mesh.crypto.identity import (
    Identity,
    default_mac_of,
    edge_id_of,
    fingerprint_of,
    interface_id_of,
)
from tests.crypto.actors import ALICE, BOB, seeded_entropy


def test_the_names_of_a_key_are_those_of_the_specification() -> None:
    key = ALICE.public_key
    assert ALICE.edge_id == hashlib.blake2s(b"mesh v1 edge id" + key, digest_size=16).digest()
    assert (
        ALICE.interface_id == hashlib.blake2s(b"mesh v1 interface id" + key, digest_size=8).digest()
    )
    mac = hashlib.blake2s(b"mesh v1 mac" + key, digest_size=6).digest()
    assert ALICE.default_mac[1:] == mac[1:]


def test_the_names_of_a_fixed_key_do_not_change_between_releases() -> None:
    identity = Identity(bytes(range(32)))
    assert (
        identity.public_key.hex()
        == "8f40c5adb68f25624ae5b214ea767a6ec94d829d3d7b5e1ad1ba6f3e2138285f"
    )
    assert identity.edge_id.hex() == "6ea42e7b9cb4e4c0be046c56b8e2aef3"
    assert identity.default_mac.hex(":") == "ee:6a:58:5e:19:9d"
    assert identity.fingerprint == "c2zijvdwf4qhbfaywsuhi24hcuhl6mo3"


def test_the_functions_agree_with_the_identity() -> None:
    assert edge_id_of(BOB.public_key) == BOB.edge_id
    assert fingerprint_of(BOB.public_key) == BOB.fingerprint
    assert interface_id_of(BOB.public_key) == BOB.interface_id
    assert default_mac_of(BOB.public_key) == BOB.default_mac


@given(st.binary(min_size=32, max_size=32))
def test_every_default_mac_is_local_and_unicast(public_key: bytes) -> None:
    mac = default_mac_of(public_key)
    assert len(mac) == 6
    assert mac[0] & 0x03 == 0x02


def test_a_fingerprint_is_32_characters_of_lower_case_base32() -> None:
    assert len(ALICE.fingerprint) == 32
    assert set(ALICE.fingerprint) <= set("abcdefghijklmnopqrstuvwxyz234567")


def test_an_identity_comes_back_from_its_private_bytes() -> None:
    again = Identity(ALICE.private_bytes)
    assert again.public_key == ALICE.public_key
    assert again.edge_id == ALICE.edge_id


def test_generated_identities_take_their_key_from_the_entropy() -> None:
    assert Identity.generate(seeded_entropy(5)).private_bytes == seeded_entropy(5)(32)


def test_an_identity_shows_its_fingerprint_only() -> None:
    assert repr(ALICE) == f"<Identity {ALICE.fingerprint}>"
    assert ALICE.private_bytes.hex() not in repr(ALICE)
