"""Control messages for the fuzzer: honest ones, with fields that it leaves out, adds or changes.

Mutated msgpack is mostly no msgpack any more; this way the values get past it.
"""

from typing import Any

import msgpack

from mesh.addresses import Endpoint
from mesh.crypto.identity import Identity
from mesh.errors import RefusalReason
from mesh.wire.messages import (
    AddressMode,
    Bye,
    Gone,
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
    encode_message,
)
from tests.core.edge_alone import HOME, dice
from tests.fuzz.cursor import Cursor


def honest_messages() -> list[Message]:
    """Return one message of every kind."""
    key = Identity.generate(dice(1)).public_key
    member = Member(key, Endpoint("2001:db8::1", 7), 77, "10.1.2.3/22", aes=True)
    hello = Hello(
        name="alice",
        mac=bytes(range(6)),
        addresses=("10.1.2.3/22",),
        candidates=(HOME, Endpoint("fe80::1", 9)),
        mtu=1500,
        answer=True,
    )
    register = Register(
        community=bytes(32),
        signature=bytes(64),
        instance=bytes(8),
        mode=AddressMode.AUTO,
        address="",
        subnets=("10.0.0.0/22",),
        aes=True,
    )
    return [
        Ping(bytes(8), pad=bytes(9)),
        Pong(bytes(8), HOME, bytes(8)),
        hello,
        register,
        Registered(5, HOME, "10.1.2.3/22", 2, bytes(8)),
        RefusedMessage(RefusalReason.BAD_REQUEST, "no", 1),
        Members((member,), bytes(8), page=0, pages=1),
        Gone(Identity.generate(dice(1)).edge_id, bytes(8)),
        Lookup(),
        ReplacedMessage(),
        Leave(),
        Shutdown(),
        Bye(),
    ]


HONEST_BODIES = [encode_message(each) for each in honest_messages()]


def fuzzed_body(cursor: Cursor) -> bytes:
    """Return the body of a message of some kind, a few of its values changed."""
    fields: dict[str, Any] = msgpack.unpackb(HONEST_BODIES[cursor.choice(len(HONEST_BODIES))])
    for _ in range(cursor.choice(4)):
        key = sorted(fields)[cursor.choice(len(fields))]
        match cursor.choice(4):
            case 0 if key != "m":
                del fields[key]
            case 1:
                fields[cursor.some(3).decode("latin-1")] = _value(cursor, 3)
            case 2:
                fields[key] = _like(fields[key], cursor)
            case _:
                fields[key] = _value(cursor, 3)
    packed: bytes = msgpack.packb(fields)
    return packed


def _value(cursor: Cursor, depth: int) -> object:  # noqa: PLR0911 - one per type
    """Return any value that msgpack can carry."""
    match cursor.choice(10):
        case 0:
            return None
        case 1:
            return bool(cursor.choice(2))
        case 2:
            return cursor.number(1 + cursor.choice(8))
        case 3:
            return -cursor.number(4)
        case 4:
            return cursor.some(cursor.number())
        case 5:
            return cursor.some(cursor.number()).decode("latin-1")
        case 6:
            return cursor.some(cursor.number()).decode("utf-8", "replace")
        case 7 if depth:
            return [_value(cursor, depth - 1) for _ in range(cursor.choice(70))]
        case 8 if depth:
            count = cursor.choice(4)
            return {
                cursor.some(2).decode("latin-1"): _value(cursor, depth - 1) for _ in range(count)
            }
        case _:
            return cursor.number(2) / 7


def _like(value: object, cursor: Cursor) -> object:  # noqa: PLR0911 - one per type
    """Return a value of the same type."""
    match value:
        case bool():
            return not value
        case int():
            return cursor.number(1 + cursor.choice(8))
        case bytes():
            return cursor.some(len(value) + cursor.choice(2))
        case str():
            return cursor.some(cursor.number()).decode("latin-1")
        case list():
            return (value * 70)[: cursor.number()] or [_value(cursor, 2)]
        case dict():
            return {**value, "x": _value(cursor, 1)}
        case _:
            return _value(cursor, 3)
