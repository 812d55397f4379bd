"""What is measured of a system that is up: throughput, delay, cost. iperf3, sockperf and ping."""

import contextlib
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benches.machines import BenchError, Tunnel, stop

Row = dict[str, float]
"""Figures by the key of their column; NaN for what could not be had."""

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_LOAD_PORT, _SOCKPERF_PORT = 5202, 11111
_LOSSLESS = 0.002  # share of datagrams: less is nobody's loss on a machine that does other things
_LOSSLESS_STEPS = 7
_STARTED_WITHIN = 0.5  # s; what servers and loads take to begin


@dataclass(frozen=True)
class Column:
    """One figure of the tables.

    Attributes:
        key: its name in JSON.
        title: what people read, with the unit.
        is_better_low: whether less is better.
    """

    key: str
    title: str
    is_better_low: bool = False


@dataclass(frozen=True)
class Measure:
    """One thing to do to a system, and the figures that it gives.

    Attributes:
        name: for the command line.
        columns: the figures.
        run: does it, for about so many seconds.
    """

    name: str
    columns: tuple[Column, ...]
    run: Callable[[Tunnel, float], Row]


def cpu_seconds(pids: tuple[int, ...]) -> float:
    """Return the user and system time of processes so far, all threads."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS_PER_SECOND


@contextlib.contextmanager
def servers(tunnel: Tunnel) -> Iterator[None]:
    """Run what clients talk to on bert: one for figures, one for load."""
    commands = (
        ("iperf3", "-s"),
        ("iperf3", "-s", "-p", str(_LOAD_PORT)),
        ("sockperf", "server", "-i", tunnel.address, "-p", str(_SOCKPERF_PORT)),
    )
    started = [tunnel.machines.bert.popen(*command) for command in commands]
    time.sleep(_STARTED_WITHIN)
    try:
        yield
    finally:
        for process in started:
            stop(process)


def iperf(tunnel: Tunnel, *options: str, seconds: float) -> dict[str, Any]:
    """Run an iperf3 client on alice; return the sums of its JSON."""
    words = ("iperf3", "-J", "-c", tunnel.address, "-t", f"{seconds:g}", *options)
    said = ""
    for _ in range(4):
        try:
            done = tunnel.machines.alice.run(*words, check=False, timeout=seconds + 30)
        except subprocess.TimeoutExpired:
            said = "no end"
            continue
        said = done.stdout
        with contextlib.suppress(json.JSONDecodeError):
            end: dict[str, Any] = json.loads(said).get("end") or {}
            if "sum_received" in end or "sum" in end:
                return end
        time.sleep(1)
    raise BenchError(f"iperf3 {' '.join(options)}: {said[-500:]}")


@contextlib.contextmanager
def _load(tunnel: Tunnel, *options: str, seconds: float) -> Iterator[None]:
    """Send TCP from alice to bert for the block, which may last so long."""
    words = ("iperf3", "-c", tunnel.address, "-p", str(_LOAD_PORT), "-t", f"{seconds + 3:g}")
    process = tunnel.machines.alice.popen(*words, *options)
    time.sleep(1)
    try:
        yield
    finally:
        stop(process)
        time.sleep(_STARTED_WITHIN)  # what waits in queues is gone by then


# TCP


def _tcp(tunnel: Tunnel, seconds: float) -> Row:
    before, helper_before = cpu_seconds(tunnel.pids), cpu_seconds(tunnel.helper_pids)
    received = iperf(tunnel, seconds=seconds)["sum_received"]
    gigabytes = max(1, received["bytes"]) / 1e9
    spent = cpu_seconds(tunnel.pids) - before
    helper_spent = cpu_seconds(tunnel.helper_pids) - helper_before
    return {
        "tcp_mbit": received["bits_per_second"] / 1e6,
        "cpu_s_per_gb": spent / gigabytes if tunnel.pids else math.nan,
        "helper_cpu_s_per_gb": helper_spent / gigabytes if tunnel.helper_pids else math.nan,
    }


def _tcp_back(tunnel: Tunnel, seconds: float) -> Row:
    received = iperf(tunnel, "-R", seconds=seconds)["sum_received"]
    return {"tcp_back_mbit": received["bits_per_second"] / 1e6}


def _tcp_4(tunnel: Tunnel, seconds: float) -> Row:
    received = iperf(tunnel, "-P", "4", seconds=seconds)["sum_received"]
    return {"tcp_4_mbit": received["bits_per_second"] / 1e6}


def _tcp_both(tunnel: Tunnel, seconds: float) -> Row:
    end = iperf(tunnel, "--bidir", seconds=seconds)
    both = ("sum_received", "sum_received_bidir_reverse")
    return {"tcp_both_mbit": sum(end[key]["bits_per_second"] for key in both) / 1e6}


# UDP


def _udp(tunnel: Tunnel, size: int, rate: str, seconds: float) -> tuple[float, float]:
    """Return thousands of datagrams received per second, and the share that was lost."""
    total = iperf(tunnel, "-u", "-l", str(size), "-b", rate, seconds=seconds)["sum"]
    lost = max(0, total["lost_packets"])
    arrived = total["packets"] - lost
    return arrived / total["seconds"] / 1e3, lost / max(1, total["packets"])


def _udp_saturated(tunnel: Tunnel, seconds: float) -> Row:
    return {f"udp_{size}_kpps": _udp(tunnel, size, "0", seconds)[0] for size in (64, 200, 1200)}


def _udp_lossless(tunnel: Tunnel, seconds: float) -> Row:
    """Halve the range in which the highest rate without loss must lie."""
    size, low, high = 64, 0.0, 2 * _udp(tunnel, 64, "0", min(seconds, 1))[0]
    for _ in range(_LOSSLESS_STEPS):
        kpps = (low + high) / 2
        got, lost = _udp(tunnel, size, f"{int(kpps * 1e3 * size * 8)}", min(seconds, 1))
        low, high = (max(low, got), high) if lost <= _LOSSLESS else (low, kpps)
    return {"udp_64_lossless_kpps": low}


# Delay


def share(values: list[float], part: float) -> float:
    """Return a percentile of sorted values, NaN for none."""
    return values[min(len(values) - 1, int(part * len(values)))] if values else math.nan


def pings(tunnel: Tunnel, seconds: float, interval: float = 0.01) -> list[float]:
    """Return round-trip times in seconds, sorted; what is lost counts as one second."""
    count = max(20, int(seconds / interval))
    words = ("ping", "-n", "-c", str(count), "-i", f"{interval:g}", "-W", "1", tunnel.address)
    said = tunnel.machines.alice.run(*words, check=False, timeout=2 * seconds + 30).stdout
    answered = [float(found) / 1e3 for found in re.findall(r"time=([0-9.]+) ms", said)]
    return sorted(answered + [1.0] * (count - len(answered)))


def round_trip(tunnel: Tunnel, seconds: float) -> Row:
    """Play ping-pong with 64 bytes of UDP, the next when the last is back."""
    where = ("-i", tunnel.address, "-p", str(_SOCKPERF_PORT))
    words = ("sockperf", "ping-pong", *where, "-m", "64", "-t", f"{max(1, int(seconds))}")
    before = cpu_seconds(tunnel.pids)
    said = tunnel.machines.alice.run(*words, "--full-rtt", check=False, timeout=seconds + 30).stdout
    spent = cpu_seconds(tunnel.pids) - before
    total = re.search(r"\[Total Run\].*ReceivedMessages=(\d+)", said)
    round_trips = int(total[1]) if total else 0

    def percentile(number: str) -> float:
        found = re.search(rf"percentile {number}\s*=\s*([0-9.]+)", said)
        return float(found[1]) if found else math.nan

    return {
        "rtt_p50_us": percentile("50.000"),
        "rtt_p99_us": percentile("99.000"),
        "rtt_cpu_us": spent / round_trips * 1e6 if tunnel.pids and round_trips else math.nan,
    }


def _loaded(tunnel: Tunnel, seconds: float) -> Row:
    with _load(tunnel, seconds=seconds):
        found = pings(tunnel, seconds)
    return {"load_p50_ms": share(found, 0.5) * 1e3, "load_p99_ms": share(found, 0.99) * 1e3}


def _beside_100_mbit(tunnel: Tunnel, seconds: float) -> Row:
    with _load(tunnel, "-b", "100M", seconds=seconds):
        found = pings(tunnel, seconds)
    return {"at100_p50_ms": share(found, 0.5) * 1e3, "at100_p99_ms": share(found, 0.99) * 1e3}


MEASURES: Final = (
    Measure(
        "round-trip",
        (
            Column("rtt_p50_us", "round trip idle, UDP 64 B, p50, µs", is_better_low=True),
            Column("rtt_p99_us", "the same, p99, µs", is_better_low=True),
            Column("rtt_cpu_us", "CPU µs per round trip, both ends", is_better_low=True),
        ),
        round_trip,
    ),
    Measure(
        "tcp",
        (
            Column("tcp_mbit", "TCP 1 stream, Mbit/s"),
            Column("cpu_s_per_gb", "CPU s per GB, both ends", is_better_low=True),
            Column("helper_cpu_s_per_gb", "CPU s per GB, supernode", is_better_low=True),
        ),
        _tcp,
    ),
    Measure("tcp-back", (Column("tcp_back_mbit", "TCP the other way, Mbit/s"),), _tcp_back),
    Measure("tcp-4", (Column("tcp_4_mbit", "TCP 4 streams, Mbit/s"),), _tcp_4),
    Measure("tcp-both", (Column("tcp_both_mbit", "TCP both ways, sum, Mbit/s"),), _tcp_both),
    Measure(
        "udp",
        tuple(
            Column(f"udp_{size}_kpps", f"UDP {size} B received at saturation, kpps")
            for size in (64, 200, 1200)
        ),
        _udp_saturated,
    ),
    Measure(
        "udp-lossless",
        (Column("udp_64_lossless_kpps", "UDP 64 B without loss, kpps"),),
        _udp_lossless,
    ),
    Measure(
        "load",
        (
            Column("load_p50_ms", "ping beside saturating TCP, p50, ms", is_better_low=True),
            Column("load_p99_ms", "the same, p99, ms", is_better_low=True),
        ),
        _loaded,
    ),
    Measure(
        "at-100",
        (
            Column("at100_p50_ms", "ping beside 100 Mbit/s, p50, ms", is_better_low=True),
            Column("at100_p99_ms", "the same, p99, ms", is_better_low=True),
        ),
        _beside_100_mbit,
    ),
)


def measure(tunnel: Tunnel, wanted: tuple[Measure, ...], seconds: float) -> Row:
    """Return one row: all figures of a system in one round."""
    row: Row = {}
    with servers(tunnel):
        for each in wanted:
            try:
                row |= each.run(tunnel, seconds)
            except (BenchError, AssertionError, subprocess.TimeoutExpired) as error:
                print(f"{each.name}: {error}", file=sys.stderr, flush=True)
    return row


def choose(names: str) -> tuple[Measure, ...]:
    """Return the measures that a comma-separated list names; all for an empty one."""
    if not names:
        return MEASURES
    by_name = {each.name: each for each in MEASURES}
    unknown = set(names.split(",")) - set(by_name)
    if unknown:
        raise SystemExit(f"no such measure: {', '.join(unknown)}; there are {', '.join(by_name)}")
    return tuple(by_name[name] for name in names.split(","))
