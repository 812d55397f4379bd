"""Linux routers that reject what comes in still get a direct path: nothing arrives before it left.

```
                            supernode
                                |
   rejecting --- rejecting --- internet --- port-restricted --- rejecting
       |             |                            |                 |
     rita          ruth   ════════ mesh0 ═══════ paul             rose
```
"""

import signal
import time
from collections.abc import Callable

import pytest

from tests.netns.lab import Lab, address_of
from tests.netns.nats import Nat
from tests.netns.product import Edge, Supernode, join_all, wait_direct

KINDS = {
    "rita": Nat.REJECTING,
    "paul": Nat.PORT_RESTRICTED,
    "ruth": Nat.REJECTING,
    "rose": Nat.REJECTING,
}

Join = Callable[[str, str], Edge]


@pytest.fixture(scope="module")
def edge_of(lab: Lab) -> Join:
    """Return what makes an edge of a community, on the machine of that name."""
    internet = lab.internet()
    host = lab.public_host("supernode", internet)
    supernode = Supernode(host, address_of(host))
    supernode.serve()
    machines = {
        name: lab.home_host(name, lab.home(f"router-{name}", internet, kind))
        for name, kind in KINDS.items()
    }

    def edge_of(name: str, community: str) -> Edge:
        server = ("--supernode", supernode.endpoint)
        return Edge(machines[name], community, *server, label=f"{community}-{name}")

    return edge_of


def test_pairs_with_rejecting_routers_become_direct(edge_of: Join) -> None:
    edges = [edge_of(name, "rejects") for name in KINDS]
    for edge in edges:  # one by one: rejecting routers meet newcomers and are newcomers
        join_all(edge, sessions=False)
    wait_direct(*edges, timeout=10)
    for edge in edges:
        edge.stop()


def test_a_machine_that_stands_still_while_a_peer_joins_becomes_direct_all_the_same(
    edge_of: Join,
) -> None:
    rita, paul = edge_of("rita", "slow"), edge_of("paul", "slow")
    join_all(rita)
    rita.signal(signal.SIGSTOP)
    try:
        paul.begin()
        time.sleep(5.0)  # paul has asked for a session several times
    finally:
        rita.signal(signal.SIGCONT)
    paul.wait_joined()
    wait_direct(rita, paul, timeout=10)
