"""The lab itself: its NATs map and filter as their kind says, and it leaves nothing behind.

```
                         server: two addresses, two ports each
                            │
   stranger ──────────── internet
                            │
     one home per kind of NAT, with one machine in it: it speaks from one socket only
```
"""

import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.netns.lab import Internet, Lab, address_of
from tests.netns.namespaces import ROOT, Host
from tests.netns.nats import CHANGED_PORTS, SEQUENTIAL_FIRST_PORT, Nat
from tests.netns.sockets import Address, Agent, UdpSocket

SERVER_PORTS = (7001, 7002)
EVERY_NAT = [kind for kind in Nat if kind is not Nat.UDP_BLOCKED]
ENDPOINT_INDEPENDENT = [
    Nat.FULL_CONE,
    Nat.ADDRESS_RESTRICTED,
    Nat.PORT_RESTRICTED,
    Nat.PORT_CHANGED,
    Nat.REJECTING,
    Nat.FIREWALL,
]


@dataclass
class World:
    """The internet and three sockets on it: two of the server's, one of a stranger."""

    lab: Lab
    internet: Internet
    server: Host
    server_address: str
    sockets: list[UdpSocket]
    stranger: UdpSocket


@pytest.fixture(scope="module")
def world(lab: Lab) -> World:
    internet = lab.internet(has_ipv6=True)
    server = lab.public_host("server", internet)
    stranger = Agent(lab.public_host("stranger", internet)).udp()
    agent = Agent(server)
    sockets = [agent.udp(port=port) for port in SERVER_PORTS]
    return World(lab, internet, server, address_of(server), sockets, stranger)


@pytest.fixture(scope="module")
def homes() -> dict[Nat, Host]:
    return {}


def _machine_behind(kind: Nat, world: World, homes: dict[Nat, Host]) -> Host:
    if kind not in homes:
        home = world.lab.home(f"router-{kind.value}", world.internet, kind)
        homes[kind] = world.lab.home_host(f"h-{kind.value}", home)
    return homes[kind]


@pytest.fixture
def inside(world: World, homes: dict[Nat, Host], request: pytest.FixtureRequest) -> UdpSocket:
    """Return a socket on a machine behind the kind of NAT that the test is about."""
    return Agent(_machine_behind(request.param, world, homes)).udp()


def _mapping_towards(world: World, inside: UdpSocket, port_index: int) -> Address:
    """Send to one of the server's ports and return the source that the server saw."""
    inside.send(b"hello", (world.server_address, SERVER_PORTS[port_index]))
    seen = world.sockets[port_index].receive()
    assert seen is not None
    return seen.source


def _passes(sender: UdpSocket, to: Address, receiver: UdpSocket, timeout: float = 0.2) -> bool:
    sender.send(b"knock", to)
    return receiver.receive(timeout) is not None


@pytest.mark.parametrize("inside", EVERY_NAT, indirect=True, ids=lambda kind: kind.value)
def test_an_answer_gets_through_every_nat(world: World, inside: UdpSocket) -> None:
    mapped = _mapping_towards(world, inside, 0)
    assert _passes(world.sockets[0], mapped, inside, 1.0)


@pytest.mark.parametrize("inside", ENDPOINT_INDEPENDENT, indirect=True, ids=lambda kind: kind.value)
def test_cone_nats_use_one_mapping_for_all_destinations(world: World, inside: UdpSocket) -> None:
    assert _mapping_towards(world, inside, 0) == _mapping_towards(world, inside, 1)


@pytest.mark.parametrize("inside", [Nat.SYMMETRIC], indirect=True)
def test_a_symmetric_nat_uses_a_mapping_per_destination(world: World, inside: UdpSocket) -> None:
    assert _mapping_towards(world, inside, 0) != _mapping_towards(world, inside, 1)


@pytest.mark.parametrize("inside", [Nat.SYMMETRIC_SEQUENTIAL], indirect=True)
def test_a_sequential_nat_takes_the_next_port(world: World, inside: UdpSocket) -> None:
    first = _mapping_towards(world, inside, 0)[1]
    assert first >= SEQUENTIAL_FIRST_PORT
    assert _mapping_towards(world, inside, 1)[1] == first + 1


@pytest.mark.parametrize("inside", [Nat.PORT_CHANGED], indirect=True)
def test_a_port_changing_nat_changes_the_port(world: World, inside: UdpSocket) -> None:
    port = _mapping_towards(world, inside, 0)[1]
    assert CHANGED_PORTS[0] <= port <= CHANGED_PORTS[1]
    assert port != inside.port


@pytest.mark.parametrize("inside", EVERY_NAT, indirect=True, ids=lambda kind: kind.value)
def test_strangers_pass_full_cones_only(
    world: World, inside: UdpSocket, request: pytest.FixtureRequest
) -> None:
    mapped = _mapping_towards(world, inside, 0)
    is_full_cone = Nat.FULL_CONE.value in request.node.name
    assert _passes(world.stranger, mapped, inside) == is_full_cone


@pytest.mark.parametrize("inside", EVERY_NAT, indirect=True, ids=lambda kind: kind.value)
def test_another_port_of_a_known_address_passes_wide_filters_only(
    world: World, inside: UdpSocket, request: pytest.FixtureRequest
) -> None:
    mapped = _mapping_towards(world, inside, 0)
    is_wide = any(
        kind.value in request.node.name for kind in (Nat.FULL_CONE, Nat.ADDRESS_RESTRICTED)
    )
    assert _passes(world.sockets[1], mapped, inside) == is_wide


def test_an_early_probe_spoils_the_mapping_of_a_rejecting_router_only(
    world: World, homes: dict[Nat, Host]
) -> None:
    for kind, is_spoilt in ((Nat.REJECTING, True), (Nat.PORT_RESTRICTED, False)):
        inside = Agent(_machine_behind(kind, world, homes)).udp()
        public, port = _mapping_towards(world, inside, 0)
        world.sockets[1].send(b"early", (public, port))
        assert inside.receive(0.1) is None
        assert (_mapping_towards(world, inside, 1)[1] != port) == is_spoilt


def test_blocked_udp_is_blocked_and_the_rest_is_not(world: World, homes: dict[Nat, Host]) -> None:
    host = _machine_behind(Nat.UDP_BLOCKED, world, homes)
    Agent(host).udp().send(b"hello", (world.server_address, SERVER_PORTS[0]))
    assert world.sockets[0].receive(0.2) is None
    host.run("ping", "-c1", "-W2", world.server_address)


def test_double_nat_maps_to_the_outer_router(world: World) -> None:
    outer = world.lab.home("outer", world.internet)
    inner = world.lab.home("inner", outer)
    inside = Agent(world.lab.home_host("deep", inner)).udp()
    assert _mapping_towards(world, inside, 0)[0] == str(outer.public_address)


def test_public_machines_reach_each_other_over_ipv6(world: World) -> None:
    agent = Agent(world.lab.public_host("second", world.internet))
    sender, receiver = agent.udp("::"), Agent(world.server).udp("::", 7003)
    words = world.server.run("ip", "-6", "-brief", "address", "show", "wan0").stdout.split()
    address = next(word for word in words if word.startswith("2a0f")).partition("/")[0]
    assert _passes(sender, (address, 7003), receiver, 1.0)


def test_spoofed_datagrams_and_vlan_frames_pass_the_lab(world: World) -> None:
    forger = Agent(world.lab.public_host("forger", world.internet))
    forger.spoof(("9.9.9.9", 53), (world.server_address, SERVER_PORTS[0]), [b"forged"])
    seen = world.sockets[0].receive()
    assert seen is not None
    assert (seen.data, seen.source) == (b"forged", ("9.9.9.9", 53))
    lan = world.lab.lan("switch")
    left, right = (Agent(world.lab.lan_host(name, lan)) for name in ("left", "right"))
    listening = right.wire("eth0")
    frame = b"\xff" * 6 + b"\2\0\0\0\0\1" + bytes.fromhex("8100002a 8137") + b"ipx" * 20
    left.wire("eth0").send(frame)
    assert listening.receive(1, 1.0, containing=b"ipxipx") == [frame]


def test_a_lab_machine_has_its_own_default_folders(world: World) -> None:
    """A program that is told of no folders must not find, or change, those of the real machine."""
    for folder in ("/run", "/var/lib"):
        left_there = f"{folder}/mesh-lab-probe"
        world.server.run("touch", left_there)
        assert not Path(left_there).exists()
        assert world.internet.host.run("ls", left_there, check=False).returncode != 0


_LAB_THAT_IS_KILLED = """
import sys, time
from pathlib import Path
from tests.netns.lab import Lab
from tests.netns.sockets import Agent
lab = Lab(Path(sys.argv[1]))
internet = lab.internet()
host = lab.public_host("doomed", internet)
process = host.popen("sleep", "1000")
Agent(host).udp()
print(internet.host.pid, host.pid, process.pid, flush=True)
time.sleep(1000)
"""


def test_a_killed_test_run_leaves_nothing_behind(namespaces_allowed: None, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _LAB_THAT_IS_KILLED, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        pids = [int(word) for word in run.stdout.readline().split()]
        assert all(_is_running(pid) for pid in pids)
        watched = [os.pidfd_open(pid) for pid in pids]
        run.send_signal(signal.SIGKILL)
    for pid, watch in zip(pids, watched, strict=True):
        assert _ends(watch), f"process {pid} outlived the tests"


def _is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _ends(pidfd: int) -> bool:
    try:
        return bool(select.select([pidfd], [], [], 5.0)[0])
    finally:
        os.close(pidfd)
