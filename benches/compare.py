"""Ours beside other systems as Debian ships them: scripts/bench compare.

All of them, and the bare link, are measured in turn in every round (A B C A B C ...), with their
defaults. Each has to carry pings before anything is measured. Figures and ratios are medians of
one run: they say how systems compare on this machine, not how fast they are on yours.
"""

import argparse
import sys
from pathlib import Path

from benches.machines import machines
from benches.measures import choose, measure
from benches.ours import mesh
from benches.peers import PEERS
from benches.plot import write_svg
from benches.report import circumstances, described, ratios, read_json, table, write_json
from benches.rounds import System, measure_rounds

OURS = "mesh"
_DEFAULT_MEASURES = "round-trip,tcp,tcp-4,tcp-both,udp,udp-lossless,load,at-100"
_SYSTEMS: dict[str, System] = {OURS: mesh, **PEERS}


def main() -> None:
    """Measure what the command line asks for; print tables, write JSON and the plot."""
    parser = argparse.ArgumentParser(prog="compare", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="per measurement")
    parser.add_argument("--systems", default=",".join(_SYSTEMS), help="comma-separated names")
    parser.add_argument("--measures", default=_DEFAULT_MEASURES, help="comma-separated names")
    parser.add_argument("--json", type=Path, help="write every figure to this file as well")
    parser.add_argument("--plot", type=Path, help="draw the medians into this SVG file")
    parser.add_argument("--from-json", type=Path, help="measure nothing: tell what is in this file")
    chosen = parser.parse_args()
    measures = choose(chosen.measures)
    columns = [column for each in measures for column in each.columns]
    if chosen.from_json:
        facts, rows = read_json(chosen.from_json)
    else:
        names = chosen.systems.split(",")
        unknown = set(names) - set(_SYSTEMS)
        if unknown:
            raise SystemExit(
                f"no such system: {', '.join(unknown)}; there are {', '.join(_SYSTEMS)}"
            )
        wanted = {name: _SYSTEMS[name] for name in names}
        facts = circumstances(chosen.rounds, chosen.seconds)
        with machines() as where:
            rows = measure_rounds(
                wanted, chosen.rounds, lambda one: measure(one, measures, chosen.seconds), where
            )
    print(described(facts), end="\n\n")
    print(table(rows, columns), end="\n\n")
    if OURS in rows and len(rows) > 1:
        print(ratios(rows, columns, OURS))
    if chosen.json:
        write_json(chosen.json, facts, rows)
    if chosen.plot:
        write_svg(chosen.plot, rows, columns, described(facts))
        print(f"plot: {chosen.plot}", file=sys.stderr)


if __name__ == "__main__":
    main()
