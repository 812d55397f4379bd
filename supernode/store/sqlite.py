"""Leases in a SQLite file: what was committed survives kill -9 and a power cut.

The file is in WAL mode with ``synchronous=FULL``: every commit is on the disk before it returns.
One supernode at a time has it open.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from mesh.addresses import EdgeId
from mesh.constants import EDGE_ID_BYTES, KEY_BYTES
from mesh.errors import StateError
from mesh.net.files import keep_corrupt, make_directory
from supernode.leases import LeaseRecord, StoredLeases, SubnetRecord
from supernode.store.contract import Changes

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x6D657368  # "mesh", in the file's header: tells our files from others'
_LOCK_TIMEOUT = 1.0  # s; long enough for a supernode that is just stopping

_SCHEMA = """
CREATE TABLE subnets (
    community BLOB NOT NULL PRIMARY KEY,
    subnet TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE leases (
    community BLOB NOT NULL,
    edge BLOB NOT NULL,
    address TEXT NOT NULL,
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (community, edge)
) STRICT, WITHOUT ROWID;
"""


class SqliteStore:
    """A store in one file (mode 0600), which is made if it is not there.

    Attributes:
        url: ``sqlite:///PATH``.
    """

    def __init__(self, path: Path) -> None:
        """Open ``path``.

        Raises:
            StateError: it is corrupt (a copy is kept), from a newer version, in use by another
                supernode, or cannot be made.
        """
        self.path = path
        self.url = f"sqlite://{path}"
        make_directory(path.parent)
        with self._explaining("opened"):
            _make_private(path)
            self._connection = _connect(path)
        try:
            with self._explaining("opened"):
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def load(self, unix_time: int) -> StoredLeases:
        """Return everything; see `LeaseStore`."""
        with self._explaining("read"):
            subnets = self._connection.execute("SELECT community, subnet FROM subnets").fetchall()
            leases = self._connection.execute(
                "SELECT community, edge, address, seen_at FROM leases"
            ).fetchall()
        if any(len(row[0]) != KEY_BYTES for row in subnets + leases) or any(
            len(row[1]) != EDGE_ID_BYTES for row in leases
        ):
            raise self._corrupt("it names what is no community or edge")
        return StoredLeases(
            tuple(SubnetRecord(community, subnet) for community, subnet in subnets),
            tuple(
                LeaseRecord(community, EdgeId(edge), address, float(max(0, unix_time - seen_at)))
                for community, edge, address, seen_at in leases
            ),
        )

    def apply(self, changes: Changes, unix_time: int) -> None:
        """Commit ``changes`` in one transaction; see `LeaseStore`."""
        with self._explaining("written"), self._transaction() as connection:
            for community, subnet in changes.subnets.items():
                if subnet is None:
                    connection.execute("DELETE FROM subnets WHERE community = ?", (community,))
                else:
                    connection.execute(
                        "INSERT OR REPLACE INTO subnets VALUES (?, ?)", (community, subnet)
                    )
            for key, address in changes.leases.items():
                if address is None:
                    connection.execute("DELETE FROM leases WHERE community = ? AND edge = ?", key)
                else:
                    connection.execute(
                        "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?)",
                        (*key, address, unix_time),
                    )
            connection.executemany(
                "UPDATE leases SET seen_at = ? WHERE community = ? AND edge = ?",
                [(unix_time, *key) for key in changes.seen],
            )

    def close(self) -> None:
        """Fold the log into the file and close it."""
        self._connection.close()

    def _prepare(self) -> None:
        """Check the file and make its tables if it is new."""
        connection = self._connection
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        with self._transaction():  # takes the lock, before anything is believed
            [problem] = connection.execute("PRAGMA quick_check(1)").fetchone()
            if problem != "ok":
                raise self._corrupt(problem)
            [version] = connection.execute("PRAGMA user_version").fetchone()
            [application] = connection.execute("PRAGMA application_id").fetchone()
            [tables] = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if tables == 0:
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            elif application != _APPLICATION_ID:
                raise StateError(f"{self.path} is a database of another program; name another file")
            elif version > SCHEMA_VERSION:
                raise StateError(
                    f"{self.path} was written by a newer version (schema {version}); upgrade"
                )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            # A full disk has rolled back already, and rolling back twice is an error.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _explaining(self, verb: str) -> Iterator[None]:
        """Turn what SQLite and the kernel raise into StateError."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname.startswith("SQLITE_BUSY"):
                raise StateError(f"{self.path} is in use by another supernode") from error
            raise StateError(f"{self.path} cannot be {verb}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise self._corrupt(str(error)) from error
        except OSError as error:
            raise StateError(f"{self.path} cannot be {verb}: {error.strerror}") from error

    def _corrupt(self, problem: str) -> StateError:
        try:
            copy = keep_corrupt(self.path, self.path.read_bytes())
        except (OSError, StateError) as error:
            return StateError(
                f"{self.path} is corrupt ({problem}); no copy could be made ({error})"
            )
        return StateError(
            f"{self.path} is corrupt ({problem}); a copy is in {copy}:"
            " repair it, or remove it to start afresh"
        )


def _make_private(path: Path) -> None:
    """Make the file with mode 0600: SQLite would go by the umask, for the log beside it too."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _connect(path: Path) -> sqlite3.Connection:
    # Threads take turns (see LeaseStore), which is all that SQLite asks for.
    return sqlite3.connect(
        path, timeout=_LOCK_TIMEOUT, isolation_level=None, check_same_thread=False
    )
