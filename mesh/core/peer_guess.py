"""What an edge keeps in mind about guessing at ports with one peer; protocol section 12.8."""

import math

from mesh.core.nat_kind import NatKind, from_told
from mesh.core.outbox import Via
from mesh.engine import SocketId

CHOICE_LIFETIME = 1.0  # s; a hole that has not become a path by then gives way to the next


class PeerGuess:
    """One peer's part in it.

    Attributes:
        nat: the kind of NAT that the peer is behind, as it says.
        refuses: whether it says that it guesses at no ports.
        failures: attempts in a row that found nothing.
        due_at: when the next attempt may start, ``math.inf`` until anybody has asked.
        accepted_at: when ports were last tried at random for it.
        kept: the extra socket of ours that the path to it uses.
    """

    def __init__(self) -> None:
        self.nat = NatKind()
        self.refuses = False
        self.failures = 0
        self.due_at = math.inf
        self.accepted_at = -math.inf
        self.kept: SocketId | None = None
        self._host = ""
        self._ports: frozenset[int] = frozenset()
        self._chosen: Via | None = None
        self._chosen_at = -math.inf

    def receive_told(self, told: tuple[int, ...]) -> None:
        """Take in what the peer's hello says of its NAT."""
        self.nat, self.refuses = from_told(told)

    def expect(self, host: str, ports: frozenset[int]) -> None:
        """Learn which endpoints have been opened for the peer, or (no ports) that it is over."""
        self._host, self._ports = host, ports
        self._chosen = None

    def admits(self, via: Via, now: float) -> bool:
        """Whether a datagram of the peer counts that came by this way.

        It reaches us through several of the holes that were opened for it, and keeps only one of
        its sockets: both sides have to mean the same one, so the first counts and no other.
        """
        port = via.endpoint[1]
        if port not in self._ports or via.endpoint[0] != self._host or via.relay_id:
            return True
        if self._chosen is None or now - self._chosen_at > CHOICE_LIFETIME:
            self._chosen, self._chosen_at = via, now
        return via == self._chosen

    def confirm(self, now: float) -> None:
        """Note that the chosen hole is a path: nothing else is to take its place."""
        self._chosen_at = max(now, self._chosen_at)
