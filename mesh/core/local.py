"""Where this edge itself may be reached, and what others say about that; sections 12.1 and 9."""

import ipaddress
from collections import deque
from typing import TypeAlias

from mesh.addresses import Endpoint, is_usable_candidate
from mesh.constants import MAX_CANDIDATES

OBSERVATIONS = 16  # the latest ones; a NAT that was replaced is judged anew soon

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class LocalEndpoints:
    """Our own candidates, and the verdict on the NAT in front of us.

    Attributes:
        candidates: what to tell peers, at most 32, the advertised ones first.
    """

    def __init__(self, advertise: tuple[Endpoint, ...]) -> None:
        self._advertise = advertise
        self._mapped: list[Endpoint] = []
        self._local: list[Endpoint] = []
        self._overlays: list[tuple[Network, str]] = []  # with the zone, for link-local ones
        self._observed: deque[Endpoint] = deque(maxlen=OBSERVATIONS)
        self._seen: dict[int, Endpoint] = {}

    @property
    def candidates(self) -> tuple[Endpoint, ...]:
        """What to tell peers: at most 32, the advertised ones first."""
        ours = [*self._advertise, *self._mapped, *self._local]
        return tuple(dict.fromkeys([*ours, *self._seen.values()]))[:MAX_CANDIDATES]

    def set_addresses(self, addresses: list[str], port_ipv4: int, port_ipv6: int) -> bool:
        """Learn the addresses of the machine's interfaces; whether anything changed."""
        endpoints = [
            Endpoint(address, port_ipv6 if ":" in address else port_ipv4) for address in addresses
        ]
        local = [e for e in endpoints if e.port and "%" not in e.host and is_usable_candidate(e)]
        changed, self._local = local != self._local, local
        return changed

    def set_mapped(self, endpoints: list[Endpoint]) -> bool:
        """Learn where routers forward to us; whether anything changed.

        Nobody has authenticated a router: what may not be a candidate is left out.
        """
        usable = [e for e in endpoints if is_usable_candidate(e) and self.may_be_candidate(e)]
        changed, self._mapped = usable != self._mapped, usable
        return changed

    def set_overlays(self, networks: list[str]) -> None:
        """Learn the overlay's own networks, whose addresses are never candidates.

        Every link has the same link-local network: one of ``fe80::/64%5`` is that of interface 5.
        """
        split = [network.partition("%") for network in networks]
        self._overlays = [
            (ipaddress.ip_network(text, strict=False), zone) for text, _, zone in split
        ]

    def may_be_candidate(self, endpoint: Endpoint) -> bool:
        """Whether a peer's candidate may be tried: an overlay routed inside itself floods."""
        host, _, zone = endpoint.host.partition("%")
        address = ipaddress.ip_address(host)
        return not any(
            address in network and (not inside or not zone or inside == zone)
            for network, inside in self._overlays
        )

    def set_seen(self, supernode: int, endpoint: Endpoint | None) -> bool:
        """Note where a supernode sees our UDP come from; whether that changed."""
        if endpoint == self._seen.get(supernode):
            return False
        if endpoint is None:
            del self._seen[supernode]
        else:
            self._seen[supernode] = endpoint
        return True

    @property
    def is_seen(self) -> bool:
        """Whether any supernode has seen our UDP."""
        return bool(self._seen)

    def observe(self, endpoint: Endpoint) -> None:
        """Note where a peer saw a ping of ours come from."""
        self._observed.append(endpoint)

    @property
    def nat(self) -> str:
        """The verdict: open, easy, hard or unknown.

        Easy is a mapping that is the same towards everybody, which a punch can use; hard is one
        that depends on the destination.
        """
        if not self._seen:
            return "unknown"
        mapped = [e for e in self._seen.values() if e not in self._local]
        if not mapped:
            return "open"
        by_host = {e.host: e for e in mapped}
        others = [e for e in (*mapped, *self._observed) if e.host in by_host]
        if any(by_host[e.host] != e for e in others):
            return "hard"
        return "easy" if len(others) > 1 else "unknown"
