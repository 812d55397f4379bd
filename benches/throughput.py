"""Throughput and delay of two edges in namespaces, with sudo: python benches/throughput.py.

```
  alice 10.91.1.2 ──┐
                    ├── router ── supernode 10.91.3.2
  bert  10.91.2.2 ──┘
```

Systems are measured one after the other in every round (A B C A B C ...), so that a machine that
is busy for a while is busy for all of them; the table shows medians. Compare within one run only.
Needs root, iperf3 and ping; the machines carry no traffic but ours.
"""

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PREFIX = f"bench{os.getpid() % 10000}-"
MACHINES = ("router", "alice", "bert", "supernode")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
COLUMNS = (
    ("tcp_mbit", "TCP 1 stream, Mbit/s"),
    ("cpu_s_per_gb", "CPU s per GB, both edges"),
    ("tcp_back_mbit", "TCP other way, Mbit/s"),
    ("udp_64_kpps", "UDP 64 B received, kpps"),
    ("ping_p50_us", "ping idle p50, µs"),
    ("ping_p99_us", "ping idle p99, µs"),
    ("load_p50_ms", "ping under TCP p50, ms"),
    ("load_p99_ms", "ping under TCP p99, ms"),
)


def command(machine: str, *words: str) -> list[str]:
    """Return the command that runs ``words`` on a machine."""
    return ["ip", "netns", "exec", PREFIX + machine, *words]


def run(*words: str, check: bool = True, timeout: float = 60.0) -> str:
    """Run a command to its end and return what it printed."""
    done = subprocess.run(words, check=check, capture_output=True, text=True, timeout=timeout)
    return done.stdout


@contextlib.contextmanager
def network() -> Iterator[None]:
    """Build the machines of the drawing and remove them at the end."""
    try:
        for machine in MACHINES:
            run("ip", "netns", "add", PREFIX + machine)
            run("ip", "-n", PREFIX + machine, "link", "set", "lo", "up")
        router = PREFIX + "router"
        run(*command("router", "sysctl", "-qw", "net.ipv4.ip_forward=1"))
        for number, machine in enumerate(MACHINES[1:], start=1):
            netns = PREFIX + machine
            run(*f"ip -n {router} link add p{number} type veth peer eth0 netns {netns}".split())
            run(*f"ip -n {router} addr add 10.91.{number}.1/24 dev p{number}".split())
            run(*f"ip -n {router} link set p{number} up".split())
            run(*f"ip -n {netns} addr add 10.91.{number}.2/24 dev eth0".split())
            run(*f"ip -n {netns} link set eth0 up".split())
            run(*f"ip -n {netns} route add default via 10.91.{number}.1".split())
        yield
    finally:
        for machine in MACHINES:
            run("ip", "netns", "del", PREFIX + machine, check=False)


class Mesh:
    """Two edges and a supernode, made anew for every round."""

    supernode_options: tuple[str, ...] = ()
    place = "10.91.3.2:7777"
    expected_path = "direct"

    def __init__(self, *options: str, python: str, tree: Path) -> None:
        self.options = options
        self._python = python
        self._tree = tree
        self._files = tempfile.TemporaryDirectory()
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> tuple[str, list[int]]:
        listen = ("run", "--listen", "10.91.3.2:7777", *self.supernode_options)
        self._start("supernode", "supernode.cli", *listen)
        time.sleep(1.0)
        pids = [
            self._start(
                name,
                "mesh.cli.main",
                *("join", "bench", "--supernode", self.place, "--name", name),
                *self.options,
            )
            for name in ("alice", "bert")
        ]
        self._await(r"^joined .*: mesh0 ([0-9.]+)/", "alice")
        address = self._await(r"^joined .*: mesh0 ([0-9.]+)/", "bert")
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and self.expected_path not in self._ask("alice", "peers"):
            time.sleep(0.2)
        run(*command("alice", "ping", "-c", "3", "-i", "0.2", "-W", "2", address))
        return address, pids

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            process.terminate()
        for process in self._started:
            process.wait(20)
        self._started.clear()
        self._files.cleanup()

    def _environment(self, name: str) -> dict[str, str]:
        folder = Path(self._files.name) / name
        folder.mkdir(parents=True, exist_ok=True)
        return {
            **os.environ,
            "PYTHONPATH": str(self._tree),
            "MESH_KEY": "the secret of the bench",
            "MESH_STATE_DIR": str(folder / "state"),
            "MESH_RUNTIME_DIR": str(folder / "run"),
            "SUPERNODE_STATE_DIR": str(folder / "state"),
            "SUPERNODE_RUNTIME_DIR": str(folder / "run"),
        }

    def _start(self, name: str, module: str, *arguments: str) -> int:
        environment = self._environment(name)
        folder = Path(self._files.name) / name
        if module.startswith("supernode"):
            arguments = (
                *arguments,
                *("--state-dir", str(folder / "state"), "--runtime-dir", str(folder / "run")),
            )
        with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
            # ip netns exec replaces itself by the program, so the pid is the program's.
            process = subprocess.Popen(
                command(name, self._python, "-m", module, *arguments),
                stdout=out,
                stderr=err,
                text=True,
                env=environment,
                cwd=self._tree,
            )
        self._started.append(process)
        return process.pid

    def _ask(self, name: str, what: str) -> str:
        words = command(name, self._python, "-m", "mesh.cli.main", what, "bench")
        done = subprocess.run(
            words,
            check=False,
            capture_output=True,
            text=True,
            env=self._environment(name),
            cwd=self._tree,
        )
        return done.stdout

    def _await(self, pattern: str, name: str) -> str:
        folder = Path(self._files.name) / name
        for _ in range(200):
            found = re.search(pattern, (folder / "out").read_text(), re.MULTILINE)
            if found:
                return found[1]
            time.sleep(0.1)
        raise SystemExit(f"{name} has not joined: {(folder / 'err').read_text()}")


@contextlib.contextmanager
def bare_link() -> Iterator[tuple[str, list[int]]]:
    """Nothing between the two but the router."""
    yield "10.91.2.2", []


def cpu_seconds(pids: list[int]) -> float:
    """Return the user and system time of processes so far."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_SECOND


def iperf(address: str, *options: str, seconds: float) -> dict[str, Any]:
    """Run an iperf3 client on alice and return what it measured, as JSON."""
    words = command("alice", "iperf3", "-J", "-c", address, "-t", str(seconds), *options)
    for _ in range(5):
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        found = json.loads(done.stdout or "{}")
        if found.get("end"):
            end: dict[str, Any] = found["end"]
            return end
        time.sleep(0.5)
    raise SystemExit(f"iperf3: {done.stdout} {done.stderr}")


def pings(address: str, count: int, interval: float) -> list[float]:
    """Return round-trip times in seconds, sorted."""
    said = run(
        *command("alice", "ping", "-c", str(count), "-i", str(interval), "-W", "2", address),
        check=False,
        timeout=count * interval + 60,
    )
    return sorted(float(found) / 1e3 for found in re.findall(r"time=([0-9.]+) ms", said))


def share(values: list[float], part: float) -> float:
    """Return a percentile of sorted values, NaN for none."""
    return values[min(len(values) - 1, int(part * len(values)))] if values else float("nan")


def measure(address: str, pids: list[int], seconds: float) -> dict[str, float]:
    """Return one row of the table."""
    server = subprocess.Popen(
        command("bert", "iperf3", "-s"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(0.3)
    row: dict[str, float] = {}
    try:
        idle = pings(address, 400, 0.005)
        row["ping_p50_us"], row["ping_p99_us"] = share(idle, 0.5) * 1e6, share(idle, 0.99) * 1e6
        before = cpu_seconds(pids)
        end = iperf(address, seconds=seconds)
        spent = cpu_seconds(pids) - before
        received = end["sum_received"]
        row["tcp_mbit"] = received["bits_per_second"] / 1e6
        row["cpu_s_per_gb"] = spent / (received["bytes"] / 1e9)
        end = iperf(address, "-R", seconds=seconds)
        row["tcp_back_mbit"] = end["sum_received"]["bits_per_second"] / 1e6
        end = iperf(address, "-u", "-l", "64", "-b", "0", seconds=seconds)
        total = end["sum"]
        arrived = total["packets"] - total["lost_packets"]
        row["udp_64_kpps"] = arrived / total["seconds"] / 1e3
        load = subprocess.Popen(
            command("alice", "iperf3", "-c", address, "-t", str(seconds + 2)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(1.0)
        loaded = pings(address, int(seconds * 100), 0.01)
        load.wait(60)
        row["load_p50_ms"], row["load_p99_ms"] = share(loaded, 0.5) * 1e3, share(loaded, 0.99) * 1e3
    finally:
        server.terminate()
        server.wait()
    return row


def print_table(rows: dict[str, list[dict[str, float]]]) -> None:
    """Print medians as a Markdown table."""
    names = list(rows)
    print("| | " + " | ".join(names) + " |")
    print("|---|" + "---|" * len(names))
    for key, title in COLUMNS:
        medians = [statistics.median(row[key] for row in rows[name]) for name in names]
        print(f"| {title} | " + " | ".join(f"{value:,.4g}" for value in medians) + " |")


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="per measurement")
    parser.add_argument("--only", default="", help="comma-separated names of systems")
    parser.add_argument("--against", type=Path, help="another source tree to measure beside ours")
    chosen = parser.parse_args()
    python = sys.executable
    systems: dict[str, Callable[[], contextlib.AbstractContextManager[tuple[str, list[int]]]]] = {
        "mesh": lambda: Mesh(python=python, tree=ROOT),
        "mesh --no-offload": lambda: Mesh("--no-offload", python=python, tree=ROOT),
        "bare veth": bare_link,
    }
    if chosen.against is not None:
        systems["other tree"] = lambda: Mesh(python=python, tree=chosen.against)
    wanted = [name for name in systems if not chosen.only or name in chosen.only.split(",")]
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in wanted}
    with network():
        for _ in range(chosen.rounds):
            for name in wanted:
                with systems[name]() as (address, pids):
                    rows[name].append(measure(address, pids, chosen.seconds))
                print(name, json.dumps(rows[name][-1]), file=sys.stderr, flush=True)
    print_table(rows)


if __name__ == "__main__":
    main()
