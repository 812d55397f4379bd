"""A supernode in the virtual world: its machine, its store, and the engine while it runs."""

from mesh.addresses import EdgeId, Endpoint
from mesh.crypto.identity import Identity
from mesh.events import Event, LeaseForgotten, LeaseGranted, SubnetChosen, SubnetForgotten
from supernode.engine import SupernodeEngine
from supernode.leases import LeaseRecord, StoredLeases, SubnetRecord
from supernode.limits import SupernodeLimits
from tests.virtual_driver import VirtualDriver
from tests.virtual_network import Host
from tests.virtual_topology import Topology

PROBE_PORTS = (7779, 7780)
PROBE_SOCKETS = (501, 502)


class VirtualSupernode:
    """One supernode; its identity and its store outlive a crash.

    Attributes:
        driver: what runs the engine.
        leases: the store: address by community id and edge.
        subnets: the store: subnet by community id.
        is_running: until it crashes or stops.
    """

    def __init__(
        self,
        topology: Topology,
        host: Host,
        *,
        name: str = "supernode",
        limits: SupernodeLimits | None = None,
        udp_port: int = 7777,
        clock_offset: float = 0.0,
        has_probe_ports: bool = True,
    ) -> None:
        self.name = name
        self.host = host
        self.identity = Identity.generate(topology.entropy_for(name))
        self.limits = limits or SupernodeLimits()
        self.leases: dict[tuple[bytes, EdgeId], str] = {}
        self.subnets: dict[bytes, str] = {}
        self.events: list[tuple[float, Event]] = []
        self.driver: VirtualDriver
        self.engine: SupernodeEngine
        self._topology = topology
        self._udp_port = udp_port
        self._clock_offset = clock_offset
        self._has_probe_ports = has_probe_ports
        self.is_running = False
        self.start()

    @property
    def endpoints(self) -> list[Endpoint]:
        """Where edges find it."""
        return [Endpoint(address, self._udp_port) for address in self.host.addresses()]

    @property
    def endpoint(self) -> Endpoint:
        """The first of its endpoints."""
        return self.endpoints[0]

    def start(self) -> None:
        """Start, or start again, with what the store remembers."""
        now = self._topology.clock.now + self._clock_offset
        self.engine = SupernodeEngine(
            self.identity, self.limits, self._topology.entropy_for(self.name), now, self._stored()
        )
        self.driver = VirtualDriver(
            self.engine,
            self.host,
            clock=self._topology.clock,
            dice=self._topology.dice,
            clock_offset=self._clock_offset,
            udp_port=self._udp_port,
            on_event=self._store,
        )
        if self._has_probe_ports:
            for socket, udp_port in zip(PROBE_SOCKETS, PROBE_PORTS, strict=True):
                self.driver.add_socket(socket, udp_port)
            self.engine.open_observation_sockets(PROBE_PORTS, [PROBE_SOCKETS])
        self.driver.start()
        self.is_running = True

    def crash(self) -> None:
        """Vanish without a word."""
        self.driver.crash()
        self.is_running = False

    def stop(self) -> None:
        """Say goodbye and stop."""
        self.driver.stop()
        self.is_running = False

    def edge_count(self) -> int:
        """Return how many edges are registered, 0 while it is down."""
        if not self.is_running:
            return 0
        return self.driver.step(self.engine.status_view)["edges"]

    def relayed_datagrams(self) -> int:
        """Return how many datagrams it has forwarded since its start."""
        return self.driver.step(self.engine.status_view)["relayed_datagrams"]

    def drops(self) -> dict[str, int]:
        """Return what it has dropped since its start, by reason."""
        return self.driver.step(self.engine.status_view)["drops"]

    def _store(self, event: Event) -> None:
        self.events.append((self._topology.clock.now, event))
        match event:
            case LeaseGranted(community, edge, address):
                self.leases[community, edge] = address
            case LeaseForgotten(community, edge):
                del self.leases[community, edge]
            case SubnetChosen(community, subnet):
                self.subnets[community] = subnet
            case SubnetForgotten(community):
                del self.subnets[community]
            case _:
                pass

    def _stored(self) -> StoredLeases:
        return StoredLeases(
            tuple(SubnetRecord(community, subnet) for community, subnet in self.subnets.items()),
            tuple(
                LeaseRecord(community, edge, address, 0.0)
                for (community, edge), address in self.leases.items()
            ),
        )
