"""The hard side of guessing at ports: come from mappings that the peer has guessed; section 12.8.

Theory of operation. Our NAT gives every destination another port. Where ports are a sequence, one
fresh socket is shown to the supernode's observation ports, and the peer told what port came last;
where they are random, 256 sockets make as many mappings, of which one hits a port that the peer has
opened (1,024 of 64,512: 98 times of 100). Those are opened last: a peer that is busy costs none.

    sequence:  OPENING (1) ─▶ OBSERVING ─▶ ASKING ─opened─▶ PINGING ─path─▶ over
    random:    ASKING ─opened─▶ OPENING (256) ─▶ PINGING ─path─▶ over

Pings wait for the peer's punches, not only because the holes have to be there: a Linux router that
rejects what comes in takes the flow of an early ping for its own, and a later punch of its edge to
the same port would leave from another one.
"""

import enum

from mesh import events
from mesh.addresses import Endpoint
from mesh.constants import GUESS_SOCKETS
from mesh.core.context import Context
from mesh.core.nat_kind import step_between
from mesh.core.outbox import Via
from mesh.core.peer import Peer
from mesh.core.registration import Registration
from mesh.core.timers import Timer
from mesh.engine import SocketId
from mesh.wire.messages import TOKEN_BYTES, Guess, GuessStep, Ping

OPENING_TIMEOUT = 3.0  # s
ASK_INTERVAL = 0.5  # s
MAX_ASKS = 10  # the peer needs a second before it answers
PINGS_AT_ONCE = 64
PING_INTERVAL = 0.025  # s between runs of a round
LOOK_INTERVAL = 0.05  # s
ROUND_OFFSETS = (0.0, 0.5, 1.2, 2.5)  # s; the same pings again, where some were lost
LAST_WAIT = 1.5  # s after the last round


class Stage(enum.Enum):
    """How far an attempt has come."""

    OPENING = "waiting for sockets"
    OBSERVING = "asking the supernode which port a fresh socket gets"
    ASKING = "waiting for the peer to open its NAT"
    PINGING = "sending from every socket"


class Outcome(enum.Enum):
    """What became of an attempt."""

    DIRECT = "there is a direct path"
    FAILED = "nothing came through"
    BUSY = "the peer is at it with somebody else"
    REFUSED = "the peer does not do this"
    NO_SEQUENCE = "the ports are no sequence after all"


class HardSide:
    """One attempt in which our port is guessed.

    Attributes:
        peer: behind the easy NAT.
        is_sequential: whether ports are predicted, not guessed.
        target: where the peer is.
        sockets: the extra ones that are open for this.
        outcome: None while it goes on.
        has_wanted_sockets: whether the driver was asked for them.
    """

    def __init__(
        self,
        context: Context,
        peer: Peer,
        target: Endpoint,
        registration: Registration,
        *,
        is_sequential: bool,
    ) -> None:
        self.peer = peer
        self.sockets: list[SocketId] = []
        self.outcome: Outcome | None = None
        self.has_wanted_sockets = False
        self._context = context
        self.target = target
        self._registration = registration
        self.is_sequential = is_sequential
        self._stage = Stage.OPENING
        self._number = context.entropy(TOKEN_BYTES)
        self._observed: dict[bytes, Endpoint | None] = {}
        self._asks = 0
        self._ask = Guess(self._number, GuessStep.ASK)
        self._round = 0
        self._round_began_at = 0.0
        self._next_socket = 0

    @property
    def waits_for_sockets(self) -> bool:
        """Whether the driver has been asked for sockets and has opened none yet.

        What it opens late belongs to an attempt that has been given up: pings from there would be
        counted nowhere.
        """
        return self._stage is Stage.OPENING and self.has_wanted_sockets

    def begin(self, now: float) -> None:
        """Ask the driver for a socket, or the peer to open its NAT."""
        if self.is_sequential:
            self._want_sockets(1, now)
        else:
            self._stage = Stage.ASKING
            self.handle_timer(now)

    def _want_sockets(self, count: int, now: float) -> None:
        self._stage = Stage.OPENING
        self.has_wanted_sockets = True
        self._context.events.append(events.SocketsWanted(count))
        self._wait(OPENING_TIMEOUT, now)

    def sockets_opened(self, sockets: list[SocketId], now: float) -> None:
        """Take the sockets that could be had."""
        self.sockets = list(sockets)
        if not sockets:
            self.outcome = Outcome.FAILED
            return
        if self.is_sequential:
            self._stage = Stage.OBSERVING
            self.handle_timer(now)
        else:
            self._begin_pings(now)

    def handle_timer(self, now: float) -> None:
        """Repeat what is unanswered, go on pinging, or see that it is over."""
        if self.peer.paths.is_direct:
            self.outcome = Outcome.DIRECT
            return
        match self._stage:
            case Stage.OPENING:
                self.outcome = Outcome.FAILED
            case Stage.OBSERVING | Stage.ASKING if self._asks >= MAX_ASKS:
                self.outcome = Outcome.FAILED
            case Stage.OBSERVING:
                self._observe(now)
            case Stage.ASKING:
                self._asks += 1
                self.peer.send_message(self._ask, now)
                self._wait(ASK_INTERVAL, now)
            case Stage.PINGING:
                self._ping(now)

    # Sequences

    def _observe(self, now: float) -> None:
        """Show a socket to both observation ports, one right behind the other."""
        self._asks += 1
        observer = self._registration.nat_observer
        self._observed = {self._context.entropy(TOKEN_BYTES): None for _ in range(2)}
        for port, token in enumerate(self._observed):
            self._registration.send_ping(observer.place(self.sockets[0], port), Ping(token))
        self._wait(ASK_INTERVAL, now)

    def seen(self, token: bytes, endpoint: Endpoint, now: float) -> bool:
        """Learn where an observation port saw our socket; whether it was by a ping of this."""
        if token not in self._observed:
            return False
        self._observed[token] = endpoint
        seen = [each for each in self._observed.values() if each is not None]
        if len(seen) == 2 and self._stage is Stage.OBSERVING:
            self._predict(seen, now)
        return True

    def _predict(self, seen: list[Endpoint], now: float) -> None:
        step = step_between(seen)
        if not step:
            self.outcome = Outcome.NO_SEQUENCE
            return
        port, stride = seen[-1].port, step % (1 << 16)
        self._ask = Guess(self._number, GuessStep.ASK, port, stride)
        self._stage = Stage.ASKING
        self._asks = 0
        self.handle_timer(now)

    # The peer's part

    def receive(self, answer: Guess, now: float) -> None:
        """Take in what the peer says to our ask."""
        if answer.attempt != self._number or self._stage is not Stage.ASKING:
            return
        match answer.step:
            case GuessStep.OPENED if self.sockets:
                self._begin_pings(now)
            case GuessStep.OPENED:
                self._want_sockets(GUESS_SOCKETS, now)
            case GuessStep.BUSY:
                self.outcome = Outcome.BUSY
            case _:
                self.outcome = Outcome.REFUSED

    # Pings

    def _begin_pings(self, now: float) -> None:
        self._stage = Stage.PINGING
        self._round_began_at = now
        self._ping(now)

    def _ping(self, now: float) -> None:
        began_at = self._round_began_at
        if self._round == len(ROUND_OFFSETS):
            if now >= began_at + ROUND_OFFSETS[-1] + LAST_WAIT:
                self.outcome = Outcome.FAILED
            self._wait(LOOK_INTERVAL, now)
            return
        if now < began_at + ROUND_OFFSETS[self._round]:
            self._wait(LOOK_INTERVAL, now)
            return
        end = self._next_socket + PINGS_AT_ONCE
        for socket in self.sockets[self._next_socket : end]:
            self.peer.ping_once(Via(socket, self.target), self._number, now)
        self._next_socket = end
        if end >= len(self.sockets):
            self._round += 1
            self._next_socket = 0
        self._wait(PING_INTERVAL, now)

    def _wait(self, interval: float, now: float) -> None:
        self._context.timers.set(Timer.GUESS, None, now + interval)
