"""The cable does to frames what its conditions say, in virtual time and between real machines.

```
   left ── cable ── switch ── cable ── right
```
"""

import itertools
import json
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from tests.netns.cable import Conditions, Direction
from tests.netns.cables import Cables
from tests.netns.lab import Lab, address_of
from tests.netns.namespaces import Host
from tests.netns.sockets import Agent, UdpSocket

FRAMES = 20_000
CLEAN = Conditions()


def _arrivals(
    conditions: Conditions, *, seed: str = "1", interval: float = 0.01
) -> list[list[float]]:
    """Return how long each of many frames of 100 bytes takes."""
    direction = Direction(conditions, seed)
    moments = [number * interval for number in range(FRAMES)]
    return [[at - now for at in direction.arrivals(100, now)] for now in moments]


def test_a_clean_cable_does_nothing() -> None:
    assert _arrivals(CLEAN) == [[0.0]] * FRAMES


def test_the_same_seed_throws_the_same_dice_and_another_one_others() -> None:
    rough = Conditions(jitter=0.03, loss=0.05, duplication=0.02, reordering=0.02)
    assert _arrivals(rough) == _arrivals(rough)
    assert _arrivals(rough) != _arrivals(rough, seed="2")


def test_loss_and_duplication_have_the_share_they_are_said_to_have() -> None:
    counts = [len(each) for each in _arrivals(Conditions(loss=0.05, duplication=0.02))]
    assert counts.count(0) / FRAMES == pytest.approx(0.05, abs=0.01)
    assert counts.count(2) / FRAMES == pytest.approx(0.02 * 0.95, abs=0.005)


def test_jitter_is_within_its_bounds_and_keeps_the_order() -> None:
    took = [took for [took] in _arrivals(Conditions(delay=0.02, jitter=0.03), interval=0.001)]
    # Whoever waits for an earlier one cannot take longer than that one was to take.
    assert min(took) >= 0.02
    assert max(took) <= 0.05
    arrivals = [round(number * 0.001 + each, 9) for number, each in enumerate(took)]
    assert arrivals == sorted(arrivals)


def test_frames_that_are_held_back_are_overtaken() -> None:
    took = _arrivals(Conditions(jitter=0.03, reordering=0.1), interval=0.005)
    arrivals = [number * 0.005 + each for number, [each] in enumerate(took)]
    overtaken = sum(a > b for a, b in itertools.pairwise(arrivals))
    assert 0.05 < overtaken / FRAMES < 0.1


def test_a_rate_lets_so_much_pass_and_its_queue_stays_short() -> None:
    limited = Conditions(rate=80_000, queue_bytes=2_000)  # 10 bytes a millisecond
    took = [each for each in _arrivals(limited) if each]  # 124 bytes are offered every 10 ms
    assert len(took) / FRAMES == pytest.approx(100 / 124, abs=0.01)
    assert max(each for [each] in took) <= (2_000 + 124) / 10_000 + 1e-9


@dataclass
class World:
    """Two machines on a switch whose cables are clean at first."""

    cables: Cables
    left: Host
    right: Host

    def change(self, conditions: Conditions) -> None:
        for cable in self.cables.laid:
            cable.change(conditions)

    def sockets(self) -> tuple[UdpSocket, UdpSocket]:
        return Agent(self.left).udp(), Agent(self.right).udp()


@pytest.fixture(scope="module")
def world(lab: Lab) -> World:
    cables = lab.use_cables(CLEAN)
    lan = lab.lan("switch")
    left, right = (lab.lan_host(name, lan) for name in ("left", "right"))
    left.run("ping", "-c1", "-W2", address_of(right, "eth0"))
    return World(cables, left, right)


_TCP_SERVER = """
import hashlib, socket
listener = socket.create_server(("0.0.0.0", 5001))
print("listening", flush=True)
for _ in range(2):
    connection, _ = listener.accept()
    digest = hashlib.sha256()
    while chunk := connection.recv(65536):
        digest.update(chunk)
    connection.sendall(digest.digest())
    connection.close()
"""
_TCP_CLIENT = """
import hashlib, json, random, socket, sys, time
content = random.Random(1).randbytes(int(sys.argv[2]))
began_at = time.monotonic()
with socket.create_connection((sys.argv[1], 5001), 5) as connection:
    connection.settimeout(20)
    connection.sendall(content)
    connection.shutdown(socket.SHUT_WR)
    assert connection.recv(32) == hashlib.sha256(content).digest()
print(json.dumps(time.monotonic() - began_at))
"""


def test_tcp_passes_intact_and_at_the_rate(world: World) -> None:
    """So checksums and segments, which a veth leaves to others, come out right, too."""
    server = world.right.popen(sys.executable, "-c", _TCP_SERVER, stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert server.stdout.readline() == "listening\n"
    client = (sys.executable, "-c", _TCP_CLIENT, address_of(world.right, "eth0"))
    world.change(CLEAN)
    world.left.run(*client, "3000000")
    world.change(Conditions(rate=4e6))
    took = json.loads(world.left.run(*client, "1000000").stdout)
    world.change(CLEAN)
    assert 2.0 <= took < 4.0, "8 Mbit at 4 Mbit/s, and headers"
    assert server.wait(5) == 0


def test_full_size_frames_take_as_long_as_is_said(world: World) -> None:
    world.change(Conditions(delay=0.02))
    sizes = ("-M", "do", "-s", str(1500 - 28))
    said = world.left.run("ping", "-q", "-c5", "-i0.1", *sizes, address_of(world.right, "eth0"))
    world.change(CLEAN)
    fastest = float(said.stdout.rpartition("= ")[2].split("/")[0])
    assert 80.0 <= fastest < 100.0, "four times 20 ms"


def test_datagrams_are_lost_doubled_and_overtaken(world: World) -> None:
    sender, receiver = world.sockets()
    to = (address_of(world.right, "eth0"), receiver.port)
    world.change(Conditions(loss=0.1, duplication=0.1, reordering=0.1))
    for number in range(500):
        sender.send(number.to_bytes(2), to)
        time.sleep(0.001)
    got = []
    while datagram := receiver.receive(0.2):
        got.append(int.from_bytes(datagram.data))
    world.change(CLEAN)
    there = [cable.counts()[index] for cable, index in zip(world.cables.laid, (1, 0), strict=True)]
    # Two cables: 0.9 squared of the datagrams come at all.
    assert 350 < len(set(got)) < 450
    assert 500 - len(set(got)) <= sum(counts.lost for counts in there)
    assert len(got) - len(set(got)) > 30
    assert sum(a > b for a, b in itertools.pairwise(got)) > 30
    assert sum(counts.held_back for counts in there) > 50
