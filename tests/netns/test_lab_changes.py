"""What befalls the lab's networks: routers that forget, renumber, restart, reject and time out.

```
   server ── internet ── router of some kind, as each test wants it ── inside
```
"""

import time
from dataclasses import dataclass

import pytest

from tests.netns.lab import Home, Internet, Lab, Refusal, address_of, unplug
from tests.netns.namespaces import Host
from tests.netns.nats import Nat
from tests.netns.product import wait_until
from tests.netns.sockets import Address, Agent, Datagram, UdpSocket

PORT = 7001
KINDS = [Nat.PORT_RESTRICTED, Nat.ADDRESS_RESTRICTED, Nat.PORT_CHANGED, Nat.SYMMETRIC_SEQUENTIAL]
SHORT_TIMEOUT = 2


@dataclass
class World:
    """The internet, a server on it and homes, each with one machine, made when first asked for."""

    lab: Lab
    internet: Internet
    server_host: Host
    server: UdpSocket
    homes: dict[Nat, tuple[Home, Host]]

    @property
    def server_address(self) -> Address:
        return address_of(self.server_host), PORT

    def home(self, kind: Nat) -> tuple[Home, UdpSocket]:
        """Return a home of a kind and a new socket on its machine."""
        if kind not in self.homes:
            home = self.lab.home(f"router-{kind.value}", self.internet, kind)
            self.homes[kind] = home, self.lab.home_host(f"h-{kind.value}", home)
        home, host = self.homes[kind]
        return home, Agent(host).udp()

    def say_hello(self, inside: UdpSocket) -> Datagram | None:
        inside.send(b"hello", self.server_address)
        return self.server.receive(0.3)

    def mapping(self, inside: UdpSocket) -> Address:
        seen = self.say_hello(inside)
        assert seen is not None
        return seen.source

    def reaches(self, mapped: Address, inside: UdpSocket) -> bool:
        self.server.send(b"knock", mapped)
        return inside.receive(0.2) is not None


@pytest.fixture(scope="module")
def world(lab: Lab) -> World:
    internet = lab.internet()
    server = lab.public_host("server", internet)
    return World(lab, internet, server, Agent(server).udp(port=PORT), {})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.value)
def test_a_flushed_router_has_forgotten_every_mapping(world: World, kind: Nat) -> None:
    home, inside = world.home(kind)
    mapped = world.mapping(inside)
    assert world.reaches(mapped, inside)
    home.flush_conntrack()
    assert not world.reaches(mapped, inside)
    assert world.reaches(world.mapping(inside), inside)


def test_a_router_without_power_is_dead_and_comes_back_without_memory(world: World) -> None:
    home, inside = world.home(Nat.PORT_RESTRICTED)
    mapped = world.mapping(inside)
    home.power_off()
    assert world.say_hello(inside) is None
    home.power_on()
    assert not world.reaches(mapped, inside)
    wait_until(lambda: world.say_hello(inside), 5.0, "the router is back")


@pytest.mark.parametrize("kind", [*KINDS, Nat.FIREWALL], ids=lambda kind: kind.value)
def test_a_changed_public_address_is_the_source_from_then_on(world: World, kind: Nat) -> None:
    home, inside = world.home(kind)
    mapped = world.mapping(inside)
    after = home.change_public_address()
    assert str(after) != mapped[0]
    if kind is not Nat.FIREWALL:  # a firewall has no address of its own in this
        assert world.mapping(inside)[0] == str(after)
    assert not world.reaches(mapped, inside) or kind is Nat.FIREWALL
    assert world.reaches(world.mapping(inside), inside)


@pytest.mark.parametrize("kind", [Nat.PORT_RESTRICTED, Nat.FULL_CONE], ids=lambda kind: kind.value)
def test_an_idle_mapping_is_forgotten_when_its_time_is_over(world: World, kind: Nat) -> None:
    home, inside = world.home(kind)
    home.set_udp_timeout(SHORT_TIMEOUT)
    mapped = world.mapping(inside)
    assert world.reaches(mapped, inside)
    time.sleep(SHORT_TIMEOUT / 2)
    assert world.reaches(mapped, inside)  # use keeps it
    time.sleep(SHORT_TIMEOUT * 0.75)
    assert world.reaches(mapped, inside)
    time.sleep(SHORT_TIMEOUT + 1.5)  # conntrack's clock ticks in seconds
    assert not world.reaches(mapped, inside)


@pytest.mark.parametrize("refusal", Refusal)
def test_a_block_lets_nothing_pass_and_only_a_rejecting_one_says_so(
    world: World, refusal: Refusal
) -> None:
    home, inside = world.home(Nat.PORT_RESTRICTED)
    _, host = world.homes[Nat.PORT_RESTRICTED]
    ping = ("ping", "-n", "-c1", "-W1", world.server_address[0])
    assert world.say_hello(inside)
    world.internet.block(home.public_address, world.server_address[0], refusal)
    assert world.say_hello(inside) is None
    said = host.run(*ping, check=False).stdout
    assert ("Packet filtered" in said) == (refusal is Refusal.REJECT), said
    world.internet.unblock()
    assert world.say_hello(inside)
    host.run(*ping)


def test_a_machine_that_moves_house_has_another_address(world: World) -> None:
    old, _ = world.home(Nat.PORT_RESTRICTED)
    new, _ = world.home(Nat.PORT_CHANGED)
    mover = world.lab.home_host("mover", old)
    assert world.mapping(Agent(mover).udp())[0] == str(old.public_address)
    unplug(mover)
    new.attach(mover)
    assert world.mapping(Agent(mover).udp())[0] == str(new.public_address)
