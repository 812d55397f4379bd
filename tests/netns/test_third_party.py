"""Members who name a third party's addresses as their own cannot have it flooded.

```
                        supernode
                            │
   edges ─┬─ home ──── internet ─┬─ victim       counts what arrives
          └─ public ─────┘       └─ hostile      five members with a secret, on one machine
```
"""

import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from mesh.constants import TOLD_ADDRESS_BURST, TOLD_ADDRESS_RATE
from tests.netns.lab import Lab, address_of
from tests.netns.namespaces import ROOT
from tests.netns.product import KEY, Edge, Supernode, join_all, wait_direct
from tests.netns.sockets import Agent

HOSTILE_MEMBERS = 5
OBSERVED_FOR = 15.0  # s
PING_BYTES = 100
"""More than any ping to an unproved endpoint has."""
UDP = 17


@dataclass
class Flood:
    """What the victim got from the honest edges, in two spans.

    Attributes:
        first: the sizes of the UDP payloads while the hostile members began.
        first_lasted: seconds.
        later: the same afterwards, for `OBSERVED_FOR` seconds.
    """

    first: list[int]
    first_lasted: float
    later: list[int]
    edges: list[Edge]


@pytest.fixture(scope="module")
def flood(lab: Lab) -> Flood:
    internet = lab.internet()
    host = lab.public_host("supernode", internet)
    supernode = Supernode(host, address_of(host))
    supernode.serve()
    victim = lab.public_host("victim", internet)
    hosts = [
        lab.home_host("homely", lab.home("router", internet)),
        lab.public_host("public", internet),
    ]
    # Without offloads: what the victim's wire shows are to be datagrams, not runs of them.
    options = ("accused", "--supernode", supernode.endpoint, "--no-offload")
    edges = [Edge(host, *options) for host in hosts]
    join_all(*edges)
    wait_direct(*edges)
    wire = Agent(victim).wire("wan0")
    began_at = time.monotonic()
    hostile_host = lab.public_host("hostile", internet)
    hostile_address = address_of(hostile_host)
    hostile = hostile_host.popen(
        sys.executable,
        "-m",
        "tests.netns.hostile_members",
        *("accused", KEY, supernode.endpoint, address_of(victim), str(HOSTILE_MEMBERS)),
        stdout=subprocess.PIPE,
        stderr=None,  # type: ignore[arg-type]
        env={"PYTHONPATH": str(ROOT)},
    )
    assert hostile.stdout is not None
    assert hostile.stdout.readline() == "joined\n"
    time.sleep(OBSERVED_FOR)
    first = _datagrams(wire.drain(), hostile_address)
    first_lasted = time.monotonic() - began_at  # joining takes the hostile ones a while
    time.sleep(OBSERVED_FOR)
    later = _datagrams(wire.drain(), hostile_address)
    assert hostile.poll() is None
    hostile.kill()
    return Flood(first, first_lasted, later, edges)


def _datagrams(frames: list[bytes], hostile_address: str) -> list[int]:
    """Return the sizes of the datagrams that others than the hostile members have sent.

    Those are engines, too, and do to each other what they want the honest ones to do.
    """
    not_counted = bytes(map(int, hostile_address.split(".")))
    return [
        int.from_bytes(frame[38:40]) - 8
        for frame in frames
        if frame[12:14] == b"\x08\x00" and frame[23] == UDP and frame[26:30] != not_counted
    ]


def test_the_hostile_members_are_believed(flood: Flood) -> None:
    """Else the rest would show nothing: their endpoints are tried, as those of anybody."""
    assert len(flood.first) > TOLD_ADDRESS_BURST


def test_the_victim_gets_few_datagrams_and_small_ones(flood: Flood) -> None:
    allowed = OBSERVED_FOR * TOLD_ADDRESS_RATE
    edges = len(flood.edges)
    per_minute = 60 / OBSERVED_FOR * len(flood.later)
    print(f"{per_minute:.0f} datagrams per minute from {edges} edges")  # noqa: T201 - a figure
    at_first = TOLD_ADDRESS_BURST + flood.first_lasted * TOLD_ADDRESS_RATE
    assert len(flood.first) <= edges * at_first
    assert len(flood.later) <= edges * (allowed + 2)
    assert max(flood.first + flood.later) < PING_BYTES


def test_the_edges_stay_with_each_other(flood: Flood) -> None:
    one, other = flood.edges
    assert one.path_to(other) == other.path_to(one) == "direct"
    assert one.can_ping(other)
