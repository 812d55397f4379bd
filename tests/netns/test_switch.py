"""One Ethernet segment of three: who hears a frame, and where a machine that moves is found.

```
   supernode ── internet ─┬─ anna ═══ mesh0
                          ├─ bert ═══ mesh0
                          └─ cleo ═══ mesh0
```
"""

from dataclasses import dataclass
from ipaddress import IPv4Interface

import pytest

from tests.netns.lab import Lab, address_of
from tests.netns.product import Edge, Supernode, join_all, wait_direct
from tests.netns.sockets import Agent, Wire

BROADCAST = b"\xff" * 6
MULTICAST = bytes.fromhex("01005e004d4e")
ETHERTYPE = bytes.fromhex("88b5")
GUEST = bytes.fromhex("02000000beef")
STRANGER = bytes.fromhex("02000000dead")


@dataclass
class Segment:
    """Three edges, and a packet socket on the TAP of each."""

    edges: list[Edge]
    wires: list[Wire]

    def heard(self, payload: bytes) -> list[int]:
        """Return how often each edge's machine received the frame with this payload."""
        return [len(wire.receive(9, 0.4, containing=payload)) for wire in self.wires]


@pytest.fixture(scope="module")
def segment(lab: Lab) -> Segment:
    internet = lab.internet()
    host = lab.public_host("supernode", internet)
    supernode = Supernode(host, address_of(host))
    supernode.serve()
    edges = [
        Edge(lab.public_host(name, internet), "switch", "--supernode", supernode.endpoint)
        for name in ("anna", "bert", "cleo")
    ]
    join_all(*edges)
    wait_direct(*edges)
    return Segment(edges, [Agent(edge.host).wire("mesh0") for edge in edges])


def _mac(edge: Edge) -> bytes:
    return bytes.fromhex(edge.status()["mac"].replace(":", ""))


def _frame(destination: bytes, source: bytes, payload: bytes) -> bytes:
    return destination + source + ETHERTYPE + payload.ljust(64, b".")


def test_a_broadcast_reaches_everybody_once(segment: Segment) -> None:
    segment.wires[0].send(_frame(BROADCAST, _mac(segment.edges[0]), b"to all"))
    assert segment.heard(b"to all") == [0, 1, 1]


def test_a_multicast_reaches_everybody_once(segment: Segment) -> None:
    segment.wires[1].send(_frame(MULTICAST, _mac(segment.edges[1]), b"to the group"))
    assert segment.heard(b"to the group") == [1, 0, 1]


def test_known_unicast_reaches_its_owner_only(segment: Segment) -> None:
    segment.edges[0].wait_ping(segment.edges[1], 5.0)
    frame = _frame(_mac(segment.edges[1]), _mac(segment.edges[0]), b"to bert")
    segment.wires[0].send(frame)
    assert segment.heard(b"to bert") == [0, 1, 0]


def test_unknown_unicast_is_flooded(segment: Segment) -> None:
    segment.wires[2].send(_frame(STRANGER, _mac(segment.edges[2]), b"to whom?"))
    assert segment.heard(b"to whom?") == [1, 1, 0]


def test_a_mac_that_moves_is_relearnt(segment: Segment) -> None:
    """A guest machine behind bert moves behind cleo: anna follows with the first frame."""
    for owner, name in ((1, b"bert"), (2, b"cleo"), (1, b"bert")):
        segment.wires[owner].send(_frame(BROADCAST, GUEST, b"guest at " + name))
        assert sum(segment.heard(b"guest at " + name)) == 2
        segment.wires[0].send(_frame(GUEST, _mac(segment.edges[0]), b"to guest at " + name))
        expected = [0, 0, 0]
        expected[owner] = 1
        assert segment.heard(b"to guest at " + name) == expected
    learnt = {row["mac"]: row["name"] for row in segment.edges[0].json("fdb")}
    assert learnt[GUEST.hex(":")] == "bert"


def test_a_subnet_broadcast_reaches_everybody_once(segment: Segment) -> None:
    listeners = [Agent(edge.host).udp(port=137) for edge in segment.edges[1:]]
    broadcast = IPv4Interface(segment.edges[0].joined.address).network.broadcast_address
    Agent(segment.edges[0].host).udp().send(b"who is there?", (str(broadcast), 137))
    for listener in listeners:
        heard = listener.receive(2.0)
        assert heard is not None
        assert heard.data == b"who is there?"
        assert heard.source[0] == segment.edges[0].ip
        assert listener.receive(0.2) is None


def test_discovery_by_limited_broadcast_finds_a_game_server(segment: Segment) -> None:
    """As old LAN games do: a datagram to 255.255.255.255, with a default route elsewhere."""
    server = Agent(segment.edges[2].host).udp(port=27960)
    client = Agent(segment.edges[0].host).udp(segment.edges[0].ip)
    client.send(b"getinfo", ("255.255.255.255", 27960))
    question = server.receive(2.0)
    assert question is not None
    assert question == (b"getinfo", (segment.edges[0].ip, client.port))
    server.send(b"infoResponse", question.source)
    answer = client.receive(2.0)
    assert answer is not None
    assert answer == (b"infoResponse", (segment.edges[2].ip, 27960))
