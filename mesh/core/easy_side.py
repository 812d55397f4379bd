"""The easy side of guessing at ports: open our NAT where the peer may come from; section 12.8.

Theory of operation. The peer asks, and says what its NAT does: its newest port and the stride of a
sequence, or that ports are random. We send punches from our one socket to ports of the address at
which the supernode sees the peer (and never to one that anybody merely names), then tell the peer,
which now sends from fresh mappings: a datagram whose mapping got a port that we had opened comes
through, and proves itself by its seal. Nobody has to see our punches: their hop limit takes them
past our own NATs and seldom as far as the peer's.
"""

from mesh.addresses import Endpoint
from mesh.constants import GUESS_HOPS, GUESS_PROBES
from mesh.core.context import Context
from mesh.core.guesses import predicted_ports, random_ports
from mesh.core.outbox import Via
from mesh.core.peer import Peer
from mesh.core.timers import Timer
from mesh.engine import WellKnownSocket
from mesh.wire.datagram import PUNCH
from mesh.wire.messages import Guess, GuessStep

PUNCHES_AT_ONCE = 64
PUNCH_INTERVAL = 0.05  # s; 1,024 take 0.8 s, some 60 kB/s on the wire
TELL_INTERVAL = 0.5  # s; until the peer comes through
LOOK_INTERVAL = 0.1  # s
EASY_TIMEOUT = 10.0  # s; mappings last for 30
LINGERING = 1.0  # s after success, while datagrams of the peer's other sockets still come in


class EasySide:
    """One attempt in which the peer's port is guessed.

    Attributes:
        peer: behind the hard NAT.
        number: the peer's for the attempt.
        is_over: whether there is nothing more to be done.
    """

    def __init__(self, context: Context, peer: Peer, host: str, ask: Guess, now: float) -> None:
        self.peer = peer
        self.number = ask.attempt
        self.is_over = False
        self._context = context
        self._host = host
        if ask.stride:
            self._left = predicted_ports(ask.port, ask.stride)
        else:
            self._left = random_ports(GUESS_PROBES, context.entropy)
        self._ends_at = now + EASY_TIMEOUT
        self._tell_at = now
        self._has_succeeded = False
        peer.guess.expect(host, frozenset(self._left))
        self.handle_timer(now)

    def handle_timer(self, now: float) -> None:
        """Go on with the punches, tell the peer of them, or end."""
        if self.peer.paths.is_direct and not self._has_succeeded:
            self._has_succeeded = True
            self._ends_at = now + LINGERING
        if now >= self._ends_at:
            self.end()
        elif self._has_succeeded:
            self.peer.guess.confirm(now)
            self._wait(LOOK_INTERVAL, now)
        elif self._left:
            self._punch()
            self._wait(PUNCH_INTERVAL, now)
        else:
            if now >= self._tell_at:
                self.tell(now)
            self._wait(LOOK_INTERVAL, now)

    def _punch(self) -> None:
        ports, self._left = self._left[:PUNCHES_AT_ONCE], self._left[PUNCHES_AT_ONCE:]
        for port in ports:
            via = Via(WellKnownSocket.UDP_IPV4, Endpoint(self._host, port))
            self._context.outbox.send(via, PUNCH, GUESS_HOPS)

    def tell(self, now: float) -> None:
        """Tell the peer that its turn has come, if it has."""
        if not self._left:
            self._tell_at = now + TELL_INTERVAL
            self.peer.send_message(Guess(self.number, GuessStep.OPENED), now)

    def end(self) -> None:
        """Stop, whatever has come of it."""
        self.is_over = True
        self.peer.guess.expect("", frozenset())

    def _wait(self, interval: float, now: float) -> None:
        self._context.timers.set(Timer.GUESS, None, now + interval)
