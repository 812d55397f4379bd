"""Linux routers that reject what comes in still get a direct path: nothing arrives before it left.

```
                            supernode
                                |
   rejecting --- rejecting --- internet --- port-restricted --- rejecting
       |             |                            |                 |
     rita          ruth   ════════ mesh0 ═══════ paul             rose
```
"""

from tests.netns.lab import Lab, address_of
from tests.netns.nats import Nat
from tests.netns.product import Edge, Supernode, join_all, wait_direct

KINDS = {
    "rita": Nat.REJECTING,
    "paul": Nat.PORT_RESTRICTED,
    "ruth": Nat.REJECTING,
    "rose": Nat.REJECTING,
}


def test_pairs_with_rejecting_routers_become_direct(lab: Lab) -> None:
    internet = lab.internet()
    host = lab.public_host("supernode", internet)
    supernode = Supernode(host, address_of(host))
    supernode.serve()
    server = ("rejects", "--supernode", supernode.endpoint)
    edges = [
        Edge(lab.home_host(name, lab.home(f"router-{name}", internet, kind)), *server)
        for name, kind in KINDS.items()
    ]
    for edge in edges:  # one by one: rejecting routers meet newcomers and are newcomers
        join_all(edge, sessions=False)
    wait_direct(*edges, timeout=10)
