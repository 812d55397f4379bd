"""Tables for people: aligned, coloured on a terminal only; NO_COLOR is honoured.

Names of peers come from the network: they are made printable and are never read as markup.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mesh.cli.terminal import printable

PIPE_WIDTH = 1000  # columns; a pipe has no width, and cut values are of no use to grep

_TRANSPORTS = {"udp": "UDP", "tcp": "TCP", "ws": "WebSocket"}
_PATH_STYLES = {"direct": "green", "relay": "yellow", "none": "red"}


def print_peers(peers: Iterable[Mapping[str, Any]], out: TextIO | None = None) -> None:
    """Print the rows of ``mesh-edge peers``."""
    rows = [
        (
            peer["name"] or "-",
            peer["id"][:12],
            " ".join(address.partition("/")[0] for address in peer["addresses"]) or "-",
            _path(peer["path"]),
            peer["path"]["endpoint"] or "-",
            milliseconds(peer["path"]["rtt_ms"]),
            f"{amount(peer['tx_bytes'])} / {amount(peer['rx_bytes'])}",
            "-" if peer["last_seen_s"] is None else f"{duration(peer['last_seen_s'])} ago",
            peer.get("why") or "-",
        )
        for peer in peers
    ]
    columns = ("name", "id", "addresses", "path", "endpoint", "rtt", "sent / received", "heard")
    print_table((*columns, "why not direct"), rows, out, empty="no peers yet")


def _path(path: Mapping[str, Any]) -> Text:
    """Return the kind of path, with the transport that carries it where that is not UDP."""
    by = "" if path["transport"] in {"udp", ""} else f" ({path['transport']})"
    return Text(printable(path["kind"]) + by, style=_PATH_STYLES.get(path["kind"], ""))


def print_fdb(rows: Iterable[Mapping[str, Any]], out: TextIO | None = None) -> None:
    """Print the rows of ``mesh-edge fdb``."""
    shown = [
        (row["mac"], row["name"] or "-", row["peer"][:12], duration(row["age_s"])) for row in rows
    ]
    print_table(("mac", "peer", "id", "age"), shown, out, empty="no addresses learnt yet")


def _nat(status: Mapping[str, Any]) -> str:
    """Return what is known of the NAT: ``hard, random ports``."""
    ports = status["nat_detail"]["ports"]
    return f"{status['nat']}, {ports} ports" if ports != "unknown" else str(status["nat"])


def _supernodes(supernodes: Iterable[Mapping[str, Any]]) -> list[tuple[str, Text]]:
    """Return a row for each supernode, the primary first."""
    ordered = sorted(supernodes, key=lambda one: not one["is_primary"])
    return [("supernode" if one["is_primary"] else "spare", _supernode(one)) for one in ordered]


def _supernode(one: Mapping[str, Any]) -> Text:
    state = ("connected", "green") if one["connected"] else ("not connected", "red")
    return Text.assemble(
        f"{printable(one['endpoint'])} by {_TRANSPORTS[one['transport']]}, ",
        state,
        f", {milliseconds(one['rtt_ms'])}" if one["connected"] else "",
    )


def print_status(status: Mapping[str, Any], out: TextIO | None = None) -> None:
    """Print ``mesh-edge status``: one property a line."""
    drops = ", ".join(f"{reason} {count}" for reason, count in status["drops"].items() if count)
    mapped = ", ".join(f"{one['external']} ({one['protocol']})" for one in status["mapped"])
    rows = [
        ("community", status["community"]),
        ("edge", f"{status['name']} ({status['id'][:12]})"),
        ("interface", f"{status['tap']}, {status['mac']}, MTU {status['mtu']}"),
        ("addresses", " ".join(status["addresses"]) or "-"),
        *_supernodes(status["supernodes"]),
        ("seen as", f"{status['endpoint'] or '-'} (NAT: {_nat(status)})"),
        ("mapped", mapped or "-"),
        ("peers", str(status["peers"])),
        ("offload", "on" if status["offload"] else "off"),
        ("real-time", "on" if status["realtime"] else "off"),
        ("dropped", drops or "nothing"),
        ("uptime", duration(status["uptime_s"])),
        ("version", status["version"]),
    ]
    print_table(None, rows, out, empty="")


def print_table(
    columns: Sequence[str] | None,
    rows: Sequence[Sequence[str | Text]],
    out: TextIO | None,
    *,
    empty: str,
) -> None:
    """Print ``rows`` below ``columns`` (None: no header), or the sentence ``empty``."""
    file = sys.stdout if out is None else out
    console = Console(
        file=file,
        width=None if file.isatty() else PIPE_WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
    )
    if not rows:
        console.print(empty)
        return
    table = Table(box=None, pad_edge=False, show_header=columns is not None, header_style="bold")
    for column in columns or rows[0]:
        table.add_column(str(column), overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row))
    with console.capture() as capture:
        console.print(table)
    # Rich pads every cell to its column; blanks at the end of a line help nobody.
    file.write("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()))


def milliseconds(value: float | None) -> str:
    """Return a time with its unit, a dash for none."""
    return "-" if value is None else f"{value:.1f} ms"


def duration(seconds: float) -> str:
    """Return ``seconds`` in the two largest units that say something, such as ``3 h 5 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def amount(size: int) -> str:
    """Return a number of bytes in the unit that leaves up to three digits before the point."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
