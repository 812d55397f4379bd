"""Medians as bars in an SVG file, without a library: a panel per figure, a bar per system."""

import math
from html import escape
from pathlib import Path
from typing import Final

from benches.measures import Column
from benches.report import Rows, median, shown

# What the picture is about; the table has the rest.
SHOWN_KEYS: Final = (
    "tcp_mbit",
    "cpu_s_per_gb",
    "udp_64_kpps",
    "rtt_p50_us",
    "load_p99_ms",
    "at100_p99_ms",
)
NOT_COMPARED: Final = "bare veth"
"""It would make all other bars invisible."""

_PANEL_WIDTH, _BAR, _GAP, _LABEL_WIDTH, _MARGIN = 420, 18, 6, 130, 16
_VALUE_WIDTH = 70
_OURS_COLOUR, _OTHERS_COLOUR = "#1a7f5a", "#9aa5b1"


def _text(x: float, y: float, content: str, *, size: int = 12, more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}"{more}>{escape(content)}</text>'


def _panel(rows: Rows, column: Column, left: float, top: float) -> list[str]:
    """Draw one figure: its title, and a bar per system that has it."""
    wish = "less is better" if column.is_better_low else "more is better"
    parts = [_text(left, top + 12, f"{column.title} ({wish})", more=' font-weight="bold"')]
    medians = {name: median(rows[name], column.key) for name in rows if name != NOT_COMPARED}
    largest = max((value for value in medians.values() if not math.isnan(value)), default=0.0)
    room = _PANEL_WIDTH - _LABEL_WIDTH - _VALUE_WIDTH
    for number, (name, value) in enumerate(medians.items()):
        y = top + 24 + number * (_BAR + _GAP)
        middle = y + _BAR - 5
        width = 0.0 if math.isnan(value) or not largest else value / largest * room
        colour = _OURS_COLOUR if name.startswith("mesh") else _OTHERS_COLOUR
        start = left + _LABEL_WIDTH
        parts += [
            _text(start - 6, middle, name, more=' text-anchor="end"'),
            f'<rect x="{start:g}" y="{y:g}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>',
            _text(start + width + 5, middle, shown(value)),
        ]
    return parts


def svg(rows: Rows, columns: list[Column], caption: str) -> str:
    """Return the picture: two panels beside each other, in the order of `SHOWN_KEYS`."""
    by_key = {column.key: column for column in columns}
    wanted = [by_key[key] for key in SHOWN_KEYS if key in by_key]
    bars = sum(name != NOT_COMPARED for name in rows)
    panel_height = 24 + bars * (_BAR + _GAP) + 18
    lines = -(-len(wanted) // 2)
    width = 2 * _PANEL_WIDTH + 3 * _MARGIN
    height = lines * panel_height + 2 * _MARGIN + 10
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" fill="#1f2933">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number, column in enumerate(wanted):
        left = _MARGIN + number % 2 * (_PANEL_WIDTH + _MARGIN)
        parts += _panel(rows, column, left, _MARGIN + number // 2 * panel_height)
    parts += [_text(_MARGIN, height - 8, caption, size=10), "</svg>"]
    return "\n".join(parts) + "\n"


def write_svg(path: Path, rows: Rows, columns: list[Column], caption: str) -> None:
    """Draw the picture into a file."""
    path.write_text(svg(rows, columns, caption))
