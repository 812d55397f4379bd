"""What ``join`` prints on stdout: the line that scripts wait for, and the invite."""

import contextlib
import sys
from typing import TextIO

from mesh.cli.terminal import printable


def joined_line(community: str, name: str, tap: str, address: str, supernode: str) -> str:
    """Return the line that says that the overlay is up; its form is a contract (cli.md)."""
    return (
        f"joined {printable(community)} as {printable(name)}: {tap} {address},"
        f" supernode {supernode}"
    )


def print_line(line: str, out: TextIO) -> None:
    """Print one line at once; a reader that has gone away is no reason to leave the overlay."""
    with contextlib.suppress(BrokenPipeError):
        print(line, file=out, flush=True)


def print_invite_code(url: str, terminal: TextIO | None = None) -> None:
    """Show the invite as a QR code, on a terminal only."""
    screen = sys.stderr if terminal is None else terminal
    if not screen.isatty():
        return
    import segno  # noqa: PLC0415 - 70 ms that only people at a terminal should wait

    segno.make(url).terminal(out=screen, compact=True)
