"""Control messages: one msgpack map each; docs/protocol.md section 9.

`SCHEMAS` says the same as the table of the specification, and the two are compared by a test. The
values are the dataclasses of `mesh.wire.message_types`, which can be had from here too.
"""

import hashlib
from collections.abc import Iterable
from typing import NoReturn, cast

import msgpack

from mesh.addresses import encode_endpoint
from mesh.constants import (
    EDGE_ID_BYTES,
    KEY_BYTES,
    MAX_CANDIDATES,
    MAX_MEMBERS_PER_MESSAGE,
    MAX_MESSAGE_BYTES,
    MAX_NAME_BYTES,
    MAX_PING_BYTES,
)
from mesh.errors import LocalError, MalformedMessage, RefusalReason
from mesh.wire.message_types import (
    AddressMode,
    Bye,
    Gone,
    Guess,
    GuessStep,
    Hello,
    Leave,
    Lookup,
    Member,
    Members,
    Message,
    Ping,
    Pong,
    RefusedMessage,
    Register,
    Registered,
    ReplacedMessage,
    Shutdown,
)
from mesh.wire.schema import (
    Binary,
    Boolean,
    Choice,
    Cidr,
    EndpointBytes,
    Field,
    ListOf,
    Optional,
    Record,
    Text,
    Unsigned,
    is_displayable,
)

__all__ = [
    "DIGEST_BYTES",
    "INSTANCE_BYTES",
    "MAX_ADDRESSES",
    "MAX_DETAIL_BYTES",
    "MAX_NAT",
    "MAX_PAD_BYTES",
    "MAX_PROBES",
    "MAX_SUBNETS",
    "MEMBER",
    "SCHEMAS",
    "TOKEN_BYTES",
    "AddressMode",
    "Bye",
    "Gone",
    "Guess",
    "GuessStep",
    "Hello",
    "Leave",
    "Lookup",
    "Member",
    "Members",
    "Message",
    "Ping",
    "Pong",
    "RefusedMessage",
    "Register",
    "Registered",
    "ReplacedMessage",
    "Shutdown",
    "UnknownMessage",
    "combine_digests",
    "decode_message",
    "encode_message",
    "is_displayable",
    "member_digest",
    "padded_ping",
]

DIGEST_BYTES = 8  # section 10.4
TOKEN_BYTES = 8  # section 9, ping and pong
INSTANCE_BYTES = 8  # section 10.1
MAX_SUBNETS = 8  # section 9, register
MAX_ADDRESSES = 8  # section 9, hello
MAX_PROBES = 2  # section 9, registered
MAX_NAT = 4  # section 9, hello
MAX_DETAIL_BYTES = 200  # section 9, refused
MAX_PAD_BYTES = 8905  # section 9, ping; what fills MAX_PING_BYTES
_PADLESS_BYTES = MAX_PING_BYTES - MAX_PAD_BYTES  # of a ping whose pad has a length of two bytes
_MAX_DEPTH = 3  # section 9: the message, its list, the member in it


class UnknownMessage(MalformedMessage):
    """A well-formed map whose ``m`` we do not know: ignored and counted apart."""


# A version has the 8 bits that it has in the header of an initiation.
_VERSION = Field("v", Unsigned("version", 8), "version")
_ADDRESS = Field("address", Cidr(18, may_be_empty=True, is_ipv4=True))
_DIGEST = Field("digest", Binary((DIGEST_BYTES,)))
_TOKEN = Field("token", Binary((TOKEN_BYTES,)))
_AES = Field("aes", Boolean())
_U16 = Unsigned("u16", 16)
_U32 = Unsigned("u32", 32)
_PORT = Unsigned("u16 > 0", 16, minimum=1)
_PROBES = Field("probes", Optional(ListOf(_PORT, MAX_PROBES), ()))

MEMBER = Record(
    "member",
    Member,
    (
        Field("key", Binary((KEY_BYTES,))),
        Field("endpoint", EndpointBytes(may_lack_port=True)),
        Field("relay_id", Unsigned("u32 > 0", 32, minimum=1)),
        _ADDRESS,
        _AES,
    ),
)

SCHEMAS = (
    Record(
        "register",
        Register,
        (
            _VERSION,
            Field("community", Binary((KEY_BYTES,))),
            Field("signature", Binary((64,))),
            Field("instance", Binary((INSTANCE_BYTES,))),
            Field("mode", Choice("0 auto, 1 none, 2 fixed", AddressMode)),
            _ADDRESS,
            Field("subnets", ListOf(Cidr(18, is_ipv4=True), MAX_SUBNETS)),
            _AES,
        ),
    ),
    Record(
        "registered",
        Registered,
        (
            _VERSION,
            Field("relay_id", Unsigned("u32 > 0", 32, minimum=1)),
            Field("endpoint", EndpointBytes(may_lack_port=True)),
            _ADDRESS,
            Field("members", _U32),
            _DIGEST,
            _PROBES,
        ),
    ),
    Record(
        "refused",
        RefusedMessage,
        (
            Field("reason", Choice("u8", RefusalReason, RefusalReason.BAD_REQUEST)),
            Field("detail", Text(MAX_DETAIL_BYTES)),
            _VERSION,
        ),
    ),
    Record(
        "members",
        Members,
        (
            Field("members", ListOf(MEMBER, MAX_MEMBERS_PER_MESSAGE)),
            _DIGEST,
            Field("page", _U16),
            Field("pages", _U16),
        ),
    ),
    Record("gone", Gone, (Field("id", Binary((EDGE_ID_BYTES,))), _DIGEST)),
    Record("lookup", Lookup, ()),
    Record("replaced", ReplacedMessage, ()),
    Record("leave", Leave, ()),
    Record("shutdown", Shutdown, ()),
    Record(
        "ping",
        Ping,
        (
            _TOKEN,
            Field("pad", Binary((MAX_PAD_BYTES,), is_limit=True)),
            Field("other", Optional(Boolean(), default=False)),
        ),
    ),
    Record(
        "pong",
        Pong,
        (
            _TOKEN,
            Field("endpoint", EndpointBytes(may_be_empty=True, may_lack_port=True)),
            Field("digest", Binary((0, DIGEST_BYTES))),
            _PROBES,
        ),
    ),
    Record(
        "hello",
        Hello,
        (
            _VERSION,
            Field("name", Text(MAX_NAME_BYTES)),
            Field("mac", Binary((6,))),
            Field("addresses", ListOf(Cidr(43), MAX_ADDRESSES)),
            Field("candidates", ListOf(EndpointBytes(), MAX_CANDIDATES)),
            Field("mtu", _U16),
            Field("answer", Boolean()),
            Field("nat", Optional(ListOf(Unsigned("u8", 8), MAX_NAT), ())),
        ),
    ),
    Record("bye", Bye, ()),
    Record(
        "guess",
        Guess,
        (
            Field("attempt", Binary((TOKEN_BYTES,))),
            Field("step", Choice("1 ask, 2 opened, 3 busy, 4 refused", GuessStep)),
            Field("port", _U16),
            Field("stride", _U16),
        ),
    ),
)

_BY_NAME = {schema.described: schema for schema in SCHEMAS}
_BY_CLASS = {schema.make: schema for schema in SCHEMAS}


def encode_message(message: Message) -> bytes:
    """Return the body of a control message, at most MAX_MESSAGE_BYTES, MAX_PING_BYTES of a ping.

    Whoever fills a message trims it to the limits first: nothing is cut here.

    Raises:
        LocalError: a value has the wrong type or is beyond its limit, or the whole is too long.
    """
    schema = _BY_CLASS[type(message)]
    fields = schema.encode(message)
    try:
        schema.decode(fields)
    except MalformedMessage as error:
        raise LocalError(str(error)) from None
    body = cast("bytes", msgpack.packb({"m": schema.described, **fields}))
    limit = MAX_PING_BYTES if isinstance(message, Ping) else MAX_MESSAGE_BYTES
    if len(body) > limit:
        raise LocalError(f"{schema.described} has {len(body)} bytes of {limit}")
    return body


def padded_ping(token: bytes, body_bytes: int) -> Ping:
    """Return a ping whose body has so many bytes, 287 to MAX_PING_BYTES."""
    return Ping(token, bytes(body_bytes - _PADLESS_BYTES))


def decode_message(body: bytes | bytearray | memoryview) -> Message:
    """Read the body of a control message; its sender is known, what it says is not trusted.

    Raises:
        UnknownMessage: it is well formed but has a name that we do not know.
        MalformedMessage: it is not such a map, a key is missing, or a value is beyond its limit.
    """
    if len(body) > MAX_PING_BYTES:
        raise MalformedMessage(f"no message has more than {MAX_PING_BYTES} bytes")
    fields = _unpack(body)
    _check_depth(fields, _MAX_DEPTH)
    if not isinstance(fields, dict):
        raise MalformedMessage("a message is a map")
    name = fields.get("m")
    if not isinstance(name, str):
        raise MalformedMessage("a message has a name")
    schema = _BY_NAME.get(name)
    if schema is None:
        raise UnknownMessage("a message of a name we do not know")
    if len(body) > MAX_MESSAGE_BYTES and schema.make is not Ping:
        raise MalformedMessage(f"a message other than a ping has at most {MAX_MESSAGE_BYTES} bytes")
    return cast("Message", schema.decode(fields))


def member_digest(member: Member) -> bytes:
    """Return the 8 bytes that stand for one member in a digest; section 10.4."""
    digest = hashlib.blake2s(member.key, digest_size=DIGEST_BYTES)
    digest.update(encode_endpoint(member.endpoint))
    digest.update(member.relay_id.to_bytes(4, "big"))
    digest.update(member.address.encode())
    digest.update(b"\x01" if member.aes else b"\x00")
    return digest.digest()


def combine_digests(digests: Iterable[bytes]) -> bytes:
    """Return the exclusive or of digests of 8 bytes, zeros for none of them; section 10.4."""
    combined = 0
    for digest in digests:
        combined ^= int.from_bytes(digest, "big")
    return combined.to_bytes(DIGEST_BYTES, "big")


def _refuse_extension(code: int, _data: bytes) -> NoReturn:
    raise MalformedMessage(f"a message never carries extension types ({code})")


def _unpack(body: bytes | bytearray | memoryview) -> object:
    try:
        unpacked: object = msgpack.unpackb(
            body,
            raw=False,
            strict_map_key=True,
            ext_hook=_refuse_extension,
            # Timestamps are an extension that never gets to the hook; a length of 0 stops them.
            max_ext_len=0,
            max_str_len=MAX_MESSAGE_BYTES,
            max_bin_len=MAX_PAD_BYTES,
            max_array_len=MAX_MESSAGE_BYTES,
            max_map_len=MAX_MESSAGE_BYTES,
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise MalformedMessage(f"a message is one msgpack map: {error}") from None
    return unpacked


def _check_depth(value: object, depth: int) -> None:
    """Refuse containers nested deeper than ``depth`` and keys that are not text."""
    if not isinstance(value, dict | list):
        return
    if depth == 0:
        raise MalformedMessage(f"a message nests at most {_MAX_DEPTH} deep")
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise MalformedMessage("the keys of a message are text")
        value = list(value.values())
    for item in value:
        _check_depth(item, depth - 1)
