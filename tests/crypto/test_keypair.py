import pytest

from mesh.crypto.keypair import KeyPair
from mesh.errors import LocalError, NotAuthentic

PRIME = 2**255 - 19

# The x coordinates of all points whose order divides 8, also where they are not reduced: what
# RFC 7748 section 6.1 means by inputs that give the all-zero value.
LOW_ORDER_KEYS = [
    number.to_bytes(32, "little")
    for number in (
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        PRIME - 1,
        PRIME,
        PRIME + 1,
    )
]


def test_both_sides_compute_the_same_secret() -> None:
    alice, bob = KeyPair(bytes(range(32))), KeyPair(bytes(range(1, 33)))
    assert alice.exchange(bob.public_key) == bob.exchange(alice.public_key)
    assert alice.exchange(bob.public_key) != alice.exchange(alice.public_key)


@pytest.mark.parametrize("public_key", LOW_ORDER_KEYS)
def test_a_key_of_low_order_is_refused(public_key: bytes) -> None:
    with pytest.raises(NotAuthentic):
        KeyPair(b"\x11" * 32).exchange(public_key)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(NotAuthentic):
        KeyPair(b"\x11" * 32).exchange(b"\x09" * length)
    with pytest.raises(LocalError):
        KeyPair(b"\x11" * length)


def test_the_private_key_is_not_shown() -> None:
    assert repr(KeyPair(b"\x11" * 32)) == "<KeyPair>"
