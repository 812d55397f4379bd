"""Asking a router for a port: NAT-PMP (RFC 6886) and PCP (RFC 6887), the parts that we need.

```
NAT-PMP     0        1        2                 4                 8           10         12   16
address ?   +--------+--------+
            | ver 0  | op 0   |
            +--------+--------+-----------------+-----------------+-----------------------+
address !   | ver 0  | op 128 | result          | epoch, s        | external IPv4 address |
            +--------+--------+-----------------+--------+--------+-----------+-----------+
map ?       | ver 0  | op 1   | zero 2          | inside | wanted | lifetime, s           |
            +--------+--------+-----------------+--------+--------+-----------+-----------+----+
map !       | ver 0  | op 129 | result          | epoch, s        | inside    | outside   | s 4|
            +--------+--------+-----------------+-----------------+-----------+-----------+----+

PCP         0       1       2      3        4             8                  24
request     +-------+-------+------+--------+-------------+------------------+
            | ver 2 | op    | zero 2        | lifetime, s | our address 16   |
            +-------+-------+------+--------+-------------+----------+-------+
response    | ver 2 | op+128| zero | result | lifetime, s | epoch, s | zero 12
            +-------+-------+------+--------+-------------+----------+-------+
map, both   | nonce 12 | protocol 17 | zero 3 | inside 2 | outside 2 | outside address 16 |
 (from 24)  +----------+-------------+--------+----------+-----------+--------------------+
```

Big-endian. IPv4 addresses stand in PCP as ``::ffff:1.2.3.4``. Nobody authenticates a router: what
it says is only believed if it comes from where it was asked, names what was asked, and is usable.
"""

import enum
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Self, TypeAlias

from mesh.addresses import Endpoint
from mesh.errors import MalformedMessage

PORT_MAP_PORT: Final = (
    5351  # of routers, for both protocols; RFC 6886 section 3, RFC 6887 section 19
)
ANNOUNCE_PORT: Final = 5350  # of clients; RFC 6887 section 14.1.1
ANNOUNCE_GROUP: Final = "224.0.0.1"
PCP_NONCE_BYTES: Final = 12
MAX_ANSWER_BYTES: Final = 1100  # RFC 6887 section 7

_UDP: Final = 17
_RESPONSE: Final = 0x80
_PMP_VERSION: Final = 0
_PMP_MAP_UDP: Final = 1
_PCP_VERSION: Final = 2

_PMP_HEADER = struct.Struct(">BBHI")
_PMP_ADDRESS = struct.Struct(">BBHI4s")
_PMP_MAP = struct.Struct(">BBHHHI")
_PMP_MAPPED = struct.Struct(">BBHIHHI")
_PCP_REQUEST = struct.Struct(">BBHI16s")
_PCP_RESPONSE = struct.Struct(">BBxBII12x")
_PCP_MAP = struct.Struct(f">{PCP_NONCE_BYTES}sB3xHH16s")

IpAddress: TypeAlias = IPv4Address | IPv6Address


class PcpOpcode(enum.IntEnum):
    """What a PCP request asks for; RFC 6887 section 19.1."""

    ANNOUNCE = 0
    MAP = 1


def encode_pmp_address_request() -> bytes:
    """Return the 2 bytes that ask for the external address, and for the epoch with it."""
    return bytes((_PMP_VERSION, 0))


@dataclass(frozen=True, slots=True)
class PmpAddress:
    """The answer to `encode_pmp_address_request`; RFC 6886 section 3.2.

    Attributes:
        result: 0 is success.
        epoch: seconds since the router lost its mappings.
        host: the external IPv4 address; meaningless unless ``result`` is 0.
    """

    result: int
    epoch: int
    host: str

    def encode(self) -> bytes:
        """Return 12 bytes."""
        packed = IPv4Address(self.host).packed
        return _PMP_ADDRESS.pack(_PMP_VERSION, _RESPONSE, self.result, self.epoch, packed)

    @classmethod
    def decode(cls, answer: bytes) -> Self:
        """Read an answer; a refusal may be shorter than a success.

        Raises:
            MalformedMessage: it is none.
        """
        result, epoch = _decode_pmp_header(answer, 0)
        if result:
            return cls(result, epoch, "0.0.0.0")  # noqa: S104 - nothing is bound to it
        if len(answer) < _PMP_ADDRESS.size:
            raise MalformedMessage("the external address is missing")
        return cls(0, epoch, str(IPv4Address(answer[8:12])))


@dataclass(frozen=True, slots=True)
class PmpMapRequest:
    """Ask for a UDP port; RFC 6886 section 3.3.

    Attributes:
        inside: our port.
        outside: the external port that we would like; 0 for any.
        lifetime: seconds; 0 deletes the mapping.
    """

    inside: int
    outside: int
    lifetime: int

    def encode(self) -> bytes:
        """Return 12 bytes."""
        fields = (self.inside, self.outside, self.lifetime)
        return _PMP_MAP.pack(_PMP_VERSION, _PMP_MAP_UDP, 0, *fields)

    @classmethod
    def decode(cls, request: bytes) -> Self:
        """Read a request.

        Raises:
            MalformedMessage: it is none.
        """
        if len(request) != _PMP_MAP.size or tuple(request[:2]) != (_PMP_VERSION, _PMP_MAP_UDP):
            raise MalformedMessage("not a NAT-PMP request for a UDP port")
        _, _, _, inside, outside, lifetime = _PMP_MAP.unpack(request)
        return cls(inside, outside, lifetime)


@dataclass(frozen=True, slots=True)
class PmpMapped:
    """The answer to `PmpMapRequest`; all but ``result`` and ``epoch`` is 0 after a refusal.

    Attributes:
        result: 0 is success.
        epoch: seconds since the router lost its mappings.
        inside: our port.
        outside: the external port.
        lifetime: seconds.
    """

    result: int
    epoch: int
    inside: int = 0
    outside: int = 0
    lifetime: int = 0

    def encode(self) -> bytes:
        """Return 16 bytes."""
        fields = (self.result, self.epoch, self.inside, self.outside, self.lifetime)
        return _PMP_MAPPED.pack(_PMP_VERSION, _RESPONSE | _PMP_MAP_UDP, *fields)

    @classmethod
    def decode(cls, answer: bytes) -> Self:
        """Read an answer; a refusal may be shorter than a success.

        Raises:
            MalformedMessage: it is none.
        """
        result, epoch = _decode_pmp_header(answer, _PMP_MAP_UDP)
        if result:
            return cls(result, epoch)
        if len(answer) < _PMP_MAPPED.size:
            raise MalformedMessage("the mapping is missing")
        *_, inside, outside, lifetime = _PMP_MAPPED.unpack_from(answer)
        return cls(0, epoch, inside, outside, lifetime)


def _decode_pmp_header(answer: bytes, opcode: int) -> tuple[int, int]:
    if not _PMP_HEADER.size <= len(answer) <= MAX_ANSWER_BYTES:
        raise MalformedMessage("not a NAT-PMP answer: its length")
    version, said, result, epoch = _PMP_HEADER.unpack_from(answer)
    if version != _PMP_VERSION or said != _RESPONSE | opcode:
        raise MalformedMessage("not the NAT-PMP answer to this request")
    return result, epoch


@dataclass(frozen=True, slots=True)
class PcpMap:
    """A mapping in a PCP request or response; RFC 6887 section 11.1.

    Attributes:
        nonce: 12 bytes; who repeats them may renew and delete the mapping.
        inside: our UDP port.
        outside: the external endpoint, or the one that we would like: port 0 is any, and so is an
            unspecified address, which also says of which family it shall be.
    """

    nonce: bytes
    inside: int
    outside: Endpoint

    def encode(self) -> bytes:
        """Return 36 bytes."""
        packed = _pack_address(self.outside.host)
        return _PCP_MAP.pack(self.nonce, _UDP, self.inside, self.outside.port, packed)

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read the 36 bytes behind a header; options behind them are not looked at.

        Raises:
            MalformedMessage: too short, or not of UDP.
        """
        if len(body) < _PCP_MAP.size:
            raise MalformedMessage("the mapping is missing")
        nonce, protocol, inside, outside, packed = _PCP_MAP.unpack_from(body)
        if protocol != _UDP:
            raise MalformedMessage("a mapping of another protocol")
        return cls(nonce, inside, Endpoint(_unpack_address(packed), outside))


@dataclass(frozen=True, slots=True)
class PcpRequest:
    """A PCP request; RFC 6887 section 7.1.

    Attributes:
        our_host: the address that we send from, as we know it.
        lifetime: seconds; 0 deletes the mapping.
        map: what to map; None only asks whether the router is there, and for its epoch (ANNOUNCE).
    """

    our_host: str
    lifetime: int = 0
    map: PcpMap | None = None

    @property
    def opcode(self) -> PcpOpcode:
        """What is asked for."""
        return PcpOpcode.ANNOUNCE if self.map is None else PcpOpcode.MAP

    def encode(self) -> bytes:
        """Return 24 bytes, or 60 with a mapping."""
        ours = _pack_address(self.our_host)
        header = _PCP_REQUEST.pack(_PCP_VERSION, self.opcode, 0, self.lifetime, ours)
        return header if self.map is None else header + self.map.encode()

    @classmethod
    def decode(cls, request: bytes) -> Self:
        """Read a request.

        Raises:
            MalformedMessage: it is none that we would make.
        """
        if len(request) < _PCP_REQUEST.size:
            raise MalformedMessage("too short for a PCP request")
        version, opcode, _, lifetime, ours = _PCP_REQUEST.unpack_from(request)
        if version != _PCP_VERSION or opcode not in set(PcpOpcode):
            raise MalformedMessage("not a PCP request that we know")
        is_map = opcode == PcpOpcode.MAP
        mapped = PcpMap.decode(request[_PCP_REQUEST.size :]) if is_map else None
        return cls(_unpack_address(ours), lifetime, mapped)


@dataclass(frozen=True, slots=True)
class PcpResponse:
    """A PCP response; RFC 6887 section 7.2.

    Attributes:
        result: 0 is success.
        epoch: seconds since the router lost its mappings.
        lifetime: seconds: of the mapping, or after a refusal how long it stands.
        map: the mapping; None after ANNOUNCE and after a refusal.
    """

    result: int
    epoch: int
    lifetime: int = 0
    map: PcpMap | None = None

    def encode(self, opcode: PcpOpcode) -> bytes:
        """Return 24 bytes, or 60 with a mapping."""
        fields = (_RESPONSE | opcode, self.result, self.lifetime, self.epoch)
        header = _PCP_RESPONSE.pack(_PCP_VERSION, *fields)
        return header if self.map is None else header + self.map.encode()

    @classmethod
    def decode(cls, answer: bytes, opcode: PcpOpcode) -> Self:
        """Read the answer to a request of ``opcode``.

        Raises:
            MalformedMessage: it is none; also of a router that speaks NAT-PMP only, which answers
                in that (RFC 6887 appendix A).
        """
        if not _PCP_RESPONSE.size <= len(answer) <= MAX_ANSWER_BYTES:
            raise MalformedMessage("not a PCP response: its length")
        version, said, result, lifetime, epoch = _PCP_RESPONSE.unpack_from(answer)
        if version != _PCP_VERSION or said != _RESPONSE | opcode:
            raise MalformedMessage("not the PCP response to this request")
        if result or opcode is PcpOpcode.ANNOUNCE:
            return cls(result, epoch, lifetime)
        return cls(0, epoch, lifetime, PcpMap.decode(answer[_PCP_RESPONSE.size :]))


def _pack_address(host: str) -> bytes:
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv4Address):
        return bytes(10) + b"\xff\xff" + address.packed
    return address.packed


def _unpack_address(packed: bytes) -> str:
    address = IPv6Address(packed)
    return str(address.ipv4_mapped or address)


class EpochWatch:
    """Tells from a router's clock whether it has lost our mappings; RFC 6887 section 8.5."""

    def __init__(self) -> None:
        self._seen: tuple[int, float] | None = None

    def has_restarted(self, epoch: int, now: float) -> bool:
        """Learn an epoch (s) that the router told at ``now``; whether it does not fit the last one.

        Both clocks may be wrong by a sixteenth, and 2 s by delays.
        """
        last, self._seen = self._seen, (epoch, now)
        if last is None:
            return False
        theirs, ours = epoch - last[0], now - last[1]
        if theirs < -1:
            return True
        return ours + 2 < theirs - theirs / 16 or theirs + 2 < ours - ours / 16
