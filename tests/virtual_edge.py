"""An edge in the virtual world: its machine, its state directory, and the engine while it runs."""

from dataclasses import replace
from typing import TypeVar

from mesh.addresses import EdgeId
from mesh.core.config import EdgeConfig, SupernodeConfig
from mesh.core.edge import EdgeEngine
from mesh.engine import Transport
from mesh.events import (
    Event,
    PathChanged,
    PathKind,
    PeerDown,
    PeerUp,
    Registered,
    SocketsUnwanted,
    SocketsWanted,
    StreamUnwanted,
    StreamWanted,
    SupernodeSeen,
)
from mesh.snapshots import PeerView
from tests.virtual_driver import VirtualDriver
from tests.virtual_network import Host
from tests.virtual_stream import StreamKeeper, VirtualStream
from tests.virtual_supernode import VirtualSupernode
from tests.virtual_topology import Topology

E = TypeVar("E", bound=Event)

OPENING_TIME = 0.01  # s; until sockets that were wanted are open


class VirtualEdge:
    """One edge; identity, epoch, lease and pins outlive a crash, as its state directory does.

    Attributes:
        config: what the engine was last started with.
        driver: what runs the engine.
        events: everything it ever reported, with times.
        peers: peers with a session.
        paths: the path to each peer, as last reported.
        address: the leased address (CIDR), or empty.
        streams: what opens streams to supernodes.
    """

    def __init__(
        self,
        topology: Topology,
        host: Host,
        config: EdgeConfig,
        supernodes: list[VirtualSupernode],
        *,
        clock_offset: float,
    ) -> None:
        self.config = config
        self.host = host
        self.clock_offset = clock_offset
        self.events: list[tuple[float, Event]] = []
        self.peers: set[EdgeId] = set()
        self.paths: dict[EdgeId, PathChanged] = {}
        self.address = ""
        self.is_running = False
        self.udp_port = 0
        self._registrations = 0
        self._next_socket = 2000  # streams count from 1000
        self.engine: EdgeEngine
        self.driver: VirtualDriver
        self.streams: StreamKeeper
        self._old_frames: list[tuple[float, bytes]] = []
        self._topology = topology
        self._supernodes = supernodes
        self.start()

    @property
    def name(self) -> str:
        """What peers call it."""
        return self.config.name

    @property
    def edge_id(self) -> EdgeId:
        """Its identity's hash."""
        return self.config.identity.edge_id

    @property
    def mac(self) -> bytes:
        """Its TAP's address."""
        return self.config.mac

    @property
    def network(self) -> bytes:
        """What makes two edges members of one community."""
        return self.config.community.community_id

    @property
    def frames(self) -> list[tuple[float, bytes]]:
        """What its TAP was given, with times; over all its lives."""
        return self._old_frames + [(at, frame) for at, _, frame in self.driver.frames]

    def start(self) -> None:
        """Start the engine as the program does: addresses first, then the supernodes."""
        self.config = replace(self.config, address=self.config.address or self.address)
        now = self._topology.clock.now + self.clock_offset
        entropy = self._topology.entropy_for(self.name)
        self.engine = EdgeEngine(self.config, entropy, now)
        self.driver = VirtualDriver(
            self.engine,
            self.host,
            clock=self._topology.clock,
            dice=self._topology.dice,
            clock_offset=self.clock_offset,
            udp_port=self.udp_port,
            on_event=self._note,
        )
        self.udp_port = self.driver.udp_port
        self.streams = StreamKeeper(
            self._topology.clock,
            self._topology.dice,
            self.driver,
            self._driver_of,
            self._tell_stream,
        )
        self.is_running = True
        self.tell_addresses()
        for index, supernode in enumerate(self._supernodes):
            self.tell_supernode(index, supernode)
        self.driver.start()

    def tell_addresses(self) -> None:
        """Tell the engine the addresses of its machine, as netlink does when they change."""
        port = self.driver.udp_port
        addresses = self.host.addresses()
        self.driver.step(lambda now: self.engine.set_local_addresses(addresses, port, port, now))

    def tell_supernode(self, index: int, supernode: VirtualSupernode) -> None:
        """Tell the engine what a supernode's name resolves to."""
        endpoints = supernode.endpoints
        self.driver.step(lambda now: self.engine.set_supernode_endpoints(index, endpoints, now))

    def _driver_of(self, number: int) -> VirtualDriver | None:
        supernode = self._supernodes[number]
        return supernode.driver if supernode.is_running else None

    def _tell_stream(self, number: int, stream: VirtualStream) -> None:
        if stream.is_open and self.is_running:
            self.driver.step(
                lambda now: self.engine.set_supernode_stream(
                    number, stream.sockets[0], stream.endpoint, Transport.TCP, now
                )
            )

    def crash(self) -> None:
        """Vanish without a word, as kill -9 does."""
        self.driver.crash()
        self._forget()

    def stop(self) -> None:
        """Leave cleanly."""
        self.driver.stop()
        self._forget()

    def restart(self, *, udp_port: int = 0) -> None:
        """Start again with the same state directory, on any port unless told which."""
        if self.is_running:
            self.crash()
        self.udp_port = udp_port
        self.config = replace(self.config, epoch=self.config.epoch + 1)
        self.start()

    def send(self, frame: bytes) -> None:
        """Let this machine's kernel send a frame."""
        self.driver.write_frame(frame)

    def is_registered(self) -> bool:
        """Whether a supernode took it in since its last start."""
        return self.is_running and bool(self._registrations)

    def path_kind(self, peer: "VirtualEdge") -> PathKind:
        """Return how a peer is reached."""
        path = self.paths.get(peer.edge_id)
        return path.kind if path else PathKind.NONE

    def is_direct_to(self, peer: "VirtualEdge") -> bool:
        """Whether frames for a peer take a direct path."""
        return self.path_kind(peer) is PathKind.DIRECT

    def peer_view(self, peer: "VirtualEdge") -> PeerView:
        """Return the row of ``mesh-edge peers`` about a peer."""
        views = self.driver.step(self.engine.peer_views)
        return next(view for view in views if view["id"] == peer.edge_id.hex())

    def drops(self) -> dict[str, int]:
        """Return what the engine dropped, by reason."""
        return self.driver.step(self.engine.edge_view)["drops"]

    def reported(self, kind: type[E]) -> list[E]:
        """Return the events of one kind, over all lives."""
        return [event for _, event in self.events if isinstance(event, kind)]

    def _forget(self) -> None:
        self._old_frames += [(at, frame) for at, _, frame in self.driver.frames]
        self.driver.frames.clear()
        self.is_running = False
        self.peers.clear()
        self.paths.clear()
        self._registrations = 0

    def _note(self, event: Event) -> None:
        self.events.append((self._topology.clock.now, event))
        match event:
            case Registered():
                self._registrations += 1
                self.address = event.address
            case SupernodeSeen():
                self._pin(event)
            case PeerUp():
                self.peers.add(event.peer)
            case PeerDown():
                self.peers.discard(event.peer)
                self.paths.pop(event.peer, None)
            case PathChanged():
                self.paths[event.peer] = event
            case _:
                self._serve(event)

    def _serve(self, event: Event) -> None:
        """Open or close what the engine wants or does not want any more."""
        match event:
            case StreamWanted(number):
                self.streams.want(number)
            case StreamUnwanted(number):
                self.streams.unwant(number)
            case SocketsWanted():
                driver, topology = self.driver, self._topology
                topology.clock.after(OPENING_TIME, lambda: self._open_sockets(driver, event.count))
            case SocketsUnwanted():
                for socket in event.sockets:
                    self.driver.remove_socket(socket)
            case _:
                pass

    def _open_sockets(self, driver: VirtualDriver, count: int) -> None:
        if driver is not self.driver or not self.is_running:
            return
        sockets = list(range(self._next_socket, self._next_socket + count))
        self._next_socket += count
        for socket in sockets:
            driver.add_socket(socket)
        driver.step(lambda now: self.engine.sockets_opened(sockets, now))

    def _pin(self, event: SupernodeSeen) -> None:
        supernodes = list(self.config.supernodes)
        host_port = supernodes[event.supernode].host_port
        supernodes[event.supernode] = SupernodeConfig(host_port, event.fingerprint)
        self.config = replace(self.config, supernodes=tuple(supernodes))
