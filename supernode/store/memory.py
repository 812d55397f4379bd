"""A store that forgets: for tests, and for supernodes that may."""

from supernode.leases import StoredLeases
from supernode.store.contract import Changes


class MemoryStore:
    """Keeps nothing; the engine's own tables are all there is."""

    url = "memory:"

    def load(self, unix_time: int) -> StoredLeases:
        """Return nothing."""
        del unix_time
        return StoredLeases()

    def apply(self, changes: Changes, unix_time: int) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
