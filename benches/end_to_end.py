"""Our system from end to end, in every way that it can run: scripts/bench end-to-end.

In every round the bare link, two edges with a direct path, the same relayed, and the same without
offloads are measured one after the other (A B C A B C ...), so that a machine that is busy for a
while is busy for all of them. Then come joining, memory, and a link that loses 1 % at 40 ms.
Compare within one run only: the same system moves by 15 to 25 % between runs.
"""

import argparse
import statistics
import sys
from pathlib import Path

from benches.machines import Tunnel, machines
from benches.measures import Column, Row, choose, iperf, measure, servers
from benches.ours import idle_megabytes, join_seconds, mesh
from benches.peers import bare
from benches.report import (
    Rows,
    circumstances,
    congestion_controls,
    described,
    median,
    shown,
    table,
    write_json,
)
from benches.rounds import System, measure_rounds
from tests.netns.cable import Conditions

LOSSY = Conditions(delay=0.02, loss=0.01)
"""1 % lost in each direction, 40 ms there and back."""

_LOSSY_COLUMNS = {
    # How fast a stream is at such a loss is the congestion control's doing.
    name: Column(f"lossy_{name}_mbit", f"TCP ({name}) with 1 % loss at 40 ms, Mbit/s")
    for name in ("cubic", "bbr")
}
_ALONE = {
    "join_s": "join to first ping, s (median, warm disk)",
    "idle_mb": "memory of an idle edge, MB",
}


def _by_stream(scheme: str) -> System:
    return lambda where: mesh(where, "--relay-only", scheme=scheme)


def systems(against: Path | None, *, with_streams: bool) -> dict[str, System]:
    """Return what there is to measure."""
    found: dict[str, System] = {
        "bare veth": bare,
        "mesh": mesh,
        "mesh relayed": lambda where: mesh(where, "--relay-only"),
        "mesh --no-offload": lambda where: mesh(where, "--no-offload"),
    }
    if with_streams:
        # What to look at is the ping beside a load: a stream must not turn its queue into time.
        found |= {
            "relayed, TCP": _by_stream("tcp://"),
            "relayed, WebSocket": _by_stream("ws://"),
            "relayed, WebSocket in TLS": _by_stream("wss://"),
        }
    if against is not None:
        tree = against.resolve()
        found["other tree"] = lambda where: mesh(where, tree=tree)
    return found


def measure_lossy(rounds: int, seconds: float) -> Rows:
    """TCP over the bad link, bare and through our system."""
    known = congestion_controls()

    def tcp(tunnel: Tunnel) -> Row:
        row: Row = {}
        with servers(tunnel):
            for name, column in _LOSSY_COLUMNS.items():
                if name in known:
                    # Cubic moves a few segments per round trip: chance needs time to level out.
                    longer = 2 * seconds if name == "cubic" else seconds
                    received = iperf(tunnel, "-C", name, seconds=longer)["sum_received"]
                    row[column.key] = received["bits_per_second"] / 1e6
        return row

    with machines(LOSSY) as where:
        return measure_rounds({"bare veth": bare, "mesh": mesh}, rounds, tcp, where)


def measure_alone(rounds: int) -> Rows:
    """What needs no second system: joining and memory."""
    with machines() as where:
        joins = join_seconds(where, times=max(3, rounds))
        memory = [idle_megabytes(where) for _ in range(min(rounds, 3))]
    print("joins", joins, "memory", memory, file=sys.stderr, flush=True)
    return {"mesh": [{"join_s": statistics.median(joins), "idle_mb": statistics.median(memory)}]}


def quotients(rows: Rows, lossy: Rows) -> list[tuple[str, float]]:
    """Return what else people ask for: medians divided by each other."""

    def of(found: Rows, name: str, key: str) -> float:
        return median(found.get(name, []), key)

    pairs = [
        (
            "TCP relayed, divided by direct",
            of(rows, "mesh relayed", "tcp_mbit"),
            of(rows, "mesh", "tcp_mbit"),
        )
    ]
    pairs += [
        (f"{column.title}, divided by bare", of(lossy, "mesh", key), of(lossy, "bare veth", key))
        for column in _LOSSY_COLUMNS.values()
        for key in (column.key,)
    ]
    return [(title, ours / theirs) for title, ours, theirs in pairs if theirs > 0 and ours >= 0]


def main() -> None:
    """Measure what the command line asks for, print tables, write JSON."""
    parser = argparse.ArgumentParser(prog="end-to-end", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="per measurement")
    parser.add_argument("--systems", default="", help="comma-separated names")
    parser.add_argument("--measures", default="", help="comma-separated names")
    parser.add_argument("--against", type=Path, help="another source tree to measure beside ours")
    parser.add_argument("--streams", action="store_true", help="relayed by TCP and WebSocket too")
    parser.add_argument("--skip", default="", help="comma-separated, of: rounds, lossy, alone")
    parser.add_argument("--json", type=Path, help="write every figure to this file as well")
    chosen = parser.parse_args()
    wanted = systems(chosen.against, with_streams=chosen.streams)
    if chosen.systems:
        wanted = {name: wanted[name] for name in chosen.systems.split(",")}
    measures = choose(chosen.measures)
    facts = circumstances(chosen.rounds, chosen.seconds)
    skipped = set(chosen.skip.split(","))
    rows: Rows = {}
    if "rounds" not in skipped:
        with machines() as where:
            rows = measure_rounds(
                wanted, chosen.rounds, lambda one: measure(one, measures, chosen.seconds), where
            )
    lossy = {} if "lossy" in skipped else measure_lossy(chosen.rounds, 4 * chosen.seconds)
    alone = {} if "alone" in skipped else measure_alone(chosen.rounds)
    columns = [column for each in measures for column in each.columns]
    print(described(facts), end="\n\n")
    if rows:
        print(table(rows, columns), end="\n\n")
    if lossy:
        print(table(lossy, list(_LOSSY_COLUMNS.values())), end="\n\n")
    for title, value in quotients(rows, lossy):
        print(f"- {title}: {shown(value)}")
    if alone:
        for key, title in _ALONE.items():
            print(f"- {title}: {shown(median(alone['mesh'], key))}")
    if chosen.json:
        everything = dict(rows)
        for name, more in [*lossy.items(), *alone.items()]:
            everything[name] = everything.get(name, []) + more
        write_json(chosen.json, facts, everything)


if __name__ == "__main__":
    main()
