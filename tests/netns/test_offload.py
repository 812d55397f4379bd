"""Bulk transfers between edges with and without offloads, direct and relayed: nothing is changed.

```
   supernode ── internet ─┬─ anna   with offloads
                          ├─ bert   --no-offload
                          ├─ cleo   with offloads
                          └─ dora   with offloads, --relay-only
```
"""

import re
from collections import Counter

import pytest

from tests.netns.lab import Lab, address_of
from tests.netns.product import Edge, Supernode, join_all, wait_until
from tests.netns.transfer import transfer


@pytest.fixture(scope="module")
def edges(lab: Lab) -> dict[str, Edge]:
    internet = lab.internet()
    host = lab.public_host("supernode", internet)
    supernode = Supernode(host, address_of(host))
    supernode.serve()
    options = {"anna": (), "bert": ("--no-offload",), "cleo": (), "dora": ("--relay-only",)}
    made = {
        name: Edge(
            lab.public_host(name, internet), "bulk", "--supernode", supernode.endpoint, *more
        )
        for name, more in options.items()
    }
    join_all(*made.values())
    for one in made.values():
        for other in made.values():
            if one is not other:
                relayed = "dora" in {one.host.name, other.host.name}
                kind = "relay" if relayed else "direct"
                wait_until(lambda o=one, p=other, k=kind: o.path_to(p) == k, 15.0, kind)  # type: ignore[misc]
    return made


def ula_of(edge: Edge) -> str:
    shown = edge.host.run("ip", "-6", "-brief", "address", "show", "mesh0").stdout
    (found,) = re.findall(r"(?<![0-9a-f:])fd[0-9a-f:]+", shown)
    return str(found)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("source", "destination"),
    [("anna", "cleo"), ("anna", "bert"), ("bert", "anna"), ("anna", "dora"), ("dora", "bert")],
)
def test_a_bulk_transfer_arrives_unchanged(
    edges: dict[str, Edge], source: str, destination: str, version: int
) -> None:
    to = edges[destination]
    address = to.ip if version == 4 else ula_of(to)
    before = [Counter(edge.status()["drops"]) for edge in (edges[source], to)]
    assert transfer(edges[source], to, address)
    after = [Counter(edge.status()["drops"]) for edge in (edges[source], to)]
    dropped = [now - then for now, then in zip(after, before, strict=True)]
    for counts in dropped:
        del counts["no_path"]  # dora takes no direct ping, and her peers try now and then
    assert sum(map(Counter.total, dropped)) <= 2, dropped  # a late copy of a ping may be one


def test_status_says_whether_offloads_are_on(edges: dict[str, Edge]) -> None:
    assert edges["anna"].status()["offload"] is True
    assert edges["bert"].status()["offload"] is False


def test_a_bulk_transfer_survives_loss(edges: dict[str, Edge]) -> None:
    """One arrival in a hundred is dropped; one that UDP_GRO joined, as a whole."""
    cleo = edges["cleo"]
    cleo.host.nft(
        "table ip lossy {\n chain input {\n type filter hook input priority 0;\n"
        " udp length > 1000 numgen random mod 100 == 0 drop\n }\n}\n"
    )
    try:
        assert transfer(edges["anna"], cleo, cleo.ip)
    finally:
        cleo.host.run("nft", "delete", "table", "ip", "lossy")
