"""The programs under test as processes on machines of the lab, with folders of their own."""

import itertools
import json
import math
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any, TypeVar

from mesh.errors import MeshError
from mesh.net.control import call
from mesh.net.paths import running
from tests.netns.namespaces import ROOT, Host

KEY = "a secret of the tests"
SUPERNODE_PORT = 7777
JOIN_TIMEOUT = 20.0
"""s; generous, since the machine may be busy: how fast a join is has a test of its own."""

_Result = TypeVar("_Result")


def wait_until(condition: Callable[[], _Result], timeout: float, what: str) -> _Result:
    """Ask until the answer is true; return it.

    Raises:
        AssertionError: it was not within ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.02)
    return answer


class Program:
    """A process on a machine whose output is kept in files; can be started more than once."""

    def __init__(self, host: Host, module: str, label: str) -> None:
        self.host = host
        self.files = host.files / label
        self.state = self.files / "state"
        self.runtime = self.files / "run"
        self.files.mkdir(parents=True, exist_ok=True)
        self._command = (sys.executable, "-m", module)
        self.python_options: tuple[str, ...] = ()
        """What stands between ``python`` and ``-m MODULE`` at a start, such as a profiler."""
        self._folders: tuple[str, ...] = ()
        """Options that every command needs to find the folders above."""
        self.environment = {
            "PYTHONPATH": str(ROOT),
            "MESH_STATE_DIR": str(self.state),
            "MESH_RUNTIME_DIR": str(self.runtime),
            "PYTHONWARNINGS": "error::ResourceWarning",
            "NO_COLOR": "1",
        }
        self._starts = 0
        self.process: subprocess.Popen[str] | None = None

    def start(self, *arguments: str, prefix: tuple[str, ...] = ()) -> None:
        """Start the process; ``prefix`` is a command that runs it."""
        assert self.process is None or self.process.poll() is not None, "still running"
        self._starts += 1
        with self._output("stdout").open("w") as out, self._output("stderr").open("w") as err:
            self.process = self.host.popen(
                *prefix,
                self._command[0],
                *self.python_options,
                *self._command[1:],
                *arguments,
                stdout=out.fileno(),
                stderr=err.fileno(),
                env=self.environment,
            )

    def _output(self, stream: str) -> Path:
        return self.files / f"{stream}-{self._starts}"

    @property
    def stdout(self) -> str:
        """What the latest start has printed so far."""
        return self._output("stdout").read_text()

    @property
    def stderr(self) -> str:
        """What the latest start has logged so far."""
        return self._output("stderr").read_text()

    @property
    def is_running(self) -> bool:
        """Whether the latest start still runs."""
        return self.process is not None and self.process.poll() is None

    def wait_for_line(self, pattern: str, timeout: float) -> re.Match[str]:
        """Return the match of a whole line of stdout; fail as soon as the process ends without."""
        compiled = re.compile(rf"^{pattern}\n", re.MULTILINE)

        def found_or_ended() -> re.Match[str] | None:
            has_ended = not self.is_running
            match = compiled.search(self.stdout)
            assert match or not has_ended, f"{self.host.name} ended:\n{self.stdout}{self.stderr}"
            return match

        said = f"{pattern!r} on stdout of {self.host.name}"
        try:
            return wait_until(found_or_ended, timeout, said)  # type: ignore[return-value]
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.stdout}{self.stderr}") from None

    def wait_for_log(self, pattern: str, timeout: float) -> None:
        """Wait until stderr holds something that matches."""
        compiled = re.compile(pattern, re.IGNORECASE)
        try:
            wait_until(lambda: compiled.search(self.stderr), timeout, f"{pattern!r} on stderr")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.stderr}") from None

    def wait(self, timeout: float = 15.0) -> int:
        """Wait for the end and return the exit code."""
        assert self.process is not None
        return self.process.wait(timeout)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 15.0) -> int:
        """Send a signal, wait for the end and return the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal and do not wait."""
        assert self.process is not None
        self.process.send_signal(number)

    def begin_stop(self) -> None:
        """Ask it to end and do not wait."""
        assert self.process is not None
        self.process.terminate()

    def kill(self) -> None:
        """``kill -9``."""
        self.stop(signal.SIGKILL)

    def command(
        self, *arguments: str, check: bool = True, timeout: float = 30.0
    ) -> subprocess.CompletedProcess[str]:
        """Run another command of the same program on the same machine to its end."""
        return self.host.run(
            *self._command,
            *arguments,
            *self._folders,
            check=check,
            timeout=timeout,
            env=self.environment,
        )

    def json(self, *arguments: str) -> Any:  # noqa: ANN401 - JSON
        """Run a command with ``--json`` and return the one document that it printed."""
        return json.loads(self.command(*arguments, "--json").stdout)

    def ask(self, view: str) -> Any:  # noqa: ANN401 - JSON
        """Return what `json` returns, from the control socket: a hundred times as fast.

        Raises:
            AssertionError: the program does not run, or does not answer.
        """
        try:
            [path] = running(self.runtime).values()
            [answer] = call(path, {"command": view})
        except (MeshError, ValueError) as error:
            raise AssertionError(f"{self.host.name}: {view}: {error!r}") from error
        return answer


class Supernode(Program):
    """A ``supernode run``."""

    def __init__(
        self, host: Host, address: str, label: str = "supernode", options: tuple[str, ...] = ()
    ) -> None:
        """Prepare ``supernode run --listen ADDRESS:7777 OPTIONS…``."""
        super().__init__(host, "supernode.cli", label)
        self._options = options
        # Not from the environment, which speaks of the edge only.
        self._folders = ("--runtime-dir", str(self.runtime))
        self.endpoint = f"{address}:{SUPERNODE_PORT}"
        self.fingerprint = ""

    def serve(self) -> None:
        """Start it and wait until it serves."""
        self.begin()
        said = self.wait_for_line(r"listening on (\S+), key (\S+)", JOIN_TIMEOUT)
        self.fingerprint = said[2]

    def begin(self) -> None:
        """Start it and do not wait."""
        state = ("--state-dir", str(self.state))
        self.start("run", "--listen", self.endpoint, *self._options, *state, *self._folders)

    def edges(self) -> list[dict[str, Any]]:
        """Return what ``supernode edges --json`` prints."""
        return list(self.ask("edges"))


@dataclass(frozen=True)
class Joined:
    """The line that ``join`` prints; see cli.md."""

    community: str
    name: str
    tap: str
    address: str
    supernode: str


_JOINED = (
    r"joined (?P<community>\S+) as (?P<name>\S+): "
    r"(?P<tap>\S+) (?P<address>\S+), supernode (?P<supernode>\S+)"
)


class Edge(Program):
    """A ``mesh-edge join`` of one community on one machine.

    Attributes:
        joined: what it said when it had joined, the latest time.
        started_at: when it was started, on the clock of `time.monotonic`.
    """

    def __init__(
        self, host: Host, *arguments: str, name: str = "", key: str = KEY, label: str = "edge"
    ) -> None:
        """Prepare ``mesh-edge join ARGUMENTS…``; an empty key is none at all."""
        super().__init__(host, "mesh.cli.main", label)
        self.name = name or host.name
        self._arguments = ("join", *arguments, "--name", self.name)
        if key:
            self.environment["MESH_KEY"] = key
        self.joined = Joined("", "", "", "", "")
        self.started_at = 0.0

    def begin(self, *more: str, prefix: tuple[str, ...] = ()) -> None:
        """Start it and do not wait."""
        self.started_at = time.monotonic()
        self.start(*self._arguments, *more, prefix=prefix)

    def wait_joined(self, timeout: float = JOIN_TIMEOUT) -> Joined:
        """Wait for the line that says that the overlay is up."""
        self.joined = Joined(**self.wait_for_line(_JOINED, timeout).groupdict())
        return self.joined

    def has_joined(self) -> bool:
        """Whether the overlay is up by now; fail if the edge ended."""
        match = re.search(rf"^{_JOINED}\n", self.stdout, re.MULTILINE)
        assert match or self.is_running, f"{self.name} ended:\n{self.stdout}{self.stderr}"
        if match:
            self.joined = Joined(**match.groupdict())
        return bool(match)

    def join(self, *more: str) -> Joined:
        """Start it and wait until the overlay is up."""
        self.begin(*more)
        return self.wait_joined()

    @property
    def ip(self) -> str:
        """The overlay address without the prefix length."""
        return str(IPv4Interface(self.joined.address).ip)

    def status(self) -> dict[str, Any]:
        """Return what ``status --json`` prints."""
        return dict(self.ask("status"))

    def drops(self) -> int:
        """Return how much was dropped, for whatever reason."""
        return sum(self.status()["drops"].values())

    def peers(self) -> list[dict[str, Any]]:
        """Return what ``peers --json`` prints."""
        return list(self.ask("peers"))

    def peer(self, other: "Edge") -> dict[str, Any] | None:
        """Return what we know of a peer, or None while we do not know it."""
        return next((peer for peer in self.peers() if peer["name"] == other.name), None)

    def path_to(self, other: "Edge") -> str:
        """Return the kind of path to a peer; "none" while it is unknown."""
        peer = self.peer(other)
        return str(peer["path"]["kind"]) if peer else "none"

    def logged_at(self, pattern: str) -> float | None:
        """Return when the latest start first logged what matches, on `time.time`'s clock."""
        line = re.search(rf"^(\S+ \S+) \w+ {pattern}", self.stderr, re.MULTILINE)
        if line is None:
            return None
        return datetime.strptime(line[1], "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp()

    def path_changes(self, other: "Edge") -> int:
        """Return how often the latest start has logged another path to a peer.

        Of lines that were held back the log tells the number with the next one.
        """
        pattern = rf" {other.name}: (?:direct|through|no path).*?(?:\((\d+) more|$)"
        return sum(1 + int(more or 0) for more in re.findall(pattern, self.stderr, re.MULTILINE))

    def has_session_with(self, other: "Edge") -> bool:
        """Whether a session with a peer is established."""
        peer = self.peer(other)
        return bool(peer and peer["session"]["established"])

    def can_ping(self, other: "Edge", wait: float = 1.0) -> bool:
        """Whether one ping is answered within ``wait`` seconds."""
        command = ("ping", "-n", "-c1", f"-W{wait}", other.ip)
        return self.host.run(*command, check=False).returncode == 0

    def wait_ping(self, other: "Edge", timeout: float) -> float:
        """Ping until it is answered; return how many seconds that took."""
        began_at = time.monotonic()
        wait_until(lambda: self.can_ping(other, 0.2), timeout, f"{self.name} pings {other.name}")
        return time.monotonic() - began_at


@dataclass(frozen=True)
class Pings:
    """What became of a stream of pings, by sequence number; times are on `time.time`'s clock.

    Attributes:
        sent: how many were sent, without those of the last half second that were not answered:
            they may have been on their way.
        sent_at: when those that were answered left.
        answered_at: when their answers came.
        lost: those without an answer.
    """

    sent: int
    sent_at: dict[int, float]
    answered_at: dict[int, float]
    lost: list[int]

    @property
    def longest_gap(self) -> float:
        """The longest time in seconds between two answers."""
        moments = sorted(self.answered_at.values())
        return max((b - a for a, b in itertools.pairwise(moments)), default=math.inf)

    def returned_after(self, moment: float) -> float:
        """Return the seconds from ``moment`` to the end of the last gap of 0.3 s or more.

        That is when traffic flowed again for good; 0 where it never stopped.
        """
        moments = [moment, *sorted(at for at in self.answered_at.values() if at > moment)]
        gaps = [after for before, after in itertools.pairwise(moments) if after - before > 0.3]
        return gaps[-1] - moment if gaps else 0.0

    def __str__(self) -> str:
        lost = f"lost {self.lost}" if self.lost else "none lost"
        return f"{self.sent} sent, {lost}, longest gap {self.longest_gap:.2f} s"


class PingStream:
    """A ping every ``interval`` seconds, to be ended and looked at."""

    def __init__(self, source: Edge, destination: Edge, interval: float = 0.1) -> None:
        self._interval = interval
        self._output = source.host.files / f"pings-{next(_stream_numbers)}"
        with self._output.open("w") as file:  # a pipe would fill up and stop a long stream
            self._process = source.host.popen(
                "ping", "-n", "-D", f"-i{interval}", "-W2", destination.ip, stdout=file.fileno()
            )

    def end(self) -> tuple[int, int]:
        """Return how many were sent and how many answered; see `finish`."""
        pings = self.finish()
        return pings.sent, len(pings.answered_at)

    def finish(self) -> Pings:
        """End the stream and tell what became of every ping."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=10)
        said = self._output.read_text()
        numbers = re.search(r"(\d+) packets transmitted", said)
        assert numbers, said
        sent = int(numbers[1])
        answered_at: dict[int, float] = {}
        sent_at: dict[int, float] = {}
        for moment, number, rtt_ms in _ANSWER.findall(said):
            answered_at.setdefault(int(number), float(moment))
            sent_at.setdefault(int(number), float(moment) - float(rtt_ms) / 1000)
        sent = max(sent - max(1, round(0.5 / self._interval)), *answered_at, 0)
        lost = [number for number in range(1, sent + 1) if number not in answered_at]
        return Pings(sent, sent_at, answered_at, lost)


_ANSWER = re.compile(
    r"^\[([\d.]+)\] \d+ bytes from .*icmp_seq=(\d+) ttl=.*time=([\d.]+) ms", re.MULTILINE
)
_stream_numbers = itertools.count()


def join_all(*edges: Edge, sessions: bool = True) -> None:
    """Start edges at the same moment, wait until all have joined and know each other."""
    for edge in edges:
        edge.begin()
    for edge in edges:
        edge.wait_joined()
    if sessions:
        wait_for_sessions(*edges)


def wait_for_sessions(*edges: Edge, timeout: float = 10.0) -> None:
    """Wait until every edge has a session with every other."""
    for edge in edges:
        others = {other.name for other in edges if other is not edge}

        def knows_all(edge: Edge = edge, others: set[str] = others) -> bool:
            peers = {peer["name"] for peer in edge.peers() if peer["session"]["established"]}
            return others <= peers

        wait_until(knows_all, timeout, f"{edge.name} has sessions with {others}")


def wait_direct(*edges: Edge, timeout: float = 10.0) -> None:
    """Wait until every edge reaches every other directly."""
    for edge in edges:
        others = {other.name for other in edges if other is not edge}

        def all_direct(edge: Edge = edge, others: set[str] = others) -> bool:
            direct = {peer["name"] for peer in edge.peers() if peer["path"]["kind"] == "direct"}
            return others <= direct

        wait_until(all_direct, timeout, f"{edge.name} reaches {others} directly")
