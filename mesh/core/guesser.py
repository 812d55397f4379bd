"""Guesses at ports where a hard NAT leaves nothing else: who, when, how often; section 12.8.

One attempt at a time, whichever side of it we are on, since each takes sockets here or mappings in
our router. The hard side starts it, once plain probing has had its time; what found nothing is
tried again after longer and longer.
"""

import math

from mesh import events
from mesh.addresses import Endpoint
from mesh.core.allowance import Allowance
from mesh.core.context import Context
from mesh.core.easy_side import EasySide
from mesh.core.hard_side import HardSide, Outcome
from mesh.core.nat_kind import NatPorts, Role, role_between
from mesh.core.peer import Peer
from mesh.core.peers import PeerTable
from mesh.core.registration import Registration
from mesh.core.supernodes import Supernodes
from mesh.core.timers import Timer
from mesh.core.told_addresses import ToldAddresses
from mesh.engine import SocketId
from mesh.wire.messages import Guess, GuessStep

PLAIN_PROBING_TIME = 1.0  # s; since both sides know what NATs there are
LOOK_INTERVAL = 5.0  # s; whether somebody has lost a direct path
BUSY_INTERVAL = 2.0  # s, and up to as much again
AFTER_SUCCESS = 20.0  # s; a path that does not last is not worth hurrying
BACK_OFF = (60.0, 300.0, 1800.0)  # s; after so many failures with random ports
SEQUENCE_BACK_OFF = (3.0, 10.0, 60.0, 300.0, 1800.0)  # s; eight punches are cheap
BACK_OFF_JITTER = 0.2
ACCEPT_INTERVAL = 20.0  # s; between two attempts at random for one peer
ACCEPT_BURST, ACCEPT_RATE = (
    4.0,
    0.05,
)  # attempts at random for all peers together, at once and per s
PREDICT_BURST, PREDICT_RATE = 16.0, 0.5  # the same of predictions
BEGIN_BURST, BEGIN_RATE = 8.0, 0.1  # attempts at random that we begin ourselves
AIM_BURST, AIM_RATE = 3.0, 1.0 / 60  # attempts at random, of either side, towards one address


class Guesser:
    """Whether and with whom ports are guessed at."""

    def __init__(self, context: Context, supernodes: Supernodes, peers: PeerTable) -> None:
        self._context = context
        self._supernodes = supernodes
        self._peers = peers
        self._attempt: HardSide | EasySide | None = None
        self._is_sequence = True
        self._accepted = Allowance(ACCEPT_BURST, ACCEPT_RATE)
        self._predicted = Allowance(PREDICT_BURST, PREDICT_RATE)
        self._begun = Allowance(BEGIN_BURST, BEGIN_RATE)
        self._begun_predicted = Allowance(PREDICT_BURST, PREDICT_RATE)
        self._aimed = ToldAddresses(AIM_BURST, AIM_RATE)
        context.our_nat.on_seen = self._seen
        peers.on_forget.append(self._forgotten)

    @property
    def _is_allowed(self) -> bool:
        config = self._context.config
        return config.hard_punch and not config.relay_only

    def wake(self, now: float) -> None:
        """Look whether there is something to do: a NAT has become known, ours or a peer's."""
        if self._attempt is None:
            self._context.timers.set_no_later_than(Timer.GUESS, None, now)

    def handle_timer(self, now: float) -> None:
        """Go on with the attempt, or look whether one is due."""
        if self._attempt is None:
            self._look(now)
        else:
            self._attempt.handle_timer(now)
            self._conclude(now)

    # The hard side

    def _look(self, now: float) -> None:
        registration = self._observing()
        if not self._is_allowed or not self._context.our_nat.is_hard or registration is None:
            return
        peers = [peer for peer in self._peers if self._could_meet(peer)]
        if not peers:
            return
        for peer in peers:
            if peer.guess.due_at == math.inf:
                peer.guess.due_at = now + PLAIN_PROBING_TIME
        waiting = [peer for peer in peers if not peer.paths.is_direct]
        first = min(waiting, key=lambda peer: peer.guess.due_at, default=None)
        if first is None or first.guess.due_at > now:
            due_at = math.inf if first is None else first.guess.due_at
            self._context.timers.set(Timer.GUESS, None, min(due_at, now + LOOK_INTERVAL))
            return
        self._begin(first, registration, now)

    def _could_meet(self, peer: Peer) -> bool:
        return (
            peer.is_up
            and role_between(self._context.our_nat.kind, peer.guess.nat) is Role.OURS
            and not peer.guess.refuses
            and peer.seen_endpoint is not None
        )

    def _observing(self) -> Registration | None:
        """Return a supernode that we are registered with and that shows us our ports."""
        ours = [self._supernodes.primary, *self._supernodes.by_via.values()]
        return next((r for r in ours if r.is_connected and r.nat_observer.has_ports), None)

    def _begin(self, peer: Peer, registration: Registration, now: float) -> None:
        target = peer.seen_endpoint
        if target is None:
            return
        is_sequential = (
            self._is_sequence and self._context.our_nat.kind.ports is NatPorts.SEQUENTIAL
        )
        if not self._may_begin(target, now, is_sequential=is_sequential):
            peer.guess.due_at = now + self._context.jitter(LOOK_INTERVAL, 1.0)
            self._context.timers.set(Timer.GUESS, None, now + LOOK_INTERVAL)
            return
        self._release_kept(peer, now)
        self._attempt = attempt = HardSide(
            self._context, peer, target, registration, is_sequential=is_sequential
        )
        attempt.begin(now)

    def _may_begin(self, target: Endpoint, now: float, *, is_sequential: bool) -> bool:
        """Whether an attempt is allowed: members are many, and a supernode may lie for them."""
        if is_sequential:
            return self._begun_predicted.take(now)
        return self._aimed.take(target.host, now, is_lan=False) and self._begun.take(now)

    def sockets_opened(self, sockets: list[SocketId], now: float) -> None:
        """Take the extra sockets that the driver has opened."""
        attempt = self._attempt
        if isinstance(attempt, HardSide) and attempt.waits_for_sockets:
            attempt.sockets_opened(sockets, now)
            self._conclude(now)
        else:
            self._release(sockets)

    def socket_closed(self, socket: SocketId, now: float) -> None:
        """Learn that an extra socket is gone."""
        attempt = self._attempt
        if isinstance(attempt, HardSide) and socket in attempt.sockets:
            attempt.sockets.remove(socket)
        for peer in self._peers:
            if peer.guess.kept == socket:
                peer.guess.kept = None
                peer.sockets_gone([socket], now)

    def _seen(self, token: bytes, endpoint: Endpoint | None, now: float) -> bool:
        attempt = self._attempt
        if not isinstance(attempt, HardSide) or endpoint is None:
            return False
        is_ours = attempt.seen(token, endpoint, now)
        self._conclude(now)
        return is_ours

    # The easy side

    def receive(self, peer: Peer, message: Guess, now: float) -> None:
        """Take in what a peer asks for, or answers."""
        attempt = self._attempt
        if message.step is not GuessStep.ASK:
            if isinstance(attempt, HardSide) and attempt.peer is peer:
                attempt.receive(message, now)
                self._conclude(now)
        elif isinstance(attempt, EasySide) and attempt.number == message.attempt:
            attempt.tell(now)
        else:
            self._receive_ask(peer, message, now)

    def _receive_ask(self, peer: Peer, ask: Guess, now: float) -> None:
        endpoint = peer.seen_endpoint
        if not self._is_allowed or self._context.our_nat.is_hard:
            peer.send_message(Guess(ask.attempt, GuessStep.REFUSED), now)
        elif (
            self._attempt is not None
            or endpoint is None
            or not self._may_accept(peer, ask, endpoint, now)
        ):
            peer.send_message(Guess(ask.attempt, GuessStep.BUSY), now)
        else:
            self._attempt = EasySide(self._context, peer, endpoint.host, ask, now)

    def _may_accept(self, peer: Peer, ask: Guess, seen: Endpoint, now: float) -> bool:
        if ask.stride:
            return self._predicted.take(now)
        if now - peer.guess.accepted_at < ACCEPT_INTERVAL:
            return False
        if not self._aimed.take(seen.host, now, is_lan=False) or not self._accepted.take(now):
            return False
        peer.guess.accepted_at = now
        return True

    # The end

    def _conclude(self, now: float) -> None:
        attempt = self._attempt
        if isinstance(attempt, HardSide) and attempt.outcome is not None:
            self._attempt = None
            self._note_outcome(attempt, attempt.outcome, now)
            self._context.timers.set(Timer.GUESS, None, now)
        elif isinstance(attempt, EasySide) and attempt.is_over:
            self._attempt = None
            self._context.timers.set(Timer.GUESS, None, now)

    def _give_back(self, attempt: HardSide) -> None:
        """Let an attempt count for nothing that nobody was sent anything in but the peer."""
        if not attempt.is_sequential and not attempt.has_wanted_sockets:
            self._aimed.give_back(attempt.target.host)
            self._begun.give_back()

    def _note_outcome(self, attempt: HardSide, outcome: Outcome, now: float) -> None:
        guess = attempt.peer.guess
        self._give_back(attempt)
        match outcome:
            case Outcome.DIRECT:
                guess.failures = 0
                guess.due_at = now + AFTER_SUCCESS
            case Outcome.BUSY:
                guess.due_at = now + self._context.jitter(BUSY_INTERVAL, 1.0)
            case Outcome.REFUSED:  # its next hello may say otherwise, and the one after that
                guess.refuses = True
                guess.due_at = now + self._context.jitter(BACK_OFF[0], BACK_OFF_JITTER)
            case Outcome.NO_SEQUENCE:
                self._is_sequence = False
            case Outcome.FAILED:
                back_off = SEQUENCE_BACK_OFF if attempt.is_sequential else BACK_OFF
                interval = back_off[min(guess.failures, len(back_off) - 1)]
                interval = self._context.jitter(interval, BACK_OFF_JITTER)
                guess.due_at = now + interval
                guess.failures += 1
                peer = attempt.peer
                event = events.GuessFailed(peer.edge_id, peer.label, interval)
                self._context.events.append(event)
        active = attempt.peer.paths.active
        if active is not None and active.via.socket in attempt.sockets:
            guess.kept = active.via.socket
        spare = [socket for socket in attempt.sockets if socket != guess.kept]
        attempt.peer.sockets_gone(spare, now)
        self._release(spare)

    def _forgotten(self, peer: Peer) -> None:
        attempt = self._attempt
        if attempt is not None and attempt.peer is peer:
            self._attempt = None  # its timer is set: it will look for another one
            if isinstance(attempt, HardSide):
                self._release(attempt.sockets)
        if peer.guess.kept is not None:
            self._release([peer.guess.kept])

    def _release_kept(self, peer: Peer, now: float) -> None:
        if peer.guess.kept is not None:
            kept, peer.guess.kept = peer.guess.kept, None
            peer.sockets_gone([kept], now)
            self._release([kept])

    def _release(self, sockets: list[SocketId]) -> None:
        if sockets:
            self._context.events.append(events.SocketsUnwanted(tuple(sockets)))
