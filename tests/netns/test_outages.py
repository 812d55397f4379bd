"""The network comes late, goes away for a while, or is one that the community uses too.

```
   supernode ── internet ─┬─ wan0 anna ═══ mesh0       her cable is pulled and put back
                          └─ wan0 bert ═══ mesh0
```
"""

from dataclasses import dataclass
from ipaddress import IPv4Interface

import pytest

from tests.netns.lab import Lab, address_of
from tests.netns.namespaces import Host
from tests.netns.product import Edge, Supernode, join_all, wait_direct, wait_until


@dataclass
class Place:
    """The topology."""

    supernode: Supernode
    anna: Edge
    bert: Edge


@pytest.fixture(scope="module")
def place(lab: Lab) -> Place:
    internet = lab.internet()
    host = lab.public_host("supernode", internet)
    supernode = Supernode(host, address_of(host))
    supernode.serve()
    anna, bert = (
        Edge(lab.public_host(name, internet), "outages", "--supernode", supernode.endpoint)
        for name in ("anna", "bert")
    )
    join_all(bert)
    return Place(supernode, anna, bert)


def _pull_cable(host: Host) -> None:
    host.ip("link set wan0 down")


def _put_cable_back(host: Host) -> None:
    """Set the link up; the kernel forgot the default route, as DHCP clients know."""
    gateway = address_of(host).rsplit(".", 1)[0] + ".1"
    host.ip("link set wan0 up", f"route replace default via {gateway}")


def test_a_machine_without_network_joins_once_there_is_one(place: Place) -> None:
    _pull_cable(place.anna.host)
    place.anna.begin()
    place.anna.wait_for_log("does not answer|unreachable|no network", 10.0)
    assert place.anna.is_running
    _put_cable_back(place.anna.host)
    place.anna.wait_joined(15.0)
    place.anna.wait_ping(place.bert, 5.0)


def test_a_network_that_is_gone_for_a_while_is_recovered_from(place: Place) -> None:
    wait_direct(place.anna, place.bert)
    before = place.anna.joined.address
    _pull_cable(place.anna.host)
    wait_until(lambda: not place.anna.status()["supernode"]["connected"], 20.0, "the loss is seen")
    assert not place.anna.can_ping(place.bert, 0.2)
    _put_cable_back(place.anna.host)
    assert place.anna.wait_ping(place.bert, 20.0) < 15.0
    wait_until(lambda: place.anna.status()["supernode"]["connected"], 15.0, "registered again")
    assert before in place.anna.status()["addresses"]
    wait_direct(place.anna, place.bert, timeout=15.0)
    assert "Traceback" not in place.anna.stderr


def test_a_supernode_that_comes_late_is_waited_for(place: Place) -> None:
    place.anna.stop()
    place.supernode.kill()
    place.anna.begin()
    place.anna.wait_for_log("does not answer", 10.0)
    assert place.anna.is_running
    place.supernode.serve()
    place.anna.wait_joined(10.0)
    wait_until(lambda: len(place.supernode.edges()) == 2, 15.0, "both are registered")


def test_a_clash_with_a_network_of_the_machine_is_said(place: Place, lab: Lab) -> None:
    """Carl's office uses the community's subnet: he is told, and still joins."""
    network = IPv4Interface(place.bert.joined.address).network
    place.anna.stop()
    carl = Edge(
        place.anna.host,
        "outages",
        "--supernode",
        place.supernode.endpoint,
        name="carl",
        label="carl",
    )
    carl.host.ip(
        "link add office0 type bridge",
        "link set office0 up",
        f"address add {network[900]}/{network.prefixlen} dev office0",
    )
    carl.join()
    carl.wait_for_log(rf"overlaps {network}.*office0", 5.0)
    assert carl.stop() == 0
    # The first member of a new community proposes a subnet that does not clash.
    fresh = Edge(
        carl.host, "outages", "--supernode", place.supernode.endpoint, key="new", label="fresh"
    )
    fresh.join()
    first_choice = IPv4Interface(fresh.joined.address).network
    assert fresh.stop() == 0
    fresh.host.ip(f"address add {first_choice[900]}/{first_choice.prefixlen} dev office0")
    other = Edge(
        carl.host, "outages", "--supernode", place.supernode.endpoint, key="newer", label="newer"
    )
    other.join()
    assert not IPv4Interface(other.joined.address).network.overlaps(network)
    assert not IPv4Interface(other.joined.address).network.overlaps(first_choice)
    assert other.stop() == 0
    place.anna.host.ip("link delete office0")
