"""The ways to one peer: candidates, probing, validation, choice; docs/protocol.md section 12.

Theory of operation. A *candidate* is a way that may work: the peer named it, the supernode saw it,
or a datagram that verified came by it. Every candidate is pinged, and one that brings back a pong
is *validated* and becomes a *path*. A path is *trusted* for a few seconds after each pong, unless
something puts it *in doubt* (`mesh.core.trust`).

    candidate ──pong──▶ trusted ──silence, errors, 6.5 s──▶ in doubt ──20 s──▶ dropped
                           ▲                                   │
                           └───────────────pong────────────────┘

Frames take the best direct path (`mesh.core.choice`). While the path in use is in doubt they take
the relay as well (the replay window drops the copies), and while there is none they take the relay
alone. Several supernodes are several relays (`mesh.core.relays`): the one that frames take is
doubted like a direct path, and then another one takes copies.

The table keeps no clock and draws no tokens: it is told the time, and its owner sends the pings.
"""

import math
from collections.abc import Collection

from mesh.constants import (
    HEARTBEAT_INTERVAL,
    IDLE_HEARTBEAT_INTERVAL,
    IN_USE_TIMEOUT,
    MAX_CANDIDATES,
    PATH_MAX_UNANSWERED,
    PATH_TIMEOUT,
    PROBE_OFFSETS,
    PROBE_ROUND_INTERVAL,
    PUNCH_LEAD,
    TRUST_LIFETIME,
)
from mesh.core import trust
from mesh.core.allowance import Allowance
from mesh.core.choice import is_better
from mesh.core.outbox import Via
from mesh.core.path import Path, PathLoss, Source
from mesh.core.relays import Relays
from mesh.core.told_addresses import ToldAddresses
from mesh.engine import SocketId

PING_RETRY_INTERVAL = 1.0  # s; after an unanswered ping, well inside TRUST_LIFETIME
MAX_OUTSTANDING_PINGS = 8  # per path; older ones have long been lost
ROUND_INTERVAL_MIN = 10.0  # s between rounds that a peer's hellos can cause
UNPROVED_PING_BURST = 48.0  # a peer may name whom it likes: what we send there has a budget
UNPROVED_PING_RATE = 4.0  # 1/s
UNPROVED_PING_DELAY = 0.5  # s; when the budget is used up
JUST_NOW = 0.1  # s
EXPECTED_WITHIN = 1.0  # s; a peer that hears nothing pings every SILENCE_TIMEOUT
REFUSAL_INTERVAL = 1.0  # s between doubts that ICMP can cause; what was under way comes back sooner
SEEN_PING_INTERVAL = 0.3  # s between pings that datagrams from an unproved source can cause


class PathTable:
    """All ways to one peer.

    ``told_addresses`` and ``shown_addresses`` are shared by all peers of an edge.

    Without ``may_relay`` a relayed way still carries handshakes and messages, but no frames.

    Attributes:
        active: the path that frames take, or None.
        loss: how the last direct path that frames took was lost, and when; None while there is one.
        punch_at: when `punches_due` has something to say, or ``math.inf``.
        awaits_hello: whether only proved ways, those that the peer came by, and a LAN's are pinged:
            nothing else is to reach its router before its own punch, which its hello tells of.
        fresh_until: until when `vias` needs not be asked again.
    """

    def __init__(
        self,
        told_addresses: ToldAddresses,
        shown_addresses: ToldAddresses,
        *,
        may_relay: bool,
        may_be_direct: bool,
    ) -> None:
        self._told_addresses = told_addresses
        self._shown_addresses = shown_addresses
        self._may_relay = may_relay
        self._may_be_direct = may_be_direct
        self._direct: dict[Via, Path] = {}
        self._relays = Relays()
        self._round_started_at = -math.inf
        self.punch_at = math.inf
        self.awaits_hello = False
        self._last_used_at = -math.inf
        self._last_received_at = -math.inf
        self._unproved_pings = Allowance(UNPROVED_PING_BURST, UNPROVED_PING_RATE)
        self.active: Path | None = None
        self.loss: tuple[PathLoss, float] | None = None
        self.fresh_until = -math.inf
        self._vias: tuple[Via, ...] = ()

    def __len__(self) -> int:
        return len(self._direct)

    @property
    def relay_via(self) -> Via | None:
        """The best relayed way, if there is one."""
        return self._relays.best.via if self._relays.best is not None else None

    @property
    def relay_vias(self) -> list[Via]:
        """All relayed ways, the best one first."""
        return self._relays.vias()

    def has_relay(self, supernode: int) -> bool:
        """Whether a way through this supernode is known."""
        return self._relays.get(supernode) is not None

    @property
    def is_direct(self) -> bool:
        """Whether frames take a direct path."""
        return self.active is not None and not self.active.is_relay

    def forget_sockets(self, sockets: Collection[SocketId], now: float) -> None:
        """Drop every candidate and path that leaves from one of these sockets."""
        gone = [via for via in self._direct if via.socket in sockets]
        for via in gone:
            self._direct.pop(via).is_validated = False  # whoever still holds it
        if gone:
            self._choose(now)

    def find(self, via: Via) -> Path | None:
        """Return what is known of a way."""
        if via.relay_id:
            return self._relays.find(via)
        return self._direct.get(via)

    def paths(self) -> list[Path]:
        """Return all candidates and paths, the relays last."""
        return [*self._direct.values(), *self._relays]

    # Candidates

    def set_relay(self, supernode: int, via: Via | None, now: float) -> None:
        """Tell which way leads to the peer through a supernode, or that none does any more."""
        self._relays.set(supernode, via, now)
        self._choose(now)

    def doubt_relay(self, supernode: int, now: float) -> None:
        """Learn that a supernode may be gone: frames that go through it take another one too.

        Only where frames go through it: not to ping all members at once by those that are left.
        """
        relay = self._relays.get(supernode)
        if relay is not None and self._is_used(relay, now) and len(self._relays) > 1:
            self._doubt(relay, now, patience=trust.RELAY_PATIENCE)

    @property
    def silent_relay(self) -> Via | None:
        """The relay that frames take, if it has fallen silent: its supernode should be asked."""
        active = self.active
        if active is None or not active.is_relay or not active.is_in_doubt:
            return None
        return active.via

    def relay_lost(self, supernode: int, now: float) -> None:
        """Learn that a supernode is gone: any other relay is better than it."""
        relay = self._relays.get(supernode)
        if relay is not None:
            relay.is_down = True
            self._choose(now)

    def add_candidate(self, via: Via, source: Source, now: float) -> Path | None:
        """Note a direct way that may work, to be pinged at once if it is new.

        Returns:
            The candidate, or None where there is no room for it.
        """
        if not self._may_be_direct:
            return None
        path = self._direct.get(via)
        if path is None:
            if len(self._direct) >= MAX_CANDIDATES and not self._make_room(source):
                return None
            path = self._direct[via] = Path(via, source)
            path.next_ping_at = now
        elif source > path.source:
            path.source = source
        return path

    def _make_room(self, source: Source) -> bool:
        expendable = [p for p in self._direct.values() if not p.is_validated and p.source <= source]
        if not expendable:
            return False
        del self._direct[min(expendable, key=lambda p: (p.source, p.last_ping_at)).via]
        return True

    def receive_hello(self, now: float) -> None:
        """Learn that the peer said hello: it has sent its punch, and may be pinged anywhere."""
        if self.awaits_hello:
            self.awaits_hello = False
            self._round_started_at = -math.inf
        self.start_round(now)

    def start_round(self, now: float) -> None:
        """Ping all unproved candidates again, from the beginning of the schedule."""
        if now - self._round_started_at < ROUND_INTERVAL_MIN:
            return
        self._round_started_at = now
        self.punch_at = now + PROBE_ROUND_INTERVAL - PUNCH_LEAD
        for path in self._direct.values():
            if not path.is_validated:
                path.in_round = 0
                path.next_ping_at = now

    def heard_from(self, via: Via, now: float) -> None:
        """Learn that the newest datagram so far came by a way that is not proved (section 12.5).

        The peer may have roamed, so the path in use is in doubt until it answers: whichever of the
        two is validated first carries on.
        """
        path = self.add_candidate(via, Source.SEEN, now)
        if path is None or path.is_validated:
            return
        path.next_ping_at = min(path.next_ping_at, max(now, path.last_ping_at + SEEN_PING_INTERVAL))
        if self.active is not None and not self.active.is_relay:
            self._doubt(self.active, now)

    def heard_by_relay(self, via: Via, now: float) -> bool:  # Hot path.
        """Learn that the newest datagram so far came by a relay.

        The peer sends both ways, or has left the path that we use: it hears nothing by it.

        Returns:
            Whether that put the path in use in doubt.
        """
        active = self.active
        if active is None or active.is_relay:
            if active is not None and active.via == via:
                active.last_heard_at = now
            return False
        if not trust.is_left_by_peer(active, now):
            return False
        self._doubt(active, now, patience=trust.DOUBT_PATIENCE)
        return True

    def expect_more(self, path: Path, now: float) -> None:
        """Learn that the peer pings a path by which it sends frames, as it does in our silence.

        If no more of its pings come, it may be our NAT that has forgotten the path: who only
        receives has to find that out too.
        """
        if path is self.active and not path.unanswered:
            self._last_received_at = now
            path.next_ping_at = min(now + EXPECTED_WITHIN, path.last_ping_at + HEARTBEAT_INTERVAL)

    def asked_by_relay(self, now: float) -> bool:
        """Learn that the peer pings the relay, as it does in doubt: ask the path in use at once.

        Returns:
            Whether there is something to ask.
        """
        active = self.active
        if active is None or active.is_relay or now - active.last_pong_at < trust.RELAYED_GRACE:
            return False
        active.is_questioned = True
        active.next_ping_at = min(active.next_ping_at, now)
        return True

    def doubt_all(self, now: float) -> None:
        """React to a restart of the peer: no path that was proved before it is trusted."""
        for path in self._direct.values():
            self._doubt(path, now)

    def _doubt(self, path: Path, now: float, *, patience: float = 0.0) -> None:
        """Put a path in doubt; only after ``patience`` it is left for another direct one."""
        if not path.is_validated:
            return
        if not path.is_in_doubt:
            path.is_in_doubt = True
            path.doubted_at = now
            path.kept_until = math.inf
            path.next_ping_at = min(path.next_ping_at, now)
            self.fresh_until = -math.inf
        path.kept_until = min(path.kept_until, now + patience)

    def withdraw(self, via: Via, now: float) -> None:
        """React to a fatal send error: the way is unproved again, and frames leave it at once."""
        path = self._direct.get(via)
        if path is not None and path.is_validated:
            path.is_validated = False
            self._note_loss(path, PathLoss.REFUSED, now)
            path.last_pong_at = path.last_heard_at = -math.inf
            path.lost_at = now
            path.in_round = 0
            path.next_ping_at = now + PING_RETRY_INTERVAL
            self._choose(now)

    def _note_loss(self, path: Path, how: PathLoss, now: float) -> None:
        if path is self.active:
            self.loss = how, now

    def has_just_lost(self, via: Via, now: float) -> bool:
        """Whether a way that carried frames was withdrawn this very moment."""
        path = self._direct.get(via)
        return path is not None and now - path.lost_at < JUST_NOW

    def refused(self, via: Via, now: float) -> bool:
        """Take in an ICMP error about this way, which anybody may have forged: doubt it.

        Returns:
            Whether what was sent by this way alone may have been lost.
        """
        path = self._direct.get(via)
        if path is None or not path.is_validated:
            return False
        path.rejected_at = now
        is_recent = now - path.doubted_at < REFUSAL_INTERVAL
        if not path.is_in_doubt and not is_recent:
            self._doubt(path, now, patience=trust.patience(path))
            return True
        return path.is_in_doubt and is_recent

    def distrust(self, now: float) -> None:
        """React to a hint that something is wrong: ping every path in use at once."""
        for path in self.paths():
            if path.is_validated or path.is_relay:
                path.next_ping_at = min(path.next_ping_at, now)

    # Pings

    def next_ping_at(self) -> float:
        """Return when `pings_due` has something to say, or ``math.inf``."""
        return min((path.next_ping_at for path in self.paths()), default=math.inf)

    def punches_due(self, now: float) -> list[Via]:
        """Return where to send a punch now: a while before the next round of pings.

        A router that rejects may have taken an early ping of the peer for its own, and then keeps
        our port from what we send there; every ping renews that for 30 s. Between two rounds it is
        forgotten, and whoever is behind such a router has to be the first to send.
        """
        if now < self.punch_at:
            return []
        self.punch_at = math.inf
        return self.punchable()

    def introduced(self) -> list[Via]:
        """Return where supernodes see the peer."""
        return [path.via for path in self._direct.values() if path.source is Source.INTRODUCED]

    def punchable(self) -> list[Via]:
        """Return where a punch is due: where supernodes see the peer, else where it says it is.

        The peer's first hello may be faster than the supernode's introduction.
        """
        if self.is_direct:
            return []
        unproved = [path for path in self._direct.values() if not path.is_validated]
        introduced = [path.via for path in unproved if path.source is Source.INTRODUCED]
        return introduced or [path.via for path in unproved if path.preference > 0]

    def pings_due(self, now: float) -> list[Path]:
        """Return the ways to ping now; the owner tells each with `ping_sent`."""
        self._drop_dead(now)
        self._judge(now)
        if self._wants_round(now):
            self.start_round(now)
        due = [path for path in self.paths() if path.next_ping_at <= now]
        due.sort(key=lambda path: path.source, reverse=True)  # seen ones before told ones
        return [path for path in due if self._may_ping(path, now)]

    def _judge(self, now: float) -> None:
        """Doubt what does not answer, and look what else there is while the path in use is so."""
        for path in self.paths():
            if trust.deserves_doubt(path, now):
                self._doubt(path, now, patience=trust.patience(path))
        active = self.active
        if active is None or not active.is_in_doubt:
            return
        self._choose(now)
        for path in self.paths():  # the ping by the relay tells the peer of our doubt
            is_proved = path.is_validated or path.is_relay
            if is_proved and now - path.last_ping_at >= PING_RETRY_INTERVAL:
                path.next_ping_at = now

    def _may_ping(self, path: Path, now: float) -> bool:
        """Whether the budget allows a ping; one to a proved way or the relay is always allowed."""
        if path.is_validated or path.is_relay:
            return True
        if self.awaits_hello and path.source is not Source.SEEN and path.preference > 0:
            path.next_ping_at = math.inf  # until the round that the hello starts
            return False
        if self._unproved_pings.take(now) and self._may_ping_address(path, now):
            return True
        path.next_ping_at = now + UNPROVED_PING_DELAY
        return False

    def may_send(self, via: Via, now: float) -> bool:
        """Whether an initiation may go this way: a supernode makes up members as it likes."""
        path = self.find(via)
        if path is None or path.is_validated or path.is_relay:
            return True
        return self._may_ping_address(path, now)

    def _may_ping_address(self, path: Path, now: float) -> bool:
        is_told = path.source is Source.TOLD
        addresses = self._told_addresses if is_told else self._shown_addresses
        return addresses.take(path.via.endpoint.host, now, is_lan=path.preference == 0)

    def _wants_round(self, now: float) -> bool:
        has_direct = self.active is not None and not self.active.is_relay
        is_due = now - self._round_started_at >= PROBE_ROUND_INTERVAL
        return is_due and not has_direct and not self.awaits_hello

    def ping_sent(self, path: Path, token: bytes, now: float) -> None:
        """Note that a ping left by this way."""
        path.outstanding[token] = now
        while len(path.outstanding) > MAX_OUTSTANDING_PINGS:
            del path.outstanding[next(iter(path.outstanding))]
        path.last_ping_at = now
        if not path.unanswered:
            path.first_unanswered_at = now
        path.unanswered += 1
        path.next_ping_at = self._ping_after(path, now)

    def _ping_after(self, path: Path, now: float) -> float:
        if path.is_validated or path.is_relay:
            is_in_doubt = path.is_in_doubt and not path.is_relay
            if path.unanswered <= PATH_MAX_UNANSWERED or is_in_doubt:
                return now + self._retry_interval(path, now)  # a pong puts it off
            return now + self._heartbeat_interval(path, now)
        path.in_round += 1
        if path.in_round < len(PROBE_OFFSETS):
            return now + PROBE_OFFSETS[path.in_round] - PROBE_OFFSETS[path.in_round - 1]
        next_round_at = self._round_started_at + PROBE_ROUND_INTERVAL
        return next_round_at if next_round_at > now else now + PROBE_ROUND_INTERVAL

    def _retry_interval(self, path: Path, now: float) -> float:
        if not self._is_used(path, now):
            return PING_RETRY_INTERVAL
        return min(PING_RETRY_INTERVAL, path.unanswered * trust.answer_timeout(path))

    def _heartbeat_interval(self, path: Path, now: float) -> float:
        return HEARTBEAT_INTERVAL if self._is_used(path, now) else IDLE_HEARTBEAT_INTERVAL

    def _is_used(self, path: Path, now: float) -> bool:
        last_at = max(self._last_used_at, self._last_received_at)
        return path is self.active and now - last_at < IN_USE_TIMEOUT

    def receive_pong(self, via: Via, token: bytes, now: float) -> float | None:
        """Take in the answer to a ping of ours that came back by ``via``.

        Returns:
            The round-trip time in seconds, or None where the token was not sent on that way: a
            pong proves only the way that it went itself.
        """
        path = self.find(via)
        sent_at = path.outstanding.pop(token, None) if path is not None else None
        if path is None or sent_at is None:
            return None
        rtt = now - sent_at
        path.took(rtt)
        path.last_pong_at = path.last_heard_at = now
        path.unanswered = 0
        path.is_in_doubt = False
        path.is_questioned = False
        path.is_validated = True
        path.is_down = False
        self._choose(now)
        path.next_ping_at = now + self._heartbeat_interval(path, now)
        return rtt

    # Choice

    def vias(self, now: float) -> tuple[Via, ...]:  # Hot path.
        """Return the ways that a frame sent now takes: none, one, or two while in doubt."""
        self._last_used_at = now
        if now < self.fresh_until:
            return self._vias
        return self._refresh(now)

    def control_vias(self, now: float) -> tuple[Via, ...]:
        """Return the ways that a message takes: as frames, or the relay where they have none."""
        active = self.active or self._relays.best
        if active is None:
            return ()
        second = None if active.is_trusted(now) else self._second_to(active)
        return (active.via,) if second is None else (active.via, second.via)

    def is_in_use(self, now: float) -> bool:
        """Whether frames were sent lately."""
        return now - self._last_used_at < IN_USE_TIMEOUT

    def _refresh(self, now: float) -> tuple[Via, ...]:
        active = self.active
        self._vias = self.ways(now)
        if active is None:
            self.fresh_until = math.inf
            return ()
        self.fresh_until = now + PING_RETRY_INTERVAL
        if active.is_trusted(now):
            trusted_until = active.last_pong_at + TRUST_LIFETIME
            self.fresh_until = min(trusted_until, trust.look_again_at(active, now))
        if trust.wants_asking(active, now):
            active.next_ping_at = now
        if active.unanswered == 0:
            # A path that was idle is pinged at the pace of use from now on.
            soonest = max(now, active.last_ping_at + HEARTBEAT_INTERVAL)
            active.next_ping_at = min(active.next_ping_at, soonest)
        return self._vias

    def ways(self, now: float) -> tuple[Via, ...]:
        """Return the ways that frames take; unlike `vias` this does not count as using them."""
        active = self.active
        if active is None:
            return ()
        if active.is_trusted(now):
            return (active.via,)
        second = self._second_to(active, may_relay=self._may_relay)
        return (active.via,) if second is None else (active.via, second.via)

    def _second_to(self, active: Path, *, may_relay: bool = True) -> Path | None:
        """Return what takes copies while ``active`` is in doubt.

        A relay, or else the proved direct way, other than ``active``, that answered last.
        """
        if active.is_relay:
            return self._relays.other_than(active)
        if may_relay and self._relays.best is not None:
            return self._relays.best
        others = [p for p in self._direct.values() if p.is_validated and p is not active]
        return max(others, key=lambda path: path.last_pong_at, default=None)

    def _drop_dead(self, now: float) -> None:
        for path in list(self._direct.values()):
            if (
                path.is_validated
                and now - path.last_pong_at >= PATH_TIMEOUT
                and path.unanswered >= PATH_MAX_UNANSWERED
            ):
                # It stays a candidate: what has worked may work again.
                is_rejected = path.rejected_at > path.last_pong_at
                loss = PathLoss.REJECTED if is_rejected else PathLoss.SILENT
                self._note_loss(path, loss, now)
                path.is_validated = False
                del self._direct[path.via]
                self.add_candidate(path.via, path.source, now)
        if self.active is not None and not self._is_alive(self.active):
            self._choose(now)

    def _is_alive(self, path: Path) -> bool:
        """Whether a path is still in the table and may carry frames."""
        if path.is_relay:
            return path is self._relays.best and self._may_relay
        return path.is_validated and self._direct.get(path.via) is path

    def _choose(self, now: float) -> None:
        self._relays.choose(now)
        best = self.active
        if best is not None and not self._is_alive(best):
            best = None
        for path in self._direct.values():
            if path.is_validated and (best is None or is_better(path, best, now)):
                best = path
        if best is None and self._may_relay:
            best = self._relays.best
        self.active = best
        if best is not None and not best.is_relay:
            self.loss = None
        self.fresh_until = -math.inf
