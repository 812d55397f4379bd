"""Two edges with nothing to say, behind routers that forget a silent mapping after 30 s.

```
              supernode
                  │
   home ──── internet ──── home        UDP mappings: 30 s
    │                       │
   anna                    bert
```

The pair is left alone while the other tests of these rooms run: the first test here comes before
all of them and the last one behind (see ``conftest.py``), so that waiting costs nothing. Run alone
it waits for `LONG_ENOUGH`; ``scripts/idle-test`` waits ten minutes.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.netns.lab import Lab, address_of
from tests.netns.product import Edge, Supernode, join_all, wait_direct

MAPPING_TIMEOUT = 30
"""s; what many routers have for UDP."""

LONG_ENOUGH = float(os.environ.get("MESH_IDLE_SECONDS", MAPPING_TIMEOUT + 10))


@dataclass
class IdlePair:
    """The pair, and since when it has been left alone."""

    anna: Edge
    bert: Edge
    idle_since: float = field(default_factory=time.monotonic)

    def wait(self) -> float:
        """Wait until they have been idle for long enough; return for how long they were."""
        time.sleep(max(0.0, self.idle_since + LONG_ENOUGH - time.monotonic()))
        return time.monotonic() - self.idle_since


@pytest.fixture(scope="session")
def idle_pair(
    namespaces_allowed: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[IdlePair]:
    lab = Lab(tmp_path_factory.mktemp("idle"))
    try:
        internet = lab.internet()
        host = lab.public_host("supernode", internet)
        supernode = Supernode(host, address_of(host))
        supernode.serve()
        edges = []
        for name in ("anna", "bert"):
            home = lab.home(f"{name}-router", internet)
            home.set_udp_timeout(MAPPING_TIMEOUT)
            machine = lab.home_host(name, home)
            edges.append(Edge(machine, "idle", "--supernode", supernode.endpoint))
        join_all(*edges)
        wait_direct(*edges, timeout=20.0)
        yield IdlePair(*edges)
    finally:
        lab.close()


def test_two_edges_are_direct_and_are_left_alone(idle_pair: IdlePair) -> None:
    assert idle_pair.anna.path_to(idle_pair.bert) == "direct"
    assert idle_pair.bert.path_to(idle_pair.anna) == "direct"


def test_still_direct_when_the_routers_would_have_forgotten(idle_pair: IdlePair) -> None:
    anna, bert = idle_pair.anna, idle_pair.bert
    idle_for = idle_pair.wait()
    assert idle_for > MAPPING_TIMEOUT
    assert (anna.path_to(bert), bert.path_to(anna)) == ("direct", "direct")
    assert anna.can_ping(bert), f"the first ping after {idle_for:.0f} s was not answered"
    assert bert.can_ping(anna)
    for edge, other in ((anna, bert), (bert, anna)):
        assert edge.path_changes(other) <= 2, "to the relay, then direct, and never again"
    print(f"idle for {idle_for:.0f} s: still direct, the first ping was answered")  # noqa: T201
