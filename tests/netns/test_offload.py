"""Bulk transfers between edges with and without offloads, direct and relayed: nothing is changed.

```
   supernode ── internet ─┬─ anna   with offloads
                          ├─ bert   --no-offload
                          ├─ cleo   with offloads
                          └─ dora   with offloads, --relay-only
```
"""

import re
import select
import subprocess
import sys
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


BLASTS = 5

BLAST = """
import socket, struct, sys, time
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
out.connect((sys.argv[1], 5001))
for size in (64, 1200, 1472):
    for batch in range(20):
        content = b"".join(
            struct.pack(">HHH", size, batch, number).ljust(size, b"x") for number in range(20)
        )
        segment = struct.pack("=H", size)
        out.sendmsg([content], [(socket.SOL_UDP, 103, segment)])  # UDP_SEGMENT
        time.sleep(0.003)  # or a busy machine drops some at every queue
    for number in range(20):
        out.send(struct.pack(">HHH", size, 20, number).ljust(size, b"x"))
"""

GATHER = """
import socket, struct, sys
taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
taken.setsockopt(socket.SOL_SOCKET, 33, 1 << 23)  # SO_RCVBUFFORCE
taken.bind((sys.argv[1], 5001))
taken.settimeout(10)
print("ready", flush=True)
wanted = {(s, b, n) for s in (64, 1200, 1472) for b in range(21) for n in range(20)}
while wanted:
    try:
        data = taken.recv(65536)
    except TimeoutError:
        sys.exit(print(len(wanted), "missing:", sorted(wanted)[:9]))
    mark = struct.unpack(">HHH", data[:6])
    if mark[0] != len(data) or data[6:] != b"x" * (len(data) - 6):
        sys.exit(print("changed:", data))
    wanted.discard(mark)
print("all", flush=True)
"""


@pytest.mark.parametrize(
    ("source", "destination"), [("anna", "cleo"), ("anna", "bert"), ("bert", "anna")]
)
def test_batches_of_datagrams_arrive_as_they_were_sent(
    edges: dict[str, Edge], source: str, destination: str
) -> None:
    to = edges[destination]
    gather = to.host.popen(sys.executable, "-c", GATHER, to.ip, stdout=subprocess.PIPE)
    assert gather.stdout is not None
    try:
        assert gather.stdout.readline() == "ready\n"
        for _ in range(BLASTS):  # nobody promises that none is lost
            edges[source].host.run(sys.executable, "-c", BLAST, to.ip)
            if select.select([gather.stdout], [], [], 1.0)[0]:
                break
        assert gather.stdout.readline() == "all\n"
    finally:
        gather.kill()
        gather.wait()
        gather.stdout.close()


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
