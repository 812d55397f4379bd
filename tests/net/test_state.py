import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mesh.errors import LocalError, StateError
from mesh.net.state import StateDir

FINGERPRINT = "abcdefghijklmnopqrstuvwxyz234567"
OTHER_FINGERPRINT = FINGERPRINT[::-1]


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_an_identity_is_made_once_and_kept(state: StateDir) -> None:
    key = state.identity()
    assert len(key) == 32
    assert StateDir(state.path).identity() == key


def test_two_directories_have_two_identities(tmp_path: Path) -> None:
    assert StateDir(tmp_path / "a").identity() != StateDir(tmp_path / "b").identity()


def test_only_the_owner_can_read_what_is_kept(state: StateDir) -> None:
    old = os.umask(0)
    try:
        state.identity()
        state.save_secret("lan", "secret")
    finally:
        os.umask(old)
    assert mode_of(state.path / "identity.key") == 0o600
    assert mode_of(state.path / "communities" / "lan" / "secret") == 0o600


def test_a_new_directory_is_private(state: StateDir) -> None:
    assert mode_of(state.path) == 0o700


def test_threads_that_start_at_once_get_one_identity(state: StateDir) -> None:
    keys: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: keys.append(StateDir(state.path).identity()))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1


def test_a_corrupt_identity_is_named_copied_and_never_overwritten(state: StateDir) -> None:
    path = state.path / "identity.key"
    path.write_bytes(b"not a key\n")
    with pytest.raises(StateError, match=r"identity\.key is corrupt .*identity\.key\.corrupt-1"):
        state.identity()
    assert path.read_bytes() == b"not a key\n"
    assert (state.path / "identity.key.corrupt-1").read_bytes() == b"not a key\n"


def test_starting_again_makes_no_second_copy_of_the_same_corrupt_file(state: StateDir) -> None:
    path = state.path / "identity.key"
    for content in (b"one", b"one", b"two"):
        path.write_bytes(content)
        with pytest.raises(StateError):
            state.identity()
    copies = sorted(copy.name for copy in state.path.glob("*.corrupt-*"))
    assert copies == ["identity.key.corrupt-1", "identity.key.corrupt-2"]


def test_the_error_about_a_corrupt_key_does_not_show_it(state: StateDir) -> None:
    key = "ab" * 31 + "zz"
    (state.path / "identity.key").write_text(key)
    with pytest.raises(StateError) as caught:
        state.identity()
    assert "abab" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"-1", b"4294967296", b"1 2", "½".encode()])
def test_a_corrupt_epoch_is_an_error(state: StateDir, content: bytes) -> None:
    (state.path / "epoch").write_bytes(content)
    with pytest.raises(StateError, match="epoch is corrupt"):
        state.next_epoch(1_700_000_000)


def test_epochs_grow_when_the_clock_jumps_back(state: StateDir) -> None:
    assert state.next_epoch(2_000_000_000) == 2_000_000_000
    assert state.next_epoch(1_000_000_000) == 2_000_000_001
    assert StateDir(state.path).next_epoch(0) == 2_000_000_002


def test_a_restored_backup_does_no_harm_since_the_clock_has_gone_on(state: StateDir) -> None:
    state.next_epoch(1_000)
    backup = (state.path / "epoch").read_bytes()
    used = state.next_epoch(2_000)
    (state.path / "epoch").write_bytes(backup)
    assert state.next_epoch(3_000) > used


@pytest.mark.parametrize("beyond_belief", [-5, 2**32 - 1, 2**40])
def test_a_clock_beyond_belief_is_not_followed(state: StateDir, beyond_belief: int) -> None:
    assert state.next_epoch(beyond_belief) == 0
    assert state.next_epoch(beyond_belief) == 1


def test_an_exhausted_epoch_is_an_error_that_says_what_to_do(state: StateDir) -> None:
    (state.path / "epoch").write_text(str(2**32 - 1))
    with pytest.raises(StateError, match="remove it"):
        state.next_epoch(0)


def test_pins_are_kept_per_supernode_and_can_change(state: StateDir) -> None:
    assert state.pinned("a.example:7777") is None
    state.pin("a.example:7777", FINGERPRINT)
    state.pin("[2001:db8::1]:7777", FINGERPRINT)
    state.pin("a.example:7777", OTHER_FINGERPRINT)
    again = StateDir(state.path)
    assert again.pinned("a.example:7777") == OTHER_FINGERPRINT
    assert again.pinned("[2001:db8::1]:7777") == FINGERPRINT
    assert again.pinned("b.example:7777") is None


@pytest.mark.parametrize("pin", [("a b:1", FINGERPRINT), ("", FINGERPRINT), ("a:1", "short")])
def test_what_would_corrupt_the_file_of_pins_is_refused(
    state: StateDir, pin: tuple[str, str]
) -> None:
    with pytest.raises(LocalError):
        state.pin(*pin)
    assert not (state.path / "known_supernodes").exists()


def test_a_corrupt_line_among_the_pins_is_an_error_that_names_it(state: StateDir) -> None:
    (state.path / "known_supernodes").write_text(f"a:1 {FINGERPRINT}\na:1\n")
    with pytest.raises(StateError, match="line 2"):
        state.pinned("a:1")


def test_a_secret_is_kept_per_community(state: StateDir) -> None:
    assert state.secret("lan") is None
    state.save_secret("lan", "grüße aus dem süden")
    state.save_secret("../lan", "other")
    assert StateDir(state.path).secret("lan") == "grüße aus dem süden"
    assert StateDir(state.path).secret("../lan") == "other"
    assert not (state.path / "lan").exists()


@pytest.mark.parametrize("secret", ["", " a", "a\nb", "a\n"])
def test_a_secret_that_would_not_read_back_is_refused(state: StateDir, secret: str) -> None:
    with pytest.raises(LocalError):
        state.save_secret("lan", secret)


def test_a_cached_root_is_for_exactly_its_name_and_secret(state: StateDir) -> None:
    root = bytes(range(32))
    state.save_root("lan", "secret", root)
    assert state.root("lan", "secret") == root
    assert state.root("lan", "Secret") is None
    assert state.root("lan", None) is None
    assert state.root("lan2", "secret") is None


def test_the_root_of_an_open_community_is_not_that_of_an_empty_secret(state: StateDir) -> None:
    state.save_root("lan", None, bytes(32))
    assert state.root("lan", None) == bytes(32)
    assert state.root("lan", "") is None


def test_the_last_address_is_kept_per_community(state: StateDir) -> None:
    assert state.last_address("lan") == ""
    state.save_last_address("lan", "10.20.0.2/22")
    assert StateDir(state.path).last_address("lan") == "10.20.0.2/22"


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("root", lambda state: state.root("lan", "secret")),
        ("secret", lambda state: state.secret("lan")),
        ("address", lambda state: state.last_address("lan")),
    ],
)
def test_any_corrupt_file_of_a_community_is_named_and_kept(
    state: StateDir, name: str, read: Callable[[StateDir], object]
) -> None:
    state.save_secret("lan", "secret")
    path = state.path / "communities" / "lan" / name
    path.write_bytes(b"\xff\x00\n\nx")
    with pytest.raises(StateError, match=f"lan/{name} is corrupt"):
        read(state)
    assert path.with_name(f"{name}.corrupt-1").read_bytes() == path.read_bytes()


def test_a_file_of_monstrous_size_is_not_read(state: StateDir) -> None:
    with (state.path / "epoch").open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(StateError, match="too large"):
        state.next_epoch(0)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_readable_secret_draws_one_warning_that_says_what_to_do(
    state: StateDir, mode: int
) -> None:
    state.save_secret("lan", "secret")
    path = state.path / "communities" / "lan" / "secret"
    path.chmod(mode)
    assert state.secret("lan") == "secret"
    assert state.secret("lan") == "secret"
    [warning] = state.warnings
    assert f"chmod 600 {path}" in warning


def test_private_files_draw_no_warning(state: StateDir) -> None:
    state.identity()
    state.save_secret("lan", "secret")
    again = StateDir(state.path)
    again.identity()
    again.secret("lan")
    assert again.warnings == []


def test_a_file_in_the_place_of_the_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(StateError, match="cannot be made"):
        StateDir(tmp_path / "state")


def test_no_temporary_file_is_left(state: StateDir) -> None:
    state.identity()
    state.next_epoch(5)
    assert sorted(path.name for path in state.path.iterdir()) == [
        ".lock",
        "epoch",
        "identity.key",
    ]


def fill_the_disk(directory: str) -> dict[str, Any]:
    """In a mount namespace: a state directory on a disk of 64 KiB that then fills up."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", directory], check=True)
    state = StateDir(Path(directory, "state"))
    key = state.identity()
    state.pin("a:1", FINGERPRINT)
    with Path(directory, "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass
    errors = []
    for attempt in (
        lambda: state.pin("b:2", FINGERPRINT),
        lambda: state.save_secret("lan", "secret"),
        lambda: state.next_epoch(5),
    ):
        try:
            attempt()
        except StateError as error:
            errors.append(str(error))
    return {
        "errors": errors,
        "pins": [state.pinned("a:1"), state.pinned("b:2")],
        "same_key": state.identity() == key,
        "files": sorted(path.name for path in state.path.iterdir() if path.is_file()),
    }


@pytest.mark.netns
def test_a_full_disk_is_one_clear_error_and_loses_nothing(
    in_namespace: Callable[..., Any], tmp_path: Path
) -> None:
    found = in_namespace(fill_the_disk, str(tmp_path))
    assert len(found["errors"]) == 3
    assert all("No space left on device" in error for error in found["errors"])
    assert "known_supernodes cannot be written" in found["errors"][0]
    assert found["pins"] == [FINGERPRINT, None]
    assert found["same_key"]
    assert found["files"] == [".lock", "identity.key", "known_supernodes"]


def use_a_read_only_disk(directory: str) -> str:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", directory], check=True)
    try:
        StateDir(Path(directory, "state"))
    except StateError as error:
        return str(error)
    return ""


@pytest.mark.netns
def test_a_read_only_disk_is_one_clear_error(
    in_namespace: Callable[..., Any], tmp_path: Path
) -> None:
    assert "Read-only file system" in in_namespace(use_a_read_only_disk, str(tmp_path))
