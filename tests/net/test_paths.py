from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.net.paths import (
    control_path,
    default_runtime_dir,
    default_state_dir,
    quoted,
    running,
    unquoted,
)

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=64).filter(
    lambda name: len(name.encode()) <= 64
)


@given(names)
def test_a_quoted_name_is_one_safe_file_name_and_reads_back(name: str) -> None:
    file_name = quoted(name)
    assert unquoted(file_name) == name
    assert file_name.isascii()
    assert not set(file_name) & set("/.\0 \n")
    assert len(control_path(Path("/run"), name).name) <= 255


def test_running_lists_the_sockets_by_community(tmp_path: Path) -> None:
    for name in ("game night", "../etc"):
        control_path(tmp_path, name).touch()
    (tmp_path / "other").touch()
    assert running(tmp_path) == {
        name: control_path(tmp_path, name) for name in ("../etc", "game night")
    }


def test_nothing_runs_where_there_is_no_directory(tmp_path: Path) -> None:
    assert running(tmp_path / "missing") == {}


def test_users_have_their_own_directories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    assert default_state_dir("mesh-edge") == tmp_path / "state" / "mesh-edge"
    assert default_runtime_dir("mesh-edge") == tmp_path / "run" / "mesh-edge"


def test_without_a_login_session_the_runtime_directory_is_private_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", "relative/is/ignored")
    expected = tmp_path / ".local" / "state" / "mesh-edge" / "run"
    assert default_runtime_dir("mesh-edge") == expected


def test_root_has_the_system_directories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_state_dir("supernode") == Path("/var/lib/supernode")
    assert default_runtime_dir("supernode") == Path("/run/supernode")
