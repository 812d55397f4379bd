"""Every link loses 5 %, shakes by 30 ms, shuffles and doubles: edges join, stay, do not flap.

```
                     supernode
                         │
   alice ─ router ── internet ── wan0 carl      IPv4 and IPv6: two direct paths of equal merit
   bob ─── router ───────┴────── wan0 dora      every line in this picture is such a link
```
"""

import itertools
import time
from dataclasses import dataclass

import pytest

from tests.netns.cable import Conditions
from tests.netns.cables import Cables
from tests.netns.lab import Lab, address_of
from tests.netns.product import (
    Edge,
    Pings,
    PingStream,
    Supernode,
    join_all,
    wait_direct,
    wait_for_sessions,
)

ROUGH = Conditions(delay=0.005, jitter=0.03, loss=0.05, duplication=0.03, reordering=0.05)
OBSERVED_FOR = 25.0  # s
CHANGES_ALLOWED = 3
"""Of all twelve ways from one edge to another, after they have become direct."""
LOSS_ALLOWED = 0.45
"""From home to home and back crosses eight links: 34 % is to be expected."""


@dataclass
class Rough:
    """The topology, after pings between all pairs for a while.

    Attributes:
        direct_after: seconds from when all had joined to when all were direct.
        changes: how often each edge's path to each other changed during the pings.
        pings: what became of them, by pair.
    """

    cables: Cables
    supernode: Supernode
    edges: list[Edge]
    direct_after: float
    changes: dict[tuple[str, str], int]
    pings: dict[tuple[str, str], Pings]


@pytest.fixture(scope="module")
def rough(lab: Lab) -> Rough:
    cables = lab.use_cables(ROUGH)
    internet = lab.internet(has_ipv6=True)
    host = lab.public_host("supernode", internet)
    supernode = Supernode(host, address_of(host))
    hosts = [
        *(lab.home_host(name, lab.home(f"router-{name}", internet)) for name in ("alice", "bob")),
        *(lab.public_host(name, internet) for name in ("carl", "dora")),
    ]
    supernode.serve()
    edges = [Edge(host, "rough", "--supernode", supernode.endpoint) for host in hosts]
    join_all(*edges, sessions=False)
    joined_at = time.monotonic()
    wait_for_sessions(*edges, timeout=20.0)
    wait_direct(*edges, timeout=20.0)
    direct_after = time.monotonic() - joined_at
    before = _path_changes(edges)
    streams = {(a.name, b.name): PingStream(a, b) for a, b in itertools.combinations(edges, 2)}
    time.sleep(OBSERVED_FOR)
    pings = {names: stream.finish() for names, stream in streams.items()}
    changes = {names: count - before[names] for names, count in _path_changes(edges).items()}
    return Rough(cables, supernode, edges, direct_after, changes, pings)


def _path_changes(edges: list[Edge]) -> dict[tuple[str, str], int]:
    pairs = itertools.permutations(edges, 2)
    return {(one.name, other.name): one.path_changes(other) for one, other in pairs}


def test_the_links_are_rough(rough: Rough) -> None:
    frames = lost = held_back = doubled = 0
    for counts in itertools.chain.from_iterable(cable.counts() for cable in rough.cables.laid):
        frames += counts.frames
        lost += counts.lost
        held_back += counts.held_back
        doubled += counts.duplicated
    assert frames > 500
    assert 0.03 < lost / frames < 0.07
    assert 0.03 < held_back / frames < 0.07
    assert 0.015 < doubled / frames < 0.045


def test_all_become_direct(rough: Rough) -> None:
    print(f"direct {rough.direct_after:.1f} s after joining")  # noqa: T201 - a figure to note
    assert rough.direct_after < 15.0


def test_paths_do_not_flap(rough: Rough) -> None:
    total = sum(rough.changes.values())
    print(f"{total} changes of paths in {OBSERVED_FOR} s")  # noqa: T201 - a figure to note
    assert total <= CHANGES_ALLOWED, rough.changes
    for one, other in itertools.permutations(rough.edges, 2):
        assert one.path_to(other) == "direct"


def test_pings_get_lost_with_the_frames_only(rough: Rough) -> None:
    for names, pings in rough.pings.items():
        print(*names, f"lost {len(pings.lost)} of {pings.sent}")  # noqa: T201 - figures to note
        assert pings.sent > 0.8 * OBSERVED_FOR / 0.1
        assert len(pings.lost) < LOSS_ALLOWED * pings.sent, names
        assert pings.longest_gap < 3.0, names


def test_nobody_was_lost_or_joined_anew(rough: Rough) -> None:
    for edge in rough.edges:
        assert edge.status()["supernode"]["connected"]
        for sign_of_loss in (" is gone", "registered again", " is silent", "Traceback"):
            assert sign_of_loss not in edge.stderr, edge.stderr
    assert len(rough.supernode.edges()) == len(rough.edges)
