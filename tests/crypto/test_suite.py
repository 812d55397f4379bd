import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.crypto.suite import Suite
from mesh.errors import NotAuthentic
from tests.crypto.actors import flip_bit

KEY = bytes(range(32))


@pytest.mark.parametrize("suite", Suite)
@given(plaintext=st.binary(max_size=80), nonce=st.integers(0, 2**64 - 1), data=st.data())
def test_what_is_sealed_opens_and_with_a_flipped_bit_does_not(
    suite: Suite, plaintext: bytes, nonce: int, data: st.DataObject
) -> None:
    sealed = suite.seal(KEY, nonce, b"associated", plaintext)
    assert len(sealed) == len(plaintext) + 16
    assert suite.open(KEY, nonce, b"associated", sealed) == plaintext
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    with pytest.raises(NotAuthentic):
        suite.open(KEY, nonce, b"associated", flip_bit(sealed, bit))
    with pytest.raises(NotAuthentic):
        suite.open(KEY, nonce ^ 1, b"associated", sealed)
    with pytest.raises(NotAuthentic):
        suite.open(KEY, nonce, b"other", sealed)


def test_an_initiator_prefers_aes_where_both_have_the_instructions() -> None:
    assert Suite.preferred(both_have_aes=True) == 1
    assert Suite.preferred(both_have_aes=False) == 4


def test_the_numbers_on_the_wire_mean_what_the_specification_says() -> None:
    assert {int(suite): suite.protocol_suffix for suite in Suite} == {
        1: "25519_AESGCM_SHA256",
        2: "25519_ChaChaPoly_SHA256",
        3: "25519_AESGCM_BLAKE2s",
        4: "25519_ChaChaPoly_BLAKE2s",
    }
