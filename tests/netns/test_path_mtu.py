"""Full-size packets and bulk transfers cross paths of any size, whose size the edges find.

```
                    supernode   anna ═══ mesh0 (1500)
                            |   |
                            internet
         ┌───────────┬──────────┴┬────────────┐
      MTU 1400    MTU 1280    black hole      │        what becomes of large packets here
         │           │           │            │
      router      router      router        router     all: port-restricted NATs
         │           │           │            │ MTU 1280: bert's own interface
       bert         cleo        dora         eric      each ═══ mesh0 (1500)
```

The black hole drops what is longer than 1380 bytes, fragments too, and says nothing.
"""

import pytest

from tests.netns.lab import Home, Internet, Lab, address_of
from tests.netns.nats import Nat
from tests.netns.product import Edge, Supernode, join_all, wait_direct, wait_until
from tests.netns.transfer import transfer

HOLE_MTU = 1380
SIZES = {"bert": 1400, "cleo": 1280, "dora": HOLE_MTU, "eric": 1280}

# A NAT sees packets whole: its conntrack joins fragments before they are forwarded.
BLACK_HOLE = f"""
table ip hole {{
  chain forward {{
    type filter hook forward priority 0;
    meta length > {HOLE_MTU} counter drop
  }}
}}
"""


def narrow(internet: Internet, home: Home, mtu: int) -> None:
    """Give the link between a home and the internet another MTU."""
    home.router.ip(f"link set wan0 mtu {mtu}")
    number = str(home.public_address).split(".")[2]
    internet.host.ip(f"link set port{number} mtu {mtu}")


@pytest.fixture(scope="module")
def internet(lab: Lab) -> Internet:
    return lab.internet()


@pytest.fixture(scope="module")
def homes(lab: Lab, internet: Internet) -> dict[str, Home]:
    made = {name: lab.home(f"router-{name}", internet, Nat.PORT_RESTRICTED) for name in SIZES}
    narrow(internet, made["bert"], 1400)
    narrow(internet, made["cleo"], 1280)
    made["dora"].router.nft(BLACK_HOLE)
    return made


@pytest.fixture(scope="module")
def edges(lab: Lab, internet: Internet, homes: dict[str, Home]) -> dict[str, Edge]:
    host = lab.public_host("supernode", internet)
    supernode = Supernode(host, address_of(host))
    supernode.serve()
    hosts = [lab.public_host("anna", internet)]
    hosts += [lab.home_host(name, home) for name, home in homes.items()]
    for host in hosts:  # a router of the lab would take a batch of datagrams for one packet
        host.ip(*(f"link set {name} gso_max_segs 1" for name in host.interfaces() - {"lo"}))
    hosts[-1].ip("link set eth0 mtu 1280")
    server = ("narrow", "--supernode", supernode.endpoint)
    made = {host.name: Edge(host, *server) for host in hosts}
    join_all(*made.values())
    return made


def loses_nothing(source: Edge, destination: Edge, count: int = 15) -> bool:
    """Whether full-size pings that nobody may fragment are all answered."""
    ping = ("ping", "-n", "-M", "do", f"-c{count}", "-i0.02", "-W2", "-s1472", destination.ip)
    return " 0% packet loss" in source.host.run(*ping, check=False).stdout


def mtu(source: Edge, destination: Edge) -> int:
    """Return the size of the path as the edge has found it."""
    peer = source.peer(destination)
    return int(peer["path"]["mtu"]) if peer else 0


@pytest.mark.parametrize("name", SIZES)
def test_a_narrow_path_carries_full_packets_at_once_and_bulk_and_is_measured(
    edges: dict[str, Edge], name: str
) -> None:
    anna, other = edges["anna"], edges[name]
    wait_until(lambda: anna.has_session_with(other), 10.0, "a session")
    assert loses_nothing(anna, other)
    assert loses_nothing(other, anna)
    wait_direct(anna, other)
    for source, destination in ((anna, other), (other, anna)):
        assert transfer(source, destination, destination.ip)
        wait_until(
            lambda one=source, two=destination: mtu(one, two) == SIZES[name],  # type: ignore[misc]
            15.0,
            f"{SIZES[name]}, not {mtu(source, destination)}",
        )
        assert loses_nothing(source, destination)
        assert source.path_to(destination) == "direct"


def test_a_transfer_survives_that_its_path_becomes_a_black_hole(
    homes: dict[str, Home], edges: dict[str, Edge]
) -> None:
    anna, bert = edges["anna"], edges["bert"]
    router = homes["bert"].router
    router.nft(BLACK_HOLE)
    try:
        assert transfer(anna, bert, bert.ip)
        wait_until(lambda: mtu(anna, bert) == HOLE_MTU, 15.0, f"{HOLE_MTU} bytes")
        assert loses_nothing(anna, bert)
    finally:
        router.nft("delete table ip hole\n")
