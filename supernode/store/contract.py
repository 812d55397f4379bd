"""What a store of leases does."""

from dataclasses import dataclass, field
from typing import Protocol

from mesh.addresses import EdgeId
from supernode.leases import StoredLeases


@dataclass(slots=True)
class Changes:
    """What has changed since the last `LeaseStore.apply`; later changes take the place of earlier.

    Attributes:
        subnets: CIDR by community, None where it was forgotten.
        leases: CIDR by community and edge, None where it was forgotten.
        seen: edges that are registered now, or were until now.
    """

    subnets: dict[bytes, str | None] = field(default_factory=dict)
    leases: dict[tuple[bytes, EdgeId], str | None] = field(default_factory=dict)
    seen: set[tuple[bytes, EdgeId]] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.subnets or self.leases or self.seen)

    def update(self, later: "Changes") -> None:
        """Add what has changed since."""
        self.subnets.update(later.subnets)
        self.leases.update(later.leases)
        self.seen.update(later.seen)


class LeaseStore(Protocol):
    """A store; used from one thread at a time.

    ``unix_time`` is the time of day in whole seconds. It may jump: an age is never below zero.

    Attributes:
        url: what the store is called in the configuration.
    """

    url: str

    def load(self, unix_time: int) -> StoredLeases:
        """Return what is stored, with ages.

        Raises:
            StateError: it cannot be read.
        """
        ...

    def apply(self, changes: Changes, unix_time: int) -> None:
        """Store all of ``changes``, for good when this returns, or none of them.

        Raises:
            StateError: it cannot be written.
        """
        ...

    def close(self) -> None:
        """Let go of files; harmless the second time."""
        ...
