"""Symmetric NATs against those that filter by port: a direct path all the same.

```
                      supernode
                          |
   machine ── router ─ internet ─ router ── machine      six pairs, each a community of its own
   symmetric: random ports                 port-restricted (one of them rejects)
           or a sequence
```
"""

from collections.abc import Iterator

import pytest

from tests.netns.kinds import Kind
from tests.netns.lab import Lab
from tests.netns.matrix import Gathering, Site, alone
from tests.netns.product import Edge, wait_until

RANDOM = [
    (Kind.SYMMETRIC, Kind.PORT_RESTRICTED),
    (Kind.SYMMETRIC, Kind.PORT_RESTRICTED),
    (Kind.SYMMETRIC, Kind.REJECTING),
    (Kind.DOUBLE_SYMMETRIC, Kind.PORT_CHANGED),
]
SEQUENTIAL = [(Kind.SEQUENTIAL, Kind.PORT_RESTRICTED), (Kind.SEQUENTIAL, Kind.REJECTING)]
FEW_SOCKETS = 12  # two of the edge, one kept, the others the machine's


@pytest.fixture(scope="module")
def met(lab: Lab) -> Iterator[Gathering]:
    site = Site(lab)
    site.supernode.serve()
    gathering = alone(site, [*RANDOM, *SEQUENTIAL], wait=40.0)
    yield gathering
    gathering.stop()


def hard_edges(met: Gathering) -> list[Edge]:
    return [edge for kind, edge in met.edges if kind.is_hard]


def test_random_ports_are_guessed(met: Gathering) -> None:
    found = [pair for pair in met.pairs[: len(RANDOM)] if pair in met.direct_after]
    # Each of them misses once in fifty; the next attempt is due after a minute.
    assert len(found) >= len(RANDOM) - 1, met.direct_after


def test_sequences_are_predicted(met: Gathering) -> None:
    assert set(met.pairs[len(RANDOM) :]) <= met.direct_after.keys()


def test_no_ping_is_lost_meanwhile(met: Gathering) -> None:
    assert sum(met.pings_lost.values()) <= 1


def test_every_edge_knows_its_nat(met: Gathering) -> None:
    for kind, edge in met.edges:
        status = edge.status()
        assert status["nat"] == ("hard" if kind.is_hard else "easy")
        ports = status["nat_detail"]["ports"]
        if kind is Kind.SEQUENTIAL:
            assert (ports, status["nat_detail"]["step"]) == ("sequential", 1)
        elif kind.is_hard:
            assert ports == "random"
        assert status["nat_detail"]["filtering"] == "by address and port"


def test_the_sockets_that_missed_are_closed(met: Gathering) -> None:
    for edge in hard_edges(met):
        wait_until(lambda edge=edge: _udp_sockets(edge) <= FEW_SOCKETS, 15.0, "sockets are closed")


def _udp_sockets(edge: Edge) -> int:
    return len(edge.host.run("cat", "/proc/net/udp").stdout.splitlines()) - 1
