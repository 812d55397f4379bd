"""Rows of several rounds as JSON and as a Markdown table of medians."""

import json
import math
import os
import platform
import statistics
from pathlib import Path
from typing import Any

from benches.measures import Column, Row

Rows = dict[str, list[Row]]
"""By system, one row per round."""


def median(rows: list[Row], key: str) -> float:
    """Return the median of what could be measured, NaN for nothing."""
    found = [row[key] for row in rows if key in row and not math.isnan(row[key])]
    return statistics.median(found) if found else math.nan


def shown(value: float) -> str:
    """Return a figure with as many digits as it deserves."""
    if math.isnan(value):
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(rows: Rows, columns: list[Column]) -> str:
    """Return medians: a line per figure, a column per system."""
    lines = ["| | " + " | ".join(rows) + " |", "|---|" + "---|" * len(rows)]
    for column in columns:
        medians = [median(rows[name], column.key) for name in rows]
        if not all(map(math.isnan, medians)):
            lines.append(f"| {column.title} | " + " | ".join(map(shown, medians)) + " |")
    return "\n".join(lines)


def ratios(rows: Rows, columns: list[Column], ours: str) -> str:
    """Return how many times as much the others' figures ours are, of medians of the same run."""
    others = [name for name in rows if name != ours]
    lines = [
        f"| {ours} divided by | " + " | ".join(others) + " |",
        "|---|" + "---|" * len(others),
    ]
    for column in columns:
        own = median(rows[ours], column.key)
        found = [_ratio(own, median(rows[name], column.key)) for name in others]
        if not all(map(math.isnan, found)):
            wish = "less is better" if column.is_better_low else "more is better"
            lines.append(f"| {column.title} ({wish}) | " + " | ".join(map(shown, found)) + " |")
    return "\n".join(lines)


def _ratio(ours: float, theirs: float) -> float:
    return ours / theirs if theirs else math.nan


def circumstances(rounds: int, seconds: float) -> dict[str, Any]:
    """Return what figures mean nothing without."""
    return {
        "rounds": rounds,
        "seconds": seconds,
        "cores": os.cpu_count(),
        "processor": _processor(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "congestion_control": _sysctl("tcp_congestion_control"),
        "load_before": round(os.getloadavg()[0], 2),
    }


def congestion_controls() -> list[str]:
    """Return the ones that this kernel's TCP can use."""
    return _sysctl("tcp_available_congestion_control").split()


def _sysctl(name: str) -> str:
    return Path(f"/proc/sys/net/ipv4/{name}").read_text().strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def described(facts: dict[str, Any]) -> str:
    """Return the circumstances as a sentence."""
    return (
        f"{facts['cores']} cores ({facts['processor']}), kernel {facts['kernel']}, "
        f"Python {facts['python']}, TCP {facts['congestion_control']}; medians of "
        f"{facts['rounds']} rounds of {facts['seconds']:g} s; load average before: "
        f"{facts['load_before']}."
    )


def write_json(path: Path, facts: dict[str, Any], rows: Rows) -> None:
    """Write every row of every round."""
    # NaN is no JSON.
    clean = {
        name: [{k: None if math.isnan(v) else round(v, 4) for k, v in row.items()} for row in found]
        for name, found in rows.items()
    }
    path.write_text(json.dumps({"circumstances": facts, "rows": clean}, indent=1) + "\n")


def read_json(path: Path) -> tuple[dict[str, Any], Rows]:
    """Read what `write_json` wrote."""
    content = json.loads(path.read_text())
    rows = {
        name: [{k: math.nan if v is None else v for k, v in row.items()} for row in found]
        for name, found in content["rows"].items()
    }
    return content["circumstances"], rows
