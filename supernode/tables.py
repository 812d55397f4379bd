"""Tables for people: aligned, bold headings on a terminal only; NO_COLOR is honoured."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_SHORT_ID = 12  # characters; --json has all of them


def print_status(status: Mapping[str, Any], out: TextIO) -> None:
    """Print ``supernode status``: one property a line."""
    store = status["store"]
    drops = ", ".join(f"{reason} {count}" for reason, count in status["drops"].items())
    rows = [
        ("listening on", ", ".join(status["listen"])),
        ("key", status["fingerprint"]),
        ("edges", f"{status['edges']}, {status['streams']} streams"),
        ("communities", str(status["communities"])),
        (
            "relayed",
            f"{amount(status['relayed_bytes'])} in {status['relayed_datagrams']} datagrams",
        ),
        ("handshakes", f"{status['pending_handshakes']} pending"),
        ("leases", store["problem"] or store["url"]),
        ("dropped", drops or "nothing"),
        ("up", f"{duration(status['uptime_s'])}, version {status['version']}"),
    ]
    width = max(len(name) for name, _ in rows)
    out.writelines(f"{name:<{width}}  {value}\n" for name, value in rows)


def print_communities(rows: Sequence[Mapping[str, Any]], out: TextIO) -> None:
    """Print the rows of ``supernode communities``."""
    cells = [
        (
            row["community"][:_SHORT_ID],
            row["subnet"] or "-",
            str(row["edges"]),
            str(row["leases"]),
            amount(row["relayed_bytes"]),
        )
        for row in rows
    ]
    _print_table(("community", "subnet", "edges", "leases", "relayed"), cells, out)


def print_edges(rows: Sequence[Mapping[str, Any]], out: TextIO) -> None:
    """Print the rows of ``supernode edges``."""
    cells = [
        (
            row["id"][:_SHORT_ID],
            row["community"][:_SHORT_ID],
            row["endpoint"],
            row["transport"],
            row["address"] or "-",
            duration(row["age_s"]),
            f"{duration(row['last_seen_s'])} ago",
            amount(row["relayed_bytes"]),
        )
        for row in rows
    ]
    columns = ("edge", "community", "endpoint", "by", "address", "age", "heard", "relayed")
    _print_table(columns, cells, out)


def amount(count: float) -> str:
    """Return ``12 B`` or ``3.4 MiB``."""
    if count < 1024:
        return f"{count:.0f} B"
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:.1f} {_UNITS[unit]}"


def duration(seconds: float) -> str:
    """Return ``7s``, ``3m 7s``, ``2h 3m`` or ``5d 2h``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")]
    while len(parts) > 1 and parts[0][0] == 0:
        parts.pop(0)
    return " ".join(f"{count}{unit}" for count, unit in parts[:2])


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO) -> None:
    if not rows:
        out.write("none\n")
        return
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    heading = _line(columns, widths)
    is_coloured = out.isatty() and not os.environ.get("NO_COLOR")
    out.write(f"\x1b[1m{heading}\x1b[0m\n" if is_coloured else f"{heading}\n")
    out.writelines(_line(row, widths) + "\n" for row in rows)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
    return "  ".join(padded).rstrip()
