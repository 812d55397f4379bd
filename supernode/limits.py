"""How much a supernode takes on: the caps that hold its memory; docs/protocol.md section 17."""

from dataclasses import dataclass

from mesh.constants import RELAY_BURST_BYTES, RELAY_RATE_BYTES


@dataclass(frozen=True, slots=True)
class SupernodeLimits:
    """Caps and budgets of one supernode.

    Attributes:
        max_communities: communities with registered edges at one time.
        max_edges_per_community: edges registered in one community at one time.
        max_edges: edges registered at one time, in all.
        max_edges_per_source: edges registered at one time from one IPv4 address or IPv6 /64.
        max_communities_per_source: communities that these are in.
        max_leases: leases remembered, in all; see `supernode.leases` for which one gives way.
        max_pending_handshakes: handshakes, and sessions without a registration, at one time.
        max_streams: connections of TCP and WebSocket at one time, in all.
        max_streams_per_source: those from one IPv4 address or IPv6 /64.
        relay_burst_bytes: relayed bytes that one edge may send at once.
        relay_rate_bytes: relayed bytes per second of one edge after that.
        only_community: the 32-byte id of the one community served, or None for any.
    """

    max_communities: int = 1024
    max_edges_per_community: int = 1024
    max_edges: int = 8192
    max_edges_per_source: int = 256
    max_communities_per_source: int = 64
    max_leases: int = 65536
    max_pending_handshakes: int = 1024
    max_streams: int = 512
    max_streams_per_source: int = 64
    relay_burst_bytes: int = RELAY_BURST_BYTES
    relay_rate_bytes: int = RELAY_RATE_BYTES
    only_community: bytes | None = None
