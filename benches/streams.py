"""Relaying by TCP and WebSocket beside relaying by UDP, with sudo: python benches/streams.py.

Two edges that say --relay-only, in the network of benches/throughput.py, on one transport each.
What to look at is the delay of a ping beside a bulk transfer: a stream must not turn its queue into
time.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import throughput

sys.path.insert(0, str(throughput.ROOT))
from tests.certificates import make_certificate


class Relayed(throughput.Mesh):
    """Two edges that reach each other through the supernode only, by one transport."""

    expected_path = "relay"

    def __init__(self, place: str, folder: Path) -> None:
        files = make_certificate(folder, "10.91.3.2")
        self.place = place
        self.supernode_options = ("--tls-cert", str(files.certificate), "--tls-key", str(files.key))
        options = ("--relay-only", "--tls-ca", str(files.authority))
        super().__init__(*options, python=sys.executable, tree=throughput.ROOT)


PLACES = {
    "UDP": "10.91.3.2:7777",
    "TCP": "tcp://10.91.3.2:7777",
    "WebSocket": "ws://10.91.3.2:7777",
    "WebSocket in TLS": "wss://10.91.3.2:7777",
}


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="per measurement")
    chosen = parser.parse_args()
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in PLACES}
    with throughput.network(), tempfile.TemporaryDirectory() as folder:
        for _ in range(chosen.rounds):
            for name, place in PLACES.items():
                with Relayed(place, Path(folder)) as (address, pids):
                    rows[name].append(throughput.measure(address, pids, chosen.seconds))
                print(name, json.dumps(rows[name][-1]), file=sys.stderr, flush=True)
    throughput.print_table(rows)


if __name__ == "__main__":
    main()
