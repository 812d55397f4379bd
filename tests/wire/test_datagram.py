"""mesh.wire.datagram: types, lengths, and the datagrams that need no key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import LocalError, MalformedMessage
from mesh.wire.datagram import (
    EXACT_LENGTHS,
    MIN_LENGTHS,
    PUNCH,
    RELAYED_TYPES,
    DatagramType,
    UnknownDatagram,
    UnknownSession,
    VersionRefusal,
    classify_untrusted,
    decode_relay_header,
    decode_unknown_session,
    decode_version_refusal,
    echo_untrusted,
    encode_relay_header,
    encode_unknown_session,
    encode_version_refusal,
    is_transport_untrusted,
    peek_receiver_index_untrusted,
    peek_transport_untrusted,
)

U32 = st.integers(0, 2**32 - 1)
RELAY_ID = st.integers(1, 2**32 - 1)
ECHO = st.binary(min_size=12, max_size=12)

# A first byte that is a type, so that arbitrary bytes get past the first check.
typed_bytes = st.builds(lambda kind, rest: bytes([kind]) + rest, st.integers(0, 15), st.binary())


def zeros_of(kind: DatagramType) -> bytes:
    """Return the shortest datagram of a type, its fields zero."""
    length = EXACT_LENGTHS.get(kind) or MIN_LENGTHS[kind]
    return bytes([kind]) + bytes(length - 1)


class TestClassification:
    def test_every_type_has_exactly_one_rule_for_its_length(self) -> None:
        assert EXACT_LENGTHS.keys() | MIN_LENGTHS.keys() == set(DatagramType)
        assert not EXACT_LENGTHS.keys() & MIN_LENGTHS.keys()

    @pytest.mark.parametrize("kind", DatagramType)
    def test_the_right_length_is_taken(self, kind: DatagramType) -> None:
        assert classify_untrusted(zeros_of(kind)) is kind
        assert classify_untrusted(memoryview(zeros_of(kind))) is kind

    @pytest.mark.parametrize("kind", DatagramType)
    def test_one_byte_less_is_malformed(self, kind: DatagramType) -> None:
        with pytest.raises(MalformedMessage, match=kind.name):
            classify_untrusted(zeros_of(kind)[:-1])

    @pytest.mark.parametrize("kind", EXACT_LENGTHS)
    def test_one_byte_more_is_malformed_where_there_is_one_length(self, kind: DatagramType) -> None:
        with pytest.raises(MalformedMessage, match=kind.name):
            classify_untrusted(zeros_of(kind) + b"\0")

    @pytest.mark.parametrize("kind", MIN_LENGTHS)
    def test_one_byte_more_is_taken_where_there_is_a_shortest_length(
        self, kind: DatagramType
    ) -> None:
        assert classify_untrusted(zeros_of(kind) + b"\xff") is kind

    @pytest.mark.parametrize(
        ("kind", "reserved"),
        [
            (DatagramType.PEER_INITIATION, {3}),
            (DatagramType.PEER_RESPONSE, {3}),
            (DatagramType.COOKIE_REPLY, {1, 2, 3}),
            (DatagramType.TRANSPORT, {1, 2, 3}),
            (DatagramType.RELAY, {2, 3}),
            (DatagramType.SUPERNODE_INITIATION, {3}),
            (DatagramType.SUPERNODE_RESPONSE, {3}),
            (DatagramType.SUPERNODE_CONFIRMATION, {3}),
            (DatagramType.UNKNOWN_SESSION, {2, 3}),
            (DatagramType.VERSION_REFUSAL, {2, 3}),
            (DatagramType.LAN_QUERY, {2, 3, *range(36, 64)}),
            (DatagramType.LAN_ANSWER, set(range(56, 64))),
            (DatagramType.PUNCH, {1}),
        ],
    )
    def test_reserved_bytes_and_no_others_must_be_zero(
        self, kind: DatagramType, reserved: set[int]
    ) -> None:
        refused = set()
        for at in range(1, len(zeros_of(kind))):
            datagram = bytearray(zeros_of(kind))
            datagram[at] = 0x80
            try:
                classify_untrusted(datagram)
            except MalformedMessage:
                refused.add(at)
        assert refused == reserved

    def test_no_bytes_are_malformed(self) -> None:
        with pytest.raises(MalformedMessage):
            classify_untrusted(b"")

    @given(st.integers(0, 255).filter(lambda kind: kind not in set(DatagramType)), st.binary())
    def test_unknown_types_are_told_apart(self, kind: int, rest: bytes) -> None:
        with pytest.raises(UnknownDatagram):
            classify_untrusted(bytes([kind]) + rest)

    def test_a_punch_is_a_punch(self) -> None:
        assert PUNCH == b"\x0d\x00"
        assert classify_untrusted(PUNCH) is DatagramType.PUNCH


class TestPeeks:
    @given(st.binary(max_size=1500) | typed_bytes)
    def test_the_fast_check_agrees_with_the_classification(self, datagram: bytes) -> None:
        try:
            is_transport = classify_untrusted(datagram) is DatagramType.TRANSPORT
        except MalformedMessage:
            is_transport = False
        assert is_transport_untrusted(datagram) is is_transport

    def test_index_and_counter_of_a_transport_datagram(self) -> None:
        datagram = b"\x04\0\0\0" + b"\x01\x02\x03\x04" + b"\0\0\0\0\0\0\x01\x02" + bytes(16)
        assert is_transport_untrusted(datagram)
        assert peek_transport_untrusted(datagram) == (0x01020304, 0x0102)

    @pytest.mark.parametrize(
        ("kind", "offset"),
        [
            (DatagramType.PEER_RESPONSE, 8),
            (DatagramType.COOKIE_REPLY, 4),
            (DatagramType.TRANSPORT, 4),
            (DatagramType.SUPERNODE_RESPONSE, 8),
            (DatagramType.SUPERNODE_CONFIRMATION, 4),
            (DatagramType.VERSION_REFUSAL, 4),
        ],
    )
    def test_receiver_indexes_stand_where_the_diagrams_have_them(
        self, kind: DatagramType, offset: int
    ) -> None:
        datagram = bytearray(zeros_of(kind))
        datagram[offset : offset + 4] = b"\xa1\xb2\xc3\xd4"
        assert peek_receiver_index_untrusted(datagram) == 0xA1B2C3D4

    @pytest.mark.parametrize("kind", DatagramType)
    def test_the_peek_works_for_the_shortest_datagram_of_every_type(
        self, kind: DatagramType
    ) -> None:
        assert peek_receiver_index_untrusted(zeros_of(kind)) == 0


class TestEnvelopes:
    def test_the_header_is_that_of_section_11(self) -> None:
        assert encode_relay_header(0x01020304, 0xFF) == b"\x05\0\0\0\x01\x02\x03\x04\0\0\0\xff"

        whole = encode_relay_header(0x01020304, 0xFF, dont_fragment=True)
        assert whole == b"\x05\1\0\0\x01\x02\x03\x04\0\0\0\xff"

    @given(RELAY_ID, RELAY_ID, st.sampled_from(sorted(RELAYED_TYPES)))
    def test_what_is_encoded_is_decoded(
        self, source: int, destination: int, kind: DatagramType
    ) -> None:
        for dont_fragment in (False, True):
            header = encode_relay_header(source, destination, dont_fragment=dont_fragment)
            envelope = header + zeros_of(kind)
            assert classify_untrusted(envelope) is DatagramType.RELAY
            assert decode_relay_header(memoryview(envelope)) == (source, destination)

    def test_an_envelope_holds_nothing_else(self) -> None:
        for kind in set(range(256)) - {1, 2, 3, 4, 9, 10}:
            with pytest.raises(MalformedMessage, match="never holds"):
                decode_relay_header(encode_relay_header(1, 2) + bytes([kind, 0]))

    def test_flags_that_nobody_knows_are_malformed(self) -> None:
        for flags in set(range(256)) - {0, 1}:
            with pytest.raises(MalformedMessage):
                decode_relay_header(
                    b"\5" + bytes([flags]) + encode_relay_header(1, 2)[2:] + b"\4\0"
                )

    @pytest.mark.parametrize(("source", "destination"), [(0, 1), (1, 0), (0, 0)])
    def test_relay_ids_are_never_zero(self, source: int, destination: int) -> None:
        with pytest.raises(MalformedMessage):
            decode_relay_header(encode_relay_header(source, destination) + b"\x04\0")

    @given(st.binary(max_size=40) | typed_bytes)
    def test_arbitrary_bytes_decode_or_are_malformed(self, datagram: bytes) -> None:
        try:
            source, destination = decode_relay_header(datagram)
        except MalformedMessage:
            return
        whole = bool(datagram[1])
        assert datagram.startswith(encode_relay_header(source, destination, dont_fragment=whole))


class TestUnknownSessions:
    @given(ECHO)
    def test_a_hint_about_a_session_is_decoded(self, echo: bytes) -> None:
        datagram = encode_unknown_session(DatagramType.TRANSPORT, echo)
        assert datagram == b"\x09\x04\0\0" + echo
        assert decode_unknown_session(datagram) == UnknownSession(DatagramType.TRANSPORT, echo)

    @given(st.binary(min_size=8, max_size=8))
    def test_a_hint_about_an_envelope_is_decoded(self, ids: bytes) -> None:
        datagram = encode_unknown_session(DatagramType.RELAY, ids + bytes(4))
        assert decode_unknown_session(datagram) == UnknownSession(
            DatagramType.RELAY, ids + bytes(4)
        )

    def test_the_rest_of_the_echo_of_an_envelope_is_zero(self) -> None:
        with pytest.raises(MalformedMessage):
            decode_unknown_session(b"\x09\x05\0\0" + bytes(11) + b"\x01")

    def test_a_hint_is_about_a_session_or_an_envelope(self) -> None:
        for what in set(range(256)) - {4, 5}:
            with pytest.raises(MalformedMessage):
                decode_unknown_session(bytes([9, what, 0, 0]) + bytes(12))

    def test_the_echo_of_a_transport_datagram_is_index_and_counter(self) -> None:
        datagram = b"\x04\0\0\0" + bytes(range(1, 13)) + bytes(16)
        assert echo_untrusted(memoryview(datagram)) == bytes(range(1, 13))

    def test_the_echo_of_an_envelope_is_source_and_destination(self) -> None:
        envelope = encode_relay_header(1, 2) + b"\x04" * 32
        assert echo_untrusted(envelope) == b"\0\0\0\x01\0\0\0\x02\0\0\0\0"

    @pytest.mark.parametrize(
        ("what", "echo"),
        [(DatagramType.PUNCH, bytes(12)), (DatagramType.RELAY, bytes(11))],
    )
    def test_a_wrong_hint_is_our_own_fault(self, what: DatagramType, echo: bytes) -> None:
        with pytest.raises(LocalError):
            encode_unknown_session(what, echo)

    @given(st.binary(max_size=20).map(lambda rest: b"\x09" + rest) | typed_bytes)
    def test_arbitrary_bytes_decode_or_are_malformed(self, datagram: bytes) -> None:
        try:
            hint = decode_unknown_session(datagram)
        except MalformedMessage:
            return
        assert encode_unknown_session(hint.what, hint.echo) == datagram


class TestVersionRefusals:
    @given(st.integers(0, 255), U32)
    def test_what_is_encoded_is_decoded(self, version: int, receiver_index: int) -> None:
        datagram = encode_version_refusal(version, receiver_index)
        assert datagram == bytes([10, version, 0, 0]) + receiver_index.to_bytes(4, "big")
        assert decode_version_refusal(datagram) == VersionRefusal(version, receiver_index)

    @given(st.binary(max_size=10).map(lambda rest: b"\x0a" + rest) | typed_bytes)
    def test_arbitrary_bytes_decode_or_are_malformed(self, datagram: bytes) -> None:
        try:
            refusal = decode_version_refusal(datagram)
        except MalformedMessage:
            return
        assert encode_version_refusal(*refusal) == datagram
