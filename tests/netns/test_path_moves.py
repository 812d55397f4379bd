"""What a ping every 50 ms loses while its path moves: relay, direct, and back again.

```
                     supernode
                         │
   alice ─ router ── internet ── router ─ bob       both routers: port-restricted NATs
                   (blocks alice's and bob's routers from each other, now and then)
```
"""

import time
from dataclasses import dataclass

import pytest

from tests.netns.lab import Home, Internet, Lab, Refusal, address_of
from tests.netns.product import Edge, PingStream, Supernode, join_all, wait_direct

INTERVAL = 0.05
SILENT_LOSS = 3.0
"""Seconds; 1.0 to be expected of a quiet machine."""


@dataclass
class World:
    internet: Internet
    homes: tuple[Home, Home]
    alice: Edge
    bob: Edge

    def block(self, refusal: Refusal) -> None:
        left, right = self.homes
        self.internet.block(left.public_address, right.public_address, refusal)


@pytest.fixture(scope="module")
def world(lab: Lab) -> World:
    internet = lab.internet()
    host = lab.public_host("supernode", internet)
    supernode = Supernode(host, address_of(host))
    homes = lab.home("router-alice", internet), lab.home("router-bob", internet)
    alice, bob = (
        Edge(lab.home_host(name, home), "moves", "--supernode", supernode.endpoint)
        for name, home in zip(("alice", "bob"), homes, strict=True)
    )
    supernode.serve()
    return World(internet, homes, alice, bob)


def test_from_the_relay_to_a_direct_path_no_ping_is_lost(world: World) -> None:
    world.block(Refusal.REJECT)
    join_all(world.alice, world.bob)
    world.alice.wait_ping(world.bob, 10.0)
    stream = PingStream(world.alice, world.bob, INTERVAL)
    time.sleep(1.0)
    assert world.alice.path_to(world.bob) == "relay"
    world.internet.unblock()
    wait_direct(world.alice, world.bob, timeout=70.0)
    time.sleep(1.0)
    pings = stream.finish()
    print(f"relay to direct: {pings}")  # noqa: T201 - a figure to note
    assert pings.sent > 20
    assert pings.lost == []


def test_from_a_direct_path_that_is_refused_to_the_relay_no_ping_is_lost(world: World) -> None:
    wait_direct(world.alice, world.bob)
    stream = PingStream(world.alice, world.bob, INTERVAL)
    time.sleep(1.0)
    world.block(Refusal.REJECT)
    time.sleep(3.0)
    pings = stream.finish()
    print(f"direct to relay, refused: {pings}")  # noqa: T201 - a figure to note
    assert pings.sent > 40
    assert pings.lost == []
    world.internet.unblock()
    wait_direct(world.alice, world.bob)


def test_a_direct_path_that_turns_silent_costs_about_a_second(world: World) -> None:
    stream = PingStream(world.alice, world.bob, INTERVAL)
    time.sleep(1.0)
    world.block(Refusal.DROP)
    time.sleep(5.0)
    pings = stream.finish()
    print(f"direct to relay, silent: {pings}")  # noqa: T201 - a figure to note
    assert 0 < len(pings.lost) <= SILENT_LOSS / INTERVAL
    assert max(pings.lost) <= min(pings.lost) + SILENT_LOSS / INTERVAL
