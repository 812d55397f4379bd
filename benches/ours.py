"""Our own system in the bench: direct, relayed, without offloads, or of another source tree."""

import contextlib
import itertools
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benches.machines import HELPER, Machines, Tunnel, wait_for_ping
from tests.certificates import make_certificate
from tests.netns.namespaces import ROOT
from tests.netns.product import Edge, Program, Supernode, join_all, wait_direct

COMMUNITY = "bench"
# What one edge may have relayed by default, 64 MiB/s, is less than what can be.
_SUPERNODE_SETTINGS = """
[limits]
relay-burst-bytes = 4000000000
relay-rate-bytes = 4000000000
"""
_numbers = itertools.count()


def _use_tree(program: Program, tree: Path) -> None:
    """Run the sources of that tree, whatever the current folder is."""
    program.environment |= {"PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1"}


def _pid(program: Program) -> int:
    return program.process.pid if program.process else 0


@contextlib.contextmanager
def edges(
    machines: Machines, edge_options: tuple[str, ...], tree: Path = ROOT, scheme: str = ""
) -> Iterator[tuple[Supernode, Edge, Edge]]:
    """Start a supernode; yield it and two edges that have not been started, alice's and bert's."""
    label = f"mesh-{next(_numbers)}"
    settings = machines.files / "supernode.toml"
    settings.write_text(_SUPERNODE_SETTINGS)
    options: tuple[str, ...] = ("--config", str(settings))
    if scheme == "wss://":
        files = make_certificate(machines.files, HELPER)
        options += ("--tls-cert", str(files.certificate), "--tls-key", str(files.key))
        edge_options += ("--tls-ca", str(files.authority))
    supernode = Supernode(machines.helper, HELPER, f"{label}-supernode", options)
    place = f"{scheme}{supernode.endpoint}"
    both = [
        Edge(host, COMMUNITY, "--supernode", place, *edge_options, label=label)
        for host in (machines.alice, machines.bert)
    ]
    for program in (supernode, *both):
        _use_tree(program, tree)
    supernode.serve()
    try:
        yield supernode, both[0], both[1]
    finally:
        for program in (*both, supernode):
            if program.is_running:
                program.stop()


@contextlib.contextmanager
def mesh(
    machines: Machines, *options: str, tree: Path = ROOT, scheme: str = ""
) -> Iterator[Tunnel]:
    """Two edges that have joined; direct unless the options say otherwise.

    Args:
        machines: where.
        options: of ``join``.
        tree: the sources to run.
        scheme: ``tcp://``, ``ws://`` or ``wss://`` where the supernode is not to be reached by UDP.
    """
    with edges(machines, options, tree, scheme) as (supernode, alice, bert):
        join_all(alice, bert)
        if "--relay-only" not in options:
            wait_direct(alice, bert)
        wait_for_ping(machines.alice, bert.ip, "mesh")
        yield Tunnel(machines, bert.ip, (_pid(alice), _pid(bert)), (_pid(supernode),))


def join_seconds(machines: Machines, tree: Path = ROOT, times: int = 5) -> list[float]:
    """Return how long alice took from her start to the first answered ping, several times.

    Bert is there already, and so is a supernode; alice has been started once before, so that her
    key, her lease and her program's files are on the disk, in its cache.
    """
    found = []
    with edges(machines, (), tree) as (_, alice, bert):
        join_all(alice, bert)
        wait_for_ping(machines.alice, bert.ip, "mesh")
        for _ in range(times):
            alice.stop()
            time.sleep(0.3)
            alice.begin()
            alice.wait_joined()
            alice.wait_ping(bert, 20.0)
            found.append(time.monotonic() - alice.started_at)
    return found


def idle_megabytes(machines: Machines, tree: Path = ROOT) -> float:
    """Return the resident memory of an edge that has joined, has a peer and does nothing."""
    with mesh(machines, tree=tree) as tunnel:
        time.sleep(3)
        status = Path(f"/proc/{tunnel.pids[0]}/status").read_text()
        sizes = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(sizes[0].split()[1]) / 1024 if sizes else math.nan


def python_version() -> str:
    """Return which Python runs all of it."""
    return sys.version.split()[0]
