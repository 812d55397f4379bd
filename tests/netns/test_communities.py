"""Many communities on one supernode, none able to see another.

```
   supernode ── internet ─┬─ anna: right key       ─┬─ dora: another community
                          ├─ bert: right key        │
                          └─ cleo: wrong key       ─┘
```
"""

from dataclasses import dataclass
from ipaddress import IPv4Interface

import pytest

from tests.netns.lab import Lab, address_of
from tests.netns.product import Edge, Supernode, join_all, wait_for_sessions
from tests.netns.sockets import Agent

FRAME = b"\xff" * 6 + bytes.fromhex("02000000beef 88b5") + b"for our members only".ljust(64)


@dataclass
class Town:
    """Everybody, joined."""

    supernode: Supernode
    anna: Edge
    bert: Edge
    cleo: Edge
    dora: Edge


@pytest.fixture(scope="module")
def town(lab: Lab) -> Town:
    internet = lab.internet()
    host = lab.public_host("supernode", internet)
    supernode = Supernode(host, address_of(host))
    supernode.serve()

    def edge(name: str, community: str, key: str) -> Edge:
        place = lab.public_host(name, internet)
        return Edge(place, community, "--supernode", supernode.endpoint, key=key)

    members = {
        "anna": edge("anna", "club", "right"),
        "bert": edge("bert", "club", "right"),
        "cleo": edge("cleo", "club", "wrong"),
        "dora": edge("dora", "library", "right"),
    }
    join_all(*members.values(), sessions=False)
    wait_for_sessions(members["anna"], members["bert"])
    return Town(supernode, **members)


def test_the_same_name_with_another_key_is_another_network(town: Town) -> None:
    assert {peer["name"] for peer in town.anna.peers()} == {"bert"}
    assert town.cleo.peers() == []
    assert town.dora.peers() == []
    rows = town.supernode.json("communities")
    assert sorted(row["edges"] for row in rows) == [1, 1, 2]
    subnets = {IPv4Interface(e.joined.address).network for e in (town.anna, town.bert)}
    assert len(subnets) == 1


def test_broadcasts_stay_in_their_community(town: Town) -> None:
    everybody = [town.anna, town.bert, town.cleo, town.dora]
    wires = [Agent(edge.host).wire("mesh0") for edge in everybody]
    wires[0].send(FRAME)
    assert [len(wire.receive(2, 0.4, containing=FRAME)) for wire in wires] == [0, 1, 0, 0]


def test_the_supernode_lists_edges_without_knowing_names(town: Town) -> None:
    rows = town.supernode.edges()
    assert {row["address"] for row in rows} == {
        edge.joined.address for edge in (town.anna, town.bert, town.cleo, town.dora)
    }
    said = town.supernode.command("communities").stdout + town.supernode.command("edges").stdout
    assert "club" not in said
    assert town.supernode.json("status")["edges"] == 4


def test_a_fixed_address_that_a_member_holds_is_refused(town: Town, lab: Lab) -> None:
    thief = Edge(
        town.cleo.host,
        "club",
        "--supernode",
        town.supernode.endpoint,
        "--address",
        town.anna.joined.address,
        name="thief",
        key="right",
        label="thief",
    )
    thief.begin()
    assert thief.wait() == 1
    assert "address is held by another member" in thief.stderr
    assert len(thief.stderr.strip().splitlines()) <= 2
    assert town.anna.can_ping(town.bert)


def test_a_free_fixed_address_is_taken(town: Town) -> None:
    network = IPv4Interface(town.anna.joined.address).network
    taken = {IPv4Interface(edge.joined.address).ip for edge in (town.anna, town.bert)}
    free = next(host for host in list(network.hosts())[::-1] if host not in taken)
    fixed = Edge(
        town.dora.host,
        "club",
        "--supernode",
        town.supernode.endpoint,
        "--address",
        f"{free}/{network.prefixlen}",
        name="fixed",
        key="right",
        label="fixed",
    )
    assert fixed.join().address == f"{free}/{network.prefixlen}"
    assert fixed.joined.tap == "mesh1"
    town.anna.wait_ping(fixed, 5.0)
    assert fixed.stop() == 0


def test_two_machines_with_one_identity_are_told(town: Town, lab: Lab) -> None:
    """The state directory was copied: the newcomer wins, the other one says what happened."""
    original = Edge(
        town.cleo.host, "club", "--supernode", town.supernode.endpoint, key="right", label="twin"
    )
    original.join()
    copy = Edge(
        town.dora.host, "club", "--supernode", town.supernode.endpoint, key="right", label="twin"
    )
    copied = original.state / "identity.key"
    copy.state.mkdir()
    (copy.state / copied.name).write_bytes(copied.read_bytes())
    (copy.state / copied.name).chmod(0o600)
    copy.join()
    assert copy.joined.address == original.joined.address
    assert original.wait() == 1
    assert "another machine registered with this edge's identity" in original.stderr
    assert copy.stop() == 0
