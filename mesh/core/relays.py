"""The relayed ways to one peer: one per supernode that both sides are registered with.

A relay needs no validation: it is the way by which the peer was introduced. Among several the best
by round-trip time is used, and left when it fails; docs/protocol.md sections 12.3 and 12.4.
"""

from collections.abc import Iterator

from mesh.core.choice import is_better_relay
from mesh.core.outbox import Via
from mesh.core.path import Path, Source


class Relays:
    """All relayed ways to one peer.

    Attributes:
        best: the one to use, or None.
    """

    def __init__(self) -> None:
        self.best: Path | None = None
        self._by_supernode: dict[int, Path] = {}

    def __len__(self) -> int:
        return len(self._by_supernode)

    def __iter__(self) -> Iterator[Path]:
        return iter(self._by_supernode.values())

    def get(self, supernode: int) -> Path | None:
        """Return the way through a supernode, if it is one."""
        return self._by_supernode.get(supernode)

    def find(self, via: Via) -> Path | None:
        """Return what is known of a way."""
        return next((relay for relay in self if relay.via == via), None)

    def vias(self) -> list[Via]:
        """Return all ways, the best one first."""
        others = [relay.via for relay in self if relay is not self.best]
        return others if self.best is None else [self.best.via, *others]

    def set(self, supernode: int, via: Via | None, now: float) -> None:
        """Learn which way leads to the peer through a supernode, or that none does any more."""
        known = self._by_supernode.get(supernode)
        if via is None:
            self._by_supernode.pop(supernode, None)
        elif known is None or known.via != via:
            relay = self._by_supernode[supernode] = Path(via, Source.RELAY)
            relay.next_ping_at = now
        elif known.is_down:
            known.is_down = False
            known.next_ping_at = now

    def choose(self, now: float) -> None:
        """Find the best one, by what is known now."""
        best = self.best if self.best in self._by_supernode.values() else None
        for relay in self:
            if best is None or is_better_relay(relay, best, now):
                best = relay
        self.best = best

    def other_than(self, relay: Path) -> Path | None:
        """Return what carries copies while ``relay`` is in doubt: the one that answered last."""
        others = [each for each in self if each is not relay]
        return max(others, key=lambda each: (not each.is_down, each.last_pong_at), default=None)
