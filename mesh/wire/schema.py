"""What a value in a control message may be; docs/protocol.md section 9.

A message is described by data: a `Record` of `Field`s, each with a kind. A kind knows three things:
how section 9 writes it (`described`), how a value of ours becomes a msgpack value (`encode`) and
which msgpack values it accepts (`decode`, which trusts nothing). What `encode` returns is passed
through `decode` before it is sent, so the limits are written down, and checked, once.

Lengths of text count UTF-8 bytes. Times and floats do not occur.
"""

import enum
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mesh.addresses import Endpoint, decode_endpoint, encode_endpoint
from mesh.errors import LocalError, MalformedMessage

# Names are shown on terminals: neither escape sequences (C0, DEL, C1), nor line breaks, nor the
# marks that reorder text may get there. The list is spelled out because a Unicode category depends
# on the Unicode version of each side, and a name must not be fine here and malformed there.
_NOT_DISPLAYABLE = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ufeff]"
)
_CIDR = re.compile(r"[0-9a-fA-F:.]+/[0-9]{1,3}")


def is_displayable(text: str) -> bool:
    """Whether ``text`` is valid Unicode that may be shown on a terminal as it stands."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return _NOT_DISPLAYABLE.search(text) is None


class Kind(Protocol):
    """What a value may be."""

    @property
    def described(self) -> str:
        """The kind in the words of section 9, such as ``str ≤ 18``."""
        ...

    def encode(self, value: object) -> object:
        """Return the msgpack value for ``value``, its limits not yet checked.

        Raises:
            LocalError: ``value`` has another type.
        """
        ...

    def decode(self, value: object) -> object:
        """Return our value for a msgpack value.

        Raises:
            MalformedMessage: it has another type or is beyond the limits.
        """
        ...


@dataclass(frozen=True, slots=True)
class Unsigned:
    """An integer from ``minimum`` to the greatest that fits ``bits``; a bool is not an integer."""

    described: str
    bits: int
    minimum: int = 0

    def encode(self, value: object) -> object:
        """Return ``value``."""
        return value

    def decode(self, value: object) -> int:
        """Check type and range."""
        if type(value) is not int or not self.minimum <= value < 1 << self.bits:
            raise MalformedMessage(f"is not {self.described}")
        return value


@dataclass(frozen=True, slots=True)
class Boolean:
    """True or false."""

    described: str = "bool"

    def encode(self, value: object) -> object:
        """Return ``value``."""
        return value

    def decode(self, value: object) -> bool:
        """Check the type."""
        if type(value) is not bool:
            raise MalformedMessage(f"is not {self.described}")
        return value


@dataclass(frozen=True, slots=True)
class Choice:
    """A number that is the value of an enum's member.

    Attributes:
        fallback: what a number of 8 bits that we do not know is read as; None refuses it.
    """

    described: str
    choices: type[enum.IntEnum]
    fallback: enum.IntEnum | None = None

    def encode(self, value: object) -> object:
        """Return the number."""
        if not isinstance(value, self.choices):
            raise LocalError(f"is not a {self.choices.__name__}")
        return int(value)

    def decode(self, value: object) -> enum.IntEnum:
        """Return the enum's member."""
        if type(value) is not int or not 0 <= value < 256:
            raise MalformedMessage(f"is not {self.described}")
        try:
            return self.choices(value)
        except ValueError:
            if self.fallback is None:
                raise MalformedMessage(f"is not {self.described}") from None
            return self.fallback


@dataclass(frozen=True, slots=True)
class Binary:
    """Bytes of one of some lengths, or of any length up to the greatest of them."""

    lengths: tuple[int, ...]
    is_limit: bool = False

    @property
    def described(self) -> str:
        """``bin 8``, ``bin 0/8`` or ``bin ≤ 1280``."""
        return f"bin {'≤ ' if self.is_limit else ''}{'/'.join(map(str, self.lengths))}"

    def encode(self, value: object) -> object:
        """Return ``value``."""
        return value

    def decode(self, value: object) -> bytes:
        """Check type and length."""
        if isinstance(value, bytes):
            length = len(value)
            if length in self.lengths or (self.is_limit and length <= self.lengths[-1]):
                return value
        raise MalformedMessage(f"is not {self.described}")


@dataclass(frozen=True, slots=True)
class Text:
    """Text of at most so many bytes that may be shown on a terminal, possibly empty."""

    max_bytes: int

    @property
    def described(self) -> str:
        """``str ≤ 64``."""
        return f"str ≤ {self.max_bytes}"

    def encode(self, value: object) -> object:
        """Return ``value``."""
        return value

    def decode(self, value: object) -> str:
        """Check type, length and characters."""
        if not isinstance(value, str) or not is_displayable(value):
            raise MalformedMessage(f"is not {self.described} of displayable text")
        if len(value.encode()) > self.max_bytes:
            raise MalformedMessage(f"is longer than {self.described}")
        return value


@dataclass(frozen=True, slots=True)
class Cidr:
    """An address with a prefix length, host bits allowed: ``10.84.0.5/22``.

    Attributes:
        may_be_empty: whether an empty text, for no address, will do.
        is_ipv4: whether IPv6 is refused.
    """

    max_bytes: int
    may_be_empty: bool = False
    is_ipv4: bool = False

    @property
    def described(self) -> str:
        """``str ≤ 18``."""
        return f"str ≤ {self.max_bytes}"

    def encode(self, value: object) -> object:
        """Return ``value``."""
        return value

    def decode(self, value: object) -> str:
        """Check that it is such a text; the text itself is kept, digests are made from it."""
        if not isinstance(value, str):
            raise MalformedMessage(f"is not {self.described}")
        if not (self.may_be_empty and not value):
            self._check(value)
        return value

    def _check(self, text: str) -> None:
        # The pattern keeps out what ipaddress would take: zones, netmasks, a missing prefix.
        if len(text) > self.max_bytes or _CIDR.fullmatch(text) is None:
            raise MalformedMessage("is not an address with a prefix length")
        try:
            interface = ipaddress.ip_interface(text)
        except ValueError:
            raise MalformedMessage("is not an address with a prefix length") from None
        if self.is_ipv4 and interface.version != 4:
            raise MalformedMessage("is not an IPv4 address")


@dataclass(frozen=True, slots=True)
class EndpointBytes:
    """An endpoint of section 2; None stands for empty where that is allowed.

    Port 0, that of a stream, is read where that is allowed.
    """

    may_be_empty: bool = False
    may_lack_port: bool = False
    described: str = "bin 6/18"

    def encode(self, value: object) -> object:
        """Return 6, 18 or no bytes."""
        if value is None:
            return b""
        if not isinstance(value, Endpoint):
            raise LocalError("is not an Endpoint")
        try:
            return encode_endpoint(value)
        except (ValueError, OverflowError):
            raise LocalError("is not a numeric address and port") from None

    def decode(self, value: object) -> Endpoint | None:
        """Read the bytes."""
        if not isinstance(value, bytes):
            raise MalformedMessage(f"is not {self.described}")
        if not value and self.may_be_empty:
            return None
        return decode_endpoint(value, may_lack_port=self.may_lack_port)


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of at most so many values of one kind, a tuple on our side."""

    kind: Kind
    max_items: int

    @property
    def described(self) -> str:
        """``list ≤ 8 of str ≤ 18``."""
        return f"list ≤ {self.max_items} of {self.kind.described}"

    def encode(self, value: object) -> object:
        """Return a list."""
        if not isinstance(value, tuple):
            raise LocalError("is not a tuple")
        return [self.kind.encode(item) for item in value]

    def decode(self, value: object) -> tuple[object, ...]:
        """Check the length, then every item."""
        if not isinstance(value, list) or len(value) > self.max_items:
            raise MalformedMessage(f"is not {self.described}")
        return tuple(self.kind.decode(item) for item in value)


@dataclass(frozen=True, slots=True)
class Optional:
    """A value that may be left out, and then is ``default``; the default is never written."""

    kind: Kind
    default: object

    @property
    def described(self) -> str:
        """``bool, optional``."""
        return f"{self.kind.described}, optional"

    def encode(self, value: object) -> object:
        """Return the msgpack value of the kind."""
        return self.kind.encode(value)

    def decode(self, value: object) -> object:
        """Check it as the kind does."""
        return self.kind.decode(value)


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a map: its name on the wire, its kind, and the attribute that holds it."""

    key: str
    kind: Kind
    attribute: str = ""

    @property
    def name(self) -> str:
        """The attribute of the dataclass."""
        return self.attribute or self.key


@dataclass(frozen=True, slots=True)
class Record:
    """A map with these keys, made into a dataclass; keys that it does not name are ignored."""

    described: str
    make: Callable[..., object]
    fields: tuple[Field, ...]

    def encode(self, value: object) -> dict[str, object]:
        """Return a map with every key but the optional ones that have their default."""
        encoded: dict[str, object] = {}
        for field in self.fields:
            attribute = getattr(value, field.name)
            if isinstance(field.kind, Optional) and attribute == field.kind.default:
                continue
            try:
                encoded[field.key] = field.kind.encode(attribute)
            except LocalError as error:
                raise LocalError(f"{self.described}: {field.name} {error}") from None
        return encoded

    def decode(self, value: object) -> object:
        """Check every key, then make the dataclass."""
        if not isinstance(value, dict):
            raise MalformedMessage(f"is not a {self.described} map")
        decoded: dict[str, object] = {}
        for field in self.fields:
            if field.key not in value:
                if isinstance(field.kind, Optional):
                    decoded[field.name] = field.kind.default
                    continue
                raise MalformedMessage(f"{self.described}: {field.key} is missing")
            try:
                decoded[field.name] = field.kind.decode(value[field.key])
            except MalformedMessage as error:
                raise MalformedMessage(f"{self.described}: {field.key} {error}") from None
        return self.make(**decoded)
