"""What control messages say, as values; docs/protocol.md section 9.

The dataclasses carry the keys of section 9 under the same names, typed: ``v`` is ``version``,
endpoints are `Endpoint` (None where the wire has empty bytes), lists are tuples. The limits are
those of `mesh.wire.messages`, which encodes and decodes them.
"""

import enum
from dataclasses import dataclass
from typing import TypeAlias

from mesh.addresses import EdgeId, Endpoint, MacAddress
from mesh.constants import PROTOCOL_VERSION
from mesh.errors import RefusalReason


class AddressMode(enum.IntEnum):
    """What IPv4 address an edge wants from its supernode."""

    AUTO = 0
    NONE = 1
    FIXED = 2


@dataclass(frozen=True, slots=True)
class Register:
    """Edge to supernode: take us in; section 10.1.

    Attributes:
        community: 32 bytes, the Ed25519 public key of the community.
        signature: 64 bytes over the handshake hash of this session.
        instance: 8 bytes, random per start of the edge.
        mode: what to lease.
        address: IPv4 CIDR text wanted, or empty.
        subnets: at most 8 proposals, IPv4 CIDR text, preferred ones first.
        aes: whether this CPU has AES instructions.
    """

    community: bytes
    signature: bytes
    instance: bytes
    mode: AddressMode
    address: str
    subnets: tuple[str, ...]
    aes: bool
    version: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class Registered:
    """Supernode to edge: you are in; section 10.2.

    Attributes:
        relay_id: 1 to 2^32 - 1.
        endpoint: where the supernode sees the edge.
        address: the lease, IPv4 CIDR text, or empty.
        members: how many edges the community has here, this one included.
        digest: 8 bytes, of the membership with this edge.
        probes: its observation ports (section 10.7), two or none.
    """

    relay_id: int
    endpoint: Endpoint
    address: str
    members: int
    digest: bytes
    version: int = PROTOCOL_VERSION
    probes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RefusedMessage:
    """Supernode to edge: no; section 10.3. Unknown reasons are read as ``BAD_REQUEST``.

    Attributes:
        detail: at most 200 bytes of displayable text, possibly empty.
    """

    reason: RefusalReason
    detail: str = ""
    version: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class Member:
    """An edge as its supernode introduces it.

    Attributes:
        key: 32 bytes, its static X25519 public key.
        endpoint: where the supernode sees it.
        relay_id: what to write into the destination of a relay envelope.
        address: IPv4 CIDR text, or empty.
        aes: whether its CPU has AES instructions.
    """

    key: bytes
    endpoint: Endpoint
    relay_id: int
    address: str
    aes: bool


@dataclass(frozen=True, slots=True)
class Members:
    """Supernode to edge: these are members; one page of several in answer to `Lookup`.

    Attributes:
        members: at most 9.
        digest: 8 bytes, of the whole membership.
        page: which page of an answer to `Lookup` this is, counted from 0.
        pages: how many pages that answer has, 0 where the supernode tells news unasked.
    """

    members: tuple[Member, ...]
    digest: bytes
    page: int
    pages: int


@dataclass(frozen=True, slots=True)
class Gone:
    """Supernode to edge: this member is one no more.

    Attributes:
        id: its EdgeId, 16 bytes.
        digest: 8 bytes, of the membership without it.
    """

    id: EdgeId
    digest: bytes


@dataclass(frozen=True, slots=True)
class Lookup:
    """Edge to supernode: tell us all members."""


@dataclass(frozen=True, slots=True)
class ReplacedMessage:
    """Supernode to edge: another start of the same identity has registered."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Edge to supernode: goodbye."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Supernode to edge: going down; come back in a second."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Anybody to anybody: answer this.

    Attributes:
        token: 8 bytes that the answer repeats.
        pad: at most 8905 bytes, to make the datagram as long as wanted.
        other: whether an observation port is to have the other one answer (section 10.7).
    """

    token: bytes
    pad: bytes = b""
    other: bool = False


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a ping.

    Attributes:
        token: 8 bytes, those of the ping.
        endpoint: the source that the ping was seen from, None where it came relayed.
        digest: 8 bytes from a supernode, none from an edge.
        probes: observation ports (section 10.7), two or none; told to who has not registered.
    """

    token: bytes
    endpoint: Endpoint | None
    digest: bytes = b""
    probes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Hello:
    """Edge to edge: who we are and where we may be reached.

    Attributes:
        name: at most 64 bytes of displayable text; not unique, not to be trusted.
        mac: 6 bytes, of the TAP.
        addresses: at most 8 CIDR texts, of the TAP.
        candidates: at most 32 endpoints.
        mtu: of the TAP, in bytes.
        answer: whether the receiver is asked for its own.
        nat: the kind of NAT that we are behind (section 12.8): mapping, filtering, ports, and 1
            where we are not to guess at ports; empty where it is not known.
    """

    name: str
    mac: MacAddress
    addresses: tuple[str, ...]
    candidates: tuple[Endpoint, ...]
    mtu: int
    answer: bool
    version: int = PROTOCOL_VERSION
    nat: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Bye:
    """Edge to edge: goodbye."""


class GuessStep(enum.IntEnum):
    """What a `Guess` says."""

    ASK = 1
    OPENED = 2
    BUSY = 3
    REFUSED = 4


@dataclass(frozen=True, slots=True)
class Guess:
    """Edge to edge, about guessing at ports; section 12.8.

    Attributes:
        attempt: 8 bytes that name the attempt; the asking side draws them.
        step: what this says.
        port: of an ask: the newest port of a sequence.
        stride: of an ask: from one port of the sequence to the next, modulo 65536; 0 where ports
            are random.
    """

    attempt: bytes
    step: GuessStep
    port: int = 0
    stride: int = 0


Message: TypeAlias = (
    Register
    | Registered
    | RefusedMessage
    | Members
    | Gone
    | Lookup
    | ReplacedMessage
    | Leave
    | Shutdown
    | Ping
    | Pong
    | Hello
    | Bye
    | Guess
)
