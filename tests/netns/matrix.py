"""The NAT matrix: real programs behind every kind of NAT, and which of them meet directly.

```
                supernode
                    |
   2 machines per ─ internet        one community of all of them at once; and, since guessing at
   kind of NAT                      ports takes its turns, pairs that need it once more alone
```

``scripts/nat-matrix`` runs it as a command; see `matrix_command`.
"""

import itertools
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.netns.kinds import Kind, connect, must_be_direct, takes_guessing
from tests.netns.lab import Internet, Lab, address_of
from tests.netns.namespaces import Host
from tests.netns.product import Edge, Supernode

Pair = tuple[Kind, Kind]

LOOK_INTERVAL: Final = 0.25  # s between two looks at all edges
JOIN_TIMEOUT: Final = 60.0  # s; two dozen programs start at once
MEET_TIMEOUT: Final = 30.0  # s
NEEDED_SHARE: Final = 0.9
"""Of the runs of a pair that takes guessing, how many have to become direct."""


@dataclass
class Outcome:
    """What became of all runs of a pair of kinds.

    Attributes:
        runs: how many pairs of edges there were.
        direct_after: of those that became direct, how many seconds after both were registered.
        pings_lost: how many pings between them were not answered.
        is_dead: whether in a run more than half of them were not.
    """

    runs: int = 0
    direct_after: list[float] = field(default_factory=list)
    pings_lost: int = 0
    is_dead: bool = False

    def add(self, direct_after: float | None) -> None:
        """Count one run."""
        self.runs += 1
        if direct_after is not None:
            self.direct_after.append(direct_after)


class Site:
    """An internet with a supernode, and machines on it that are made when first asked for."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.internet: Internet = lab.internet()
        host = lab.public_host("supernode", self.internet)
        self.supernode = Supernode(host, address_of(host))
        self._machines: dict[tuple[Kind, int], Host] = {}
        self._labels = itertools.count()

    def machine(self, kind: Kind, number: int) -> Host:
        """Return a machine of a kind; one with another number has routers of its own."""
        if (kind, number) not in self._machines:
            name = f"{kind.value}-{number}"
            self._machines[kind, number] = connect(self._lab, self.internet, kind, name)
        return self._machines[kind, number]

    def edge(self, kind: Kind, number: int, community: str, *options: str) -> Edge:
        """Return an edge on such a machine, not started yet."""
        host = self.machine(kind, number)
        label = f"edge-{next(self._labels)}"
        where = ("--supernode", self.supernode.endpoint)
        return Edge(host, community, *where, *options, label=label)


class Gathering:
    """Edges that join at the same moment, and what became of the pairs among them.

    Attributes:
        edges: with their kinds.
        pairs: indexes of edges that are in one community.
        direct_after: seconds from when both were registered, of the pairs that became direct.
        pings_lost: how many of the pings were not answered, by pair.
    """

    def __init__(
        self, edges: Sequence[tuple[Kind, Edge]], pairs: Iterable[tuple[int, int]]
    ) -> None:
        self.edges = edges
        self.pairs = list(pairs)
        self.direct_after: dict[tuple[int, int], float] = {}
        self.pings_lost = dict.fromkeys(self.pairs, 0)
        self._joined_at: dict[int, float] = {}
        self._has_session: set[tuple[int, int]] = set()

    def run(self, wait: float, wanted: Callable[[Kind, Kind], bool]) -> None:
        """Join, ping, wait for the pairs that are wanted to become direct, ping again.

        Waits ``wait`` seconds at most from when all have joined.
        """
        for _, edge in self.edges:
            edge.begin()
        self._watch(lambda: len(self._joined_at) == len(self.edges), JOIN_TIMEOUT, "all joined")
        deadline = time.monotonic() + wait
        has_met = lambda: len(self._has_session) == len(self.pairs)  # noqa: E731
        self._watch(has_met, MEET_TIMEOUT, "all have sessions with each other")
        self._ping_all()
        missing = {pair for pair in self.pairs if wanted(*(self.edges[index][0] for index in pair))}
        while not missing <= self.direct_after.keys() and time.monotonic() < deadline:
            self._look()
        self._ping_all()

    def stop(self) -> None:
        """Have all of them leave."""
        for _, edge in self.edges:
            edge.begin_stop()
        for _, edge in self.edges:
            edge.wait()

    def _watch(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
            self._look()

    def _look(self) -> None:
        """Note what has changed since the last look, and rest."""
        now = time.monotonic()
        for index, (_, edge) in enumerate(self.edges):
            if index not in self._joined_at and edge.has_joined():
                self._joined_at[index] = now
        met, direct = self._ask_all()
        for a, b in self.pairs:
            if self._name(a) in met[b] and self._name(b) in met[a]:
                self._has_session.add((a, b))
            is_direct = self._name(a) in direct[b] and self._name(b) in direct[a]
            if is_direct and (a, b) not in self.direct_after:
                self.direct_after[a, b] = self._logged_direct_after(a, b)
        time.sleep(LOOK_INTERVAL)

    def _logged_direct_after(self, a: int, b: int) -> float:
        """Return the seconds from when both were registered to when both said "direct"."""
        one, other = self.edges[a][1], self.edges[b][1]
        registered = [edge.logged_at("registered with") for edge in (one, other)]
        direct = [one.logged_at(f"{other.name}: direct"), other.logged_at(f"{one.name}: direct")]
        now = time.time()  # where a line was held back: they are limited in number
        return max(moment or now for moment in direct) - max(moment or now for moment in registered)

    def _name(self, index: int) -> str:
        return self.edges[index][1].name

    def _ask_all(self) -> tuple[list[set[str]], list[set[str]]]:
        """Return the names of whom each edge has a session with, and whom it reaches directly."""
        met: list[set[str]] = []
        direct: list[set[str]] = []
        for index, (_, edge) in enumerate(self.edges):
            peers = edge.peers() if index in self._joined_at else []
            met.append({peer["name"] for peer in peers if peer["session"]["established"]})
            direct.append({peer["name"] for peer in peers if peer["path"]["kind"] == "direct"})
        return met, direct

    def _ping_all(self) -> None:
        """Ping between every pair, and look at the edges meanwhile."""
        by_source: dict[int, list[int]] = {}
        for a, b in self.pairs:
            by_source.setdefault(a, []).append(b)
        pinging = {a: self._start_pings(a, targets) for a, targets in by_source.items()}
        while any(process.poll() is None for process in pinging.values()):
            self._look()
        for a, process in pinging.items():
            said, _ = process.communicate()
            answered = dict.fromkeys(by_source[a], 0)
            for line in said.splitlines():
                target, count = map(int, line.split())
                answered[target] = count
            for b, count in answered.items():
                self.pings_lost[a, b] += PINGS - count

    def _start_pings(self, source: int, targets: list[int]) -> subprocess.Popen[str]:
        """Start pings to all targets; a line per target says how many were answered."""
        lines = [f"(echo {b} $({_PING} {self.edges[b][1].ip} | {_COUNT})) &\n" for b in targets]
        host = self.edges[source][1].host
        return host.popen("sh", "-c", "".join(lines) + "wait", stdout=subprocess.PIPE)


PINGS: Final = 3
_PING: Final = f"ping -n -q -c{PINGS} -i0.3 -W2"
_COUNT: Final = r"sed -n 's/.* \([0-9]*\) received.*/\1/p'"


class Matrix:
    """What became of every pair of kinds.

    Attributes:
        outcomes: by pair, the kind that comes first in `Kind` first.
    """

    def __init__(self) -> None:
        self.outcomes: dict[Pair, Outcome] = {}

    def outcome(self, left: Kind, right: Kind) -> Outcome:
        """Return the outcome of a pair, in whichever order."""
        return self.outcomes.setdefault(ordered(left, right), Outcome())

    def take(self, gathering: Gathering, *, guessing: bool) -> None:
        """Count what became of a gathering.

        Where ``guessing`` is false, pairs that need it count only for their pings: all at once
        they wait for each other.
        """
        for a, b in gathering.pairs:
            left, right = gathering.edges[a][0], gathering.edges[b][0]
            outcome = self.outcome(left, right)
            lost = gathering.pings_lost[a, b]
            outcome.pings_lost += lost
            outcome.is_dead |= lost > PINGS
            if guessing or not takes_guessing(left, right):
                outcome.add(gathering.direct_after.get((a, b)))

    def is_short(self, left: Kind, right: Kind) -> bool:
        """Whether a pair is not what it has to be."""
        outcome = self.outcome(left, right)
        needed = NEEDED_SHARE if takes_guessing(left, right) else 1.0
        is_relayed = len(outcome.direct_after) < needed * outcome.runs
        return outcome.is_dead or (must_be_direct(left, right) and is_relayed)

    def complaints(self) -> Iterator[str]:
        """Yield a sentence for whatever is not as it has to be."""
        for left, right in itertools.combinations_with_replacement(Kind, 2):
            if (left, right) in self.outcomes and self.is_short(left, right):
                outcome = self.outcome(left, right)
                direct = f"direct in {len(outcome.direct_after)} of {outcome.runs} runs"
                lost = f"{outcome.pings_lost} pings lost"
                yield f"{left.value} and {right.value}: {direct}, {lost}"


def ordered(left: Kind, right: Kind) -> Pair:
    """Return a pair in the order of `Kind`."""
    first, second = sorted((left, right), key=list(Kind).index)
    return first, second


def all_at_once(site: Site, kinds: Sequence[Kind], *, per_kind: int, wait: float) -> Gathering:
    """Have edges of all kinds meet in one community; return what became of it.

    Waits no longer than it takes for the pairs that have to be direct without guessing, which has
    its own runs and would only keep the machine busy here.
    """
    edges = [
        (kind, site.edge(kind, number, "matrix", "--no-hard-punch"))
        for kind in kinds
        for number in range(per_kind)
    ]
    gathering = Gathering(edges, itertools.combinations(range(len(edges)), 2))
    gathering.run(wait, lambda a, b: must_be_direct(a, b) and not takes_guessing(a, b))
    return gathering


def alone(site: Site, pairs: Sequence[Pair], *, wait: float) -> Gathering:
    """Have every one of ``pairs`` meet in a community of its own, all at the same time."""
    edges = []
    for number, (left, right) in enumerate(pairs):
        community = f"pair-{number}"
        # Numbers differ, so that two edges of one kind do not share a router.
        edges.append((left, site.edge(left, 2 * number, community)))
        edges.append((right, site.edge(right, 2 * number + 1, community)))
    gathering = Gathering(edges, [(2 * n, 2 * n + 1) for n in range(len(pairs))])
    gathering.run(wait, must_be_direct)
    return gathering
