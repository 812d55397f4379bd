"""A machine on the way that records, forges and changes datagrams: nothing of it gets in.

```
   supernode ── internet ─┬─ anna ═══ mesh0
               (recorded) ├─ bert ═══ mesh0     the victim
                          └─ mallory            sends under anna's address, and under its own
```
"""

import random
from dataclasses import dataclass

import pytest

from tests.netns.lab import Lab, address_of
from tests.netns.namespaces import Host
from tests.netns.product import Edge, Supernode, join_all, wait_direct, wait_until
from tests.netns.sockets import Address, Agent, Wire

ATTEMPTS = 200
BURST = 20  # frames; an ordinary user's packet sockets hold about 160
MARK = b"a frame that must arrive once"
ETHERTYPE = bytes.fromhex("88b5")
TRANSPORT = 4
RELAY = 5


@dataclass
class Recorded:
    """Genuine datagrams from anna to bert, and where they went."""

    source: Address
    destination: Address
    datagrams: list[bytes]


@dataclass
class Scene:
    """The topology, and what mallory recorded."""

    anna: Edge
    bert: Edge
    supernode: Supernode
    mallory: Agent
    mallory_address: str
    bert_tap: Wire
    recorded: Recorded
    envelope_header: bytes


@pytest.fixture(scope="module")
def scene(lab: Lab) -> Scene:
    internet = lab.internet()
    host = lab.public_host("supernode", internet)
    supernode = Supernode(host, address_of(host))
    supernode.serve()
    # Without offloads: the recording is to hold datagrams, not runs that the kernel never cut.
    options = ("hostile", "--supernode", supernode.endpoint, "--no-offload")
    anna, bert = (Edge(lab.public_host(name, internet), *options) for name in ("anna", "bert"))
    mallory = lab.public_host("mallory", internet)
    underlay = Agent(internet.host).wire(None)
    join_all(anna, bert)
    envelope_header = _envelope_header(anna, host, underlay)
    wait_direct(anna, bert)
    anna.wait_ping(bert, 5.0)
    bert_tap = Agent(bert.host).wire("mesh0")
    recorded = _record(anna, bert, bert_tap, underlay)
    agent = Agent(mallory)
    address = address_of(mallory)
    return Scene(anna, bert, supernode, agent, address, bert_tap, recorded, envelope_header)


def _envelope_header(anna: Edge, supernode: Host, underlay: Wire) -> bytes:
    """Return the 12 bytes before what anna had relayed to bert while they met."""
    ends = b"".join(bytes(map(int, address_of(host).split("."))) for host in (anna.host, supernode))
    payloads = [frame[42:] for frame in underlay.drain() if frame[26:34] == ends]
    return next(payload[:12] for payload in payloads if payload[0] == RELAY)


def _record(anna: Edge, bert: Edge, bert_tap: Wire, underlay: Wire) -> Recorded:
    """Have anna send marked frames to bert and return the datagrams that carried them."""
    macs = (bytes.fromhex(edge.status()["mac"].replace(":", "")) for edge in (bert, anna))
    frame = b"".join(macs) + ETHERTYPE + MARK.ljust(300, b".")
    underlay.drain()
    sender = Agent(anna.host).wire("mesh0")
    seen = []
    for _ in range(0, ATTEMPTS, BURST):
        sender.send(*[frame] * BURST)
        assert len(bert_tap.receive(BURST, 5.0, containing=MARK)) == BURST
        seen += underlay.drain()
    theirs = bytes(map(int, address_of(anna.host).split(".")))
    packets = [p[14:] for p in seen if len(p) > 300 and p[26:30] == theirs]
    carriers = [packet for packet in packets if packet[28] == TRANSPORT]
    assert len(carriers) >= ATTEMPTS, "the recording missed some"
    source, destination = (
        (".".join(map(str, carriers[0][at : at + 4])), int.from_bytes(carriers[0][port : port + 2]))
        for at, port in ((12, 20), (16, 22))
    )
    return Recorded(source, destination, [packet[28:] for packet in carriers[:ATTEMPTS]])


def _forged(recorded: Recorded, rng: random.Random) -> list[bytes]:
    """Return datagrams with a genuine receiver index, new counters and a made-up content."""
    index = recorded.datagrams[0][4:8]
    last = int.from_bytes(recorded.datagrams[-1][8:16])
    header = bytes([TRANSPORT, 0, 0, 0]) + index
    return [
        header + (last + 1000 + n).to_bytes(8) + rng.randbytes(rng.randrange(16, 400))
        for n in range(ATTEMPTS)
    ]


def _flipped(recorded: Recorded, rng: random.Random) -> list[bytes]:
    """Return the genuine datagrams with one bit changed, anywhere."""
    return [_flip(datagram, rng.randrange(len(datagram) * 8)) for datagram in recorded.datagrams]


def _flip(datagram: bytes, bit: int) -> bytes:
    changed = bytearray(datagram)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _with_new_counter(recorded: Recorded) -> list[bytes]:
    """Return the genuine datagrams under counters that bert has not seen."""
    last = int.from_bytes(recorded.datagrams[-1][8:16])
    return [
        datagram[:8] + (last + 5000 + n).to_bytes(8) + datagram[16:]
        for n, datagram in enumerate(recorded.datagrams)
    ]


ATTACKS = {
    "forged": _forged,
    "replayed": lambda recorded, _: recorded.datagrams,
    "bit-flipped": _flipped,
    "renumbered": lambda recorded, _: _with_new_counter(recorded),
    "noise": lambda _, rng: [rng.randbytes(rng.randrange(1, 1400)) for _ in range(ATTEMPTS)],
}


@pytest.mark.parametrize("is_spoofed", [True, False], ids=["as anna", "as mallory"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_no_hostile_datagram_is_delivered_or_moves_the_path(
    scene: Scene,
    attack: str,
    is_spoofed: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    datagrams = ATTACKS[attack](scene.recorded, random.Random(attack))
    before, path = scene.bert.drops(), scene.bert.peer(scene.anna)["path"]  # type: ignore[index]
    source = scene.recorded.source if is_spoofed else (scene.mallory_address, 6666)
    scene.mallory.spoof(source, scene.recorded.destination, datagrams)
    # Everything is counted, one reason or another, so everything was looked at and refused.
    refused = lambda: scene.bert.drops() - before >= ATTEMPTS  # noqa: E731
    wait_until(refused, 5.0, f"{ATTEMPTS} drops after {before}: {scene.bert.status()['drops']}")
    assert scene.bert_tap.receive(1, 0.3, containing=MARK) == []
    after = scene.bert.peer(scene.anna)["path"]  # type: ignore[index]
    assert (after["kind"], after["endpoint"]) == (path["kind"], path["endpoint"])
    assert scene.anna.can_ping(scene.bert)


def test_a_supernode_survives_the_same(scene: Scene) -> None:
    rng = random.Random(1)
    host, _, port = scene.supernode.endpoint.partition(":")
    victim = (host, int(port))
    for attack in ATTACKS.values():
        datagrams = attack(scene.recorded, rng)
        scene.mallory.spoof(scene.recorded.source, victim, datagrams)
        scene.mallory.spoof((scene.mallory_address, 6666), victim, datagrams)
    status = scene.supernode.json("status")
    assert status["edges"] == 2
    assert scene.bert_tap.receive(1, 0.3, containing=MARK) == []
    assert scene.anna.status()["supernode"]["connected"]


def test_the_supernode_relays_from_the_registered_endpoint_only(scene: Scene) -> None:
    """Relay ids are no secret to a machine on the way: the endpoint has to be right, too.

    What is counted is what leaves the supernode with our mark: edges relay heartbeats meanwhile.
    """
    host, _, port = scene.supernode.endpoint.partition(":")
    leaving = Agent(scene.supernode.host).wire("wan0", outgoing=True)

    def forwarded(source: Address, mark: bytes) -> int:
        transport = bytes([TRANSPORT, 0, 0, 0]) + mark.ljust(60, b".")
        envelopes = [scene.envelope_header + transport] * BURST
        scene.mallory.spoof(source, (host, int(port)), envelopes)
        # Each comes in once, and goes out once more if it is forwarded.
        return len(leaving.receive(2 * BURST, 0.7, containing=mark)) - BURST

    assert forwarded((scene.mallory_address, 6666), b"from mallory") == 0
    assert forwarded((scene.recorded.source[0], 6666), b"from another port of anna") == 0
    # The ids are genuine: under anna's own endpoint they are forwarded, and bert refuses them.
    assert forwarded(scene.recorded.source, b"from anna, it seems") == BURST
    assert scene.bert_tap.receive(1, 0.3, containing=b"from ") == []
