"""How many registrations each source address holds; docs/protocol.md section 17.

Anybody can make keys and communities without end; addresses are what they are short of. Loopback is
not counted: there a whole test or demonstration sits behind one address.
"""

import ipaddress
from dataclasses import dataclass, field

from mesh.addresses import Endpoint
from mesh.errors import RefusalReason, RegistrationRefused
from supernode.limits import SupernodeLimits
from supernode.origin import source_key


@dataclass(slots=True)
class _Source:
    edges: int = 0
    edges_by_community: dict[bytes, int] = field(default_factory=dict)


class Sources:
    """Counts registrations by source; every `add` is to be followed by one like `remove`."""

    def __init__(self, limits: SupernodeLimits) -> None:
        self._limits = limits
        self._sources: dict[bytes, _Source] = {}

    def check_room(self, endpoint: Endpoint, community: bytes) -> None:
        """Check that one more edge may register from there.

        Raises:
            RegistrationRefused: the address holds as many edges or communities as it may.
        """
        source = None if _is_loopback(endpoint) else self._sources.get(source_key(endpoint))
        if source is None:
            return
        if source.edges >= self._limits.max_edges_per_source:
            raise RegistrationRefused(
                RefusalReason.SUPERNODE_FULL, "too many edges from your address"
            )
        if (
            community not in source.edges_by_community
            and len(source.edges_by_community) >= self._limits.max_communities_per_source
        ):
            raise RegistrationRefused(
                RefusalReason.SUPERNODE_FULL, "too many communities from your address"
            )

    def add(self, endpoint: Endpoint, community: bytes) -> None:
        """Count one more edge, also beyond the limits: edges that are registered may move."""
        source = self._sources.setdefault(source_key(endpoint), _Source())
        source.edges += 1
        edges = source.edges_by_community.get(community, 0)
        source.edges_by_community[community] = edges + 1

    def remove(self, endpoint: Endpoint, community: bytes) -> None:
        """Count one edge less."""
        key = source_key(endpoint)
        source = self._sources[key]
        source.edges -= 1
        source.edges_by_community[community] -= 1
        if not source.edges_by_community[community]:
            del source.edges_by_community[community]
        if not source.edges:
            del self._sources[key]


def _is_loopback(endpoint: Endpoint) -> bool:
    return ipaddress.ip_address(endpoint.host.partition("%")[0]).is_loopback
