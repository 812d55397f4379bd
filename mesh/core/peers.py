"""The peers of an edge: who joins, who is forgotten; docs/protocol.md sections 12.2 and 12.6."""

import math
from collections.abc import Callable, Iterator

from mesh import events
from mesh.addresses import EdgeId
from mesh.constants import INITIATE_FALLBACK, PEER_SILENCE_TIMEOUT, PROTOCOL_VERSION
from mesh.core.allowance import Allowance
from mesh.core.context import Context
from mesh.core.local import LocalEndpoints
from mesh.core.nat_kind import to_told
from mesh.core.outbox import Via
from mesh.core.peer import Peer
from mesh.core.registration import Registration
from mesh.core.siblings import News
from mesh.core.supernodes import Supernodes, is_on_loopback
from mesh.core.switch import Switch
from mesh.core.timers import Timer
from mesh.crypto.identity import default_mac_of, edge_id_of
from mesh.engine import Transport
from mesh.errors import NotAuthentic
from mesh.events import DropReason
from mesh.wire.messages import Hello

MAX_PEERS = 4096
EVICTION_BURST = 64.0  # looks for somebody who gives way in a full table, 2 ms each
EVICTION_RATE = 8.0  # 1/s
UNSEEN_PATIENCE = 10.0  # s; what is slow by UDP may not have been blocked


class PeerTable:
    """All peers by edge id; made by introductions and by initiations that verify.

    Attributes:
        on_new_peer: told of a peer with whom there is a session for the first time.
        on_forget: all that are told of a peer that is about to be forgotten.
    """

    def __init__(
        self, context: Context, supernodes: Supernodes, local: LocalEndpoints, switch: Switch
    ) -> None:
        self._context = context
        self._config = context.config
        self._our_id = context.config.identity.edge_id
        self._supernodes = supernodes
        self._local = local
        self._switch = switch
        self._by_id: dict[EdgeId, Peer] = {}
        self._evictions = Allowance(EVICTION_BURST, EVICTION_RATE)
        self._has_been_unseen = False
        supernodes.on_doubt = self._supernode_doubted
        supernodes.on_loss = self._supernode_lost
        supernodes.on_move = self._supernode_moved
        self.on_new_peer: Callable[[Peer, float], None] = lambda _peer, _now: None
        self.on_forget: list[Callable[[Peer], None]] = []

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._by_id.values())

    def get(self, edge_id: EdgeId) -> Peer | None:
        """Return a peer, or None where there is none of that id."""
        return self._by_id.get(edge_id)

    def receive_news(self, registration: Registration, news: News, now: float) -> None:
        """Act on what a supernode said about members."""
        if registration.contact.via is None:
            return  # not registered yet: `registered` will name them again
        changed = self._local.set_seen(registration.number, registration.contact.udp_seen_as)
        was_unseen = self._note_whether_seen(now)
        is_stream = registration.contact.transport is not Transport.UDP
        if was_unseen or (changed and is_stream):
            self._tell_candidates(now)  # the supernode tells others only where a stream comes from
        for edge_id in news.changed:
            self._introduce(registration, edge_id, now, is_newcomer=news.is_list)
        for edge_id in news.gone:
            peer = self._by_id.get(edge_id)
            if peer is not None:
                self._member_left(registration, peer, now)

    def _note_whether_seen(self, now: float) -> bool:
        """Give UDP some time where a stream was faster; whether that has just brought something."""
        context = self._context
        if not self._local.is_seen:
            if not self._has_been_unseen:
                self._has_been_unseen = True
                context.unseen_until = now + UNSEEN_PATIENCE
            return False
        was_unseen, context.unseen_until = now < context.unseen_until, -math.inf
        return was_unseen

    def _tell_candidates(self, now: float) -> None:
        for peer in self._by_id.values():
            if peer.sessions.current is not None:
                peer.network_changed(now)

    def _member_left(self, registration: Registration, peer: Peer, now: float) -> None:
        """A supernode that we have lost ourselves cannot vouch for anybody."""
        if any(
            each.number in peer.members
            for each in self._supernodes.by_via.values()
            if each is not registration
        ):
            peer.left(registration.number, now)
        else:
            peer.expelled(now)

    def _supernode_doubted(self, registration: Registration, now: float) -> None:
        for peer in self._by_id.values():
            peer.relay_doubted(registration.number, now)

    def _supernode_lost(self, registration: Registration, now: float) -> None:
        for peer in self._by_id.values():
            peer.relay_lost(registration.number, now)

    def _supernode_moved(self, registration: Registration, now: float) -> None:
        via = registration.contact.via
        for edge_id, member in registration.membership.members.items():
            peer = self._by_id.get(edge_id)
            if peer is not None and via is not None:
                relay = Via(via.socket, via.endpoint, member.relay_id)
                peer.relay_moved(registration.number, relay, now)

    def _introduce(
        self, registration: Registration, edge_id: EdgeId, now: float, *, is_newcomer: bool
    ) -> None:
        member = registration.membership.members[edge_id]
        peer = None
        if self._is_key_usable(edge_id, member.key):
            peer = self.peer_for(member.key, now, by=registration.number)
        via = registration.contact.via
        if peer is None or via is None:
            self._context.drop(DropReason.TABLE_FULL)
            return
        relay = Via(via.socket, via.endpoint, member.relay_id)
        loopback = is_on_loopback(registration)
        peer.introduced(registration.number, member, relay, now, loopback=loopback)
        if peer.sessions.current is None:
            peer.want_session(now if is_newcomer else now + INITIATE_FALLBACK)

    def _is_key_usable(self, edge_id: EdgeId, static_key: bytes) -> bool:
        """Whether a key that a supernode names is one that a handshake can be made with."""
        if edge_id in self._by_id:
            return True
        try:
            self._config.identity.exchange(static_key)
        except NotAuthentic:
            return False
        return True

    def peer_for(self, static_key: bytes, now: float, *, by: int | None = None) -> Peer | None:
        """Return the peer with this key, made if need be; None for ourselves or a full table.

        Args:
            static_key: what it has proved, or what a supernode says.
            now: the time.
            by: the number of that supernode; None for a peer that has proved itself.
        """
        edge_id = edge_id_of(static_key)
        peer = self._by_id.get(edge_id)
        if peer is None and edge_id != self._our_id and self._has_room(by, now):
            peer = self._by_id[edge_id] = Peer(
                static_key,
                self._context,
                self.hello,
                self._local.may_be_candidate,
                lambda peer, now: self.on_new_peer(peer, now),  # noqa: PLW0108 - it is set later
            )
            self._switch.reserve(default_mac_of(static_key), edge_id)
            self._recall(peer)
        return peer

    def _has_room(self, by: int | None, now: float) -> bool:
        """Whether there is room for one more peer, made if need be.

        A supernode may make up members without end, and must not keep out those of another one: who
        names the most that nobody has met loses one.
        """
        if len(self._by_id) < MAX_PEERS:
            return True
        if not self._evictions.take(now):
            return False
        unmet: dict[int, list[Peer]] = {}
        for peer in self._by_id.values():
            if peer.sessions.current is None and len(peer.members) == 1:
                unmet.setdefault(next(iter(peer.members)), []).append(peer)
        supernode = max(unmet, key=lambda number: len(unmet[number]), default=by)
        if supernode is None or supernode == by:
            return False
        self.forget(unmet[supernode][-1])
        return True

    def _recall(self, peer: Peer) -> None:
        """Give a new peer what supernodes have told of it before."""
        for via, registration in self._supernodes.by_via.items():
            member = registration.membership.members.get(peer.edge_id)
            if member is not None:
                peer.members[registration.number] = member
                relay = Via(via.socket, via.endpoint, member.relay_id)
                peer.paths.set_relay(registration.number, relay, 0.0)
        for endpoint in self._context.lan_sightings.of(peer.edge_id):
            peer.sighted(endpoint, 0.0)

    def hello(self, answer: bool) -> Hello:  # noqa: FBT001 - its only argument
        """Return our hello as it is now."""
        config = self._config
        own = [address for address in (self._context.lease.address,) if address]
        ula = str(config.community.ipv6_address(config.identity.interface_id))
        return Hello(
            version=PROTOCOL_VERSION,
            name=config.name,
            mac=config.mac,
            addresses=(*own, ula),
            candidates=() if config.relay_only else self._local.candidates,
            mtu=config.mtu,
            answer=answer,
            nat=to_told(self._context.our_nat.kind, refuses=not config.hard_punch),
        )

    def forget(self, peer: Peer) -> None:
        """Forget a peer that is gone, and all that was learnt from it."""
        for tell in self.on_forget:
            tell(peer)
        peer.close()
        self._by_id.pop(peer.edge_id, None)
        self._switch.forget_port(peer.edge_id)
        if peer.is_up:
            self._context.events.append(events.PeerDown(peer.edge_id, peer.label))

    # Timers

    def handle_timer(self, timer: Timer, owner: object, now: float) -> None:
        """Pass a timer on to its peer."""
        peer = self._by_id.get(EdgeId(owner)) if isinstance(owner, bytes) else None
        if peer is None:
            return
        match timer:
            case Timer.HANDSHAKE:
                peer.handle_handshake_timer(now)
            case Timer.HELLO:
                peer.say_hello(now)
            case Timer.PROBE:
                peer.handle_probe_timer(now)
                self._ask_about_relay(peer, now)
            case Timer.REKEY:
                peer.handle_rekey_timer(now)
            case Timer.REASSEMBLY:
                peer.reassembler.expire(now)
            case _:
                self._expire(peer, now)

    def _ask_about_relay(self, peer: Peer, now: float) -> None:
        """A relay that frames take in vain tells of its supernode sooner than a heartbeat does."""
        relay = peer.paths.silent_relay
        registration = self._supernodes.by_via.get(relay.supernode) if relay is not None else None
        if registration is not None:
            registration.receive_hint(now)

    def _expire(self, peer: Peer, now: float) -> None:
        """Forget a peer that is no member any more and stays silent."""
        if peer.member is not None:
            return
        if now - peer.last_heard_at >= PEER_SILENCE_TIMEOUT:
            self.forget(peer)
        else:
            peer.expelled(now)
