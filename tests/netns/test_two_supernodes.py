"""One of two supernodes dies: direct pairs notice nothing, relayed ones move to the other.

```
          first     second         supernodes
              │       │
   anna ───── internet ───── bert      direct to each other
                 │  │
              carl  dora               relayed only
```
"""

import time
from dataclasses import dataclass

import pytest

from tests.netns.lab import Internet, Lab, address_of
from tests.netns.product import Edge, PingStream, Supernode, join_all, wait_direct, wait_until

INTERVAL = 0.05
FAILOVER = 10.0  # s; promised
OUTAGE = 4.0  # s; about 1 to be expected of a quiet machine when a relay turns silent


@dataclass
class World:
    internet: Internet
    supernodes: tuple[Supernode, Supernode]
    edges: tuple[Edge, Edge, Edge, Edge]

    def primaries(self) -> set[str]:
        """Return the primary supernodes of all edges."""
        views = [edge.status()["supernode"] for edge in self.edges]
        return {view["endpoint"] if view["connected"] else "" for view in views}

    def are_registered(self) -> bool:
        return all(len(supernode.edges()) == len(self.edges) for supernode in self.supernodes)


@pytest.fixture(scope="module")
def world(lab: Lab) -> World:
    internet = lab.internet()
    hosts = [lab.public_host(name, internet) for name in ("first", "second")]
    first, second = (Supernode(host, address_of(host), host.name) for host in hosts)
    for supernode in (first, second):
        supernode.serve()
    named = ("--supernode", first.endpoint, "--supernode", second.endpoint)
    anna, bert = (Edge(lab.public_host(name, internet), "two", *named) for name in ("anna", "bert"))
    carl, dora = (
        Edge(lab.public_host(name, internet), "two", *named, "--relay-only")
        for name in ("carl", "dora")
    )
    join_all(anna, bert, carl, dora)
    world = World(internet, (first, second), (anna, bert, carl, dora))
    wait_until(world.are_registered, 10.0, "all are registered with both")
    wait_direct(anna, bert)
    return world


def _relay_of(edge: Edge, other: Edge) -> str:
    peer = edge.peer(other)
    return str(peer["path"]["endpoint"]) if peer else ""


def test_all_have_one_address_and_know_both_supernodes(world: World) -> None:
    first, second = world.supernodes
    leased = {supernode: {e["address"] for e in supernode.edges()} for supernode in (first, second)}
    assert leased[first] == leased[second]
    assert len(leased[first]) == len(world.edges)
    for edge in world.edges:
        listed = edge.status()["supernodes"]
        assert [one["endpoint"] for one in listed] == [first.endpoint, second.endpoint]
        assert all(one["connected"] for one in listed)
        assert sum(one["is_primary"] for one in listed) == 1


def test_a_supernode_that_is_killed_costs_a_direct_pair_nothing(world: World) -> None:
    anna, bert, carl, dora = world.edges
    carl.wait_ping(dora, 5.0)
    streams = PingStream(anna, bert, INTERVAL), PingStream(carl, dora, INTERVAL)
    time.sleep(1.5)
    victim = next(each for each in world.supernodes if each.endpoint == _relay_of(carl, dora))
    [other] = [each for each in world.supernodes if each is not victim]
    killed_at = time.time()
    victim.kill()
    wait_until(lambda: world.primaries() == {other.endpoint}, FAILOVER, "the spare is primary")
    print(f"the spare is primary after {time.time() - killed_at:.1f} s")  # noqa: T201
    wait_until(lambda: _relay_of(carl, dora) == other.endpoint, 10.0, "relayed by the other")
    direct, relayed = (stream.finish() for stream in streams)
    print(f"killed: direct {direct}; relayed {relayed}")  # noqa: T201 - figures to note
    assert direct.lost == []
    assert len(relayed.lost) <= OUTAGE / INTERVAL
    victim.serve()
    wait_until(world.are_registered, 20.0, "all are back with both")


def test_a_relay_that_turns_silent_is_left_within_seconds(world: World) -> None:
    anna, bert, carl, dora = world.edges
    addresses = [edge.joined.address for edge in world.edges]
    carl.wait_ping(dora, 5.0)
    streams = PingStream(anna, bert, INTERVAL), PingStream(carl, dora, INTERVAL)
    time.sleep(1.5)
    used = _relay_of(carl, dora)
    world.internet.block(used.rpartition(":")[0], "45.0.0.0/16")
    wait_until(lambda: _relay_of(carl, dora) not in {"", used}, 10.0, "relayed by the other")
    wait_until(lambda: used not in world.primaries(), FAILOVER, "the spare is primary")
    direct, relayed = (stream.finish() for stream in streams)
    print(f"silent: direct {direct}; relayed {relayed}")  # noqa: T201 - figures to note
    assert direct.lost == []
    assert 0 < len(relayed.lost) <= OUTAGE / INTERVAL
    for edge, address in zip(world.edges, addresses, strict=True):
        assert address in edge.status()["addresses"]
        assert "Traceback" not in edge.stderr
    world.internet.unblock()
