"""Networks change under a running ping stream: how long until traffic flows again, and directly.

```
                        supernode
                            │
   alice ─ router-alice ─ internet ─ router-bob ─ bob      port-restricted NATs, both of them:
      (moves to)            │                              neither side reaches the other unasked
          router-elsewhere ─┘
```
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.netns.lab import Home, Lab, address_of, unplug
from tests.netns.product import Edge, PingStream, Supernode, join_all, wait_direct, wait_until

INTERVAL = 0.05
RETURN_WITHIN = 3.0
"""Seconds, of an unbroken stream; 1 on a quiet machine."""
DIRECT_WITHIN = 10.0


@dataclass
class World:
    home: Home
    elsewhere: Home
    supernode: Supernode
    alice: Edge
    bob: Edge

    def seen_at(self) -> str:
        """Return where alice's packets come from, by what bob sends to."""
        peer = self.bob.peer(self.alice)
        assert peer
        path = peer["path"]
        return str(path["endpoint"]).rpartition(":")[0] if path["kind"] == "direct" else ""


@pytest.fixture(scope="module")
def world(lab: Lab) -> World:
    internet = lab.internet()
    host = lab.public_host("supernode", internet)
    supernode = Supernode(host, address_of(host))
    home, other, elsewhere = (
        lab.home(f"router-{name}", internet) for name in ("alice", "bob", "elsewhere")
    )
    alice, bob = (
        Edge(lab.home_host(name, where), "roaming", "--supernode", supernode.endpoint)
        for name, where in (("alice", home), ("bob", other))
    )
    supernode.serve()
    join_all(alice, bob)
    wait_direct(alice, bob)
    return World(home, elsewhere, supernode, alice, bob)


def flush(world: World) -> None:
    world.home.flush_conntrack()


def renumber(world: World) -> None:
    world.home.change_public_address()


def change_local_address(world: World) -> None:
    host, lan = world.alice.host, world.home.lan
    before, after = address_of(host, "eth0"), lan.spare_address(None)  # type: ignore[arg-type]
    host.ip(
        f"address delete {before}/24 dev eth0",
        f"address add {after}/24 broadcast + dev eth0",
        f"route replace default via {lan.gateway}",
    )


def move(world: World) -> None:
    unplug(world.alice.host)
    world.elsewhere.attach(world.alice.host)


@pytest.mark.parametrize("event", [flush, renumber, change_local_address, move])
def test_traffic_returns_soon_and_the_path_is_direct_again(
    world: World, event: Callable[[World], None], record_property: Callable[[str, object], None]
) -> None:
    wait_direct(world.alice, world.bob)
    registrations = world.alice.stderr.count("registered")
    stream = PingStream(world.alice, world.bob, INTERVAL)
    time.sleep(0.5)
    happened_at = time.time()
    event(world)
    done_at = time.time()
    home = world.elsewhere if event is move else world.home
    where = str(home.public_address)
    wait_until(lambda: world.seen_at() == where, DIRECT_WITHIN, f"bob reaches alice at {where}")
    direct_after = time.time() - done_at
    time.sleep(1.0)
    pings = stream.finish()
    took = pings.returned_after(done_at)
    record_property(f"returned_after_{event.__name__}_s", round(took, 2))
    print(  # noqa: T201 - figures to note
        f"{event.__name__}: took {done_at - happened_at:.2f} s, back after {took:.2f} s,"
        f" direct after {direct_after:.2f} s; {pings}"
    )
    assert took < RETURN_WITHIN
    assert world.alice.stderr.count("registered") == registrations, "it registered anew"
