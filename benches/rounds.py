"""Measuring systems in turn, so that a machine that is busy for a while is busy for all of them."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager

from benches.machines import BenchError, Machines, Tunnel
from benches.measures import Row
from benches.report import Rows

System = Callable[[Machines], AbstractContextManager[Tunnel]]
"""Brings a system up for a block."""


def measure_rounds(
    wanted: dict[str, System], rounds: int, row_of: Callable[[Tunnel], Row], where: Machines
) -> Rows:
    """Measure all systems in turn, several times; one that fails lacks a row."""
    rows: Rows = {name: [] for name in wanted}
    for number in range(1, rounds + 1):
        for name, system in wanted.items():
            try:
                with system(where) as tunnel:
                    rows[name].append(row_of(tunnel))
            except (BenchError, AssertionError, subprocess.SubprocessError) as error:
                print(f"{number} {name} failed: {error}", file=sys.stderr, flush=True)
                continue
            print(number, name, json.dumps(rows[name][-1]), file=sys.stderr, flush=True)
    return rows
