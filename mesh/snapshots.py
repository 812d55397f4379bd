"""The read-only views that engines give the control socket: the JSON of the command line.

The keys are a contract that users script against: add, never rename.
"""

from typing import TypedDict


class PathView(TypedDict):
    """How a peer is reached now."""

    kind: str
    transport: str
    endpoint: str
    rtt_ms: float | None
    mtu: int | None


class WayView(TypedDict):
    """One of the ways to a peer that are used, known or tried."""

    kind: str
    transport: str
    endpoint: str
    source: str
    state: str
    rtt_ms: float | None


class SessionView(TypedDict):
    """The session with a peer."""

    established: bool
    suite: str
    age_s: float


class PeerView(TypedDict):
    """One row of ``mesh-edge peers``."""

    id: str
    name: str
    mac: str
    addresses: list[str]
    path: PathView
    why: str
    paths: list[WayView]
    session: SessionView
    tx_bytes: int
    rx_bytes: int
    tx_frames: int
    rx_frames: int
    last_seen_s: float | None


class SupernodeView(TypedDict):
    """A supernode that an edge is registered with, or tries to."""

    name: str
    endpoint: str
    connected: bool
    rtt_ms: float | None
    transport: str
    is_primary: bool


class NatView(TypedDict):
    """The NAT in front of an edge, in the words of `mesh.core.nat_kind`."""

    mapping: str
    filtering: str
    ports: str
    step: int


class EdgeView(TypedDict):
    """What an engine knows for ``mesh-edge status`` (the driver adds tap, uptime, ...)."""

    community: str
    id: str
    name: str
    mac: str
    addresses: list[str]
    mtu: int
    supernode: SupernodeView
    supernodes: list[SupernodeView]
    endpoint: str
    nat: str
    nat_detail: NatView
    peers: int
    drops: dict[str, int]


class MappingView(TypedDict):
    """A port that a router forwards to this machine; part of ``mesh-edge status``."""

    protocol: str
    external: str
    expires_s: float


class FdbView(TypedDict):
    """One row of ``mesh-edge fdb``."""

    mac: str
    peer: str
    name: str
    age_s: float


class RegisteredEdgeView(TypedDict):
    """One row of ``supernode edges``."""

    id: str
    community: str
    endpoint: str
    transport: str
    address: str
    age_s: float
    last_seen_s: float
    relayed_bytes: int


class CommunityView(TypedDict):
    """One row of ``supernode communities``."""

    community: str
    subnet: str
    edges: int
    leases: int
    relayed_bytes: int


class SupernodeStatusView(TypedDict):
    """What a supernode's engine knows for ``supernode status``."""

    edges: int
    streams: int
    communities: int
    relayed_bytes: int
    relayed_datagrams: int
    pending_handshakes: int
    drops: dict[str, int]
