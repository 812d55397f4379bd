"""Every mistake is one line on stderr and exit code 1 or 2, without a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mesh
from mesh.cli.main import main

FINGERPRINT = "a" * 32


@pytest.fixture(autouse=True)
def _own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("MESH_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("MESH_KEY", raising=False)


def run(*argv: str) -> int:
    try:
        return main(argv)
    except SystemExit as stop:
        return int(str(stop.code))


@pytest.mark.parametrize(
    ("argv", "code", "part"),
    [
        ([], 2, "COMMAND"),
        (["dance"], 2, "dance"),
        (["join"], 2, "COMMUNITY"),
        (["join", "lan", "--colour"], 2, "--colour"),
        (["join", "lan", "--mtu"], 2, "--mtu"),
        (["join", "lan", "--mtu", "100"], 2, "576 to 9000"),
        (["join", "lan", "--mtu", "x\ny"], 2, "576 to 9000"),
        (["join", "lan", "--mac", "01:00:5e:00:00:01"], 2, "--mac"),
        (["join", "lan", "--address", "10.0.0.300/24"], 2, "--address"),
        (["join", "lan", "--port", "70000"], 2, "--port"),
        (["join", "lan", "--tap", "a-name-that-is-too-long"], 2, "--tap"),
        (["join", "lan", "--supernode", "vpn.example"], 2, "--supernode"),
        (["join", "lan", "--supernode", "h:1#nope"], 2, "fingerprint"),
        (["join", "lan", "--key", "x", "--open"], 2, "contradicts"),
        (["join", "lan", "--relay-only", "--no-relay"], 2, "contradicts"),
        (["join", ""], 2, "COMMUNITY"),
        (["join", "x" * 65], 2, "64 bytes"),
        (["join", "mesh://h:1/lan"], 1, "fingerprint is missing"),
        (["join", "mesh://nonsense"], 1, "invite"),
        (["join", f"mesh://h:1/lan?s={FINGERPRINT}#a%zz"], 1, "secret"),
        (["join", "lan", "--key-file", "/nonexistent"], 1, "No such file"),
        (["join", "lan", "--key-file", "/"], 1, "directory"),
        (["join", "lan", "--config", "/nonexistent"], 1, "no such file"),
        (["ping"], 2, "PEER"),
        (["ping", "desk", "-c", "0"], 2, "number from 1"),
        (["status", "a\nb"], 2, "COMMUNITY"),
    ],
)
def test_a_mistake_is_one_line(
    capsys: pytest.CaptureFixture[str], argv: list[str], code: int, part: str
) -> None:
    assert run(*argv) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("mesh-edge")
    assert captured.err.count("\n") == 1
    assert part in captured.err


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(mesh.errors.ConfigError):
        main(["join", "lan", "--mtu", "100", "--debug"])


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"mesh-edge {mesh.__version__}\n"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    out = capsys.readouterr().out
    for command in (
        "join",
        "status",
        "peers",
        "fdb",
        "ping",
        "leave",
        "invite",
        "netcheck",
        "keygen",
    ):
        assert command in out


def test_keygen_prints_a_new_key_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    keys = set()
    for _ in range(2):
        assert run("keygen") == 0
        keys.add(capsys.readouterr().out)
    assert len(keys) == 2
    assert all(len(key) == 33 and key.endswith("\n") for key in keys)


@pytest.mark.skipif(
    subprocess.run(["unshare", "-r", "true"], check=False, capture_output=True).returncode != 0,
    reason="needs user namespaces, to be without CAP_NET_ADMIN",
)
def test_without_privilege_the_hint_says_what_to_do_before_a_key_is_made(tmp_path: Path) -> None:
    # Root of a user namespace has no say over the network namespace outside of it.
    done = subprocess.run(
        ["unshare", "-r", sys.executable, "-m", "mesh.cli.main", "join", "lan"],
        env={**os.environ, "PYTHONPATH": str(Path(mesh.__file__).parent.parent)},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert any(part in done.stderr for part in ("root", "CAP_NET_ADMIN", "/dev/net/tun"))
    assert not list(tmp_path.rglob("secret"))
