"""The lab itself: its NATs map and filter as their kind says, and it leaves nothing behind.

```
   server, two ports ──┐
                   internet ── one machine of each kind, behind the NAT that the kind says
   stranger ───────────┘
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

from tests.netns.kinds import Kind, connect
from tests.netns.lab import Internet, Lab
from tests.netns.namespaces import ROOT, Host
from tests.netns.nat_probe import Behaviour, Observers, Scope, passes
from tests.netns.nats import CHANGED_PORTS, SEQUENTIAL_FIRST_PORT, SEQUENTIAL_PORTS, Nat
from tests.netns.sockets import Agent

INDEPENDENT, BY_ADDRESS, BY_ENDPOINT = Scope.NOTHING, Scope.ADDRESS, Scope.ENDPOINT
BEHAVIOURS = {
    Kind.OPEN: Behaviour(INDEPENDENT, INDEPENDENT),
    Kind.FULL_CONE: Behaviour(INDEPENDENT, INDEPENDENT),
    Kind.ADDRESS_RESTRICTED: Behaviour(INDEPENDENT, BY_ADDRESS),
    Kind.PORT_RESTRICTED: Behaviour(INDEPENDENT, BY_ENDPOINT),
    Kind.PORT_CHANGED: Behaviour(INDEPENDENT, BY_ENDPOINT, keeps_port=False),
    Kind.REJECTING: Behaviour(INDEPENDENT, BY_ENDPOINT),
    Kind.FIREWALL: Behaviour(INDEPENDENT, BY_ENDPOINT),
    Kind.DOUBLE: Behaviour(INDEPENDENT, BY_ENDPOINT),
    Kind.SEQUENTIAL: Behaviour(BY_ENDPOINT, BY_ENDPOINT, keeps_port=False, is_sequential=True),
    Kind.SYMMETRIC: Behaviour(BY_ENDPOINT, BY_ENDPOINT, keeps_port=False),
    Kind.DOUBLE_SYMMETRIC: Behaviour(BY_ENDPOINT, BY_ENDPOINT, keeps_port=False),
}


@dataclass
class World:
    """The internet, those who look at the machines on it, and the machines, made when needed."""

    lab: Lab
    internet: Internet
    observers: Observers
    machines: dict[Kind, Host]

    def machine(self, kind: Kind) -> Host:
        if kind not in self.machines:
            self.machines[kind] = connect(self.lab, self.internet, kind, kind.value)
        return self.machines[kind]


@pytest.fixture(scope="module")
def world(lab: Lab) -> World:
    internet = lab.internet(has_ipv6=True)
    return World(lab, internet, Observers(lab, internet), {})


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.value)
def test_every_nat_maps_and_filters_as_its_name_says(world: World, kind: Kind) -> None:
    assert world.observers.observe(Agent(world.machine(kind)).udp()) == BEHAVIOURS[kind]


def test_ports_are_taken_from_where_they_are_said_to_come(world: World) -> None:
    towards = world.observers.mapping_towards_server
    changed = towards(Agent(world.machine(Kind.PORT_CHANGED)).udp())[1]
    assert CHANGED_PORTS[0] <= changed <= CHANGED_PORTS[1]
    sequential = towards(Agent(world.machine(Kind.SEQUENTIAL)).udp())[1]
    assert SEQUENTIAL_FIRST_PORT <= sequential < SEQUENTIAL_FIRST_PORT + SEQUENTIAL_PORTS


def test_an_early_probe_spoils_the_mapping_of_a_rejecting_router_only(world: World) -> None:
    observers = world.observers
    for kind, is_spoilt in ((Kind.REJECTING, True), (Kind.PORT_RESTRICTED, False)):
        inside = Agent(world.machine(kind)).udp()
        public, port = observers.mapping_towards_server(inside)
        assert not passes(observers.other_port, (public, port), inside)
        assert (observers.mapping_towards_other_port(inside)[1] != port) == is_spoilt


def test_blocked_udp_is_blocked_and_the_rest_is_not(world: World) -> None:
    home = world.lab.home("blocked", world.internet, Nat.UDP_BLOCKED)
    host = world.lab.home_host("h-blocked", home)
    inside = Agent(host).udp()
    assert not passes(inside, world.observers.server_endpoint, world.observers.server)
    host.run("ping", "-c1", "-W2", world.observers.server_endpoint[0])


def test_double_nat_maps_to_the_outer_router(world: World) -> None:
    outer = world.lab.home("outer", world.internet)
    inner = world.lab.home("inner", outer)
    inside = Agent(world.lab.home_host("deep", inner)).udp()
    assert world.observers.mapping_towards_server(inside)[0] == str(outer.public_address)


@pytest.mark.parametrize("hairpin", [False, True], ids=["without", "with"])
def test_neighbours_meet_at_public_endpoints_with_hairpin_only(
    world: World,
    hairpin: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    name = f"hairpin-{hairpin}"
    carrier = world.lab.carrier(name, world.internet, Nat.FULL_CONE, hairpin=hairpin)
    left, right = (
        Agent(world.lab.home_host(f"{name}-{n}", world.lab.home(f"{name}-home-{n}", carrier))).udp()
        for n in range(2)
    )
    seen_left, seen_right = map(world.observers.mapping_towards_server, (left, right))
    left.send(b"opens my own NAT", seen_right)
    right.send(b"hello", seen_left)
    got = left.receive(0.3)
    assert (got is not None) == hairpin
    if got is not None:
        assert got.source == seen_right, "the source is the public one as well"


def test_what_may_take_two_hops_only_dies_in_the_internet(world: World) -> None:
    host = world.machine(Kind.OPEN)
    for hops, arrives in ((2, False), (7, False), (9, True)):
        ping = ("ping", "-n", "-c1", "-W1", f"-t{hops}", world.observers.server_endpoint[0])
        said = host.run(*ping, check=False).stdout
        assert ("Time to live exceeded" in said) != arrives, said


def test_public_machines_reach_each_other_over_ipv6(world: World) -> None:
    agent = Agent(world.lab.public_host("second", world.internet))
    sender, receiver = agent.udp("::"), Agent(world.observers.host).udp("::", 7003)
    words = world.observers.host.run("ip", "-6", "-brief", "address", "show", "wan0").stdout.split()
    address = next(word for word in words if word.startswith("2a0f")).partition("/")[0]
    assert passes(sender, (address, 7003), receiver, 1.0)


def test_spoofed_datagrams_and_vlan_frames_pass_the_lab(world: World) -> None:
    forger = Agent(world.lab.public_host("forger", world.internet))
    forger.spoof(("9.9.9.9", 53), world.observers.server_endpoint, [b"forged"])
    seen = world.observers.server.receive()
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
        world.observers.host.run("touch", left_there)
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
