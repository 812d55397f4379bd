"""How long pieces of the data path take: repeated, garbage collection off, medians of rounds."""

import gc
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

Work = Callable[[], object]
"""What is timed; all it needs was made before."""


@dataclass(frozen=True)
class Case:
    """One thing to time.

    Attributes:
        name: what it is.
        frames: how many frames or datagrams one repetition handles.
        payload_bytes: how many bytes, 0 where bytes mean nothing.
        prepare: makes, untimed, the work of that many repetitions.
    """

    name: str
    frames: int
    payload_bytes: int
    prepare: Callable[[int], Work]


@dataclass(frozen=True)
class Timing:
    """What a case took, as the median of all rounds.

    Attributes:
        name: of the case.
        ns_per_frame: nanoseconds for one frame or datagram.
        us_per_batch: microseconds for one repetition.
        megabytes_per_second: 0 where bytes mean nothing.
        spread: slowest round divided by the fastest.
    """

    name: str
    ns_per_frame: float
    us_per_batch: float
    megabytes_per_second: float
    spread: float


def _seconds_of(work: Work) -> float:
    gc.collect()
    gc.disable()
    try:
        began_at = time.perf_counter()
        work()
        return time.perf_counter() - began_at
    finally:
        gc.enable()


def time_all(cases: list[Case], rounds: int, seconds: float) -> list[Timing]:
    """Time every case ``rounds`` times for about ``seconds``; all cases once in every round."""
    counts = {}
    for case in cases:
        probe = max(_seconds_of(case.prepare(20)) / 20, 1e-8)
        counts[case.name] = max(20, min(int(seconds / probe), 500_000))
    found: dict[str, list[float]] = {case.name: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            count = counts[case.name]
            found[case.name].append(_seconds_of(case.prepare(count)) / count)
    return [_timing(case, found[case.name]) for case in cases]


def _timing(case: Case, rounds: list[float]) -> Timing:
    middle = statistics.median(rounds)
    return Timing(
        case.name,
        middle / case.frames * 1e9,
        middle * 1e6,
        case.payload_bytes / middle / 1e6,
        max(rounds) / min(rounds),
    )


def as_table(timings: list[Timing]) -> str:
    """Return a Markdown table."""
    lines = [
        "| what | ns per frame | µs per batch | MB/s | slowest / fastest round |",
        "|---|---|---|---|---|",
    ]
    for each in timings:
        rate = f"{each.megabytes_per_second:,.0f}" if each.megabytes_per_second else "-"
        lines.append(
            f"| {each.name} | {each.ns_per_frame:,.0f} | {each.us_per_batch:,.2f} | {rate} "
            f"| {each.spread:.2f} |"
        )
    return "\n".join(lines)


def write_json(path: Path, timings: list[Timing]) -> None:
    """Write all of it to a file."""
    path.write_text(json.dumps([asdict(each) for each in timings], indent=1) + "\n")
