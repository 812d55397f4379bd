"""Bulk transfers between edges with and without offloads, direct and relayed: nothing is changed.

```
   supernode ── internet ─┬─ anna   with offloads
                          ├─ bert   --no-offload
                          ├─ cleo   with offloads
                          └─ dora   with offloads, --relay-only
```
"""

import hashlib
import re
import subprocess
import sys
from collections import Counter

import pytest

from tests.netns.lab import Lab, address_of
from tests.netns.product import Edge, Supernode, join_all, wait_until

CONTENT = b"".join(hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(65536)) * 4
PORT = 5000

RECEIVE = f"""
import hashlib, socket, sys
server = socket.create_server((sys.argv[1], {PORT}), family=int(sys.argv[2]))
print("ready", flush=True)
taken, digest = server.accept()[0], hashlib.sha256()
while data := taken.recv(1 << 20):
    digest.update(data)
print(digest.hexdigest(), flush=True)
taken.send(b"done")
"""

SEND = f"""
import socket, sys
taken = socket.create_connection((sys.argv[1], {PORT}), timeout=20)
taken.sendall(sys.stdin.buffer.read())
taken.shutdown(socket.SHUT_WR)
assert taken.recv(10) == b"done"
"""


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


def transfer(source: Edge, destination: Edge, address: str) -> bool:
    """Send CONTENT over one TCP connection; return whether it arrived unchanged."""
    family = "10" if ":" in address else "2"
    receiver = destination.host.popen(
        *(sys.executable, "-c", RECEIVE, address, family), stdout=subprocess.PIPE
    )
    assert receiver.stdout is not None
    try:
        assert receiver.stdout.readline() == "ready\n"
        command = source.host.enter(sys.executable, "-c", SEND, address)
        subprocess.run(command, input=CONTENT, check=True, timeout=60)
        return receiver.stdout.readline().strip() == hashlib.sha256(CONTENT).hexdigest()
    finally:
        receiver.kill()
        receiver.wait()
        receiver.stdout.close()


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
