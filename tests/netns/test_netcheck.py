"""``mesh-edge netcheck`` behind real routers: what it says of each kind.

```
                    supernode
                        │
   open ─────────── internet ─── home routers: port-restricted (with miniupnpd), symmetric,
                                 rejecting, UDP blocked; each with one machine behind it
```
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.netns.kinds import Kind, connect
from tests.netns.lab import Lab, address_of
from tests.netns.nats import Nat
from tests.netns.product import Edge, Program, Supernode
from tests.netns.upnp_router import UpnpRouter, why_no_miniupnpd

KINDS = {
    "open": Kind.OPEN,
    "firewall": Kind.FIREWALL,
    "rejecting": Kind.REJECTING,
    "symmetric": Kind.SYMMETRIC,
    "sequential": Kind.SEQUENTIAL,
}
LONGEST = 7.0
"""s; it takes 5 at most, and a busy machine is late."""
AT_ONCE = 4
"""Checks; each starts a Python, which is more work than the check."""


class Net:
    """The topology, and what each machine was told once all had asked at the same time."""

    def __init__(self, lab: Lab) -> None:
        internet = lab.internet()
        host = lab.public_host("supernode", internet)
        self.supernode = Supernode(host, address_of(host))
        self.supernode.serve()
        machines = {name: connect(lab, internet, kind, name) for name, kind in KINDS.items()}
        self.mapping_home = lab.home("mapping-router", internet, Nat.PORT_RESTRICTED)
        self.blocked_home = lab.home("blocked-router", internet, Nat.UDP_BLOCKED)
        machines["mapping"] = lab.home_host("mapping", self.mapping_home)
        machines["blocked"] = lab.home_host("blocked", self.blocked_home)
        self.programs = {
            name: Program(machine, "mesh.cli.main", "netcheck")
            for name, machine in machines.items()
        }

    def check(self, name: str, *arguments: str) -> dict[str, Any]:
        endpoint = self.supernode.endpoint
        found: dict[str, Any] = self.programs[name].json(
            "netcheck", "--supernode", endpoint, *arguments
        )
        return found


@pytest.fixture(scope="module")
def net(lab: Lab) -> Net:
    return Net(lab)


@pytest.fixture(scope="module")
def found(net: Net) -> dict[str, dict[str, Any]]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(net.programs, pool.map(net.check, net.programs), strict=True))


@pytest.mark.parametrize(
    ("name", "kind", "mapping", "filtering"),
    [
        ("open", "open", "none", "none or by address"),
        ("firewall", "easy", "none", "by address and port"),
        ("mapping", "easy", "endpoint-independent", "by address and port"),
        ("rejecting", "easy", "endpoint-independent", "by address and port"),
        ("symmetric", "hard", "dependent", "by address and port"),
        ("sequential", "hard", "dependent", "by address and port"),
    ],
)
def test_it_tells_the_kinds_apart(
    found: dict[str, dict[str, Any]], name: str, kind: str, mapping: str, filtering: str
) -> None:
    one = found[name]
    assert (one["verdict"]["kind"], one["nat"]["mapping"], one["nat"]["filtering"]) == (
        kind,
        mapping,
        filtering,
    )
    [way] = one["supernodes"]
    assert (way["udp"], way["mtu"]) == ("answered", 1500)
    if name != "sequential":  # that router of the lab translates UDP only
        assert way["tcp"] == "answered"
    assert one["took_s"] < LONGEST


def test_sequential_ports_and_the_lack_of_hairpin_are_seen(found: dict[str, Any]) -> None:
    assert found["sequential"]["nat"]["ports"] == "sequential"
    assert found["mapping"]["nat"]["ports"] == "preserved"
    assert found["mapping"]["nat"]["hairpin"] is False
    assert found["open"]["nat"]["hairpin"] is None


def test_nobody_was_registered_and_nothing_was_kept(net: Net, found: dict[str, Any]) -> None:
    assert net.supernode.edges() == []
    assert not any(program.state.exists() for program in net.programs.values())


def test_where_udp_is_blocked_tcp_is_found(found: dict[str, Any]) -> None:
    blocked = found["blocked"]
    assert blocked["verdict"]["kind"] == "tcp-only"
    [way] = blocked["supernodes"]
    assert (way["udp"], way["tcp"]) == ("silent", "answered")
    assert blocked["took_s"] < LONGEST


@pytest.mark.parametrize("protocol", ["pcp", "upnp"])
def test_a_router_that_forwards_ports_is_found_and_left_as_it_was(net: Net, protocol: str) -> None:
    if complaint := why_no_miniupnpd():
        if os.environ.get("MESH_REQUIRE_NETNS"):
            pytest.fail(f"MESH_REQUIRE_NETNS is set, but {complaint}")
        pytest.skip(complaint)
    router = UpnpRouter(net.mapping_home)
    router.start(protocol)
    try:
        one = net.check("mapping")
        assert one["verdict"]["kind"] == "mapped"
        [offer] = one["port_mapping"]
        assert (offer["protocol"], offer["is_public"]) == (protocol, True)
        assert offer["external"].startswith(f"{net.mapping_home.public_address}:")
        assert router.mapped() == set()
    finally:
        router.stop()


def test_a_running_edge_lends_its_supernodes_and_does_not_notice(net: Net) -> None:
    edge = Edge(net.programs["open"].host, "netcheck", "--supernode", net.supernode.endpoint)
    edge.join()
    try:
        before = edge.status()
        one = edge.json("netcheck")
        assert one["source"] == "the running edge"
        [way] = one["supernodes"]
        assert (way["endpoint"], way["key"]) == (net.supernode.endpoint, "right")
        after = edge.status()
        assert after["endpoint"] == before["endpoint"]
        assert after["supernode"]["connected"]
        assert len(net.supernode.edges()) == 1
    finally:
        assert edge.stop() == 0
