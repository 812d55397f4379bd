"""One edge in a network namespace of its own, from ``join`` to the last thing it removes.

::

    namespace:  lo ── mesh0 (TAP of the edge under test)      no other interface, no network

Nothing is on the LAN, so the edge hosts an embedded supernode and registers with it on loopback.
"""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mesh

ROOT = Path(mesh.__file__).parent.parent
UNSHARE = ("unshare", "-r", "-n")
JOINED = re.compile(r"joined lan as here: mesh\d+ (\S+/22), supernode 127\.0\.0\.1:\d+")


def _missing_privilege() -> str:
    command = [*UNSHARE, "sh", "-c", "ip link set lo up && ip tuntap add t0 mode tap"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stderr.strip() if done.returncode else ""


MISSING = _missing_privilege()
pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(bool(MISSING), reason=f"needs namespaces and /dev/net/tun: {MISSING}"),
]


class Edge:
    """``mesh-edge join`` in a namespace, and the commands about it from outside."""

    def __init__(self, directory: Path) -> None:
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "MESH_STATE_DIR": str(directory / "state"),
            "MESH_RUNTIME_DIR": str(directory / "run"),
        }
        self._environment.pop("MESH_KEY", None)
        self.runtime_dir = directory / "run"
        self.process: subprocess.Popen[bytes] | None = None

    def join(self, *arguments: str, community: str = "lan") -> "subprocess.Popen[bytes]":
        program = [sys.executable, "-m", "mesh.cli.main", "join", community, "--name", "here"]
        start = 'ip link set lo up && exec "$@"'
        self.process = subprocess.Popen(
            [*UNSHARE, "sh", "-c", start, "sh", *program, *arguments],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,  # or a second line hides from select() in a buffer of ours
        )
        return self.process

    def ask(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "mesh.cli.main", *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    def ip(self, *arguments: str) -> str:
        assert self.process is not None
        target = f"--target={self.process.pid}"
        enter = ("nsenter", target, "--user", "--net", "--preserve-credentials")
        done = subprocess.run(
            [*enter, "ip", *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def line(self) -> str:
        """Return the next line of stdout."""
        assert self.process is not None
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], 20)
        assert ready, "nothing on stdout within 20 s"
        return self.process.stdout.readline().decode().rstrip("\n")

    def end(self) -> tuple[int, str]:
        """Return exit code and stderr once the process has ended."""
        assert self.process is not None
        _, errors = self.process.communicate(timeout=20)
        return self.process.returncode, errors.decode()

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()


def eventually(is_true: Callable[[], bool]) -> bool:
    """Ask until it is true, for at most 10 s."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if is_true():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    edge = Edge(tmp_path)
    yield edge
    edge.close()


def joined_address(edge: Edge) -> str:
    match = JOINED.fullmatch(edge.line())
    assert match is not None
    return match[1]


def test_a_lone_edge_hosts_a_supernode_answers_commands_and_leaves_nothing(edge: Edge) -> None:
    edge.join()
    address = joined_address(edge)
    invite = edge.line()
    assert invite.startswith("invite: mesh://127.0.0.1:")

    status = json.loads(edge.ask("status", "--json").stdout)
    assert status["supernode"]["connected"] is True
    assert address in status["addresses"]
    assert edge.ask("invite").stdout == invite.removeprefix("invite: ") + "\n"
    assert json.loads(edge.ask("peers", "--json").stdout) == []

    shown = edge.ip("-o", "address", "show", "dev", status["tap"])
    assert address in shown
    assert "brd" in shown
    routes = edge.ip("route", "show", "table", "all", "dev", status["tap"])
    for part in ("advmss 1340", "224.0.0.0/4", "255.255.255.255", "advmss 1320"):
        assert part in routes

    assert edge.ask("leave").returncode == 0
    code, errors = edge.end()
    assert code == 0
    assert "Traceback" not in errors
    assert list(edge.runtime_dir.glob("*.sock")) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_cleanly(edge: Edge, number: signal.Signals) -> None:
    process = edge.join("--no-broadcast-routes")
    joined_address(edge)
    assert "224.0.0.0/4" not in edge.ip("route")
    process.send_signal(number)
    code, errors = edge.end()
    assert code == 0
    assert "Traceback" not in errors


def test_after_a_crash_address_key_and_invite_are_the_same(edge: Edge) -> None:
    edge.join()
    address, invite = joined_address(edge), edge.line()
    edge.close()  # kill -9
    edge.join()
    assert joined_address(edge) == address
    assert edge.line().rpartition("#")[2] == invite.rpartition("#")[2]


def test_a_deleted_interface_ends_it_with_one_line(edge: Edge) -> None:
    edge.join("-q", "--tap", "tap7")
    assert ": tap7 " in edge.line()
    edge.ip("link", "delete", "tap7")
    code, errors = edge.end()
    assert code == 1
    assert errors.count("\n") == 1
    assert "tap7 was deleted" in errors


def test_an_interface_set_down_is_survived(edge: Edge) -> None:
    process = edge.join("--tap", "tap7")
    edge.line()
    ula = re.search(r"inet6 (fd\S+)", edge.ip("-o", "-6", "address", "show", "dev", "tap7"))
    assert ula is not None
    edge.ip("link", "set", "tap7", "down")
    assert eventually(lambda: "tap7" not in edge.ip("route"))
    edge.ip("link", "set", "tap7", "up")
    assert eventually(lambda: "advmss 1340" in edge.ip("route"))
    assert eventually(lambda: ula[1] in edge.ip("-6", "address", "show", "dev", "tap7"))
    assert process.poll() is None


def test_a_second_edge_of_the_community_is_refused_with_one_line(
    edge: Edge, tmp_path: Path
) -> None:
    edge.join()
    edge.line()
    second = Edge(tmp_path)
    try:
        second.join("-q", "--supernode", "127.0.0.1:9")
        code, errors = second.end()
    finally:
        second.close()
    assert code == 1
    assert errors.count("\n") == 1
    assert "already running" in errors


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--tap", "lo"), "lo is taken"),
        (
            ("--address", "none", "--supernode", "127.0.0.1:9", "--port", "1", "--mtu", "68"),
            "--mtu",
        ),
    ],
)
def test_what_the_kernel_or_we_refuse_is_one_line(
    edge: Edge, arguments: tuple[str, ...], part: str
) -> None:
    edge.join(*arguments)
    code, errors = edge.end()
    assert code in {1, 2}
    assert errors.count("\n") == 1
    assert part in errors


def test_nobody_waits_for_a_supernode_that_is_not_there_in_silence(edge: Edge) -> None:
    process = edge.join("--supernode", "nowhere.invalid:7777")
    assert process.stderr is not None
    ready, _, _ = select.select([process.stderr], [], [], 20)
    assert ready
    assert "cannot resolve nowhere.invalid" in process.stderr.readline().decode()
    process.send_signal(signal.SIGTERM)
    assert edge.end()[0] == 0
