"""Every kind of NAT with every kind: all pairs work, and all but the hopeless ones are direct.

The topology is that of `matrix`; ``scripts/nat-matrix`` prints the whole table.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.kinds import Kind
from tests.netns.lab import Lab
from tests.netns.matrix import Gathering, Matrix, Site, all_at_once
from tests.netns.matrix_command import main, table
from tests.netns.namespaces import ROOT
from tests.netns.product import wait_until

MANY_PAIRS = 200


@pytest.fixture(scope="module")
def site(lab: Lab) -> Site:
    site = Site(lab)
    site.supernode.serve()
    return site


@pytest.fixture(scope="module")
def everybody(site: Site) -> Iterator[Gathering]:
    gathering = all_at_once(site, list(Kind), per_kind=2, wait=20.0)
    yield gathering
    gathering.stop()


def test_every_pair_works_and_all_that_need_no_guessing_are_direct(everybody: Gathering) -> None:
    assert len(everybody.pairs) > MANY_PAIRS
    matrix = Matrix()
    matrix.take(everybody, guessing=False)
    print("\n".join(table(matrix)))  # noqa: T201 - for who looks at a failure
    assert list(matrix.complaints()) == []
    lost = sum(everybody.pings_lost.values())
    assert lost <= len(everybody.pairs) // 100, f"{lost} pings lost"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("moment", ["while it builds", "while programs run"])
def test_the_command_leaves_no_process_behind(
    namespaces_allowed: None, tmp_path: Path, number: signal.Signals, moment: str
) -> None:
    command = [sys.executable, "-m", "tests.netns.matrix_command", "--kinds", "open,double"]
    ours = {**os.environ, "TMPDIR": str(tmp_path)}  # by which its descendants are known, too
    with subprocess.Popen(command, cwd=ROOT, env=ours, stderr=subprocess.DEVNULL) as run:
        enough = 4 if moment == "while it builds" else 20
        wait_until(lambda: len(_processes_of(tmp_path)) >= enough, 20.0, f"{enough} processes")
        run.send_signal(number)
        run.wait(10)
    wait_until(lambda: not _processes_of(tmp_path), 5.0, "everything has ended")
    if number is signal.SIGINT:
        assert run.returncode == 128 + signal.SIGINT
        assert list(tmp_path.iterdir()) == []


def _processes_of(folder: Path) -> list[int]:
    """Return the processes that have ``folder`` in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
        except OSError:  # ended meanwhile, or another user's
            continue
        if os.fsencode(folder) in environment:
            found.append(int(process.name))
    return found


def test_a_world_that_cannot_be_had_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.netns.matrix_command.why_no_namespaces", lambda: "not here")
    assert main(["--rounds", "0"]) == 1
    assert capsys.readouterr().err == "nat-matrix: not here\n"
