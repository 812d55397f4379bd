"""What this edge knows about the NAT in front of itself, by all its supernodes together."""

from collections.abc import Callable
from typing import TypeAlias

from mesh.addresses import Endpoint
from mesh.core.nat_kind import NatKind, NatMapping

OnSeen: TypeAlias = Callable[[bytes, Endpoint | None, float], bool]
"""Takes the token of a ping and where it was seen from; returns whether the ping was its own."""


class OurNat:
    """The verdicts of all observers.

    Attributes:
        local_port: what our IPv4 socket is bound to, 0 before it is told.
        on_change: told when the kind is another one than before.
        on_seen: told where an observation port saw an extra socket, by the token of the ping.
    """

    def __init__(self) -> None:
        self.local_port = 0
        self.on_change: Callable[[float], None] = lambda _now: None
        self.on_seen: OnSeen = lambda _token, _endpoint, _now: False
        self._kinds: dict[int, NatKind] = {}

    @property
    def kind(self) -> NatKind:
        """The kind: that of the supernode which saw the hardest one."""
        return max(self._kinds.values(), key=lambda kind: kind.mapping, default=NatKind())

    @property
    def is_hard(self) -> bool:
        """Whether peers cannot be told where we will be."""
        return self.kind.mapping is NatMapping.DEPENDENT

    def found(self, supernode: int, kind: NatKind, now: float) -> None:
        """Take in the verdict that one supernode's observation ports gave."""
        before = self.kind
        self._kinds[supernode] = kind
        if self.kind != before:
            self.on_change(now)
