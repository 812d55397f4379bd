"""The supernode's engine: bytes and the time in, bytes, a deadline and events out.

It serves what docs/protocol.md asks of a supernode in sections 5.2, 5.4, 6.5, 7, 10, 11, 15 and 17.
A batch goes one of three ways:

    all envelopes ──▶ relay                 (the hot path; nothing is opened)
    transport     ──▶ session ──▶ registrar (authenticated)
    the rest      ──▶ reception             (strangers; every answer is measured)
"""

import itertools
import math
from collections.abc import Callable, Sequence

from mesh.addresses import EdgeId, Endpoint
from mesh.crypto.identity import Identity
from mesh.crypto.session import Session
from mesh.engine import (
    Buffer,
    Entropy,
    OutgoingDatagrams,
    ReceivedDatagrams,
    SocketId,
    Transport,
)
from mesh.errors import MalformedMessage, NotAuthentic, Replayed
from mesh.events import DropReason, Event
from mesh.snapshots import CommunityView, RegisteredEdgeView, SupernodeStatusView
from mesh.wire.datagram import (
    DatagramType,
    UnknownDatagram,
    classify_untrusted,
    echo_untrusted,
    encode_unknown_session,
    is_transport_untrusted,
    peek_transport_untrusted,
)
from mesh.wire.inner import open_control_untrusted
from mesh.wire.messages import Ping, Register, UnknownMessage, decode_message
from supernode import views
from supernode.leases import Leases, StoredLeases
from supernode.limits import SupernodeLimits
from supernode.observation import Observation
from supernode.origin import Origin
from supernode.reception import Guest, Reception
from supernode.registrar import Registrar
from supernode.registration import Registration
from supernode.registry import Registry
from supernode.relay import Relay

SWEEP_INTERVAL = 1.0  # s; how often silent edges and stale strangers are looked for
MAX_COMMUNITIES_ASKED = 4096  # about 1.3 us each, per LAN query
_RELAY = bytes([DatagramType.RELAY])


class SupernodeEngine:
    """One supernode; implements `mesh.engine.Engine`.

    Args:
        identity: its long-term key.
        limits: caps and budgets.
        entropy: for keys, indexes and relay ids.
        now: the present moment.
        stored: what was remembered of leases.
    """

    def __init__(
        self,
        identity: Identity,
        limits: SupernodeLimits,
        entropy: Entropy,
        now: float,
        stored: StoredLeases | None = None,
    ) -> None:
        self._limits = limits
        self._datagrams: list[OutgoingDatagrams] = []
        self._events: list[Event] = []
        self._drops: dict[DropReason, int] = {}
        self._sweep_at = math.inf
        self._streams: dict[SocketId, Transport] = {}
        self._registry = Registry(limits)
        self._leases = Leases(stored or StoredLeases(), limits.max_leases, self._report, now)
        self._relay = Relay(self._registry.by_relay_id, self._send, self._count_drop)
        self._reception = Reception(
            identity,
            entropy,
            limits.max_pending_handshakes,
            is_index_taken=lambda index: self._registry.by_index(index) is not None,
            answer=self._answer,
            count_drop=self._count_drop,
        )
        self._registrar = Registrar(
            self._registry,
            self._leases,
            entropy,
            send=self._send,
            report=self._report,
            count_drop=self._count_drop,
        )
        self._observation = Observation(
            self._registry, self._reception.guest, self._send, self._count_drop
        )

    # Input.

    def open_observation_sockets(
        self, ports: tuple[int, int], pairs: Sequence[tuple[SocketId, SocketId]]
    ) -> None:
        """Learn which sockets are for observation (section 10.7): a pair per address.

        The two port numbers are the same on all addresses, and are told to edges from now on.
        """
        self._observation.open_sockets(ports, pairs)
        self._registrar.probes = ports

    def receive_datagrams(self, batch: ReceivedDatagrams, now: float) -> None:  # Hot path.
        """Take in what a socket delivered; nothing in it is authenticated."""
        buffer, segment_bytes, source, socket = batch
        if (
            segment_bytes <= 0
            or not buffer
            or (source[1] == 0 and socket not in self._streams)  # no port to answer to
        ):
            self._count_drop(DropReason.MALFORMED, 1)
            return
        view = memoryview(buffer)
        types = bytes(view[::segment_bytes])  # the first byte of every datagram, in one go
        if types.count(_RELAY) == len(types):
            self._relay_untrusted(batch, now)
        else:
            origin = Origin(source, socket)
            for start in range(0, len(view), segment_bytes):
                self._receive_untrusted(view[start : start + segment_bytes], origin, now)
        if self._sweep_at == math.inf and (len(self._reception) or len(self._registry)):
            self._sweep_at = now + SWEEP_INTERVAL

    def handle_timers(self, now: float) -> None:
        """Forget whom it is time to forget."""
        if now < self._sweep_at:
            return
        self._reception.expire(now)
        self._registrar.expire(now)
        is_idle = not len(self._reception) and not len(self._registry)
        self._sweep_at = math.inf if is_idle else now + SWEEP_INTERVAL

    def receive_send_error(
        self, socket: SocketId, destination: Endpoint, errno: int, now: float
    ) -> None:
        """Count it: an edge that cannot be reached falls silent and expires."""
        del socket, destination, errno, now
        self._count_drop(DropReason.SEND_ERROR, 1)

    def receive_too_large(
        self, socket: SocketId, destination: Endpoint, datagram_bytes: int, now: float
    ) -> None:
        """Count it: a relayed probe was larger than our way to its receiver; silence says so."""
        del socket, destination, datagram_bytes, now
        self._count_drop(DropReason.SEND_ERROR, 1)

    def stream_opened(self, socket: SocketId, transport: Transport) -> None:
        """Learn that a socket is a stream: its source has no port (section 19)."""
        self._streams[socket] = transport

    def socket_closed(self, socket: SocketId, now: float) -> None:
        """Learn that a stream has ended: an edge that cannot be reached falls silent and expires.

        It is not forgotten at once: it may be about to open another stream.
        """
        del now
        self._streams.pop(socket, None)

    def stop(self, now: float) -> None:
        """Tell every edge that we stop."""
        self._registrar.say_goodbye(now)

    # Output.

    def next_timer_at(self) -> float:
        """Return the moment of the next sweep, or ``math.inf`` while nobody is known."""
        return self._sweep_at

    def datagrams_to_send(self) -> list[OutgoingDatagrams]:
        """Return, and forget, what is to be sent."""
        datagrams, self._datagrams = self._datagrams, []
        return datagrams

    def events_to_report(self) -> list[Event]:
        """Return, and forget, what happened since the last call.

        `LeaseGranted`, `SubnetChosen`, `LeaseForgotten` and `SubnetForgotten` are to be stored
        before the datagrams of the same step are sent.
        """
        events, self._events = self._events, []
        return events

    # Views.

    def status_view(self, now: float) -> SupernodeStatusView:
        """Return what ``supernode status`` shows of the engine."""
        del now
        return {
            "edges": len(self._registry),
            "streams": len(self._streams),
            "communities": len(self._registry.communities),
            "relayed_bytes": self._relay.relayed_bytes,
            "relayed_datagrams": self._relay.relayed_datagrams,
            "pending_handshakes": len(self._reception),
            "drops": {reason.value: count for reason, count in sorted(self._drops.items())},
        }

    def edge_views(self, now: float) -> list[RegisteredEdgeView]:
        """Return one row per registered edge."""
        return [
            views.edge_view(each, self._streams.get(each.socket, Transport.UDP), now)
            for each in self._registry
        ]

    def community_views(self, now: float) -> list[CommunityView]:
        """Return one row per community that has edges or leases."""
        del now
        known = dict.fromkeys(
            itertools.chain(self._registry.communities, self._leases.communities())
        )
        return [views.community_view(each, self._registry, self._leases) for each in known]

    def lease_of(self, community: bytes, edge: EdgeId) -> str:
        """Return the address (CIDR) leased to an edge, or an empty string: what is to be stored."""
        return self._leases.address_of(community, edge)

    def subnet_of(self, community: bytes) -> str:
        """Return the subnet (CIDR) of a community, or an empty string: what is to be stored."""
        return self._leases.subnet_of(community)

    def registered_edges(self) -> list[tuple[bytes, EdgeId]]:
        """Return community and EdgeId of every registered edge."""
        return [(each.community.id, each.edge) for each in self._registry]

    def sockets_in_use(self) -> set[SocketId]:
        """Return the sockets on which edges are registered."""
        return {each.socket for each in self._registry}

    def serves_community(self, is_it: Callable[[bytes], bool]) -> bytes | None:
        """Return the id of the served community that ``is_it`` recognises (LAN queries).

        Served are the only community, those with registered edges, and those with leases.
        """
        only = self._limits.only_community
        if only is not None:
            return only if is_it(only) else None
        served = itertools.chain(self._registry.communities, self._leases.communities())
        asked = itertools.islice(served, MAX_COMMUNITIES_ASKED)
        return next((community for community in asked if is_it(community)), None)

    # What a datagram is.

    def _relay_untrusted(self, batch: ReceivedDatagrams, now: float) -> None:
        header = self._relay.forward(batch, now)
        if header is not None:
            self._hint_untrusted(header, Origin(batch.source, batch.socket), now)

    def _receive_untrusted(self, datagram: memoryview, origin: Origin, now: float) -> None:
        try:
            if origin.socket in self._observation:
                self._observation.receive_untrusted(datagram, origin, now)
            elif is_transport_untrusted(datagram):
                self._receive_transport_untrusted(datagram, origin, now)
            else:
                self._receive_other_untrusted(bytes(datagram), origin, now)
        except UnknownDatagram:
            self._count_drop(DropReason.UNKNOWN_TYPE, 1)
        except UnknownMessage:
            self._count_drop(DropReason.UNKNOWN_MESSAGE, 1)
        except MalformedMessage:
            self._count_drop(DropReason.MALFORMED, 1)
        except Replayed:
            self._count_drop(DropReason.REPLAYED, 1)
        except NotAuthentic:
            self._count_drop(DropReason.NOT_AUTHENTIC, 1)

    def _receive_other_untrusted(self, datagram: bytes, origin: Origin, now: float) -> None:
        if datagram[0] == DatagramType.SUPERNODE_INITIATION:
            # Before its length is looked at: another version's may have another one.
            self._reception.receive_initiation_untrusted(datagram, origin, now)
            return
        match classify_untrusted(datagram):
            case DatagramType.SUPERNODE_CONFIRMATION:
                self._reception.receive_confirmation_untrusted(datagram, origin, now)
            case DatagramType.RELAY:
                # A copy: beside other datagrams this may leave only after a lease is stored.
                batch = ReceivedDatagrams(datagram, len(datagram), *origin)
                self._relay_untrusted(batch, now)
            case DatagramType.PUNCH:
                pass
            case _:
                self._count_drop(DropReason.UNKNOWN_TYPE, 1)

    def _receive_transport_untrusted(
        self, datagram: memoryview, origin: Origin, now: float
    ) -> None:
        index, _ = peek_transport_untrusted(datagram)
        registration = self._registry.by_index(index)
        if registration is not None:
            self._receive_from_edge_untrusted(registration, index, datagram, origin, now)
            return
        guest = self._reception.guest(index)
        if guest is not None:
            self._receive_from_guest_untrusted(guest, datagram, origin, now)
            return
        self._count_drop(DropReason.UNKNOWN_SESSION, 1)
        self._hint_untrusted(datagram, origin, now)

    def _receive_from_edge_untrusted(
        self, registration: Registration, index: int, datagram: Buffer, origin: Origin, now: float
    ) -> None:
        session = registration.session_of(index)
        if self._is_expired(session, now):
            return
        highest = session.highest_counter
        plaintext = session.open_untrusted(datagram)
        registration.heard_at = now
        is_newest = session is registration.session and session.highest_counter > highest
        message = decode_message(open_control_untrusted(plaintext))
        self._registrar.handle_message(
            registration, session, origin, message, now, is_newest=is_newest
        )

    def _receive_from_guest_untrusted(
        self, guest: Guest, datagram: Buffer, origin: Origin, now: float
    ) -> None:
        session = guest.session
        if origin != guest.origin or guest.messages_left == 0:
            self._count_drop(DropReason.UNKNOWN_SENDER, 1)
            return
        plaintext = session.open_untrusted(datagram)
        guest.messages_left -= 1
        try:
            message = decode_message(open_control_untrusted(plaintext))
        except MalformedMessage:
            self._registrar.handle_bad_request(session, origin, now)
            raise
        match message:
            case Ping():
                self._registrar.handle_guest_ping(session, origin, message, now)
            case Register():
                if self._registrar.handle_register(session, origin, message, now):
                    self._reception.leave_to_registry(session.our_index)
            case _:
                self._count_drop(DropReason.NOT_A_MEMBER, 1)

    # What leaves.

    def _hint_untrusted(self, received: Buffer, origin: Origin, now: float) -> None:
        """Say that we know nothing of a transport datagram or envelope (section 6.5)."""
        what = DatagramType(received[0])
        hint = encode_unknown_session(what, echo_untrusted(received))
        self._reception.hint_untrusted(hint, received, origin, now)

    def _answer(self, answer: bytes, origin: Origin) -> None:
        self._send(OutgoingDatagrams((answer,), len(answer), *origin))

    def _send(self, batch: OutgoingDatagrams) -> None:
        self._datagrams.append(batch)

    def _report(self, event: Event) -> None:
        self._events.append(event)

    def _count_drop(self, reason: DropReason, count: int) -> None:
        self._drops[reason] = self._drops.get(reason, 0) + count

    def _is_expired(self, session: Session, now: float) -> bool:
        is_expired = session.is_expired(now)
        if is_expired:
            self._count_drop(DropReason.EXPIRED_SESSION, 1)
        return is_expired
