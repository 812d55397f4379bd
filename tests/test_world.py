"""The virtual network itself: what the scenarios rest on must be right."""

import contextlib
import errno
import math
import random

import pytest

from mesh.addresses import Endpoint
from mesh.engine import OutgoingDatagrams, ReceivedDatagrams, udp_socket_for
from mesh.events import Event
from tests.virtual_driver import VirtualDriver
from tests.virtual_nat import FULL_CONE, SYMMETRIC
from tests.virtual_network import (
    PERFECT,
    Host,
    LinkConditions,
    NoRouteError,
    Packet,
    TooLargeError,
)
from tests.virtual_topology import Attacker, Talker, Topology, Wiretap


class EchoEngine:
    """Answers each datagram; with a deadline it also counts the calls to its timers."""

    def __init__(self, *, deadline: float = math.inf) -> None:
        self.received: list[ReceivedDatagrams] = []
        self.copies: list[bytes] = []
        self.timer_calls: list[float] = []
        self.refused: list[tuple[int, Endpoint, int, float]] = []
        self._deadline = deadline
        self._outgoing: list[OutgoingDatagrams] = []

    def receive_datagrams(self, batch: ReceivedDatagrams, now: float) -> None:  # noqa: ARG002
        self.received.append(batch)
        self.copies.append(bytes(batch.buffer))
        self._outgoing.append(
            OutgoingDatagrams([batch.buffer], batch.segment_bytes, batch.source, batch.socket)
        )

    def send_to(self, destination: Endpoint, payload: bytes) -> None:
        self._outgoing.append(
            OutgoingDatagrams([payload], len(payload), destination, udp_socket_for(destination))
        )

    def handle_timers(self, now: float) -> None:
        self.timer_calls.append(now)
        if now >= self._deadline:
            self._deadline = math.inf

    def next_timer_at(self) -> float:
        return self._deadline

    def datagrams_to_send(self) -> list[OutgoingDatagrams]:
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def events_to_report(self) -> list[Event]:
        return []

    def receive_send_error(
        self, socket: int, destination: Endpoint, error: int, now: float
    ) -> None:
        self.refused.append((socket, destination, error, now))

    def socket_closed(self, socket: int, now: float) -> None:
        raise NotImplementedError

    def stop(self, now: float) -> None:
        pass


def drive(topology: Topology, engine: EchoEngine, host: Host, offset: float = 0.0) -> VirtualDriver:
    return VirtualDriver(
        engine, host, clock=topology.clock, dice=topology.dice, clock_offset=offset
    )


def endpoint_of(driver: VirtualDriver) -> Endpoint:
    return Endpoint(driver.host.addresses()[0], driver.udp_port)


class TestPacketSizes:
    NARROW = LinkConditions(mtu=1400)
    BLACK_HOLE = LinkConditions(mtu=1400, is_black_hole=True)

    @staticmethod
    def arrive(
        at_sender: LinkConditions, at_receiver: LinkConditions, *, ipv6: bool = False
    ) -> list[tuple[int, int]]:
        """Send 1372, 1373 and 1472 bytes, then the same in one piece; say what came, and how."""
        topology = Topology()
        a, b = (
            Talker(topology.add_host(name, ipv4=not ipv6, ipv6=ipv6, conditions=conditions))
            for name, conditions in (("a", at_sender), ("b", at_receiver))
        )
        for dont_fragment in (False, True):
            for size in (1352, 1372, 1373, 1472):
                with contextlib.suppress(TooLargeError):
                    a.send(b.endpoint, bytes(size), dont_fragment=dont_fragment)
        topology.run_for(1)
        return [(len(packet.payload), packet.fragments) for packet in b.received]

    def test_ethernet_carries_1500_bytes(self) -> None:
        sizes = (1352, 1372, 1373, 1472)
        assert self.arrive(PERFECT, PERFECT) == [(size, 1) for size in sizes] * 2

    @pytest.mark.parametrize("links", [(NARROW, PERFECT), (PERFECT, NARROW), (NARROW, NARROW)])
    def test_routers_fragment_what_they_may(
        self, links: tuple[LinkConditions, LinkConditions]
    ) -> None:
        whole = [(1352, 1), (1372, 1)]
        assert self.arrive(*links) == [*whole, (1373, 2), (1472, 2), *whole]

    @pytest.mark.parametrize("links", [(BLACK_HOLE, PERFECT), (PERFECT, BLACK_HOLE)])
    def test_a_black_hole_swallows_what_is_too_large(
        self, links: tuple[LinkConditions, LinkConditions]
    ) -> None:
        assert self.arrive(*links) == [(1352, 1), (1372, 1)] * 2

    def test_a_black_hole_swallows_fragments(self) -> None:
        roomy = LinkConditions(mtu=1450, is_black_hole=True)
        assert self.arrive(self.NARROW, roomy) == [(1352, 1), (1372, 1)] * 2

    def test_only_the_sender_fragments_ipv6(self) -> None:
        assert self.arrive(PERFECT, self.NARROW, ipv6=True) == [(1352, 1)] * 2
        assert self.arrive(self.NARROW, self.NARROW, ipv6=True) == [
            (1352, 1),
            (1372, 2),
            (1373, 2),
            (1472, 2),
            (1352, 1),
        ]

    def test_the_senders_interface_says_what_is_too_large(self) -> None:
        topology = Topology()
        talker = Talker(topology.add_host("a", conditions=self.NARROW))
        with pytest.raises(TooLargeError):
            talker.send(Endpoint("5.0.0.9", 1), bytes(1373), dont_fragment=True)
        talker.send(Endpoint("5.0.0.9", 1), bytes(1372), dont_fragment=True)
        talker.send(Endpoint("5.0.0.9", 1), bytes(1373))

    def test_a_packet_is_lost_with_any_of_its_fragments(self) -> None:
        topology = Topology()
        lossy = LinkConditions(loss=0.2, mtu=600)
        a = Talker(topology.add_host("a", conditions=PERFECT))
        b = Talker(topology.add_host("b", conditions=lossy))
        for _ in range(1000):
            a.send(b.endpoint, bytes(1400))
        topology.run_for(1)
        assert {packet.fragments for packet in b.received} == {3}
        assert 450 < len(b.received) < 580  # 0.8 ** 3 = 0.512


class TestRouting:
    def test_hosts_on_the_internet_reach_each_other(self) -> None:
        topology = Topology()
        a, b = (Talker(topology.add_host(name)) for name in "ab")
        a.send(b.endpoint)
        topology.run_for(0.019)
        assert not b.received
        topology.run_for(0.002)
        assert b.sources == [a.endpoint]

    def test_a_private_address_is_reached_inside_its_lan_only(self) -> None:
        topology = Topology()
        nat = topology.add_nat(FULL_CONE)
        a, b = (Talker(topology.add_host(name, nat)) for name in "ab")
        outsider = Talker(topology.add_host("c"))
        other_lan = Talker(topology.add_host("d", topology.add_nat(FULL_CONE)))
        for talker in (a, outsider, other_lan):
            talker.send(b.endpoint)
        topology.run_for(1)
        assert b.sources == [a.endpoint]

    def test_two_lans_may_have_the_same_network(self) -> None:
        topology = Topology()
        homes = [topology.add_nat(FULL_CONE, network="192.168.1.0/24") for _ in range(2)]
        a, b = (Talker(topology.add_host("host", home), 5000) for home in homes)
        assert a.endpoint == b.endpoint
        a.send(b.endpoint)
        topology.run_for(1)
        assert a.sources == [a.endpoint]
        assert not b.received

    def test_a_host_without_the_family_cannot_send(self) -> None:
        topology = Topology()
        a = Talker(topology.add_host("a"))
        with pytest.raises(NoRouteError):
            a.send(Endpoint("2001:db8:1::1", 1))

    def test_both_families_work_side_by_side(self) -> None:
        topology = Topology()
        a, b = (Talker(topology.add_host(name, ipv6=True)) for name in "ab")
        for address in b.host.addresses():
            a.send(Endpoint(address, b.udp_port))
        topology.run_for(1)
        assert [source.is_ipv6 for source in b.sources] == [False, True]

    def test_a_host_that_blocks_udp_neither_sends_nor_receives(self) -> None:
        topology = Topology()
        a, b = (Talker(topology.add_host(name)) for name in "ab")
        b.host.blocks_udp = True
        a.send(b.endpoint)
        b.send(a.endpoint)
        topology.run_for(1)
        assert not a.received
        assert not b.received

    def test_a_spoofed_source_is_believed(self) -> None:
        topology = Topology()
        a, b = (Talker(topology.add_host(name)) for name in "ab")
        Attacker(topology).send(b.endpoint, b"evil", spoofed_source=a.endpoint)
        topology.run_for(1)
        assert b.sources == [a.endpoint]


class TestLinks:
    COUNT = 2000

    def spray(self, conditions: LinkConditions) -> list[int]:
        topology = Topology(seed=3)
        a = Talker(topology.add_host("a", conditions=conditions))
        b = Talker(topology.add_host("b"))
        for number in range(self.COUNT):
            a.send(b.endpoint, number.to_bytes(2, "big"))
            topology.run_for(0.001)
        topology.run_for(1)
        return [int.from_bytes(packet.payload, "big") for packet in b.received]

    def test_loss_loses_its_share(self) -> None:
        arrived = self.spray(LinkConditions(loss=0.2))
        assert 0.75 * self.COUNT < len(arrived) < 0.85 * self.COUNT

    def test_duplication_doubles_its_share(self) -> None:
        arrived = self.spray(LinkConditions(duplication=0.1))
        assert 1.05 * self.COUNT < len(arrived) < 1.15 * self.COUNT
        assert set(arrived) == set(range(self.COUNT))

    def test_jitter_alone_keeps_the_order(self) -> None:
        assert self.spray(LinkConditions(jitter=0.05)) == list(range(self.COUNT))

    def test_reordering_changes_the_order_and_loses_nothing(self) -> None:
        arrived = self.spray(LinkConditions(reordering=0.1))
        assert arrived != sorted(arrived)
        assert sorted(arrived) == list(range(self.COUNT))


class TestDriver:
    def test_batches_are_joined_and_nothing_is_lost(self) -> None:
        topology = Topology()
        engine = EchoEngine()
        driver = drive(topology, engine, topology.add_host("echo"))
        talker = Talker(topology.add_host("a"))
        payloads = [bytes([number]) * 100 for number in range(50)] + [b"short"]
        for payload in payloads:
            talker.send(endpoint_of(driver), payload)
        topology.run_for(1)
        assert b"".join(engine.copies) == b"".join(payloads)
        assert 1 < driver.batches < 51
        assert [packet.payload for packet in talker.received] == payloads

    def test_a_lent_buffer_is_spoilt_once_the_answer_has_left(self) -> None:
        topology = Topology()
        engine = EchoEngine()
        driver = drive(topology, engine, topology.add_host("echo"))
        talker = Talker(topology.add_host("a"))
        talker.send(endpoint_of(driver), b"hello")
        topology.run_for(1)
        assert talker.received[0].payload == b"hello"
        assert bytes(engine.received[0].buffer) == b"\xa5" * 5

    def test_timers_are_called_at_the_deadline_of_the_engines_own_clock(self) -> None:
        topology = Topology()
        engine = EchoEngine(deadline=3600.0 + 7.5)
        driver = drive(topology, engine, topology.add_host("a"), offset=3600.0)
        driver.start()
        topology.run_for(7.4)
        assert 3607.5 not in engine.timer_calls
        topology.run_for(0.2)
        assert engine.timer_calls[-1] == 3607.5

    def test_an_engine_whose_timers_spin_is_found_out(self) -> None:
        topology = Topology()
        engine = EchoEngine()
        engine.next_timer_at = lambda: 1.0  # type: ignore[method-assign]
        drive(topology, engine, topology.add_host("a")).start()
        with pytest.raises(AssertionError, match="spin"):
            topology.run_for(2)

    def test_a_send_without_a_route_is_reported_to_the_engine(self) -> None:
        topology = Topology()
        engine = EchoEngine()
        unreachable = Endpoint("2001:db8::1", 7)
        driver = drive(topology, engine, topology.add_host("a"))
        driver.step(lambda _: engine.send_to(unreachable, b"x"))
        assert engine.refused == [(1, unreachable, errno.ENETUNREACH, 0.0)]

    def test_a_crashed_engine_is_not_called_again(self) -> None:
        topology = Topology()
        engine = EchoEngine(deadline=1.0)
        driver = drive(topology, engine, topology.add_host("a"))
        driver.start()
        calls = len(engine.timer_calls)
        talker = Talker(topology.add_host("b"))
        talker.send(endpoint_of(driver))
        driver.crash()
        topology.run_for(2)
        assert not engine.received
        assert len(engine.timer_calls) == calls


def a_run(seed: int) -> list[tuple[float, Packet]]:
    topology = Topology(seed)
    wire = Wiretap(topology)
    rough = LinkConditions(0.01, 0.01, 0.1, 0.1, 0.1)
    driver = drive(topology, EchoEngine(), topology.add_host("echo", conditions=rough))
    talker = Talker(topology.add_host("a", topology.add_nat(SYMMETRIC)))
    for _ in range(100):
        talker.send(endpoint_of(driver), random.Random(seed).randbytes(20))
        topology.run_for(0.002)
    topology.run_for(1)
    return wire.packets


def test_the_same_seed_gives_the_same_run() -> None:
    assert a_run(7) == a_run(7)
    assert a_run(7) != a_run(8)
