"""mesh.wire.messages: what is encoded is decoded, and nothing else is."""

import dataclasses
import hashlib
import random
from typing import Any, get_args

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mesh.addresses import EdgeId, Endpoint, MacAddress
from mesh.constants import (
    BASE_DATAGRAM_BYTES,
    INNER_HEADER_BYTES,
    MAX_DATAGRAM_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_PING_BYTES,
    RELAY_HEADER_BYTES,
    TAG_BYTES,
    TRANSPORT_HEADER_BYTES,
)
from mesh.errors import LocalError, MalformedMessage, RefusalReason
from mesh.wire.messages import (
    SCHEMAS,
    AddressMode,
    Gone,
    Hello,
    Lookup,
    Member,
    Members,
    Message,
    Ping,
    Pong,
    RefusedMessage,
    Register,
    Registered,
    UnknownMessage,
    combine_digests,
    decode_message,
    encode_message,
    is_displayable,
    member_digest,
    padded_ping,
)
from mesh.wire.schema import Optional
from tests.wire.message_strategies import BY_CLASS, MEMBER, MESSAGE

IPV6_ENDPOINT = Endpoint("2001:db8:1111:2222:3333:4444:5555:6666", 65535)
LONGEST_IPV6_CIDR = "2001:db8:1111:2222:3333:4444:5555:6666/128"

FULL_MEMBER = Member(b"\xff" * 32, IPV6_ENDPOINT, 2**32 - 1, "255.255.255.255/32", aes=True)
REGISTER = Register(
    community=bytes(32),
    signature=bytes(64),
    instance=bytes(8),
    mode=AddressMode.AUTO,
    address="",
    subnets=("10.84.4.0/22",),
    aes=True,
)
HELLO = Hello(
    name="lathe",
    mac=MacAddress(bytes.fromhex("0200000000aa")),
    addresses=("10.84.4.7/22", "fd00::1/64"),
    candidates=(Endpoint("192.0.2.1", 7777),),
    mtu=1500,
    answer=True,
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=40)
    | st.binary(max_size=70)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=12) | st.dictionaries(st.text(max_size=8), inner, max_size=5)
    ),
    max_leaves=12,
)


def as_map(message: Message) -> dict[str, Any]:
    """Return the map of a message as msgpack has it."""
    fields: dict[str, Any] = msgpack.unpackb(encode_message(message))
    return fields


def decodes_or_is_malformed(body: bytes) -> None:
    try:
        message = decode_message(body)
    except MalformedMessage:
        return
    assert decode_message(encode_message(message)) == message


class TestTheCodec:
    def test_every_message_has_a_schema_and_a_strategy(self) -> None:
        assert {schema.make for schema in SCHEMAS} == set(get_args(Message)) == set(BY_CLASS)

    def test_every_schema_names_the_attributes_of_its_dataclass(self) -> None:
        for schema in SCHEMAS:
            attributes = {field.name for field in dataclasses.fields(schema.make)}
            assert {field.name for field in schema.fields} == attributes

    @given(MESSAGE)
    def test_what_is_encoded_is_decoded(self, message: Message) -> None:
        assert decode_message(encode_message(message)) == message

    @given(MESSAGE)
    def test_the_buffer_may_be_lent(self, message: Message) -> None:
        lent = bytearray(encode_message(message))
        decoded = decode_message(memoryview(lent))
        lent[:] = bytes(len(lent))
        assert decoded == message

    def test_a_message_is_a_map_that_says_its_name(self) -> None:
        assert encode_message(Lookup()) == b"\x81\xa1m\xa6lookup"
        assert as_map(Gone(EdgeId(b"\x01" * 16), b"\x02" * 8)) == {
            "m": "gone",
            "id": b"\x01" * 16,
            "digest": b"\x02" * 8,
        }

    def test_an_endpoint_that_is_not_there_is_empty_bytes(self) -> None:
        assert as_map(Pong(bytes(8), None))["endpoint"] == b""

    def test_an_endpoint_is_address_then_port(self) -> None:
        pong = Pong(bytes(8), Endpoint("192.0.2.1", 7777))
        assert as_map(pong)["endpoint"] == bytes([192, 0, 2, 1]) + (7777).to_bytes(2, "big")


class TestWhatAPeerMaySend:
    @given(st.binary(max_size=1400))
    def test_arbitrary_bytes_decode_or_are_malformed(self, body: bytes) -> None:
        decodes_or_is_malformed(body)

    @given(st.sampled_from([schema.described for schema in SCHEMAS]), st.data())
    def test_arbitrary_values_under_known_keys_decode_or_are_malformed(
        self, name: str, data: st.DataObject
    ) -> None:
        schema = next(schema for schema in SCHEMAS if schema.described == name)
        fields = {field.key: data.draw(values, label=field.key) for field in schema.fields}
        decodes_or_is_malformed(msgpack.packb({"m": name, **fields}))

    @given(MESSAGE, st.data())
    def test_one_arbitrary_value_decodes_or_is_malformed(
        self, message: Message, data: st.DataObject
    ) -> None:
        fields = as_map(message)
        fields[data.draw(st.sampled_from(sorted(fields)))] = data.draw(values)
        decodes_or_is_malformed(msgpack.packb(fields))

    @given(MESSAGE, st.data())
    def test_flipped_and_cut_bytes_decode_or_are_malformed(
        self, message: Message, data: st.DataObject
    ) -> None:
        body = bytearray(encode_message(message))
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
        decodes_or_is_malformed(bytes(body[: data.draw(st.integers(0, len(body)))]))

    @given(MESSAGE, st.data())
    def test_a_missing_key_makes_the_message_malformed(
        self, message: Message, data: st.DataObject
    ) -> None:
        fields = as_map(message)
        optional = {
            field.key
            for schema in SCHEMAS
            for field in schema.fields
            if schema.make is type(message) and isinstance(field.kind, Optional)
        }
        missing = data.draw(st.sampled_from(sorted(fields.keys() - optional)))
        del fields[missing]
        with pytest.raises(MalformedMessage, match=r"missing|has a name"):
            decode_message(msgpack.packb(fields))

    def test_a_missing_optional_key_is_the_default_which_is_never_written(self) -> None:
        ping = as_map(Ping(bytes(8)))
        assert "other" not in ping
        assert decode_message(msgpack.packb(ping)) == Ping(bytes(8), b"", other=False)
        assert decode_message(msgpack.packb(ping | {"other": True})) == Ping(bytes(8), other=True)
        with pytest.raises(MalformedMessage, match="other"):
            decode_message(msgpack.packb(ping | {"other": 1}))

    @given(MESSAGE.filter(lambda message: len(encode_message(message)) < 1100), scalars)
    def test_unknown_keys_are_ignored(self, message: Message, value: object) -> None:
        body = msgpack.packb(as_map(message) | {"unheard of": value})
        assert decode_message(body) == message

    def test_unknown_keys_of_a_member_are_ignored(self) -> None:
        message = Members((FULL_MEMBER,), bytes(8), 0, 1)
        fields = as_map(message)
        fields["members"][0]["unheard of"] = 1
        assert decode_message(msgpack.packb(fields)) == message

    @given(st.text(max_size=20))
    def test_a_message_of_an_unknown_name_is_told_apart(self, name: str) -> None:
        with pytest.raises(UnknownMessage):
            decode_message(msgpack.packb({"m": f"unheard of {name}", "v": 1}))

    @pytest.mark.parametrize("name", [None, 3, b"lookup", ["lookup"]])
    def test_a_name_is_text(self, name: object) -> None:
        with pytest.raises(MalformedMessage, match="has a name"):
            decode_message(msgpack.packb({"m": name}))

    @pytest.mark.parametrize("body", [b"", b"\xc0", b"\x90", b"\xa6lookup", b"\x93\x01\x02\x03"])
    def test_a_message_is_one_map(self, body: bytes) -> None:
        with pytest.raises(MalformedMessage):
            decode_message(body)

    def test_nothing_may_follow_the_map(self) -> None:
        with pytest.raises(MalformedMessage):
            decode_message(encode_message(Lookup()) + b"\x00")

    @pytest.mark.parametrize("key", [b"bytes", 7, None])
    def test_keys_are_text(self, key: object) -> None:
        with pytest.raises(MalformedMessage):
            decode_message(msgpack.packb({"m": "lookup", key: 1}))

    def test_text_is_valid_utf8(self) -> None:
        body = encode_message(HELLO).replace(b"lathe", b"lat\xff\xfe")
        with pytest.raises(MalformedMessage):
            decode_message(body)

    @pytest.mark.parametrize(
        "extension",
        [
            msgpack.ExtType(5, b""),
            msgpack.ExtType(5, b"1234"),
            msgpack.Timestamp(1),
            msgpack.Timestamp(2**40, 5),
        ],
    )
    def test_extension_types_are_refused_wherever_they_stand(self, extension: object) -> None:
        with pytest.raises(MalformedMessage):
            decode_message(msgpack.packb({"m": "lookup", "unheard of": extension}))

    def test_a_message_nests_three_deep_and_no_deeper(self) -> None:
        assert decode_message(msgpack.packb({"m": "lookup", "x": [[1]]})) == Lookup()
        with pytest.raises(MalformedMessage, match="nests"):
            decode_message(msgpack.packb({"m": "lookup", "x": [[[]]]}))

    def test_a_thousand_nested_lists_are_malformed(self) -> None:
        with pytest.raises(MalformedMessage):
            decode_message(b"\x81\xa1m" + b"\x91" * 1200 + b"\xc0")

    def test_a_length_that_the_body_does_not_have_allocates_nothing(self) -> None:
        for header in (b"\xdd", b"\xdf", b"\xdb", b"\xc6"):
            with pytest.raises(MalformedMessage):
                decode_message(b"\x81\xa1m" + header + b"\xff\xff\xff\xff")

    def test_a_message_has_at_most_1152_bytes(self) -> None:
        overhead = len(msgpack.packb({"m": "lookup", "x": bytes(1000)})) - 1000
        longest = msgpack.packb({"m": "lookup", "x": bytes(1152 - overhead)})
        assert len(longest) == 1152
        assert decode_message(longest) == Lookup()
        with pytest.raises(MalformedMessage, match="1152"):
            decode_message(msgpack.packb({"m": "lookup", "x": bytes(1153 - overhead)}))

    def test_a_ping_has_at_most_8936_bytes(self) -> None:
        longest = encode_message(Ping(bytes(8), bytes(8905)))
        assert len(longest) == 8936
        assert decode_message(longest) == Ping(bytes(8), bytes(8905))
        with pytest.raises(MalformedMessage, match="8936"):
            decode_message(longest + b"\0")

    @pytest.mark.parametrize(
        ("message", "key", "value"),
        [
            (HELLO, "v", True),
            (HELLO, "v", 1.0),
            (HELLO, "v", -1),
            (HELLO, "v", 256),
            (HELLO, "mtu", 65536),
            (HELLO, "mac", b"12345"),
            (HELLO, "mac", "123456"),
            (HELLO, "answer", 1),
            (HELLO, "name", b"lathe"),
            (HELLO, "name", "x" * 65),
            (HELLO, "name", "ü" * 33),
            (HELLO, "name", "\x1b[2J"),
            (HELLO, "name", "two\nlines"),
            (HELLO, "name", "\u202etxt.exe"),
            (HELLO, "name", "\x9b2J"),
            (HELLO, "addresses", ["10.0.0.1/8"] * 9),
            (HELLO, "addresses", [""]),
            (HELLO, "addresses", {"10.0.0.1/8": 1}),
            (HELLO, "candidates", [bytes(6)]),
            (HELLO, "candidates", [b"\x01" * 7]),
            (HELLO, "candidates", [b""]),
            (HELLO, "candidates", [b"\x01" * 6] * 33),
            (REGISTER, "community", bytes(31)),
            (REGISTER, "signature", bytes(65)),
            (REGISTER, "mode", 3),
            (REGISTER, "mode", False),
            (REGISTER, "subnets", ["10.0.0.0/22"] * 9),
            (REGISTER, "subnets", [""]),
            (REGISTER, "subnets", ["fd00::/64"]),
            (Registered(1, IPV6_ENDPOINT, "", 1, bytes(8)), "relay_id", 0),
            (Registered(1, IPV6_ENDPOINT, "", 1, bytes(8)), "relay_id", 2**32),
            (Registered(1, IPV6_ENDPOINT, "", 1, bytes(8)), "endpoint", b""),
            (RefusedMessage(RefusalReason.VERSION), "detail", "x" * 201),
            (RefusedMessage(RefusalReason.VERSION), "reason", 256),
            (Members((FULL_MEMBER,), bytes(8), 0, 1), "members", [{}]),
            (Members((FULL_MEMBER,), bytes(8), 0, 1), "members", [7]),
            (Ping(bytes(8)), "token", bytes(7)),
            (Ping(bytes(8)), "pad", "text"),
            (Pong(bytes(8), None), "digest", bytes(4)),
            (Pong(bytes(8), None), "endpoint", bytes(5)),
        ],
    )
    def test_a_value_beyond_its_limit_makes_the_message_malformed(
        self, message: Message, key: str, value: object
    ) -> None:
        assert key in as_map(message)
        with pytest.raises(MalformedMessage, match=key):
            decode_message(msgpack.packb(as_map(message) | {key: value}))

    @pytest.mark.parametrize(
        "address",
        [
            "10.84.0.5",
            "10.84.0.5/33",
            "10.84.0.5/-1",
            "10.84.0.5/",
            "10.84.0.5/+8",
            "10.84.0.05/22",
            "10.84.0.5/255.0.0.0",
            " 10.84.0.5/22",
            "10.84.0.5/22\n",
            "10.84.0.5/٢٢",
            "10.84.0.256/22",
            "host/22",
            "fe80::1%eth0/64",
            "fe80::1%\x1b[2J/64",
            ":::/64",
            "fd00::1/129",
        ],
    )
    def test_what_is_no_address_with_a_prefix_is_malformed(self, address: str) -> None:
        with pytest.raises(MalformedMessage, match="addresses"):
            decode_message(msgpack.packb(as_map(HELLO) | {"addresses": [address]}))

    def test_host_bits_are_allowed(self) -> None:
        assert HELLO.addresses == ("10.84.4.7/22", "fd00::1/64")
        assert decode_message(encode_message(HELLO)) == HELLO

    def test_a_reason_of_a_later_version_is_a_bad_request(self) -> None:
        body = msgpack.packb({"m": "refused", "reason": 200, "detail": "", "v": 2})
        refused = decode_message(body)
        assert refused == RefusedMessage(RefusalReason.BAD_REQUEST, "", 2)

    def test_a_register_of_a_later_version_can_be_read_and_refused(self) -> None:
        later = dataclasses.replace(REGISTER, version=2)
        assert decode_message(encode_message(later)) == later


class TestWhatWeMaySend:
    @pytest.mark.parametrize(
        "message",
        [
            dataclasses.replace(HELLO, name="x" * 65),
            dataclasses.replace(HELLO, name="bell\a"),
            dataclasses.replace(HELLO, name="\udc80"),
            dataclasses.replace(HELLO, addresses=("10.0.0.1/8",) * 9),
            dataclasses.replace(HELLO, addresses=["10.0.0.1/8"]),
            dataclasses.replace(HELLO, candidates=(Endpoint("192.0.2.1", 1),) * 33),
            dataclasses.replace(HELLO, candidates=(Endpoint("192.0.2.1", 0),)),
            dataclasses.replace(HELLO, candidates=(Endpoint("192.0.2.1", 65536),)),
            dataclasses.replace(HELLO, candidates=(Endpoint("name.example", 1),)),
            dataclasses.replace(HELLO, candidates=(None,)),
            dataclasses.replace(HELLO, mtu=65536),
            dataclasses.replace(HELLO, mac=b"12345"),
            dataclasses.replace(REGISTER, mode=3),
            dataclasses.replace(REGISTER, address="10.0.0.1"),
            Members((FULL_MEMBER,) * 10, bytes(8), 0, 1),
            Ping(bytearray(8)),
            Ping(bytes(8), bytes(8906)),
        ],
    )
    def test_what_is_beyond_a_limit_is_our_own_fault(self, message: Message) -> None:
        with pytest.raises(LocalError):
            encode_message(message)

    def test_the_fullest_page_of_members_fits(self) -> None:
        encode_message(Members((FULL_MEMBER,) * 9, bytes(8), 65535, 65535))

    def test_the_fullest_hello_fits(self) -> None:
        hello = Hello(
            name="x" * 64,
            mac=MacAddress(b"\xff" * 6),
            addresses=(LONGEST_IPV6_CIDR,) * 8,
            candidates=(IPV6_ENDPOINT,) * 32,
            mtu=65535,
            answer=True,
            version=255,
        )
        encode_message(hello)

    @pytest.mark.parametrize("body_bytes", [287, 1152, 1153, 8936])
    def test_a_pad_makes_a_ping_as_long_as_wanted(self, body_bytes: int) -> None:
        assert len(encode_message(padded_ping(bytes(8), body_bytes))) == body_bytes

    def test_no_pad_makes_a_ping_longer_than_a_datagram(self) -> None:
        with pytest.raises(LocalError, match="pad"):
            encode_message(padded_ping(bytes(8), 8937))

    def test_whatever_fits_its_limits_fits_a_relayed_datagram_of_the_base_size(self) -> None:
        sealed = RELAY_HEADER_BYTES + TRANSPORT_HEADER_BYTES + INNER_HEADER_BYTES + TAG_BYTES
        assert sealed + MAX_MESSAGE_BYTES == BASE_DATAGRAM_BYTES
        assert sealed - RELAY_HEADER_BYTES + MAX_PING_BYTES == MAX_DATAGRAM_BYTES


class TestDisplayableText:
    @pytest.mark.parametrize("text", ["", "lathe", "Büro 2", "工場", "👩\u200d🔧", "ə\u0301"])
    def test_names_of_all_scripts_are(self, text: str) -> None:
        assert is_displayable(text)

    @given(st.characters(categories=["Cc", "Zl", "Zp", "Cs"]), st.text(max_size=3))
    def test_control_characters_line_breaks_and_surrogates_are_not(
        self, character: str, text: str
    ) -> None:
        assert not is_displayable(f"{text}{character}")

    @given(
        st.sampled_from("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    )
    def test_marks_that_reorder_text_are_not(self, mark: str) -> None:
        assert not is_displayable(f"a{mark}b")


class TestTheDigest:
    @given(MEMBER)
    def test_a_member_is_hashed_as_section_10_4_says(self, member: Member) -> None:
        encoded = as_map(Members((member,), bytes(8), 0, 1))["members"][0]
        hashed = hashlib.blake2s(
            encoded["key"]
            + encoded["endpoint"]
            + member.relay_id.to_bytes(4, "big")
            + member.address.encode()
            + bytes([member.aes]),
            digest_size=8,
        )
        assert member_digest(member) == hashed.digest()

    @given(st.lists(st.binary(min_size=8, max_size=8), max_size=6), st.randoms())
    def test_the_order_of_members_does_not_matter(
        self, digests: list[bytes], dice: random.Random
    ) -> None:
        shuffled = list(digests)
        dice.shuffle(shuffled)
        assert combine_digests(shuffled) == combine_digests(digests)

    @example([b"\x01" * 8], b"\xf0" * 8)
    @given(
        st.lists(st.binary(min_size=8, max_size=8), max_size=6), st.binary(min_size=8, max_size=8)
    )
    def test_a_member_that_leaves_is_combined_out(self, digests: list[bytes], gone: bytes) -> None:
        everybody = combine_digests([*digests, gone])
        assert combine_digests([everybody, gone]) == combine_digests(digests)

    def test_nobody_is_zeros(self) -> None:
        assert combine_digests([]) == bytes(8)


def test_no_member_has_the_relay_id_zero() -> None:
    member = Member(bytes(32), IPV6_ENDPOINT, 0, "", aes=True)
    with pytest.raises(LocalError):
        encode_message(Members((member,), bytes(8), page=0, pages=0))
