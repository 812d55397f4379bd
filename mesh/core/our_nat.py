"""What this edge knows about the NAT in front of itself, by all its supernodes together."""

from collections.abc import Callable

from mesh.core.nat_kind import NatKind, NatMapping


class OurNat:
    """The verdicts of all observers.

    Attributes:
        local_port: what our IPv4 socket is bound to, 0 before it is told.
        on_change: told when the kind is another one than before.
    """

    def __init__(self) -> None:
        self.local_port = 0
        self.on_change: Callable[[float], None] = lambda _now: None
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
