"""Brings leases to the store, and keeps the service up when the store fails."""

import logging
from collections.abc import Callable

import trio

from mesh.errors import StateError
from mesh.net.log_limit import LogLimit
from supernode.store.contract import Changes, LeaseStore

_log = logging.getLogger(__name__)


class LeaseKeeper:
    """Stores changes in the order in which they come, several at a time where they come fast.

    While the store cannot be written (disk full...) changes wait in memory, at most one per lease
    and community, and go along with the next that come, or with `flush`.

    Args:
        store: used in threads, one at a time; closed by whoever made it.
        unix_time: the time of day.

    Attributes:
        problem: why the store could not be written the last time, or empty.
    """

    def __init__(self, store: LeaseStore, unix_time: Callable[[], float]) -> None:
        self.problem = ""
        self._store = store
        self._unix_time = unix_time
        self._unsaved = Changes()
        self._turn = trio.Lock()
        self._log_limit = LogLimit()

    @property
    def url(self) -> str:
        """The store's name."""
        return self._store.url

    def note(self, changes: Changes) -> None:
        """Let ``changes`` go along with the next `flush`."""
        self._unsaved.update(changes)

    async def flush(self) -> None:
        """Return when everything noted is stored, or could not be: see ``problem``.

        Cancelled, it finishes first: what it has in hand is noted nowhere else.
        """
        with trio.CancelScope(shield=True):
            await self._flush()

    async def _flush(self) -> None:
        async with self._turn:
            changes, self._unsaved = self._unsaved, Changes()
            if changes and not await self._is_stored(changes):
                changes.update(self._unsaved)
                self._unsaved = changes

    async def _is_stored(self, changes: Changes) -> bool:
        try:
            await trio.to_thread.run_sync(self._store.apply, changes, int(self._unix_time()))
        except StateError as error:
            self._complain(error)
            return False
        self.problem = ""
        return True

    def _complain(self, error: StateError) -> None:
        self.problem = str(error)
        if self._log_limit.ask("store", trio.current_time()) is not None:
            _log.error("%s; leases are kept in memory until it can be", error)
