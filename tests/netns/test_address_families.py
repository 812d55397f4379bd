"""IPv6 only, both families, IPv4 only: all meet through one supernode that has both.

```
                supernode (both)
                    │
   six (IPv6) ── internet ── four (IPv4)
                  │    │
              both1    both2
```
"""

from dataclasses import dataclass

import pytest

from tests.netns.lab import Lab, address_of
from tests.netns.namespaces import Host
from tests.netns.product import Edge, Supernode, join_all, wait_direct

SUPERNODE_NAME = "supernode.example"


@dataclass
class World:
    six: Edge
    four: Edge
    both: tuple[Edge, Edge]

    @property
    def edges(self) -> tuple[Edge, ...]:
        return (self.six, self.four, *self.both)


def _ipv6_of(host: Host) -> str:
    """Return the machine's address of `Internet.attach`."""
    number = address_of(host).split(".")[2]
    return f"2a0f:{number}::2"


def _leave_family(host: Host, *, ipv6: bool) -> None:
    """Take the other family away from a machine."""
    family = "-4" if ipv6 else "-6"
    host.run("ip", family, "address", "flush", "dev", "wan0", "scope", "global")
    if not ipv6:
        host.sysctl({"net/ipv6/conf/wan0/disable_ipv6": "1"})


@pytest.fixture(scope="module")
def world(lab: Lab) -> World:
    internet = lab.internet(has_ipv6=True)
    host = lab.public_host("supernode", internet)
    addresses = address_of(host), f"[{_ipv6_of(host)}]"
    supernode = Supernode(host, addresses[0], options=("--listen", f"{addresses[1]}:7777"))
    supernode.serve()
    supernode.wait_for_line(r"listening on \[.*, key \S+", 5.0)
    names = (f"{address_of(host)} {SUPERNODE_NAME}", f"{_ipv6_of(host)} {SUPERNODE_NAME}")
    hosts = [lab.public_host(name, internet) for name in ("six", "four", "both1", "both2")]
    _leave_family(hosts[0], ipv6=True)
    _leave_family(hosts[1], ipv6=False)
    edges = []
    for each in hosts:
        each.name_hosts(*names)
        edges.append(Edge(each, "families", "--supernode", f"{SUPERNODE_NAME}:7777"))
    join_all(*edges)
    return World(edges[0], edges[1], (edges[2], edges[3]))


def test_everybody_reaches_everybody(world: World) -> None:
    for one in world.edges:
        for other in world.edges:
            if one is not other:
                one.wait_ping(other, 5.0)


def test_edges_without_a_family_in_common_are_relayed_the_others_direct(world: World) -> None:
    one, another = world.both
    for pair in ((world.six, one), (world.four, one), (one, another)):
        wait_direct(*pair, timeout=15.0)
    assert world.six.path_to(world.four) == "relay"
    assert world.four.path_to(world.six) == "relay"


def test_the_supernode_is_reached_by_ipv6_where_there_is_any(world: World) -> None:
    for edge in (world.six, *world.both):
        assert edge.status()["supernode"]["endpoint"].startswith("[2a0f:")
    assert world.four.status()["supernode"]["endpoint"].startswith("45.")
