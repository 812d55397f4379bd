"""Prints the NAT matrix: ``scripts/nat-matrix [options]``, a program.

A cell holds the seconds from when both edges were registered to when both said that they took the
direct path (the slowest of all pairs of these kinds), or ``relay``; for pairs that take guessing at
ports also in how many runs they became direct. An exclamation mark stands where more is demanded.
Exit code 0: all is as it has to be; 1: something is not; 2: wrong usage; 130: interrupted.
"""

import argparse
import itertools
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.netns.kinds import Kind, takes_guessing
from tests.netns.lab import Lab
from tests.netns.matrix import Matrix, Pair, Site, all_at_once, alone, ordered
from tests.netns.namespaces import why_no_namespaces

TOGETHER: Final = 5
"""How many pairs that take guessing run at once: more would measure the machine."""
SHORT: Final = {
    Kind.FULL_CONE: "full",
    Kind.ADDRESS_RESTRICTED: "address",
    Kind.PORT_RESTRICTED: "port",
    Kind.PORT_CHANGED: "changed",
    Kind.REJECTING: "reject",
    Kind.FIREWALL: "firewall",
    Kind.SEQUENTIAL: "sequent",
    Kind.SYMMETRIC: "symm",
    Kind.DOUBLE_SYMMETRIC: "dbl-sym",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit code."""
    options = _parse(arguments)
    if complaint := why_no_namespaces():
        print(f"nat-matrix: {complaint}", file=sys.stderr)
        return 1
    matrix = Matrix()
    began_at = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nat-matrix-") as files:
        lab = Lab(Path(files))
        try:
            _run(Site(lab), matrix, options)
        except AssertionError as error:
            print(f"nat-matrix: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("nat-matrix: interrupted", file=sys.stderr)
            return 128 + signal.SIGINT
        finally:
            lab.close()
    print("\n".join(table(matrix)))
    print(_summary(matrix, time.monotonic() - began_at))
    complaints = list(matrix.complaints())
    for complaint in complaints:
        print(f"! {complaint}")
    return 1 if complaints else 0


def _run(site: Site, matrix: Matrix, options: argparse.Namespace) -> None:
    site.supernode.serve()
    if not options.pairs:
        _say(f"{options.per_kind} edges of each of {len(options.kinds)} kinds, all at once")
        per_kind, wait = options.per_kind, options.wait
        gathering = all_at_once(site, options.kinds, per_kind=per_kind, wait=wait)
        gathering.stop()
        matrix.take(gathering, guessing=False)
    runs = list(_runs(options))
    for done in range(0, len(runs), TOGETHER):
        batch = runs[done : done + TOGETHER]
        _say(f"alone, {done} of {len(runs)} done: " + ", ".join(map(_called, batch)))
        gathering = alone(site, batch, wait=options.wait)
        gathering.stop()
        matrix.take(gathering, guessing=True)


def _runs(options: argparse.Namespace) -> Iterator[Pair]:
    """Yield the pairs that run alone, as often as they have to."""
    pairs = options.pairs or [
        (a, b) for a, b in itertools.combinations(options.kinds, 2) if takes_guessing(a, b)
    ]
    for _ in range(options.rounds):
        yield from pairs


def _called(pair: Pair) -> str:
    return ":".join(kind.value for kind in pair)


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nat-matrix", description=__doc__)
    names = ", ".join(kind.value for kind in Kind)
    parser.add_argument(
        "--kinds", type=_kinds, default=list(Kind), help=f"comma-separated, of: {names}"
    )
    parser.add_argument(
        "--pairs", type=_pairs, default=[], help="only these, alone: KIND:KIND,… (see --kinds)"
    )
    parser.add_argument("--per-kind", type=int, default=2, help="edges of each kind (2)")
    parser.add_argument("--rounds", type=int, default=10, help="of every pair that runs alone (10)")
    parser.add_argument("--wait", type=float, default=15.0, help="seconds for direct paths (15)")
    return parser.parse_args(arguments)


def _kinds(text: str) -> list[Kind]:
    return sorted(map(Kind, text.split(",")), key=list(Kind).index)


def _pairs(text: str) -> list[Pair]:
    pairs = (pair.split(":") for pair in text.split(","))
    return [ordered(Kind(left), Kind(right)) for left, right in pairs]


def table(matrix: Matrix) -> Iterator[str]:
    """Yield the lines of the table."""
    kinds = [kind for kind in Kind if any(kind in pair for pair in matrix.outcomes)]
    rows = [["", *(SHORT.get(kind, kind.value) for kind in kinds)]]
    for left in kinds:
        cells = [cell(matrix, left, right) if _is_upper(left, right) else "" for right in kinds]
        rows.append([left.value, *cells])
    widths = [max(len(row[column]) for row in rows) for column in range(len(kinds) + 1)]
    for row in rows:
        first, *rest = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        yield "  ".join((first, *rest)).rstrip()


def _is_upper(left: Kind, right: Kind) -> bool:
    return ordered(left, right) == (left, right)


def cell(matrix: Matrix, left: Kind, right: Kind) -> str:
    """Return what the table says of a pair."""
    outcome = matrix.outcomes.get((left, right))
    if outcome is None or not outcome.runs:
        return "-"
    direct = len(outcome.direct_after)
    text = f"{max(outcome.direct_after):.2f}" if direct else "relay"
    if direct and (takes_guessing(left, right) or direct < outcome.runs):
        text = f"{direct}/{outcome.runs} {text}"
    if outcome.is_dead:
        text = "dead"
    return text + "!" * matrix.is_short(left, right)


def _summary(matrix: Matrix, took: float) -> str:
    outcomes = matrix.outcomes.values()
    runs = sum(outcome.runs for outcome in outcomes)
    direct = sum(len(outcome.direct_after) for outcome in outcomes)
    lost = sum(outcome.pings_lost for outcome in outcomes)
    return f"{runs} pairs, {direct} direct; {lost} pings lost; {took:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
