"""A port that the router forwards: each protocol, a restarted router, two symmetric NATs.

```
                     supernode
                         │
     alice's home ── internet ── bob's home      both routers: symmetric NATs
     (miniupnpd)                     │
          │                         bob
        alice
```
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address

import pytest

from tests.netns.lab import Home, Internet, Lab, address_of
from tests.netns.nats import Nat
from tests.netns.product import Edge, Supernode, join_all, wait_direct, wait_until
from tests.netns.upnp_router import UpnpRouter, why_no_miniupnpd

PORT = 7801
PROTOCOLS = ("pcp", "nat-pmp", "upnp")


FORWARDED = f"""
table ip forwarded {{
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    iifname wan0 udp dport 7900 dnat to 192.168.1.2:{PORT}
  }}
}}
"""


@dataclass
class Homes:
    """The topology; the router's daemon and the edges are started by the tests."""

    internet: Internet
    home: Home
    router: UpnpRouter
    supernode: Supernode
    alice: Edge
    bob: Edge

    @property
    def external(self) -> str:
        return f"{self.home.public_address}:{PORT}"


@pytest.fixture(scope="module")
def homes(lab: Lab) -> Homes:
    if complaint := why_no_miniupnpd():
        if os.environ.get("MESH_REQUIRE_NETNS"):
            pytest.fail(f"MESH_REQUIRE_NETNS is set, but {complaint}")
        pytest.skip(complaint)
    internet = lab.internet(has_ipv6=True)
    supernode_host = lab.public_host("supernode", internet)
    supernode = Supernode(supernode_host, address_of(supernode_host))
    supernode.serve()
    home = lab.home("router-alice", internet, Nat.SYMMETRIC)
    other = lab.home("router-bob", internet, Nat.SYMMETRIC)
    community = ("portmap", "--supernode", supernode.endpoint)
    alice = Edge(lab.home_host("alice", home), *community, "--port", str(PORT))
    bob = Edge(lab.home_host("bob", other), *community)
    return Homes(internet, home, UpnpRouter(home), supernode, alice, bob)


@pytest.fixture(autouse=True)
def nothing_runs_afterwards(homes: Homes) -> Iterator[None]:
    yield
    for edge in (homes.alice, homes.bob):
        if edge.is_running:
            edge.kill()
    homes.router.stop()


def wait_mapped(homes: Homes, timeout: float = 5.0) -> None:
    inside = f"192.168.1.2:{PORT}"
    wait_until(lambda: (PORT, inside) in homes.router.mapped(), timeout, "the port is mapped")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_protocol_alone_maps_the_port_and_gives_it_back(homes: Homes, protocol: str) -> None:
    homes.router.start(protocol)
    homes.alice.join()
    wait_mapped(homes)
    wait_until(lambda: homes.alice.status()["mapped"], 3.0, "the status shows it")
    [mapped] = homes.alice.status()["mapped"]
    assert (mapped["protocol"], mapped["external"]) == (protocol, homes.external)
    assert 7000 < mapped["expires_s"] <= 7200
    assert homes.external in homes.alice.command("status").stdout
    assert homes.alice.stop() == 0
    assert homes.router.mapped() == set()


def test_of_all_three_one_is_used_and_no_port_is_left_behind(homes: Homes) -> None:
    homes.router.start()
    homes.alice.join()
    wait_mapped(homes)
    [mapped] = homes.alice.status()["mapped"]
    assert mapped["protocol"] == "pcp"
    assert len(homes.router.mapped()) == 1
    assert homes.alice.command("leave").returncode == 0
    assert homes.alice.wait() == 0
    assert homes.router.mapped() == set()


def test_two_edges_behind_symmetric_nats_become_direct_by_a_mapping(homes: Homes) -> None:
    homes.router.start("pcp")
    join_all(homes.alice, homes.bob)
    wait_direct(homes.alice, homes.bob)
    assert homes.bob.peer(homes.alice)["path"]["endpoint"] == homes.external  # type: ignore[index]
    homes.alice.wait_ping(homes.bob, 3.0)


def test_without_port_mapping_they_stay_on_the_relay(homes: Homes) -> None:
    homes.router.start()
    homes.alice.begin("--no-port-mapping")
    homes.bob.begin()
    homes.alice.wait_joined()
    homes.bob.wait_joined()
    homes.alice.wait_ping(homes.bob, 5.0)
    time.sleep(3.0)  # longer than a mapping takes to be of use
    assert homes.alice.path_to(homes.bob) == "relay"
    assert homes.alice.status()["mapped"] == []
    assert homes.router.mapped() == set()


def test_an_advertised_forwarded_port_makes_a_direct_path(homes: Homes) -> None:
    homes.router.host.nft(FORWARDED)
    try:
        advertised = f"{homes.home.public_address}:7900"
        homes.alice.begin("--advertise", advertised)
        homes.bob.begin()
        homes.alice.wait_joined()
        homes.bob.wait_joined()
        wait_direct(homes.alice, homes.bob)
        assert homes.bob.peer(homes.alice)["path"]["endpoint"] == advertised  # type: ignore[index]
    finally:
        homes.router.host.run("nft", "delete", "table", "ip", "forwarded")


@pytest.mark.parametrize(
    "protocol",
    ["pcp", "nat-pmp", pytest.param("upnp", marks=pytest.mark.slow)],  # 45 s: its port is a new one
)
def test_a_restarted_router_is_asked_again(homes: Homes, protocol: str) -> None:
    homes.router.start(protocol)
    homes.alice.join()
    wait_mapped(homes)
    time.sleep(4.0)  # a younger router's clock would not show that it began anew
    homes.router.crash()
    assert homes.router.mapped() == set()
    homes.router.start(protocol)
    wait_mapped(homes, 75.0)
    wait_until(lambda: homes.alice.status()["mapped"], 3.0, "the status shows it")
    assert homes.alice.stop() == 0
    assert homes.router.mapped() == set()


def test_a_crashed_edge_gets_the_same_port_again(homes: Homes) -> None:
    homes.router.start("pcp")
    homes.alice.join()
    wait_mapped(homes)
    homes.alice.kill()
    homes.alice.join()
    wait_until(lambda: homes.alice.status()["mapped"], 5.0, "the port is mapped again")
    assert homes.alice.status()["mapped"][0]["external"] == homes.external
    assert homes.alice.stop() == 0
    assert homes.router.mapped() == set()


def test_the_invite_of_an_embedded_supernode_names_the_mapped_port(homes: Homes) -> None:
    homes.router.start()
    host = Edge(homes.alice.host, "hosted", key="", name="host", label="hosted")
    host.join()
    try:
        external = f"{homes.home.public_address}:7777"

        def is_invited_from_afar() -> bool:
            return external in host.command("invite").stdout

        wait_until(is_invited_from_afar, 5.0, "the invite names the external address")
        invite = host.command("invite").stdout.strip()
        guest = Edge(homes.bob.host, invite, key="", name="guest", label="guest")
        guest.join()
        guest.wait_ping(host, 5.0)
        guest.stop()
    finally:
        host.stop()
    assert homes.router.mapped() == set()


def test_ipv6_pinholes_are_opened_and_closed(homes: Homes) -> None:
    router, alice = homes.home.router, homes.alice.host
    router.sysctl({"net/ipv6/conf/all/forwarding": "1"})
    router.ip("address add fe80::1/64 dev lan0 nodad", "address add 2a0f:99::1/64 dev lan0 nodad")
    alice.ip("address add 2a0f:99::2/64 dev eth0 nodad", "route add default via fe80::1 dev eth0")
    homes.router.start()
    homes.alice.join()
    inside = "2a0f:99::2"
    shown = IPv6Address(inside).packed.hex()
    wait_until(lambda: shown in homes.router.pinholes(), 5.0, "there is a pinhole")
    wait_until(
        lambda: f"[{inside}]:{PORT}" in {one["external"] for one in homes.alice.status()["mapped"]},
        3.0,
        "the status shows it",
    )
    assert homes.alice.stop() == 0
    assert shown not in homes.router.pinholes()
