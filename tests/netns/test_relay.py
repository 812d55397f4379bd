"""Where no direct path can be, frames go through the supernode, which cannot read them.

```
                supernode (its cable is tapped)
                    |
   alice's home -- internet -- bob's home       both routers: symmetric NATs, random ports
       |                          |
     alice ═══ mesh0  mesh0 ═══ bob             carl has a public address and says --relay-only
```
"""

from dataclasses import dataclass

import pytest

from tests.netns.lab import Lab, address_of
from tests.netns.nats import Nat
from tests.netns.product import Edge, PingStream, Supernode, join_all, wait_until
from tests.netns.sockets import Agent, Wire

PATTERN = bytes.fromhex("c0ffee5eedfacade")


@dataclass
class Scene:
    """The topology with everything running."""

    supernode: Supernode
    alice: Edge
    bob: Edge
    carl: Edge
    cable: Wire


@pytest.fixture(scope="module")
def scene(lab: Lab) -> Scene:
    internet = lab.internet()
    host = lab.public_host("supernode", internet)
    supernode = Supernode(host, address_of(host))
    supernode.serve()
    server = ("relayed", "--supernode", supernode.endpoint)
    alice, bob = (
        Edge(lab.home_host(name, lab.home(f"router-{name}", internet, Nat.SYMMETRIC)), *server)
        for name in ("alice", "bob")
    )
    carl = Edge(lab.public_host("carl", internet), *server, "--relay-only")
    cable = Agent(host).wire("wan0", outgoing=True)
    join_all(alice, bob, carl)
    return Scene(supernode, alice, bob, carl, cable)


def test_ping_passes_between_symmetric_nats_and_the_supernode_cannot_read_it(scene: Scene) -> None:
    scene.cable.drain()
    before = scene.supernode.json("status")["relayed_datagrams"]
    ping = ("ping", "-c5", "-i0.1", "-s200", "-p", PATTERN.hex(), scene.bob.ip)
    assert " 0% packet loss" in scene.alice.host.run(*ping).stdout
    assert scene.alice.path_to(scene.bob) == "relay"
    assert scene.supernode.json("status")["relayed_datagrams"] >= before + 10
    seen = scene.cable.drain()
    assert sum(len(frame) > 200 for frame in seen) >= 20, "the tap on the cable saw too little"
    assert not [frame for frame in seen if PATTERN in frame]


def test_full_size_packets_pass_through_the_relay(scene: Scene) -> None:
    whole = ("-M", "do", "-s", str(1500 - 28))
    scene.alice.host.run("ping", "-c3", "-i0.1", "-W2", *whole, scene.bob.ip)


def test_relay_only_is_obeyed_by_both_sides(scene: Scene) -> None:
    scene.alice.wait_ping(scene.carl, 5.0)
    assert scene.alice.path_to(scene.carl) == "relay"
    assert scene.carl.path_to(scene.alice) == "relay"


def test_relayed_traffic_comes_back_after_the_supernode_crashed(scene: Scene) -> None:
    stream = PingStream(scene.alice, scene.bob)
    scene.supernode.kill()
    scene.supernode.serve()
    wait_until(lambda: len(scene.supernode.edges()) == 3, 15.0, "all are registered again")
    scene.alice.wait_ping(scene.bob, 5.0)
    sent, received = stream.end()
    assert received < sent, "the stream was relayed, so the crash must have cost something"
