"""The check of a network against real supernode engines, in virtual time.

::

    checker ── LAN ── NAT ── internet ── supernode(s)
"""

import errno
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.addresses import Endpoint
from mesh.core.check import CheckEngine, Target
from mesh.core.conversation import Depth, Stage
from mesh.engine import ReceivedDatagrams
from supernode.limits import SupernodeLimits
from tests.virtual_driver import VirtualDriver
from tests.virtual_nat import HOME_ROUTER, PORT_RESTRICTED, SYMMETRIC, NatBehaviour
from tests.virtual_network import Host, LinkConditions
from tests.world import World, community_keys

TOKEN = bytes(range(32))
TIME_LIMIT = 5.0


class Checker:
    """A check that runs on a host of the virtual world."""

    def __init__(self, world: World, host: Host, targets: list[Target]) -> None:
        self.world = world
        self.engine = CheckEngine(targets, world.entropy_for("check"), world.clock.now, TOKEN)
        self.driver = VirtualDriver(self.engine, host, clock=world.clock, dice=world.dice)
        self.driver.start()

    def run(self) -> float:
        return self.world.run_until(lambda: self.engine.is_done, TIME_LIMIT)


def targets_of(world: World) -> list[Target]:
    return [Target(one.endpoint, one.identity.fingerprint) for one in world.supernodes]


def test_it_learns_round_trip_key_and_where_it_is_seen_without_registering() -> None:
    world = World()
    supernode = world.add_supernode(has_probe_ports=False)
    nat = world.add_nat(PORT_RESTRICTED)
    checker = Checker(world, world.add_host("checker", nat), [Target(supernode.endpoint)])
    took = checker.run()
    [found] = checker.engine.conversations
    assert found.fingerprint == supernode.identity.fingerprint
    assert found.is_key_right is None
    assert found.seen_as is not None
    assert found.seen_as.host == nat.public_address
    assert found.rtt == pytest.approx(0.0404, abs=0.002)
    assert found.mtu == 1500
    assert took < 0.5
    assert supernode.edge_count() == 0
    assert supernode.leases == {}


def test_an_embedded_supernode_of_somebody_elses_community_tells_as_much() -> None:
    world = World()
    limits = SupernodeLimits(only_community=community_keys("theirs").community_id)
    supernode = world.add_supernode(limits=limits)
    checker = Checker(world, world.add_host("checker"), targets_of(world))
    checker.run()
    [found] = checker.engine.conversations
    assert found.is_key_right is True
    assert found.seen_as == Endpoint(checker.driver.host.addresses()[0], checker.driver.udp_port)
    assert supernode.drops() == {}


def test_a_supernode_with_another_key_is_not_talked_to() -> None:
    world = World()
    supernode = world.add_supernode()
    target = Target(supernode.endpoint, "a" * 32)
    checker = Checker(world, world.add_host("checker"), [target])
    checker.run()
    [found] = checker.engine.conversations
    assert found.is_key_right is False
    assert found.fingerprint == supernode.identity.fingerprint
    assert found.seen_as is None


def test_where_nobody_answers_it_gives_up_within_seconds() -> None:
    world = World()
    nowhere = Target(Endpoint(world.public_address(), 7777))
    checker = Checker(world, world.add_host("checker"), [nowhere])
    assert 2.0 < checker.run() < 3.0
    [found] = checker.engine.conversations
    assert found.rtt is None
    assert found.seen_as is None


def test_a_supernode_that_falls_silent_after_the_handshake_does_not_hold_it_up() -> None:
    world = World()
    supernode = world.add_supernode()
    checker = Checker(world, world.add_host("checker"), targets_of(world))
    [found] = checker.engine.conversations
    world.run_until(lambda: found.stage is not Stage.HANDSHAKE, 1.0)
    supernode.crash()
    checker.run()
    assert found.rtt is not None
    assert found.seen_as is None


def test_without_a_route_it_ends_at_once_and_says_why() -> None:
    world = World()
    world.add_supernode()
    ipv6 = Target(Endpoint("2001:db8:1::9", 7777))
    checker = Checker(world, world.add_host("checker"), [ipv6])
    assert checker.run() < 0.1
    assert checker.engine.conversations[0].errno == errno.ENETUNREACH


@pytest.mark.parametrize("mtu", [1280, 1400, 1420, 1492])
def test_it_finds_how_large_a_packet_may_be(mtu: int) -> None:
    world = World()
    world.add_supernode(conditions=LinkConditions(latency=0.01, mtu=mtu))
    checker = Checker(world, world.add_host("checker"), targets_of(world))
    checker.run()
    assert checker.engine.conversations[0].mtu == mtu


def test_it_finds_the_size_of_its_own_interface_and_of_a_way_over_ipv6() -> None:
    world = World()
    supernode = world.add_supernode(ipv6=True)
    narrow = LinkConditions(latency=0.01, mtu=1400)
    host = world.add_host("checker", ipv6=True, conditions=narrow)
    targets = [Target(endpoint) for endpoint in supernode.endpoints]
    assert [target.endpoint.is_ipv6 for target in targets] == [False, True]
    checker = Checker(world, host, targets)
    checker.run()
    assert [found.mtu for found in checker.engine.conversations] == [1400, 1400]


@pytest.mark.parametrize("seed", range(8))
def test_losses_make_it_slower_and_not_wrong(seed: int) -> None:
    world = World(seed)
    world.add_supernode(conditions=LinkConditions(latency=0.03, loss=0.1, duplication=0.1))
    checker = Checker(world, world.add_host("checker"), targets_of(world))
    checker.run()
    [found] = checker.engine.conversations
    assert found.seen_as is not None
    assert found.rtt == pytest.approx(0.08, abs=0.01)
    assert 1280 <= found.mtu <= 1500


@pytest.mark.parametrize(("behaviour", "is_same"), [(PORT_RESTRICTED, True), (SYMMETRIC, False)])
def test_two_supernodes_see_what_the_mapping_depends_on(
    behaviour: NatBehaviour,
    is_same: bool,  # noqa: FBT001
) -> None:
    world = World()
    world.add_supernode()
    world.add_supernode()
    nat = world.add_nat(behaviour)
    checker = Checker(world, world.add_host("checker", nat), targets_of(world))
    checker.run()
    one, other = checker.engine.conversations
    assert (one.seen_as == other.seen_as) is is_same


def test_a_brief_talk_only_knocks() -> None:
    world = World()
    supernode = world.add_supernode()
    target = Target(supernode.endpoint, depth=Depth.KNOCK)
    checker = Checker(world, world.add_host("checker"), [target])
    checker.run()
    [found] = checker.engine.conversations
    assert found.rtt is not None
    assert found.seen_as is None
    world.run_for(6.0)
    assert supernode.driver.step(supernode.engine.status_view)["pending_handshakes"] == 0


def test_a_talk_may_end_with_where_it_is_seen() -> None:
    world = World()
    supernode = world.add_supernode()
    target = Target(supernode.endpoint, depth=Depth.SEEN)
    checker = Checker(world, world.add_host("checker"), [target])
    checker.run()
    [found] = checker.engine.conversations
    assert found.seen_as is not None
    assert found.mtu == 0
    assert found.observed == []


@pytest.mark.parametrize("hairpin", [True, False])
def test_two_checks_behind_one_router_see_whether_it_turns_datagrams_around(hairpin: bool) -> None:  # noqa: FBT001
    world = World()
    world.add_supernode()
    host = world.add_host("checker", world.add_nat(replace(HOME_ROUTER, hairpin=hairpin)))
    checkers = [Checker(world, host, targets_of(world)) for _ in range(2)]
    for checker in checkers:
        world.run_until(lambda checker=checker: checker.engine.is_seen, TIME_LIMIT)
    for checker, other in (checkers, checkers[::-1]):
        seen_as = other.engine.conversations[0].seen_as
        assert seen_as is not None
        checker.driver.step(
            lambda now, checker=checker, seen_as=seen_as: checker.engine.try_hairpin(seen_as, now)
        )
    for checker in checkers:
        checker.run()
    world.run_for(0.2)
    assert all(checker.engine.hears_hairpin is hairpin for checker in checkers)


def test_a_busy_supernode_gets_its_cookie() -> None:
    world = World()
    supernode = world.add_supernode()
    host = world.add_host("checker")
    many = [Target(supernode.endpoint)] * 30  # more than one source may begin at once
    checker = Checker(world, host, many)
    checker.run()
    assert all(found.seen_as is not None for found in checker.engine.conversations)
    assert supernode.drops().get("under_load", 0) > 0


@settings(max_examples=200)
@given(st.data())
def test_nothing_that_arrives_raises_or_is_believed(data: st.DataObject) -> None:
    engine = CheckEngine(
        [Target(Endpoint("5.0.0.1", 7777))], random.Random(1).randbytes, 0.0, TOKEN
    )
    [initiation] = engine.datagrams_to_send()
    index = bytes(initiation.buffers[0])[4:8]
    kinds = st.sampled_from([b"\x07\1\1\0", b"\x03\0\0\0", b"\x04\0\0\0", b""])
    for _ in range(3):
        head = data.draw(kinds) + data.draw(st.sampled_from([index, bytes(4) + index, b""]))
        length = data.draw(st.sampled_from([0, 16, 48, 72, 108, 200]))
        body = head + data.draw(st.binary(min_size=max(0, length - len(head)), max_size=250))
        datagram = body[:length] if length else body
        if datagram == TOKEN:
            continue
        batch = ReceivedDatagrams(datagram, len(datagram), Endpoint("5.0.0.1", 7777), 0)
        engine.receive_datagrams(batch, 0.01)
    [found] = engine.conversations
    assert (found.fingerprint, found.seen_as, found.stage) == ("", None, Stage.HANDSHAKE)
    assert not engine.hears_hairpin
