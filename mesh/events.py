"""What an engine tells its driver: things that happened, in the words of an operator."""

import enum
from dataclasses import dataclass
from typing import TypeAlias

from mesh.addresses import EdgeId, Endpoint
from mesh.errors import RefusalReason


class DropReason(enum.StrEnum):
    """Why bytes were dropped: the keys of ``drops`` in ``mesh-edge status --json``."""

    MALFORMED = "malformed"
    UNKNOWN_TYPE = "unknown_type"
    UNKNOWN_SESSION = "unknown_session"
    NOT_AUTHENTIC = "not_authentic"
    REPLAYED = "replayed"
    EXPIRED_SESSION = "expired_session"
    BAD_MAC1 = "bad_mac1"
    UNDER_LOAD = "under_load"
    RATE_LIMITED = "rate_limited"
    UNKNOWN_SENDER = "unknown_sender"
    UNKNOWN_DESTINATION = "unknown_destination"
    NOT_A_MEMBER = "not_a_member"
    UNKNOWN_MESSAGE = "unknown_message"
    NO_PATH = "no_path"
    NO_SESSION = "no_session"
    FRAME_SIZE = "frame_size"
    INCOMPLETE_FRAME = "incomplete_frame"
    TABLE_FULL = "table_full"
    SEND_ERROR = "send_error"
    QUEUE_FULL = "queue_full"
    TAP_ERROR = "tap_error"


class PathKind(enum.StrEnum):
    """How a peer is reached."""

    DIRECT = "direct"
    RELAY = "relay"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class SupernodeSeen:
    """A supernode that was not pinned proved this key: pin it (docs/protocol.md section 3.2)."""

    supernode: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class SupernodeKeyMismatch:
    """A supernode proved another key than the pinned one and was refused."""

    supernode: int
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class Registered:
    """The supernode took us in; ``address`` is our lease (CIDR) or empty."""

    supernode: int
    address: str
    seen_as: Endpoint
    is_first: bool


@dataclass(frozen=True, slots=True)
class LeaseDistrusted:
    """The supernode named an address for us that we do not configure: see `mesh.core.leased`."""

    supernode: int
    address: str


@dataclass(frozen=True, slots=True)
class LeasesDiffer:
    """A supernode leased another address than the one in use, which it may give to somebody."""

    supernode: int
    address: str
    in_use: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The supernode refused the registration; the engine tries again later."""

    supernode: int
    reason: RefusalReason
    detail: str


@dataclass(frozen=True, slots=True)
class SupernodeLost:
    """The supernode stopped answering; the engine goes on trying."""

    supernode: int
    silent_for: float


@dataclass(frozen=True, slots=True)
class SupernodeVersion:
    """The supernode (or a peer) speaks only this other major version."""

    supernode: int
    version: int


@dataclass(frozen=True, slots=True)
class Replaced:
    """Another machine registered with our identity: this supernode is not registered with again."""

    supernode: int


@dataclass(frozen=True, slots=True)
class StreamWanted:
    """UDP to this supernode draws no answer: open a stream (docs/protocol.md section 19).

    Wanted until `StreamUnwanted`: when opening fails, or the stream ends, the driver tries again.
    """

    supernode: int


@dataclass(frozen=True, slots=True)
class StreamUnwanted:
    """The stream to this supernode is not needed any more, opened or not: close it."""

    supernode: int


@dataclass(frozen=True, slots=True)
class PeerUp:
    """A session with a peer is established."""

    peer: EdgeId
    name: str


@dataclass(frozen=True, slots=True)
class PeerDown:
    """A peer left or was forgotten."""

    peer: EdgeId
    name: str


@dataclass(frozen=True, slots=True)
class PathChanged:
    """Frames for a peer now take this path."""

    peer: EdgeId
    name: str
    kind: PathKind
    endpoint: Endpoint | None
    rtt: float | None


@dataclass(frozen=True, slots=True)
class GuessFailed:
    """No direct path to a peer was found by guessing at ports; ``retry_in`` is in seconds."""

    peer: EdgeId
    name: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class SocketsWanted:
    """So many extra UDP sockets (IPv4, any port) are to be opened: `EdgeEngine.sockets_opened`."""

    count: int


@dataclass(frozen=True, slots=True)
class SocketsUnwanted:
    """These extra sockets are to be closed."""

    sockets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PathMeasured:
    """The path of a peer carries IP packets of so many bytes: under 1500, or 1500 again."""

    peer: EdgeId
    name: str
    mtu: int


@dataclass(frozen=True, slots=True)
class ProbeAnswered:
    """The answer to one ping asked for on the control socket."""

    peer: EdgeId
    token: bytes
    kind: PathKind
    endpoint: Endpoint | None
    rtt: float


@dataclass(frozen=True, slots=True)
class LeaseGranted:
    """A supernode granted or changed a lease: to be stored before anything is sent.

    ``address`` is CIDR text; ``last_seen_at`` is not in here since the store keeps wall time.
    """

    community: bytes
    edge: EdgeId
    address: str


@dataclass(frozen=True, slots=True)
class SubnetChosen:
    """A supernode fixed the subnet of a community: to be stored before anything is sent."""

    community: bytes
    subnet: str


@dataclass(frozen=True, slots=True)
class LeaseForgotten:
    """A supernode gave a lease up: its time was over, or the table had no room for it."""

    community: bytes
    edge: EdgeId


@dataclass(frozen=True, slots=True)
class SubnetForgotten:
    """A supernode forgot a community's subnet, nobody having a lease in it any more."""

    community: bytes


@dataclass(frozen=True, slots=True)
class EdgeRegistered:
    """A supernode registered an edge."""

    community: bytes
    edge: EdgeId
    endpoint: Endpoint
    address: str


@dataclass(frozen=True, slots=True)
class EdgeGone:
    """A supernode forgot an edge."""

    community: bytes
    edge: EdgeId
    why: str


Event: TypeAlias = (
    SupernodeSeen
    | SupernodeKeyMismatch
    | Registered
    | LeaseDistrusted
    | LeasesDiffer
    | Refused
    | SupernodeLost
    | SupernodeVersion
    | Replaced
    | StreamWanted
    | StreamUnwanted
    | PeerUp
    | PeerDown
    | PathChanged
    | GuessFailed
    | SocketsWanted
    | SocketsUnwanted
    | PathMeasured
    | ProbeAnswered
    | LeaseGranted
    | SubnetChosen
    | LeaseForgotten
    | SubnetForgotten
    | EdgeRegistered
    | EdgeGone
)
