"""The SQLite store: what was committed is there, whatever happened next."""

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from mesh.addresses import EdgeId
from mesh.errors import StateError
from supernode.leases import LeaseRecord, StoredLeases, SubnetRecord
from supernode.store.contract import Changes
from supernode.store.sqlite import SCHEMA_VERSION, SqliteStore

HOME = b"h" * 32
EDGE = EdgeId(b"e" * 16)
OTHER = EdgeId(b"o" * 16)
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "leases.sqlite3"


def stored(path: Path, unix_time: int = 100) -> StoredLeases:
    store = SqliteStore(path)
    try:
        return store.load(unix_time)
    finally:
        store.close()


def apply(path: Path, changes: Changes, unix_time: int = 100) -> None:
    store = SqliteStore(path)
    store.apply(changes, unix_time)
    store.close()


def test_a_new_file_is_empty_and_private(path: Path) -> None:
    assert stored(path) == StoredLeases()
    assert path.stat().st_mode & 0o777 == 0o600


def test_leases_and_subnets_come_back_with_their_age(path: Path) -> None:
    apply(path, Changes({HOME: "10.0.0.0/22"}, {(HOME, EDGE): "10.0.0.1/22"}), 1000)
    assert stored(path, 1060) == StoredLeases(
        (SubnetRecord(HOME, "10.0.0.0/22"),), (LeaseRecord(HOME, EDGE, "10.0.0.1/22", 60.0),)
    )


def test_a_clock_that_jumped_back_makes_no_negative_age(path: Path) -> None:
    apply(path, Changes(leases={(HOME, EDGE): "10.0.0.1/22"}), 1000)
    assert stored(path, 10).leases[0].unseen_for == 0.0


def test_an_edge_that_was_seen_is_young_again(path: Path) -> None:
    apply(path, Changes(leases={(HOME, EDGE): "10.0.0.1/22", (HOME, OTHER): "10.0.0.2/22"}), 0)
    apply(path, Changes(seen={(HOME, EDGE)}), 50)
    ages = {record.edge: record.unseen_for for record in stored(path, 60).leases}
    assert ages == {EDGE: 10.0, OTHER: 60.0}


def test_seeing_an_edge_without_a_lease_stores_nothing(path: Path) -> None:
    apply(path, Changes(seen={(HOME, EDGE)}))
    assert stored(path) == StoredLeases()


def test_what_is_forgotten_is_gone(path: Path) -> None:
    apply(path, Changes({HOME: "10.0.0.0/22"}, {(HOME, EDGE): "10.0.0.1/22"}))
    apply(path, Changes({HOME: None}, {(HOME, EDGE): None}))
    assert stored(path) == StoredLeases()


def test_a_changed_lease_takes_the_place_of_the_old_one(path: Path) -> None:
    apply(path, Changes(leases={(HOME, EDGE): "10.0.0.1/22"}))
    apply(path, Changes(leases={(HOME, EDGE): "10.0.0.9/22"}))
    assert [record.address for record in stored(path).leases] == ["10.0.0.9/22"]


def test_a_commit_survives_kill_9(path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from supernode.store.contract import Changes
from supernode.store.sqlite import SqliteStore
store = SqliteStore(Path({str(path)!r}))
for number in range(50):
    store.apply(Changes(leases={{(b"h" * 32, bytes([number] * 16)): "10.0.0.1/22"}}), 100)
    print(number, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "30\n":  # killed while it goes on writing
                break
        process.send_signal(signal.SIGKILL)
    assert path.with_name(path.name + "-wal").exists()
    found = {record.edge for record in stored(path).leases}
    assert found >= {EdgeId(bytes([number] * 16)) for number in range(31)}


@pytest.mark.parametrize(
    "content", [b"this is not a database, and long enough to be told", b"SQLite format 3\0" * 300]
)
def test_a_corrupt_file_is_named_and_a_copy_is_kept(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(StateError) as caught:
        SqliteStore(path)
    copy = path.with_name("leases.sqlite3.corrupt-1")
    assert str(path) in str(caught.value)
    assert str(copy) in str(caught.value)
    assert copy.read_bytes() == content
    assert path.read_bytes() == content


def test_a_page_damaged_in_the_middle_is_found_at_the_start(path: Path) -> None:
    leases = {
        (HOME, EdgeId(number.to_bytes(16, "big"))): "10.0.0.1/22" for number in range(1, 2000)
    }
    apply(path, Changes(leases=leases))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = b"\xa5" * 4096
    path.write_bytes(content)
    with pytest.raises(StateError, match="is corrupt"):
        SqliteStore(path)


def test_rows_that_name_no_edge_are_corruption(path: Path) -> None:
    stored(path)
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO leases VALUES (?, ?, ?, ?)", (b"short", b"e", "x", 0))
    connection.commit()
    connection.close()
    with pytest.raises(StateError, match="no community or edge"):
        stored(path)


def test_a_file_of_a_newer_version_is_left_alone(path: Path) -> None:
    stored(path)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(StateError, match="newer version"):
        SqliteStore(path)


def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    with pytest.raises(StateError, match="another program"):
        SqliteStore(path)


def test_one_supernode_at_a_time(path: Path) -> None:
    store = SqliteStore(path)
    with pytest.raises(StateError, match="in use by another supernode"):
        SqliteStore(path)
    store.close()
    assert stored(path) == StoredLeases()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="file"):
        SqliteStore(tmp_path / "file" / "leases.sqlite3")


def test_a_full_disk_changes_nothing_and_the_store_goes_on(path: Path) -> None:
    store = SqliteStore(path)
    store.apply(Changes(leases={(HOME, EDGE): "10.0.0.1/22"}), 100)
    many = {(HOME, EdgeId(n.to_bytes(16, "big"))): "10.0.0.2/22" for n in range(2000)}
    [pages] = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StateError, match="full"):
        store.apply(Changes(leases=many), 100)
    assert [record.edge for record in store.load(100).leases] == [EDGE]
    store._connection.execute("PRAGMA max_page_count = 100000")
    store.apply(Changes(leases=many), 100)
    assert len(store.load(100).leases) == 2001
    store.close()
