"""Rows of ``supernode edges`` and ``supernode communities``."""

from mesh.engine import Transport
from mesh.snapshots import CommunityView, RegisteredEdgeView
from supernode.leases import Leases
from supernode.registration import Registration
from supernode.registry import Registry


def edge_view(registration: Registration, transport: Transport, now: float) -> RegisteredEdgeView:
    """Return the row of a registered edge."""
    return {
        "id": registration.edge.hex(),
        "community": registration.community.id.hex(),
        "endpoint": str(registration.endpoint),
        "transport": transport.value,
        "address": registration.member.address,
        "age_s": round(now - registration.registered_at, 3),
        "last_seen_s": round(now - registration.heard_at, 3),
        "relayed_bytes": registration.relayed_bytes,
    }


def community_view(community: bytes, registry: Registry, leases: Leases) -> CommunityView:
    """Return the row of a community that has edges or leases."""
    registered = registry.communities.get(community)
    return {
        "community": community.hex(),
        "subnet": leases.subnet_of(community),
        "edges": len(registered.edges) if registered is not None else 0,
        "leases": leases.count(community),
        "relayed_bytes": registered.relayed_bytes if registered is not None else 0,
    }
