"""One way to a peer and what is known about it; docs/protocol.md sections 12.1, 12.3 and 12.4."""

import enum
import ipaddress
import math

from mesh.constants import TRUST_LIFETIME
from mesh.core.outbox import Via
from mesh.core.pmtu import PathMtu
from mesh.events import PathKind

# Not ipaddress's is_private: that takes in documentation networks, which labs use as public ones.
_LAN_NETWORKS = [
    ipaddress.ip_network(network)
    for network in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "127.0.0.0/8",
        "fc00::/7",
        "fe80::/10",
        "::1/128",
    )
]


class Source(enum.IntEnum):
    """Where a candidate comes from; the higher, the more it is worth keeping."""

    TOLD = 1
    INTRODUCED = 2
    SEEN = 3
    RELAY = 4


class PathLoss(enum.Enum):
    """How a direct path that was in use was lost."""

    SILENT = enum.auto()
    REFUSED = enum.auto()
    REJECTED = enum.auto()


class Path:
    """One way to a peer and what is known about it.

    Attributes:
        is_validated: whether a pong has ever proved it.
        rtt: the smoothed round-trip time in seconds (RFC 6298), None before the first pong.
        rtt_deviation: of single round-trip times, in seconds, smoothed likewise.
        last_heard_at: when the newest datagram so far, or a pong, last came by it.
        unanswered: pings since the last pong, the first of them at ``first_unanswered_at``.
        is_in_doubt: whether something speaks against it, since ``doubted_at``, that the next pong
            refutes; ``doubted_at`` stays.
        kept_until: until when one in doubt is not left for another direct one.
        is_down: whether it is a relay whose supernode has stopped answering us.
        is_questioned: whether the peer has shown doubt: only a pong counts, until the next one.
        lost_at: when the kernel refused to send by it, though it had been proved.
        rejected_at: when ICMP last said that it is closed.
        outstanding: when each ping left that may still be answered, by token.
        preference: see `preference_of`.
        mtu: how large a datagram it carries, None while that has not mattered yet.
    """

    __slots__ = (
        "doubted_at",
        "first_unanswered_at",
        "in_round",
        "is_down",
        "is_in_doubt",
        "is_questioned",
        "is_validated",
        "kept_until",
        "last_heard_at",
        "last_ping_at",
        "last_pong_at",
        "lost_at",
        "mtu",
        "next_ping_at",
        "outstanding",
        "preference",
        "rejected_at",
        "rtt",
        "rtt_deviation",
        "source",
        "unanswered",
        "via",
    )

    def __init__(self, via: Via, source: Source) -> None:
        self.via = via
        self.source = source
        self.is_validated = False
        self.rtt: float | None = None
        self.rtt_deviation = 0.0
        self.last_ping_at = -math.inf
        self.last_pong_at = -math.inf
        self.last_heard_at = -math.inf
        self.next_ping_at = math.inf
        self.unanswered = 0
        self.first_unanswered_at = math.inf
        self.is_in_doubt = False
        self.doubted_at = -math.inf
        self.kept_until = -math.inf
        self.is_down = False
        self.is_questioned = False
        self.lost_at = -math.inf
        self.rejected_at = -math.inf
        self.in_round = 0  # how many of PROBE_OFFSETS have been used
        self.outstanding: dict[bytes, float] = {}
        self.preference = preference_of(via)
        self.mtu: PathMtu | None = None

    @property
    def is_relay(self) -> bool:
        """Whether a supernode carries this way."""
        return self.via.relay_id != 0

    @property
    def kind(self) -> PathKind:
        """How the user would call it."""
        return PathKind.RELAY if self.is_relay else PathKind.DIRECT

    def took(self, rtt: float) -> None:
        """Learn of one more round-trip time in seconds (RFC 6298 section 2)."""
        if self.rtt is None:
            self.rtt, self.rtt_deviation = rtt, rtt / 2
            return
        self.rtt_deviation += (abs(self.rtt - rtt) - self.rtt_deviation) / 4
        self.rtt += (rtt - self.rtt) / 8

    def is_trusted(self, now: float) -> bool:
        """Whether a pong came lately enough, and nothing since, to rely on this way alone."""
        return not self.is_in_doubt and now - self.last_pong_at < TRUST_LIFETIME


def preference_of(via: Via) -> int:
    """0 for the same LAN, 1 for IPv6, 2 for IPv4: ties in round-trip time go to the lower one."""
    address = ipaddress.ip_address(via.endpoint[0].partition("%")[0])
    if any(address in network for network in _LAN_NETWORKS):
        return 0
    return 1 if address.version == 6 else 2
