"""The engine of an edge: datagrams and frames in, datagrams, frames and events out.

Deterministic: all it knows is what it is told, and its dice are an injected entropy function. This
file is the border; what happens behind it is in `mesh.core.reception` (datagrams),
`mesh.core.tap_port` (frames), `mesh.core.peers` and `mesh.core.supernodes`.
"""

from collections.abc import Sequence

from mesh.addresses import EdgeId, Endpoint
from mesh.constants import REGISTRATION_LIFETIME
from mesh.core import views
from mesh.core.config import EdgeConfig
from mesh.core.context import Context
from mesh.core.guesser import Guesser
from mesh.core.local import LocalEndpoints
from mesh.core.outbox import Via
from mesh.core.peers import PeerTable
from mesh.core.reception import Reception
from mesh.core.shortcuts import Shortcuts
from mesh.core.supernodes import Supernodes
from mesh.core.switch import Switch
from mesh.core.tap_port import TapPort
from mesh.core.timers import Timer
from mesh.core.undelivered import Undelivered
from mesh.engine import (
    Buffer,
    Entropy,
    FrameIovec,
    OutgoingDatagrams,
    ReceivedDatagrams,
    SocketId,
    Transport,
)
from mesh.events import DropReason, Event
from mesh.snapshots import EdgeView, FdbView, PeerView

MAC_SWEEP_INTERVAL = 60.0  # s; a lookup finds an aged address by itself

FATAL_ERRNOS = frozenset({1, 13, 99, 101, 111, 113})
"""EPERM, EACCES, EADDRNOTAVAIL, ENETUNREACH, ECONNREFUSED, EHOSTUNREACH: the way is closed now."""


class EdgeEngine:
    """One edge of one community; see `mesh.engine.FrameEngine` for the border.

    Args:
        config: its settings; at least one supernode.
        entropy: where keys, indexes and jitter come from.
        now: the moment of the start.
    """

    def __init__(self, config: EdgeConfig, entropy: Entropy, now: float) -> None:
        self._config = config
        self._context = context = Context(config, entropy)
        self._switch = Switch()
        self._local = LocalEndpoints(config.advertise)
        self._supernodes = Supernodes(context, config.identity.edge_id)
        self._peers = PeerTable(context, self._supernodes, self._local, self._switch)
        self._tap = TapPort(context, self._switch, self._peers)
        self._guesser = Guesser(context, self._supernodes, self._peers)
        self._reception = Reception(
            context,
            self._supernodes,
            self._peers,
            self._local,
            self._tap,
            guesser=self._guesser,
        )
        self._shortcuts = Shortcuts(context, self._switch, self._peers, self._tap, self._reception)
        self._undelivered = Undelivered(context, self._supernodes, self._peers)
        self._last_via = Via(0, Endpoint("", 0))
        context.our_nat.on_change = self._nat_changed
        context.timers.set(Timer.MAC_AGING, None, now + MAC_SWEEP_INTERVAL)

    # What the driver tells

    def set_supernode_endpoints(self, index: int, endpoints: list[Endpoint], now: float) -> None:
        """Learn where supernode number ``index`` of the configuration is."""
        self._supernodes.set_endpoints(index, endpoints, now)

    def set_supernode_stream(
        self, number: int, socket: SocketId, endpoint: Endpoint, transport: Transport, now: float
    ) -> None:
        """Learn that a stream to supernode ``number`` is open: the answer to `StreamWanted`.

        Args:
            number: as in the configuration.
            socket: of the stream; `socket_closed` tells when it has ended.
            endpoint: the other end, or the proxy: what is shown.
            transport: TCP or WEBSOCKET.
            now: the time.
        """
        self._supernodes.set_stream(number, Via(socket, endpoint), transport, now)

    def set_local_addresses(
        self, host_addresses: list[str], port_ipv4: int, port_ipv6: int, now: float
    ) -> None:
        """Learn the machine's addresses (never those of an overlay) and our UDP ports."""
        self._context.our_nat.local_port = port_ipv4
        if self._local.set_addresses(host_addresses, port_ipv4, port_ipv6):
            self.network_changed(now)

    def network_changed(self, now: float) -> None:
        """Learn that other networks may be around us, whatever our addresses: ask at once."""
        for registration in self._supernodes:
            registration.network_changed(now)
        for peer in self._peers:
            if peer.sessions.current is not None:
                peer.network_changed(now)

    def receive_lan_sighting(self, edge_id: EdgeId, endpoint: Endpoint, now: float) -> None:
        """Learn where a member has announced itself on the LAN; see `mesh.wire.lan_peer`."""
        if self._config.relay_only:
            return
        self._context.lan_sightings.note(edge_id, endpoint)
        peer = self._peers.get(edge_id)
        if peer is not None:
            peer.sighted(endpoint, now)

    def resumed(self, slept: float, now: float) -> None:
        """Learn that the machine was suspended for ``slept`` seconds, which ``now`` leaves out.

        Others have counted them. After so many that they may have forgotten us, sessions are made
        anew beside the ones there are.
        """
        self.network_changed(now)
        if slept >= REGISTRATION_LIFETIME:
            for registration in self._supernodes:
                registration.start(now)
            for peer in self._peers:
                peer.want_session(now)

    def set_mapped_endpoints(self, endpoints: list[Endpoint], now: float) -> None:
        """Learn at which endpoints routers forward to our UDP ports; peers are told."""
        if self._local.set_mapped(endpoints):
            for peer in self._peers:
                peer.tell_news(now)

    def _nat_changed(self, now: float) -> None:
        for peer in self._peers:
            peer.tell_news(now)
        self._guesser.wake(now)

    def sockets_opened(self, sockets: list[SocketId], now: float) -> None:
        """Learn which extra UDP sockets (IPv4) there are now, after `SocketsWanted`; maybe none."""
        self._guesser.sockets_opened(sockets, now)

    def set_overlay_networks(self, networks: list[str]) -> None:
        """Learn the CIDR networks of overlays on this machine: no endpoint in them is tried."""
        self._local.set_overlays(networks)

    def probe(self, peer: EdgeId, token: bytes, now: float) -> bool:
        """Ping a peer on its path in use; `ProbeAnswered` follows, if it answers.

        Returns:
            Whether there is a session and a path to ping on.
        """
        found = self._peers.get(peer)
        return found is not None and found.probe(token, now)

    def count_drop(self, reason: DropReason, count: int = 1) -> None:
        """Count what the driver had to drop."""
        self._context.drop(reason, count)

    def receive_datagrams(self, batch: ReceivedDatagrams, now: float) -> None:
        """Take in what a socket delivered; nothing in it has been authenticated."""
        if not batch.source[1]:  # port 0 is legal on the wire, and nothing can be sent back to it
            self._context.drop(DropReason.MALFORMED)
            return
        view = memoryview(batch.buffer)
        via = self._last_via
        if batch.source != via.endpoint or batch.socket != via.socket:  # 0.7 µs to make
            via = self._last_via = Via(batch.socket, Endpoint(batch.source[0], batch.source[1]))
        self._reception.receive_batch_untrusted(view, max(batch.segment_bytes, 1), via, now)

    def receive_frames(self, read: Buffer, now: float) -> None:
        """Take in one TAP read: a virtio-net header and a frame."""
        self._tap.receive_frames(read, now)

    def receive_burst(self, reads: Sequence[memoryview], now: float) -> None:
        """Take in TAP reads that came together."""
        self._tap.receive_burst(reads, now)

    def forward_frame(self, read: memoryview, now: float) -> OutgoingDatagrams | None:
        """Take in a lone small frame by the short way, if there is one."""
        return self._shortcuts.forward(read, now)

    def deliver_datagram(self, batch: ReceivedDatagrams, now: float) -> FrameIovec | None:
        """Take in a lone small datagram by the short way, if there is one."""
        return self._shortcuts.deliver(batch, now)

    def receive_send_error(
        self, socket: SocketId, destination: Endpoint, errno: int, now: float
    ) -> None:
        """Learn that the kernel refused a send; a fatal refusal takes frames off the path."""
        self._context.drop(DropReason.SEND_ERROR)
        if errno not in FATAL_ERRNOS:
            return
        via = Via(socket, Endpoint(*destination[:2]))
        registration = self._supernodes.at(via)
        if registration is not None:
            registration.receive_send_error(via, now)
        for peer in self._peers:
            if peer.paths.find(via) is not None:
                peer.send_failed(via, now)

    def receive_unreachable(
        self, socket: SocketId, destination: Endpoint, quoted: bytes, now: float
    ) -> None:
        """Learn that ICMP, which may be forged, calls a destination unreachable: doubt the path."""
        via = Via(socket, Endpoint(*destination[:2]))
        self._undelivered.receive_unreachable_untrusted(via, quoted, now)

    def receive_unsent(
        self, socket: SocketId, destination: Endpoint, datagrams: list[bytes], now: float
    ) -> None:
        """Take back what a refused send held: frames in it take another way at once."""
        via = Via(socket, Endpoint(*destination[:2]))
        self._undelivered.receive_unsent(via, datagrams, now)

    def receive_too_large(
        self, socket: SocketId, destination: Endpoint, datagram_bytes: int, now: float
    ) -> None:
        """Learn that a probe is larger than the interface towards ``destination`` takes."""
        via = Via(socket, Endpoint(*destination[:2]))
        for peer in self._peers:
            peer.datagram_too_large(via, datagram_bytes, now)

    def socket_closed(self, socket: SocketId, now: float) -> None:
        """Learn that a stream has ended, or that an extra socket is gone."""
        self._supernodes.socket_closed(socket, now)
        self._guesser.socket_closed(socket, now)

    def handle_timers(self, now: float) -> None:
        """Do what is due."""
        for timer, owner in self._context.timers.pop_due(now):
            match timer:
                case (
                    Timer.REGISTER
                    | Timer.SUPERNODE_HEARTBEAT
                    | Timer.MEMBERSHIP
                    | Timer.NAT_OBSERVATION
                    | Timer.STREAM
                    | Timer.UDP_PROBE
                ):
                    self._supernodes.handle_timer(timer, owner, now)
                case Timer.GUESS:
                    self._guesser.handle_timer(now)
                case Timer.MAC_AGING:
                    self._switch.age(now)
                    self._shortcuts.forget()
                    self._context.timers.set(timer, None, now + MAC_SWEEP_INTERVAL)
                case _:
                    self._peers.handle_timer(timer, owner, now)

    def stop(self, now: float) -> None:
        """Say goodbye to peers and supernode."""
        for peer in self._peers:
            peer.say_bye(now)
        self._supernodes.leave(now)

    # What the driver takes

    def next_timer_at(self) -> float:
        """Return the moment of the next deadline, or ``math.inf``."""
        return self._context.timers.next_at()

    def datagrams_to_send(self) -> list[OutgoingDatagrams]:
        """Return, and forget, what is to be sent."""
        return self._context.outbox.take()

    def frames_to_write(self) -> list[FrameIovec]:
        """Return, and forget, what is to be written to the TAP."""
        return self._tap.take()

    def events_to_report(self) -> list[Event]:
        """Return, and forget, what happened since the last call."""
        reported, self._context.events = self._context.events, []
        return reported

    # Views

    def find_peer(self, text: str) -> list[EdgeId]:
        """Return the peers that a name, id prefix, address or MAC stands for."""
        return [peer.edge_id for peer in self._peers if views.matches(peer, text)]

    @property
    def primary_supernode(self) -> int:
        """The number of the supernode that answers fastest; 0 before any has."""
        return self._supernodes.primary.number

    def edge_view(self, _now: float) -> EdgeView:
        """Return what ``mesh-edge status`` shows of the engine."""
        drops = self._context.drops.copy()
        drops[DropReason.INCOMPLETE_FRAME] += sum(p.reassembler.dropped for p in self._peers)
        drops[DropReason.TABLE_FULL] += self._switch.refused
        up = sum(peer.is_up for peer in self._peers)
        return views.edge_view(self._context, self._supernodes, self._local, up, +drops)

    def peer_views(self, now: float) -> list[PeerView]:
        """Return the rows of ``mesh-edge peers``, sorted by name."""
        context, local, transport_of = self._context, self._local, self._supernodes.transport
        rows = [views.peer_view(each, context, local, transport_of, now) for each in self._peers]
        return sorted(rows, key=lambda row: (row["name"], row["id"]))

    def fdb_views(self, now: float) -> list[FdbView]:
        """Return the rows of ``mesh-edge fdb``."""
        names = {peer.edge_id: peer.label for peer in self._peers}
        return [
            views.fdb_view(entry, names.get(entry.port, "")) for entry in self._switch.entries(now)
        ]
