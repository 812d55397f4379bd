"""The official vectors, for every pattern they hold, and what a failed message must not do."""

import json
from copy import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.crypto.keypair import KeyPair
from mesh.crypto.noise import IK_PSK2, XX, HandshakeState, Pattern, Token
from mesh.crypto.suite import Suite
from mesh.errors import LocalError, MalformedMessage, NotAuthentic
from tests.crypto.actors import flip_bit

VECTORS = json.loads(
    (Path(__file__).parent.parent / "vectors" / "noise.json").read_text(encoding="utf-8")
)["vectors"]

# Only two patterns ship; the others show that the machine reads tables and not two handshakes.
PATTERNS = {
    pattern.name: pattern
    for pattern in (
        IK_PSK2,
        XX,
        Pattern(
            "NK",
            responder_is_known=True,
            messages=((Token.E, Token.ES), (Token.E, Token.EE)),
        ),
        Pattern(
            "IK",
            responder_is_known=True,
            messages=(
                (Token.E, Token.ES, Token.S, Token.SS),
                (Token.E, Token.EE, Token.SE),
            ),
        ),
        Pattern(
            "NNpsk0",
            responder_is_known=False,
            messages=((Token.PSK, Token.E), (Token.E, Token.EE)),
        ),
        Pattern(
            "XXpsk3",
            responder_is_known=False,
            messages=(
                (Token.E,),
                (Token.E, Token.EE, Token.S, Token.ES),
                (Token.S, Token.SE, Token.PSK),
            ),
        ),
    )
}
SUITES = {suite.protocol_suffix: suite for suite in Suite}

Vector = dict[str, Any]


def pattern_and_suite(vector: Vector) -> tuple[Pattern, Suite]:
    _, pattern, suffix = vector["protocol_name"].split("_", 2)
    return PATTERNS[pattern], SUITES[suffix]


def side_of(vector: Vector, side: str) -> HandshakeState:
    pattern, suite = pattern_and_suite(vector)
    static = vector.get(f"{side}_static")
    remote_static = vector.get(f"{side}_remote_static")
    psks = vector.get(f"{side}_psks")
    return HandshakeState(
        pattern,
        suite,
        is_initiator=side == "init",
        prologue=bytes.fromhex(vector[f"{side}_prologue"]),
        our_static=KeyPair(bytes.fromhex(static)) if static else None,
        their_static=bytes.fromhex(remote_static) if remote_static else None,
        psk=bytes.fromhex(psks[0]) if psks else None,
    )


def ephemeral_of(vector: Vector, side: str) -> bytes:
    return bytes.fromhex(vector[f"{side}_ephemeral"])


def test_the_vectors_hold_both_our_patterns_in_all_four_suites() -> None:
    names = {vector["protocol_name"] for vector in VECTORS}
    assert {
        f"Noise_{pattern}_{suffix}" for pattern in ("XX", "IKpsk2") for suffix in SUITES
    } <= names


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["protocol_name"])
def test_every_message_and_the_handshake_hash_equal_the_vector(vector: Vector) -> None:
    pattern, suite = pattern_and_suite(vector)
    sides = {side: side_of(vector, side) for side in ("init", "resp")}
    messages = [
        (bytes.fromhex(message["payload"]), bytes.fromhex(message["ciphertext"]))
        for message in vector["messages"]
    ]
    turns = [("init", "resp"), ("resp", "init")] * len(messages)

    handshake_length = len(pattern.messages)
    for (writer, reader), (payload, ciphertext) in zip(
        turns, messages[:handshake_length], strict=False
    ):
        written = sides[writer].write_message(payload, ephemeral=ephemeral_of(vector, writer))
        assert written == ciphertext
        assert sides[reader].read_message_untrusted(written) == payload

    assert sides["init"].is_finished
    assert sides["resp"].is_finished
    assert sides["init"].handshake_hash.hex() == vector["handshake_hash"]
    assert sides["resp"].handshake_hash.hex() == vector["handshake_hash"]
    assert sides["init"].split() == sides["resp"].split()

    keys = dict(zip(("init", "resp"), sides["init"].split(), strict=True))
    nonces = {"init": 0, "resp": 0}
    transport = list(zip(turns, messages, strict=False))[handshake_length:]
    assert transport
    for (writer, _), (payload, ciphertext) in transport:
        nonce = nonces[writer]
        assert suite.seal(keys[writer], nonce, b"", payload) == ciphertext
        assert suite.open(keys[writer], nonce, b"", ciphertext) == payload
        nonces[writer] = nonce + 1


def test_both_sides_learn_the_static_key_of_the_other() -> None:
    for vector in VECTORS:
        pattern, _ = pattern_and_suite(vector)
        if pattern not in {XX, IK_PSK2}:
            continue
        init, resp = finished(vector)
        assert init.their_static == KeyPair(bytes.fromhex(vector["resp_static"])).public_key
        assert resp.their_static == KeyPair(bytes.fromhex(vector["init_static"])).public_key


def finished(vector: Vector) -> tuple[HandshakeState, HandshakeState]:
    init, resp = side_of(vector, "init"), side_of(vector, "resp")
    writer, reader, side, other = init, resp, "init", "resp"
    while not init.is_finished:
        reader.read_message_untrusted(writer.write_message(ephemeral=ephemeral_of(vector, side)))
        writer, reader, side, other = reader, writer, other, side
    return init, resp


def vector_named(name: str) -> Vector:
    vector: Vector = next(v for v in VECTORS if v["protocol_name"] == f"Noise_{name}")
    return vector


OURS = [vector_named(f"{pattern}_{suffix}") for pattern in ("XX", "IKpsk2") for suffix in SUITES]


@pytest.mark.parametrize("vector", OURS, ids=lambda vector: vector["protocol_name"])
@given(data=st.data())
def test_after_any_forgery_the_true_message_still_verifies(
    vector: Vector, data: st.DataObject
) -> None:
    init, resp = side_of(vector, "init"), side_of(vector, "resp")
    writer, reader, side, other = init, resp, "init", "resp"
    while not init.is_finished:
        message = writer.write_message(b"payload", ephemeral=ephemeral_of(vector, side))
        before = reader.handshake_hash, reader.their_static
        # The first message of XX is not encrypted: there a flip shows in the next one.
        if reader.their_static is not None or len(message) > 32 + 7:
            bit = data.draw(st.integers(0, len(message) * 8 - 1))
            with pytest.raises(NotAuthentic):
                reader.read_message_untrusted(flip_bit(message, bit))
        with pytest.raises((MalformedMessage, NotAuthentic)):
            reader.read_message_untrusted(message[: data.draw(st.integers(0, 31))])
        assert (reader.handshake_hash, reader.their_static) == before
        assert reader.read_message_untrusted(message) == b"payload"
        writer, reader, side, other = reader, writer, other, side
    assert init.split() == resp.split()


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_only_what_the_network_may_cause(message: bytes) -> None:
    for vector in OURS:
        reader = side_of(vector, "resp")
        before = reader.handshake_hash
        try:
            reader.read_message_untrusted(message)
        except (MalformedMessage, NotAuthentic):
            assert reader.handshake_hash == before
        else:
            assert "_XX_" in vector["protocol_name"], "only XX starts without a proof"


@pytest.mark.parametrize("vector", OURS, ids=lambda vector: vector["protocol_name"])
def test_another_prologue_does_not_verify(vector: Vector) -> None:
    init = side_of(vector, "init")
    resp = side_of({**vector, "resp_prologue": "00"}, "resp")
    message = init.write_message(ephemeral=ephemeral_of(vector, "init"))
    with pytest.raises(NotAuthentic):  # noqa: PT012 - XX notices one message later than IK
        resp.read_message_untrusted(message)
        init.read_message_untrusted(resp.write_message(ephemeral=ephemeral_of(vector, "resp")))


def test_another_pre_shared_key_does_not_verify() -> None:
    vector = vector_named("IKpsk2_25519_AESGCM_SHA256")
    init = side_of(vector, "init")
    resp = side_of({**vector, "resp_psks": ["00" * 32]}, "resp")
    message = init.write_message(ephemeral=ephemeral_of(vector, "init"))
    with pytest.raises(NotAuthentic):  # noqa: PT012 - whichever side notices first
        resp.read_message_untrusted(message)
        init.read_message_untrusted(resp.write_message(ephemeral=ephemeral_of(vector, "resp")))


def test_an_ephemeral_key_of_low_order_is_refused() -> None:
    vector = vector_named("XX_25519_AESGCM_SHA256")
    resp = side_of(vector, "resp")
    resp.read_message_untrusted(bytes(32))
    with pytest.raises(NotAuthentic):
        resp.write_message(ephemeral=ephemeral_of(vector, "resp"))


def test_a_static_key_of_low_order_is_refused() -> None:
    vector = {**vector_named("IKpsk2_25519_AESGCM_SHA256"), "init_remote_static": "00" * 32}
    init = side_of(vector, "init")
    with pytest.raises(NotAuthentic):
        init.write_message(ephemeral=ephemeral_of(vector, "init"))


def test_messages_out_of_turn_are_our_own_fault() -> None:
    vector = vector_named("XX_25519_AESGCM_SHA256")
    init, resp = side_of(vector, "init"), side_of(vector, "resp")
    with pytest.raises(LocalError):
        init.read_message_untrusted(bytes(32))
    with pytest.raises(LocalError):
        resp.write_message(ephemeral=bytes(32))
    with pytest.raises(LocalError):
        init.split()
    init, resp = finished(vector)
    with pytest.raises(LocalError):
        resp.write_message()


@pytest.mark.parametrize("missing", ["init_psks", "init_remote_static", "init_static"])
def test_a_missing_key_is_our_own_fault(missing: str) -> None:
    vector = {**vector_named("IKpsk2_25519_AESGCM_SHA256"), missing: None}
    with pytest.raises(LocalError):
        side_of(vector, "init").write_message(ephemeral=ephemeral_of(vector, "init"))


def test_a_failed_write_changes_nothing_either() -> None:
    vector = vector_named("XX_25519_AESGCM_SHA256")
    init = side_of(vector, "init")
    before = init.handshake_hash
    with pytest.raises(LocalError):
        init.write_message(ephemeral=b"short")
    assert init.handshake_hash == before
    init.write_message(ephemeral=ephemeral_of(vector, "init"))


def test_a_copy_of_a_handshake_goes_its_own_way() -> None:
    vector = vector_named("XX_25519_AESGCM_SHA256")
    init = side_of(vector, "init")
    fork = copy(init)
    before = init.handshake_hash
    fork.write_message(ephemeral=ephemeral_of(vector, "init"))
    assert init.handshake_hash == before != fork.handshake_hash
