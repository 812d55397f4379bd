"""Members behind one NAT: at home without hairpin, and as neighbours behind a provider's.

```
                          supernode
                              │
      ┌───────────────── internet ─────────────────────────┐
   home router           carrier                 carrier with hairpin
    ├── anna             ├── router ── bert      ├── router ── dora
    └── alan             └── router ── carl      └── router ── emil
   one LAN            192.168.1.2 in both homes   as there; each a full cone, as carriers have to be
```
"""

from dataclasses import dataclass

import pytest

from tests.netns.lab import Lab, address_of
from tests.netns.nats import Nat
from tests.netns.product import Edge, PingStream, Supernode, join_all, wait_direct, wait_until

PATIENCE = 15.0


@dataclass
class Town:
    """The topology with everything running."""

    supernode: Supernode
    edges: dict[str, Edge]

    def pair(self, left: str, right: str) -> tuple[Edge, Edge]:
        return self.edges[left], self.edges[right]


@pytest.fixture(scope="module")
def town(lab: Lab) -> Town:
    internet = lab.internet()
    host = lab.public_host("supernode", internet)
    supernode = Supernode(host, address_of(host))
    supernode.serve()
    home = lab.home("home", internet)
    hosts = [lab.home_host(name, home) for name in ("anna", "alan")]
    for name, has_hairpin in (("plain", False), ("hairpin", True)):
        carrier = lab.carrier(name, internet, Nat.FULL_CONE, hairpin=has_hairpin)
        names = ("dora", "emil") if has_hairpin else ("bert", "carl")
        hosts += [lab.home_host(n, lab.home(f"{n}-router", carrier)) for n in names]
    edges = {host.name: Edge(host, "town", "--supernode", supernode.endpoint) for host in hosts}
    join_all(*edges.values())
    return Town(supernode, edges)


def test_two_at_one_home_meet_on_the_lan(town: Town) -> None:
    anna, alan = town.pair("anna", "alan")
    wait_direct(anna, alan, timeout=PATIENCE)
    for one, other in ((anna, alan), (alan, anna)):
        endpoint = one.peer(other)["path"]["endpoint"]  # type: ignore[index]
        assert endpoint.startswith((address_of(other.host, "eth0") + ":", "[fe80:"))
    assert anna.can_ping(alan)


def test_members_on_one_lan_announce_themselves_there(town: Town) -> None:
    """Nobody but a multicast announcement tells of link-local addresses."""
    anna, alan = town.pair("anna", "alan")

    def is_found() -> bool:
        ways = anna.peer(alan)["paths"]  # type: ignore[index]
        return any(way["endpoint"].startswith("[fe80:") for way in ways)

    wait_until(is_found, PATIENCE, "anna hears alan on the LAN")
    for stranger in ("bert", "dora"):
        ways = anna.peer(town.edges[stranger])["paths"]  # type: ignore[index]
        assert not [way for way in ways if way["endpoint"].startswith("[fe80:")]


def test_neighbours_without_hairpin_are_relayed_and_work(town: Town) -> None:
    bert, carl = town.pair("bert", "carl")
    stream = PingStream(bert, carl)
    with pytest.raises(AssertionError, match="not within"):
        wait_until(lambda: bert.path_to(carl) == "direct", 5.0, "they are direct")
    assert stream.finish().lost == []
    assert carl.path_to(bert) == "relay"


def test_neighbours_with_hairpin_meet_at_their_public_endpoints(town: Town) -> None:
    dora, emil = town.pair("dora", "emil")
    wait_direct(dora, emil, timeout=PATIENCE)
    endpoint = dora.peer(emil)["path"]["endpoint"]  # type: ignore[index]
    assert endpoint == emil.status()["endpoint"]
    assert dora.can_ping(emil)


@pytest.mark.parametrize("name", ["bert", "dora"])
def test_those_behind_a_carrier_meet_others_directly(town: Town, name: str) -> None:
    anna, other = town.pair("anna", name)
    wait_direct(anna, other, timeout=PATIENCE)
    assert anna.can_ping(other)
