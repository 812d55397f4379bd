"""mesh.wire.lan: a query and its answer."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import MalformedMessage
from mesh.wire.lan import LanAnswer, LanQuery, lan_answer_tag, lan_query_tag

COMMUNITY = bytes(range(32))
NONCE = b"n" * 16
FINGERPRINT = b"f" * 20

nonces = st.binary(min_size=16, max_size=16)
queries = st.builds(LanQuery, nonces, nonces, st.integers(0, 255))
answers = st.builds(
    LanAnswer,
    st.integers(1, 65535),
    nonces,
    nonces,
    st.binary(min_size=20, max_size=20),
    st.booleans(),
)


@given(queries)
def test_a_query_that_is_encoded_is_decoded(query: LanQuery) -> None:
    assert len(query.encode()) == 64
    assert LanQuery.decode(query.encode()) == query


@given(answers)
def test_an_answer_that_is_encoded_is_decoded(answer: LanAnswer) -> None:
    assert len(answer.encode()) == 64
    assert LanAnswer.decode(memoryview(answer.encode())) == answer


def test_a_query_has_the_layout_of_section_14() -> None:
    tag = hashlib.blake2s(b"mesh v1 lan query" + NONCE, key=COMMUNITY, digest_size=16).digest()
    query = LanQuery.for_community(COMMUNITY, NONCE)
    assert query.encode() == b"\x0b\x01\0\0" + NONCE + tag + bytes(28)


def test_an_answer_has_the_layout_of_section_14() -> None:
    tag = lan_answer_tag(COMMUNITY, NONCE, FINGERPRINT, 7777)
    data = b"mesh v1 lan answer" + NONCE + FINGERPRINT + (7777).to_bytes(2, "big")
    assert tag == hashlib.blake2s(data, key=COMMUNITY, digest_size=16).digest()
    encoded = LanAnswer(7777, NONCE, tag, FINGERPRINT, takes_any=True).encode()
    assert encoded == b"\x0c\x01\x1e\x61" + NONCE + tag + FINGERPRINT + bytes(8)


def test_a_query_is_for_its_own_community_only() -> None:
    query = LanQuery.for_community(COMMUNITY, NONCE)
    assert query.is_for(COMMUNITY)
    assert not query.is_for(bytes(32))
    assert query.tag != lan_query_tag(COMMUNITY, b"m" * 16)


@pytest.mark.parametrize(
    "forged",
    [
        {"port": 7778},
        {"nonce": b"m" * 16},
        {"fingerprint": b"g" * 20},
        {"tag": bytes(16)},
    ],
)
def test_an_answer_is_bound_to_its_query_port_and_key(forged: dict[str, object]) -> None:
    said = {
        "port": 7777,
        "nonce": NONCE,
        "tag": lan_answer_tag(COMMUNITY, NONCE, FINGERPRINT, 7777),
        "fingerprint": FINGERPRINT,
        "takes_any": False,
    }
    assert LanAnswer(**said).is_from_server_of(COMMUNITY)
    assert not LanAnswer(**said).is_from_server_of(bytes(32))
    assert not LanAnswer(**(said | forged)).is_from_server_of(COMMUNITY)


def test_an_answer_without_a_port_is_malformed() -> None:
    with pytest.raises(MalformedMessage, match="port"):
        LanAnswer.decode(LanAnswer(0, NONCE, NONCE, FINGERPRINT, takes_any=False).encode())


def test_flags_of_later_versions_are_ignored() -> None:
    encoded = bytearray(LanAnswer(1, NONCE, NONCE, FINGERPRINT, takes_any=True).encode())
    encoded[1] |= 0xFE
    assert LanAnswer.decode(encoded) == LanAnswer(1, NONCE, NONCE, FINGERPRINT, takes_any=True)


@given(
    st.builds(
        lambda kind, rest: bytes([kind]) + rest,
        st.sampled_from([11, 12]),
        st.binary(max_size=70) | st.binary(min_size=63, max_size=63),
    )
)
def test_arbitrary_bytes_decode_or_are_malformed(datagram: bytes) -> None:
    for kind in (LanQuery, LanAnswer):
        try:
            decoded = kind.decode(datagram)
        except MalformedMessage:
            continue
        assert kind.decode(decoded.encode()) == decoded
