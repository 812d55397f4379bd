"""Where both edges spend their time under a load: scripts/bench hot-spots.

Both edges run under cProfile twice, with a load and without, and the difference is told: starting
and joining cost as much as seconds of a load. The profiler makes Python look slower than it is,
and calls into C as fast as they are: shares say what to look at, `scripts/bench micro` says what it
costs.
"""

import argparse
import pstats
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benches.machines import Machines, Tunnel, machines, wait_for_ping
from benches.measures import iperf, round_trip, servers
from benches.ours import edges
from benches.report import shown
from tests.netns.namespaces import ROOT
from tests.netns.product import join_all, wait_direct

_Function = tuple[str, int, str]
"""File, line and name, as pstats has them; built-ins have the file ``~``."""

_CIPHER = ("encrypt", "decrypt")
_SYSTEM_CALLS = ("readv", "writev", "sendmsg", "recvmsg", "poll", "os.read", "os.write", "sendto")
_ROOMS: Final = ("datapath", "crypto", "wire", "core", "net", "cli")

LOADS: Final[dict[str, Callable[[Tunnel, float], object]]] = {
    "tcp": lambda tunnel, seconds: iperf(tunnel, seconds=seconds),
    "udp": lambda tunnel, seconds: iperf(tunnel, "-u", "-l", "64", "-b", "0", seconds=seconds),
    "ping": round_trip,
}


def room_of(function: _Function) -> str:
    """Return which part of the program, or of what is beneath it, a function belongs to."""
    file, _, name = function
    if any(word in name for word in _CIPHER) and file == "~":
        return "cipher"
    if file == "~":
        is_call = any(word in name for word in _SYSTEM_CALLS)
        return "system calls" if is_call else "built-ins"
    parts = Path(file).parts
    if "mesh" in parts:
        room = parts[len(parts) - parts[::-1].index("mesh")]  # the clone may be called so
        return f"mesh.{room}" if room in _ROOMS else "mesh"
    return "trio" if "trio" in parts or "outcome" in parts else "other libraries"


def _label(function: _Function) -> str:
    file, line, name = function
    if file == "~":
        return name.strip("<>{}").replace("built-in method ", "").replace("method ", "")
    path = Path(file)
    where = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name
    return f"{where}:{line} {name}"


_Profile = dict[_Function, tuple[float, int]]
"""Own seconds and calls by function."""


def read_profile(path: Path) -> _Profile:
    """Read what cProfile wrote; waiting is left out, for it is no work."""
    entries: dict[_Function, Any] = pstats.Stats(str(path)).stats  # type: ignore[attr-defined]
    return {
        function: (entry[2], entry[1])
        for function, entry in entries.items()
        if "poll" not in function[2]
    }


def difference(loaded: _Profile, idle: _Profile) -> list[tuple[float, int, _Function]]:
    """Return own seconds, calls and function that the load alone cost, the costliest first."""
    found = []
    for function, (seconds, calls) in loaded.items():
        idle_seconds, idle_calls = idle.get(function, (0.0, 0))
        # Of what a start calls all the time, the difference is only noise.
        if calls > 1.2 * idle_calls and seconds > idle_seconds:
            found.append((seconds - idle_seconds, calls - idle_calls, function))
    return sorted(found, reverse=True)


def report(times: list[tuple[float, int, _Function]], frames: int, lines: int) -> str:
    """Return two tables: by part of the program, and by function."""
    total = sum(each[0] for each in times) or 1.0
    by_room: dict[str, float] = {}
    for seconds, _, function in times:
        room = room_of(function)
        by_room[room] = by_room.get(room, 0.0) + seconds
    parts = ["| part | share | µs per frame |", "|---|---|---|"]
    for room, seconds in sorted(by_room.items(), key=lambda each: -each[1]):
        parts.append(f"| {room} | {seconds / total:.0%} | {shown(seconds / frames * 1e6)} |")
    parts += ["", "| function | share | µs per frame | calls per frame |", "|---|---|---|---|"]
    parts += [
        f"| `{_label(function)}` | {seconds / total:.1%} | {shown(seconds / frames * 1e6)} "
        f"| {calls / frames:.2f} |"
        for seconds, calls, function in times[:lines]
    ]
    return "\n".join(parts)


def profile(
    where: Machines, options: tuple[str, ...], load: str, seconds: float
) -> tuple[dict[str, _Profile], int]:
    """Run both edges under the profiler, with a load or (empty) none.

    Returns:
        Their profiles by name, and how many frames alice sent.
    """
    with tempfile.TemporaryDirectory() as folder, edges(where, options) as (_, alice, bert):
        files = {edge.name: Path(folder) / edge.name for edge in (alice, bert)}
        for edge in (alice, bert):
            edge.python_options = ("-m", "cProfile", "-o", str(files[edge.name]))
        join_all(alice, bert)
        if "--relay-only" not in options:
            wait_direct(alice, bert)
        wait_for_ping(where.alice, bert.ip, "mesh")
        tunnel = Tunnel(where, bert.ip)
        if load:
            with servers(tunnel):
                LOADS[load](tunnel, seconds)
        else:
            time.sleep(seconds)
        peer = alice.peer(bert)
        for edge in (alice, bert):
            edge.stop(timeout=30)
        frames = int(peer["tx_frames"]) if peer else 0
        return {name: read_profile(path) for name, path in files.items()}, frames


def main() -> None:
    """Profile what the command line asks for."""
    parser = argparse.ArgumentParser(prog="hot-spots", description=__doc__.splitlines()[0])
    parser.add_argument("--load", choices=LOADS, default="tcp")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--lines", type=int, default=20, help="functions to name")
    parser.add_argument("--options", default="", help="of join, such as --options=--no-offload")
    chosen = parser.parse_args()
    options = tuple(chosen.options.split())
    with machines() as where:
        idle, _ = profile(where, options, "", chosen.seconds)
        loaded, frames = profile(where, options, chosen.load, chosen.seconds)
    for name, role in (("alice", "sender"), ("bert", "receiver")):
        print(f"{role}, {chosen.load}, {frames:,} frames\n")
        times = difference(loaded[name], idle[name])
        print(report(times, max(frames, 1), chosen.lines), end="\n\n")


if __name__ == "__main__":
    main()
