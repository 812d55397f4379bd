"""The virtual world: supernodes, edges, NATs and attackers in virtual time, from one seed.

::

    edge ── LAN ── NAT ──┐                 ┌── supernode
    edge ────────────────┼── the internet ─┤
    edge ── LAN ── NAT ──┘                 └── attacker
"""

import hashlib
import itertools
from collections.abc import Iterable

from mesh.addresses import BROADCAST_MAC
from mesh.core.config import EdgeConfig, SupernodeConfig
from mesh.crypto.community import CommunityKeys
from mesh.crypto.identity import Identity
from mesh.wire.messages import AddressMode
from supernode.limits import SupernodeLimits
from tests.virtual_edge import VirtualEdge
from tests.virtual_network import Host, LinkConditions, Segment
from tests.virtual_supernode import VirtualSupernode
from tests.virtual_topology import Router, Topology

HOUR = 3600.0
FIRST_EPOCH = 1_700_000_000
IPV4_ETHERTYPE = 0x0800


def community_keys(name: str, secret: str = "secret") -> CommunityKeys:  # noqa: S107 - a fixture
    """Return the keys of a community without paying for Argon2id."""
    root = hashlib.blake2s(f"{name}\0{secret}".encode()).digest()
    return CommunityKeys.from_root(name, root)


def ethernet(
    destination: bytes, source: bytes, payload: bytes, ethertype: int = IPV4_ETHERTYPE
) -> bytes:
    """Return an Ethernet frame."""
    return destination + source + ethertype.to_bytes(2, "big") + payload


class World(Topology):
    """A topology with supernodes and edges.

    Attributes:
        supernodes: all of them, in order; edges use the first unless told otherwise.
        edges: all of them, by name.
    """

    def __init__(self, seed: int = 1) -> None:
        super().__init__(seed)
        self.supernodes: list[VirtualSupernode] = []
        self.edges: dict[str, VirtualEdge] = {}
        self._sent: dict[bytes, VirtualEdge] = {}
        self._serial = itertools.count()

    def add_supernode(
        self,
        behind: Router | Segment | None = None,
        *,
        limits: SupernodeLimits | None = None,
        ipv6: bool = False,
        conditions: LinkConditions | None = None,
        has_probe_ports: bool = True,
    ) -> VirtualSupernode:
        """Add a supernode on a machine of its own."""
        name = f"supernode {len(self.supernodes)}"
        supernode = VirtualSupernode(
            self,
            self.add_host(name, behind, ipv6=ipv6, conditions=conditions),
            name=name,
            limits=limits,
            clock_offset=self.dice.uniform(0, HOUR),
            has_probe_ports=has_probe_ports,
        )
        self.supernodes.append(supernode)
        return supernode

    def add_edge(
        self,
        name: str,
        behind: Router | Segment | None = None,
        *,
        community: str = "home",
        secret: str = "secret",  # noqa: S107 - a fixture
        host: Host | None = None,
        identity: Identity | None = None,
        supernodes: list[VirtualSupernode] | None = None,
        conditions: LinkConditions | None = None,
        clock_offset: float | None = None,
        ipv6: bool = False,
        mtu: int = 1500,
        relay_only: bool = False,
        no_relay: bool = False,
        hard_punch: bool = True,
        address: str = "",
        address_mode: AddressMode = AddressMode.AUTO,
        has_aes: bool = True,
        has_uso: bool = True,
    ) -> VirtualEdge:
        """Add an edge, on a machine of its own unless ``host`` is given, and start it."""
        identity = identity or Identity.generate(self.entropy_for(f"identity of {name}"))
        keys = community_keys(community, secret)
        supernodes = self.supernodes[:1] if supernodes is None else supernodes
        config = EdgeConfig(
            identity=identity,
            community=keys,
            epoch=FIRST_EPOCH,
            name=name,
            mac=identity.default_mac,
            mtu=mtu,
            relay_only=relay_only,
            no_relay=no_relay,
            hard_punch=hard_punch,
            address_mode=address_mode,
            address=address,
            subnets=tuple(str(subnet) for subnet in keys.subnet_proposals()),
            supernodes=tuple(SupernodeConfig(str(each.endpoint)) for each in supernodes),
            has_aes=has_aes,
            has_uso=has_uso,
        )
        host = host or self.add_host(name, behind, ipv6=ipv6, conditions=conditions)
        offset = self.dice.uniform(0, HOUR) if clock_offset is None else clock_offset
        edge = VirtualEdge(self, host, config, supernodes, clock_offset=offset)
        self.edges[name] = edge
        return edge

    def add_edges(self, names: Iterable[str], **settings: object) -> list[VirtualEdge]:
        """Add several edges alike."""
        return [self.add_edge(name, **settings) for name in names]  # type: ignore[arg-type]

    def members_with(self, edge: VirtualEdge) -> list[VirtualEdge]:
        """Return the other running edges of an edge's community."""
        return [
            other
            for other in self.edges.values()
            if other is not edge and other.is_running and other.network == edge.network
        ]

    def run_until_all_are_joined(self, timeout: float = 10.0) -> float:
        """Let time pass until every running edge has a session with every other member."""
        return self.run_until(self._are_all_joined, timeout, step=0.02)

    def run_until_direct(self, *edges: VirtualEdge, timeout: float = 3.0) -> float:
        """Let time pass until all of ``edges`` reach each other directly."""
        pairs = list(itertools.permutations(edges, 2))
        return self.run_until(lambda: all(a.is_direct_to(b) for a, b in pairs), timeout)

    def send_frame(
        self, edge: VirtualEdge, to: VirtualEdge | bytes = BROADCAST_MAC, size: int = 100
    ) -> bytes:
        """Send a frame that occurs only once in the world, marked with its community; return it."""
        destination = to if isinstance(to, bytes) else to.mac
        mark = edge.network[:8] + next(self._serial).to_bytes(8, "big")
        filler = (mark * (size // len(mark) + 1))[: size - 14]
        return self.send_exactly(edge, ethernet(destination, edge.mac, filler))

    def send_exactly(self, edge: VirtualEdge, frame: bytes) -> bytes:
        """Send this very frame; return it."""
        self._sent[frame] = edge
        edge.send(frame)
        return frame

    def frames_received(self, edge: VirtualEdge) -> list[bytes]:
        """Return what an edge's TAP was given, without the times."""
        return [frame for _, frame in edge.frames]

    def count_received(self, edge: VirtualEdge, frame: bytes) -> int:
        """Return how often a frame came out of an edge's TAP."""
        return self.frames_received(edge).count(frame)

    def check_frames(self) -> None:
        """Assert that whatever any edge was given was sent, intact, by another of its community.

        And that nothing was given to it twice.
        """
        for edge in self.edges.values():
            frames = self.frames_received(edge)
            assert len(frames) == len(set(frames)), f"{edge.name} was given a frame twice"
            for _, frame in edge.frames:
                sender = self._sent.get(frame)
                assert sender is not None, f"{edge.name} was given a frame that nobody sent"
                assert sender is not edge, f"{edge.name} was given its own frame"
                assert sender.network == edge.network, f"{edge.name} was given another's frame"

    def ping(self, a: VirtualEdge, b: VirtualEdge, timeout: float = 2.0) -> float:
        """Send a frame there and one back; return the seconds that it took."""
        started_at = self.clock.now
        for sender, receiver in ((a, b), (b, a)):
            frame = self.send_frame(sender, receiver)
            self.run_until(
                lambda receiver=receiver, frame=frame: self.count_received(receiver, frame),
                timeout,
            )
        return self.clock.now - started_at

    def _are_all_joined(self) -> bool:
        return all(
            edge.peers >= {other.edge_id for other in self.members_with(edge)}
            for edge in self.edges.values()
            if edge.is_running
        )
