"""Nothing configured at all: the first machine on a LAN hosts, the next ones find it.

```
   host ═══ mesh0      guest ═══ mesh0
     └──── switch ─────┘            no router, no default route, no supernode set up
      192.168.7.0/24
```
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.netns.lab import Lab, address_of
from tests.netns.namespaces import Host
from tests.netns.product import JOIN_TIMEOUT, Edge, wait_for_sessions, wait_until
from tests.netns.sockets import Agent

INVITE = r"invite: (mesh://\S+)"


@dataclass
class Room:
    """Two machines on a switch, and what passes it."""

    host: Host
    guest: Host


@pytest.fixture(scope="module")
def room(lab: Lab) -> Room:
    lan = lab.lan("switch")
    return Room(lab.lan_host("host", lan), lab.lan_host("guest", lan))


@pytest.fixture
def stopped(room: Room) -> Iterator[list[Edge]]:
    """Stop what a test started: the next one begins with an empty LAN."""
    edges: list[Edge] = []
    yield edges
    for edge in reversed(edges):
        if edge.is_running:
            edge.stop()


def _invite_of(edge: Edge) -> str:
    return edge.wait_for_line(INVITE, JOIN_TIMEOUT)[1]


def test_join_hosts_a_supernode_and_its_invite_is_all_that_others_need(
    room: Room, stopped: list[Edge]
) -> None:
    host = Edge(room.host, "lan-party", key="", label="first")
    stopped.append(host)
    host.join()
    invite = _invite_of(host)
    assert address_of(room.host, "eth0") in invite
    assert host.command("invite").stdout == f"{invite}\n"

    guest = Edge(room.guest, invite, key="", label="invited")
    stopped.append(guest)
    assert guest.join().community == "lan-party"
    wait_for_sessions(host, guest)
    guest.wait_ping(host, 5.0)
    wait_until(lambda: guest.path_to(host) == "direct", 5.0, "the path is direct")

    # The guest keeps what the invite told: next time the community's name is enough.
    assert guest.stop() == 0
    again = Edge(room.guest, "lan-party", key="", label="invited")
    stopped.append(again)
    again.join()
    wait_for_sessions(host, again)


def test_an_open_community_is_found_by_its_name_alone(room: Room, stopped: list[Edge]) -> None:
    underlay = Agent(room.guest).wire("eth0")
    host = Edge(room.host, "games", "--open", key="", label="open-host")
    guest = Edge(room.guest, "games", "--open", key="", label="open-guest")
    stopped += [host, guest]
    host.join()
    guest.join()
    wait_for_sessions(host, guest)
    guest.wait_ping(host, 5.0)
    assert not guest.stdout.count("invite:"), "the guest should have found the host's supernode"
    assert not [frame for frame in underlay.drain() if b"games" in frame]


def test_a_closed_community_is_found_by_those_who_have_the_key(
    room: Room, stopped: list[Edge]
) -> None:
    host = Edge(room.host, "club", label="club-host")
    guest = Edge(room.guest, "club", label="club-guest")
    stopped += [host, guest]
    host.join()
    guest.join()
    wait_for_sessions(host, guest)
    assert not guest.stdout.count("invite:"), "the guest should have found the host's supernode"


def test_the_embedded_supernode_serves_its_own_community_only(
    room: Room, stopped: list[Edge]
) -> None:
    host = Edge(room.host, "mine", label="mine")
    stranger = Edge(room.guest, "theirs", label="theirs")
    stopped += [host, stranger]
    host.join()
    stranger.join()
    assert host.joined.supernode != stranger.joined.supernode
    assert stranger.stdout.count("invite:") == 1
    assert host.peers() == stranger.peers() == []
