"""The engine of an edge: datagrams and frames in, datagrams, frames and events out.

Deterministic: all it knows is what it is told, and its dice are an injected entropy function. What
comes from the network cannot make it raise; every refusal is caught once, here, and counted.
"""

from collections.abc import Callable

from mesh import events
from mesh.addresses import EdgeId, Endpoint
from mesh.constants import (
    EDGE_LOAD_INITIATIONS_PER_SECOND,
    INITIATE_FALLBACK,
    PEER_SILENCE_TIMEOUT,
    PROTOCOL_VERSION,
    RELAY_HEADER_BYTES,
)
from mesh.core import views
from mesh.core.config import EdgeConfig
from mesh.core.context import Context
from mesh.core.initiations import InitiationGuard
from mesh.core.local import LocalEndpoints
from mesh.core.outbox import Via
from mesh.core.peer import Peer
from mesh.core.registration import News, Registration
from mesh.core.switch import Switch
from mesh.core.timers import Timer
from mesh.crypto.handshake import PeerInitiation, UnsupportedVersion
from mesh.crypto.identity import edge_id_of
from mesh.crypto.session import Session
from mesh.datapath.vnet import (
    GSO_NONE,
    VIRTIO_NET_HEADER_BYTES,
    decode_vnet,
    encode_vnet_partial,
    encode_vnet_plain,
)
from mesh.engine import (
    Buffer,
    Entropy,
    FrameIovec,
    OutgoingDatagrams,
    ReceivedDatagrams,
    SocketId,
)
from mesh.errors import MalformedMessage, NotAuthentic, RemoteError, Replayed
from mesh.events import DropReason, Event
from mesh.snapshots import EdgeView, FdbView, PeerView
from mesh.wire.datagram import (
    DatagramType,
    UnknownDatagram,
    classify_untrusted,
    decode_relay_header,
    decode_unknown_session,
    decode_version_refusal,
    echo_untrusted,
    encode_unknown_session,
    encode_version_refusal,
    peek_receiver_index_untrusted,
)
from mesh.wire.ethernet import addresses
from mesh.wire.inner import InnerKind, decode_fragment, decode_frame, open_control_untrusted
from mesh.wire.messages import Bye, Hello, Message, Ping, Pong, UnknownMessage, decode_message

MAX_PEERS = 4096
MAC_SWEEP_INTERVAL = 60.0  # s; a lookup finds an aged address by itself
ATTEMPTS_PER_SUPERNODE = 3  # then the next one of several is tried
HINTS_PER_SECOND = 10.0

FATAL_ERRNOS = frozenset({1, 13, 99, 101, 111, 113})
"""EPERM, EACCES, EADDRNOTAVAIL, ENETUNREACH, ECONNREFUSED, EHOSTUNREACH: the way is closed now."""


class EdgeEngine:
    """One edge of one community; see `mesh.engine.FrameEngine` for the border.

    Args:
        config: its settings.
        entropy: where keys, indexes and jitter come from.
        now: the moment of the start.
    """

    def __init__(self, config: EdgeConfig, entropy: Entropy, now: float) -> None:
        self._context = context = Context(config, entropy)
        self._config = config
        self._our_id = config.identity.edge_id
        self._switch = Switch()
        self._peers: dict[EdgeId, Peer] = {}
        self._local = LocalEndpoints(config.advertise)
        self._registrations = [
            Registration(number, supernode, context, self._our_id)
            for number, supernode in enumerate(config.supernodes)
        ]
        self._chosen = 0
        self._guard = InitiationGuard(
            config.identity.public_key, config.community, entropy, EDGE_LOAD_INITIATIONS_PER_SECOND
        )
        self._hint_allowance = HINTS_PER_SECOND
        self._hint_at = now
        self._frames: list[FrameIovec] = []
        self._max_frame_bytes = config.mtu + 18  # Ethernet header and one VLAN tag
        self._handlers: dict[int, Callable[[Buffer, Via, float], None]] = {
            DatagramType.PEER_INITIATION: self._receive_initiation,
            DatagramType.PEER_RESPONSE: self._receive_response,
            DatagramType.COOKIE_REPLY: self._receive_cookie,
            DatagramType.TRANSPORT: self._receive_transport,
            DatagramType.RELAY: self._receive_relayed,
            DatagramType.SUPERNODE_RESPONSE: self._receive_supernode_response,
            DatagramType.UNKNOWN_SESSION: self._receive_hint,
            DatagramType.VERSION_REFUSAL: self._receive_version_refusal,
            DatagramType.PUNCH: self._receive_punch,
        }
        context.timers.set(Timer.MAC_AGING, None, now + MAC_SWEEP_INTERVAL)

    # What the driver tells

    def set_supernode_endpoints(self, index: int, endpoints: list[Endpoint], now: float) -> None:
        """Learn where supernode number ``index`` of the configuration is."""
        self._registrations[index].set_endpoints(endpoints)
        if index == self._chosen and endpoints:
            self._registrations[index].start_if_idle(now)

    def set_local_addresses(
        self, host_addresses: list[str], port_ipv4: int, port_ipv6: int, now: float
    ) -> None:
        """Learn the machine's addresses (never those of an overlay) and our UDP ports."""
        changed = self._local.set_addresses(host_addresses, port_ipv4, port_ipv6)
        if not changed:
            return
        self._registration.network_changed(now)
        for peer in self._peers.values():
            if peer.sessions.current is not None:
                peer.network_changed(now)

    def set_overlay_networks(self, networks: list[str]) -> None:
        """Learn the CIDR networks of overlays on this machine: no endpoint in them is tried."""
        self._local.set_overlays(networks)

    def probe(self, peer: EdgeId, token: bytes, now: float) -> bool:
        """Ping a peer on its path in use; `ProbeAnswered` follows, if it answers.

        Returns:
            Whether there is a session and a path to ping on.
        """
        return peer in self._peers and self._peers[peer].probe(token, now)

    def count_drop(self, reason: DropReason, count: int = 1) -> None:
        """Count what the driver had to drop."""
        self._context.drop(reason, count)

    def receive_send_error(
        self, socket: SocketId, destination: Endpoint, errno: int, now: float
    ) -> None:
        """Learn that the kernel refused a send; a fatal refusal takes frames off the path."""
        self._context.drop(DropReason.SEND_ERROR)
        if errno not in FATAL_ERRNOS:
            return
        via = Via(socket, Endpoint(*destination[:2]))
        self._registration.receive_send_error(via, now)
        for peer in self._peers.values():
            if peer.paths.find(via) is not None:
                peer.send_failed(via, now)

    def stop(self, now: float) -> None:
        """Say goodbye to peers and supernode."""
        for peer in self._peers.values():
            peer.say_bye(now)
        for registration in self._registrations:
            registration.leave()

    # What the driver takes

    def next_timer_at(self) -> float:
        """Return the moment of the next deadline, or ``math.inf``."""
        return self._context.timers.next_at()

    def datagrams_to_send(self) -> list[OutgoingDatagrams]:
        """Return, and forget, what is to be sent."""
        return self._context.outbox.take()

    def frames_to_write(self) -> list[FrameIovec]:
        """Return, and forget, what is to be written to the TAP."""
        frames, self._frames = self._frames, []
        return frames

    def events_to_report(self) -> list[Event]:
        """Return, and forget, what happened since the last call."""
        reported, self._context.events = self._context.events, []
        return reported

    # Datagrams in

    def receive_datagrams(self, batch: ReceivedDatagrams, now: float) -> None:
        """Take in what a socket delivered; nothing in it has been authenticated."""
        view = memoryview(batch.buffer)
        via = Via(batch.socket, Endpoint(batch.source[0], batch.source[1]))
        step = batch.segment_bytes or len(view)
        for start in range(0, len(view), max(step, 1)):
            self._receive_datagram(view[start : start + step], via, now)

    def _receive_datagram(self, datagram: memoryview, via: Via, now: float) -> None:
        try:
            kind = classify_untrusted(datagram)
            handler = self._handlers.get(kind)
            if handler is None:
                self._context.drop(DropReason.UNKNOWN_TYPE)
            else:
                handler(datagram, via, now)
        except UnknownDatagram:
            self._context.drop(DropReason.UNKNOWN_TYPE)
        except UnknownMessage:
            self._context.drop(DropReason.UNKNOWN_MESSAGE)
        except MalformedMessage:
            self._context.drop(DropReason.MALFORMED)
        except Replayed:
            self._context.drop(DropReason.REPLAYED)
        except NotAuthentic:
            self._context.drop(DropReason.NOT_AUTHENTIC)
        except RemoteError:
            self._context.drop(DropReason.MALFORMED)

    def _receive_relayed(self, envelope: Buffer, via: Via, now: float) -> None:
        registration = self._registration
        source, destination = decode_relay_header(envelope)
        if (
            not registration.is_connected
            or via != registration.via
            or destination != registration.relay_id
        ):
            self._context.drop(DropReason.UNKNOWN_SENDER)
            return
        inner = memoryview(envelope)[RELAY_HEADER_BYTES:]
        classify_untrusted(inner)
        self._handlers[inner[0]](inner, Via(via.socket, via.endpoint, source), now)

    def _receive_transport(self, datagram: Buffer, via: Via, now: float) -> None:  # Hot path.
        index = peek_receiver_index_untrusted(datagram)
        entry = self._context.indexes.sessions.get(index)
        if entry is None:
            self._context.drop(DropReason.UNKNOWN_SESSION)
            self._hint(datagram, via, now)
            return
        session, owner = entry
        if session.is_expired(now):
            self._context.drop(DropReason.EXPIRED_SESSION)
        elif isinstance(owner, Peer):
            self._receive_from_peer(owner, session, datagram, via, now)
        elif owner is self._registration and not via.relay_id:
            news = self._registration.receive_transport_untrusted(datagram, session, via, now)
            self._handle_news(news, now)

    def _receive_from_peer(
        self, peer: Peer, session: Session, datagram: Buffer, via: Via, now: float
    ) -> None:  # Hot path.
        if self._config.relay_only and not via.relay_id:
            self._context.drop(DropReason.NO_PATH)
            return
        newest_before = session.highest_counter
        plaintext = session.open_untrusted(datagram)
        peer.heard(session, via, now, is_newest=session.highest_counter > newest_before)
        match plaintext[0] if len(plaintext) else 0:
            case InnerKind.FRAME:
                frame, csum_start, csum_offset = decode_frame(plaintext)
                self._deliver(peer, frame, (csum_start, csum_offset), via, now)
            case InnerKind.FRAGMENT:
                number, index, count, piece, csum_start, csum_offset = decode_fragment(plaintext)
                whole = peer.reassembler.add(
                    number, index, count, (csum_start, csum_offset), piece, now
                )
                peer.schedule_reassembly(now)
                if whole is not None:
                    self._deliver(peer, whole[0], whole[1], via, now)
            case _:
                message = decode_message(open_control_untrusted(plaintext))
                self._receive_message(peer, message, via, now)

    def _deliver(
        self, peer: Peer, frame: Buffer, csum: tuple[int, int], via: Via, now: float
    ) -> None:  # Hot path.
        if len(frame) > self._max_frame_bytes:
            self._context.drop(DropReason.FRAME_SIZE)
            return
        if via.relay_id and self._config.no_relay:
            self._context.drop(DropReason.NO_PATH)
            return
        peer.rx_frames += 1
        peer.rx_bytes += len(frame)
        _, source = addresses(frame)
        if source != self._config.mac:
            self._switch.learn(source, peer.edge_id, now)
        header = encode_vnet_partial(*csum) if csum[0] else encode_vnet_plain()
        self._frames.append((header, frame))

    def _receive_message(self, peer: Peer, message: Message, via: Via, now: float) -> None:
        match message:
            case Ping():
                peer.receive_ping(message, via, now)
            case Pong():
                if message.endpoint is not None:
                    self._local.observe(message.endpoint)
                peer.receive_pong(message, via, now)
            case Hello():
                usable = tuple(filter(self._local.may_be_candidate, message.candidates))
                peer.receive_hello(message, usable, now, loopback=self._is_on_loopback)
                if message.answer:
                    peer.say_hello(now, extra=via, answer=False)
            case Bye():
                self._forget(peer)
            case _:
                self._context.drop(DropReason.UNKNOWN_MESSAGE)

    # Handshakes

    def _receive_initiation(self, datagram: Buffer, via: Via, now: float) -> None:
        if self._config.relay_only and not via.relay_id:
            self._context.drop(DropReason.NO_PATH)
            return
        cookie_reply = self._guard.check_untrusted(datagram, via.endpoint, now)
        if cookie_reply is not None:
            self._context.drop(DropReason.UNDER_LOAD)
            self._context.outbox.send(via, cookie_reply)
            return
        try:
            initiation = PeerInitiation.receive_untrusted(
                datagram, self._config.identity, self._config.community
            )
        except UnsupportedVersion as refusal:
            answer = encode_version_refusal(PROTOCOL_VERSION, refusal.sender_index)
            self._context.outbox.send(via, answer)
            raise
        self._guard.accept_number(edge_id_of(initiation.their_static), initiation.number)
        peer = self._peer_for(initiation.their_static)
        if peer is None:
            self._context.drop(DropReason.TABLE_FULL)
            return
        if via.relay_id and peer.paths.relay_via is None:
            peer.paths.set_relay(via, now)
        if peer.member is None:
            self._context.timers.set_no_later_than(
                Timer.PEER_EXPIRY, peer.edge_id, now + PEER_SILENCE_TIMEOUT
            )
        peer.respond(initiation, via, now)

    def _receive_response(self, datagram: Buffer, via: Via, now: float) -> None:
        index = peek_receiver_index_untrusted(datagram)
        peer = self._context.indexes.waiting.get(index)
        if not isinstance(peer, Peer):
            self._context.drop(DropReason.UNKNOWN_SESSION)
        else:
            peer.receive_response_untrusted(datagram, via, now)

    def _receive_supernode_response(self, datagram: Buffer, via: Via, now: float) -> None:
        index = peek_receiver_index_untrusted(datagram)
        owner = self._context.indexes.waiting.get(index)
        if owner is not self._registration or via.relay_id:
            self._context.drop(DropReason.UNKNOWN_SESSION)
        else:
            self._registration.receive_response_untrusted(datagram, via, now)

    def _receive_cookie(self, datagram: Buffer, via: Via, now: float) -> None:
        owner = self._context.indexes.waiting.get(peek_receiver_index_untrusted(datagram))
        if isinstance(owner, Peer):
            owner.receive_cookie_untrusted(datagram, now)
        elif owner is self._registration and not via.relay_id:
            self._registration.receive_cookie_untrusted(datagram, now)
        else:
            self._context.drop(DropReason.UNKNOWN_SESSION)

    def _receive_version_refusal(self, datagram: Buffer, _via: Via, _now: float) -> None:
        refusal = decode_version_refusal(datagram)
        owner = self._context.indexes.waiting.get(refusal.receiver_index)
        if owner is self._registration and refusal.version != PROTOCOL_VERSION:
            self._context.events.append(
                events.SupernodeVersion(self._registration.number, refusal.version)
            )

    def _receive_punch(self, _datagram: Buffer, _via: Via, _now: float) -> None:
        """A punch has done its work on the way: it opened the sender's NAT."""

    # Hints

    def _hint(self, datagram: Buffer, via: Via, now: float) -> None:
        self._hint_allowance = min(
            HINTS_PER_SECOND, self._hint_allowance + (now - self._hint_at) * HINTS_PER_SECOND
        )
        self._hint_at = now
        if self._hint_allowance >= 1.0:
            self._hint_allowance -= 1.0
            hint = encode_unknown_session(DatagramType.TRANSPORT, echo_untrusted(datagram))
            self._context.outbox.send(via, hint)

    def _receive_hint(self, datagram: Buffer, via: Via, now: float) -> None:
        hint = decode_unknown_session(datagram)
        if via == self._registration.via:
            # Whatever a supernode does not know of us, it takes a registration to mend.
            self._registration.receive_hint(now)
            return
        index = int.from_bytes(hint.echo[:4], "big")
        counter = int.from_bytes(hint.echo[4:], "big")
        for peer in self._peers.values():
            session = peer.sessions.current
            if (
                session is not None
                and session.their_index == index
                and counter < session.sent_datagrams
            ):
                peer.receive_hint(now)

    # Members

    @property
    def _registration(self) -> Registration:
        return self._registrations[self._chosen]

    @property
    def _is_on_loopback(self) -> bool:
        seen_as = self._registration.seen_as
        return seen_as is not None and (seen_as.host == "::1" or seen_as.host.startswith("127."))

    def _handle_news(self, news: News, now: float) -> None:
        registration = self._registration
        if registration.via is None:
            return  # not registered yet: `registered` will name them again
        self._local.seen_as = registration.seen_as
        self._context.outbox.set_our_relay_id(registration.relay_id)
        for edge_id in news.changed:
            self._introduce(edge_id, now, is_newcomer=news.is_list)
        for edge_id in news.gone:
            peer = self._peers.get(edge_id)
            if peer is not None:
                peer.expelled(now)

    def _introduce(self, edge_id: EdgeId, now: float, *, is_newcomer: bool) -> None:
        registration = self._registration
        member = registration.membership.members[edge_id]
        peer = self._peer_for(member.key) if self._is_key_usable(edge_id, member.key) else None
        via = registration.via
        if peer is None or via is None:
            self._context.drop(DropReason.TABLE_FULL)
            return
        relay = Via(via.socket, via.endpoint, member.relay_id)
        peer.introduced(member, relay, now, loopback=self._is_on_loopback)
        if peer.sessions.current is None:
            peer.punch()
            peer.want_session(now if is_newcomer else now + INITIATE_FALLBACK)

    def _is_key_usable(self, edge_id: EdgeId, static_key: bytes) -> bool:
        """Whether a key that a supernode names is one that a handshake can be made with."""
        if edge_id in self._peers:
            return True
        try:
            self._config.identity.exchange(static_key)
        except NotAuthentic:
            return False
        return True

    def _peer_for(self, static_key: bytes) -> Peer | None:
        edge_id = edge_id_of(static_key)
        peer = self._peers.get(edge_id)
        if peer is None and edge_id != self._our_id and len(self._peers) < MAX_PEERS:
            peer = self._peers[edge_id] = Peer(static_key, self._context, self._hello)
        return peer

    def _hello(self, answer: bool) -> Hello:  # noqa: FBT001 - its only argument
        config = self._config
        own = [address for address in (self._registration.address,) if address]
        ula = str(config.community.ipv6_address(config.identity.interface_id))
        return Hello(
            version=PROTOCOL_VERSION,
            name=config.name,
            mac=config.mac,
            addresses=(*own, ula),
            candidates=() if config.relay_only else self._local.candidates,
            mtu=config.mtu,
            answer=answer,
        )

    def _forget(self, peer: Peer) -> None:
        peer.close()
        self._peers.pop(peer.edge_id, None)
        self._switch.forget_port(peer.edge_id)
        if peer.is_up:
            self._context.events.append(events.PeerDown(peer.edge_id, peer.label))

    # Frames

    def receive_frames(self, read: Buffer, now: float) -> None:  # Hot path.
        """Take in one TAP read: forward it to the peer that owns its destination, or flood it."""
        fields = decode_vnet(read)
        if fields is None or fields[1] != GSO_NONE:
            self._context.drop(DropReason.MALFORMED)
            return
        frame = memoryview(read)[VIRTIO_NET_HEADER_BYTES:]
        if len(frame) > self._max_frame_bytes:
            self._context.drop(DropReason.FRAME_SIZE)
            return
        destination, source = addresses(frame)
        csum = (fields[4], fields[5])
        if self._switch.knows(source):
            self._switch.forget(source)  # it has moved to our side
        port = None if destination[0] & 1 else self._switch.port_of(destination, now)
        if port is not None:
            self._peers[port].send_frame(frame, csum, now)
            return
        for peer in self._peers.values():
            if peer.sessions.current is not None:
                peer.send_frame(frame, csum, now)

    # Timers

    def handle_timers(self, now: float) -> None:
        """Do what is due."""
        for timer, owner in self._context.timers.pop_due(now):
            match timer:
                case Timer.REGISTER | Timer.SUPERNODE_HEARTBEAT | Timer.MEMBERSHIP:
                    self._handle_supernode_timer(timer, owner, now)
                case Timer.MAC_AGING:
                    self._switch.age(now)
                    self._context.timers.set(timer, None, now + MAC_SWEEP_INTERVAL)
                case _:
                    peer = self._peers.get(EdgeId(owner)) if isinstance(owner, bytes) else None
                    if peer is not None:
                        self._handle_peer_timer(timer, peer, now)

    def _handle_supernode_timer(self, timer: Timer, owner: object, now: float) -> None:
        registration = self._registration
        if owner != registration.number:
            return
        match timer:
            case Timer.REGISTER:
                if registration.failed_attempts >= ATTEMPTS_PER_SUPERNODE:
                    registration = self._choose_next_supernode()
                registration.handle_register_timer(now)
            case Timer.SUPERNODE_HEARTBEAT:
                registration.handle_heartbeat_timer(now)
            case _:
                registration.handle_membership_timer(now)

    def _choose_next_supernode(self) -> Registration:
        if len(self._registrations) > 1:
            self._registration.suspend()
            self._chosen = (self._chosen + 1) % len(self._registrations)
        return self._registration

    def _handle_peer_timer(self, timer: Timer, peer: Peer, now: float) -> None:
        match timer:
            case Timer.HANDSHAKE:
                peer.handle_handshake_timer(now)
            case Timer.HELLO:
                peer.say_hello(now)
            case Timer.PROBE:
                peer.handle_probe_timer(now)
            case Timer.REKEY:
                peer.handle_rekey_timer(now)
            case Timer.REASSEMBLY:
                peer.reassembler.expire(now)
            case _:
                self._expire(peer, now)

    def _expire(self, peer: Peer, now: float) -> None:
        if peer.member is not None:
            return
        if now - peer.last_heard_at >= PEER_SILENCE_TIMEOUT:
            self._forget(peer)
        else:
            peer.expelled(now)

    # Views

    def find_peer(self, text: str) -> list[EdgeId]:
        """Return the peers that a name, id prefix, address or MAC stands for."""
        return [peer.edge_id for peer in self._peers.values() if views.matches(peer, text)]

    def edge_view(self, now: float) -> EdgeView:
        """Return what ``mesh-edge status`` shows of the engine."""
        drops = self._context.drops.copy()
        drops[DropReason.INCOMPLETE_FRAME] += sum(
            peer.reassembler.dropped for peer in self._peers.values()
        )
        drops[DropReason.TABLE_FULL] += self._switch.refused
        peers = [peer for peer in self._peers.values() if peer.is_up]
        return views.edge_view(
            self._config, self._registration, self._local, len(peers), +drops, now
        )

    def peer_views(self, now: float) -> list[PeerView]:
        """Return the rows of ``mesh-edge peers``, sorted by name."""
        rows = [views.peer_view(peer, now) for peer in self._peers.values()]
        return sorted(rows, key=lambda row: (row["name"], row["id"]))

    def fdb_views(self, now: float) -> list[FdbView]:
        """Return the rows of ``mesh-edge fdb``."""
        return [
            views.fdb_view(entry, self._peers[entry.port].label)
            for entry in self._switch.entries(now)
        ]
