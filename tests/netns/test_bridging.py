"""Addresses that the overlay itself brings are no places to send the overlay's datagrams to.

```
                supernode
                    |
   alice's home -- internet -- bob's home       both routers: symmetric NATs, so all goes by relay
       |                          |
     alice ═══ mesh0  mesh0 ═══ bob             --address none; 10.200.0.0/24 is added later, as by
                  |                             DHCP, at bob's on a bridge that mesh0 is a port of
```
"""

import time

from tests.netns.lab import Lab, address_of
from tests.netns.nats import Nat
from tests.netns.product import Edge, Supernode, join_all, wait_until


def test_addresses_that_come_over_the_overlay_never_carry_it(lab: Lab) -> None:
    internet = lab.internet()
    host = lab.public_host("supernode", internet)
    supernode = Supernode(host, address_of(host))
    supernode.serve()
    options = ("bridged", "--supernode", supernode.endpoint, "--address", "none")
    alice, bob = (
        Edge(lab.home_host(name, lab.home(f"router-{name}", internet, Nat.SYMMETRIC)), *options)
        for name in ("alice", "bob")
    )
    join_all(alice, bob)
    alice.host.run("ip", "address", "add", "10.200.0.1/24", "dev", "mesh0")
    bob.host.run("ip", "link", "add", "br0", "type", "bridge")
    bob.host.run("ip", "link", "set", "mesh0", "master", "br0")
    bob.host.run("ip", "link", "set", "br0", "up")
    bob.host.run("ip", "address", "add", "10.200.0.2/24", "dev", "br0")

    ping = ("ping", "-c1", "-W1", "10.200.0.2")
    wait_until(lambda: " 0% packet loss" in alice.host.run(*ping, check=False).stdout, 10, "a ping")
    time.sleep(5)  # for candidates to be told and tried; a loop would send megabytes meanwhile

    assert alice.path_to(bob) == bob.path_to(alice) == "relay"
    for edge, other in ((alice, bob), (bob, alice)):
        peer = edge.peer(other)
        assert peer is not None
        assert peer["tx_bytes"] < 100_000
