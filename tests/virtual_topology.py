"""Where everything stands: the internet, LANs, routers and hosts, all of it from one seed.

Same seed, same run: whatever goes wrong goes wrong again.
"""

import ipaddress
import random
from collections.abc import Callable, Iterator

from mesh.addresses import Endpoint
from tests.virtual_clock import VirtualClock
from tests.virtual_nat import Firewall, NatBehaviour, NatRouter
from tests.virtual_network import INTERNET, LAN, Host, LinkConditions, Packet, Segment, Tap

STEP = 0.005  # s; how often a predicate is looked at
Router = NatRouter | Firewall


class Topology:
    """A virtual clock, the internet, and what is added to it.

    Attributes:
        clock: the time; worlds begin at 0.
        dice: the only source of chance.
        taps: functions that see every packet on every segment.
        internet: the public segment; it has no gateway, so private addresses lead nowhere.
    """

    def __init__(self, seed: int = 1) -> None:
        self.clock = VirtualClock()
        self.dice = random.Random(seed)
        self.taps: list[Tap] = []
        self.internet = self._segment("internet")
        self._public_ipv4 = ipaddress.ip_network("5.0.0.0/16").hosts()
        self._public_ipv6 = ipaddress.ip_network("2001:db8:1::/64").hosts()
        self._delegated = ipaddress.ip_network("2001:db8:8000::/33").subnets(new_prefix=64)
        self._routed = ipaddress.ip_network("6.0.0.0/16").subnets(new_prefix=24)
        self._private = ipaddress.ip_network("192.168.0.0/16").subnets(new_prefix=24)

    def add_host(
        self,
        name: str,
        behind: Router | Segment | None = None,
        *,
        ipv4: bool = True,
        ipv6: bool = False,
        conditions: LinkConditions | None = None,
    ) -> Host:
        """Add a machine: on the internet, or on the LAN of a router or the segment ``behind``.

        ``ipv4`` and ``ipv6`` say what a machine on the internet has; on a LAN it gets what there
        is.
        """
        host = Host(name, self.clock)
        if behind is None:
            addresses = list(self._public_addresses(ipv4=ipv4, ipv6=ipv6))
            host.plug_into(self.internet, addresses, conditions or INTERNET)
        else:
            segment = behind if isinstance(behind, Segment) else behind.lan
            host.plug_into(segment, None, conditions or LAN)
        return host

    def add_lan(self, name: str = "lan", network: str = "") -> Segment:
        """Add a LAN with a private IPv4 network (its own, unless told which) and no way out."""
        segment = self._segment(name)
        segment.networks = (ipaddress.ip_network(network) if network else next(self._private),)
        return segment

    def add_nat(
        self,
        behaviour: NatBehaviour,
        behind: Router | None = None,
        *,
        network: str = "",
        conditions: LinkConditions = INTERNET,
    ) -> NatRouter:
        """Add a NAT and its LAN; ``behind`` another router for a double NAT."""
        outside, address = self.internet, next(self._public_addresses(ipv4=True, ipv6=False))
        if behind is not None:
            outside, address = behind.lan, behind.lan.free_addresses()[0]
        return NatRouter(
            outside,
            address,
            self.add_lan(f"lan of {address}", network),
            behaviour,
            clock=self.clock,
            dice=self.dice,
            conditions=conditions if behind is None else LAN,
        )

    def add_firewall(
        self,
        lan: Segment | None = None,
        *,
        ipv6: bool = False,
        conditions: LinkConditions = INTERNET,
    ) -> Firewall:
        """Add a stateful firewall with a public network behind it.

        With ``lan`` that network becomes one more of an existing LAN: add hosts afterwards.
        """
        network = next(self._delegated if ipv6 else self._routed)
        if lan is None:
            lan = self._segment(f"lan of {network}")
        lan.networks += (network,)
        return Firewall(self.internet, lan, network, clock=self.clock, conditions=conditions)

    def public_address(self) -> str:
        """Return an IPv4 address of the internet that nobody has."""
        return next(self._public_addresses(ipv4=True, ipv6=False))

    def entropy_for(self, name: str) -> Callable[[int], bytes]:
        """Return a reproducible source of bytes for an engine."""
        return random.Random(f"{self.dice.random()} {name}").randbytes

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.run_to(self.clock.now + seconds)

    def run_until(
        self, predicate: Callable[[], object], timeout: float, step: float = STEP
    ) -> float:
        """Let time pass until something holds; return the seconds that it took.

        Raises:
            AssertionError: it did not within ``timeout`` seconds.
        """
        started_at = self.clock.now
        while not predicate():
            assert self.clock.now - started_at < timeout, f"not within {timeout} s"
            self.run_for(step)
        return self.clock.now - started_at

    def _segment(self, name: str) -> Segment:
        return Segment(name, self.clock, self.dice, self.taps)

    def _public_addresses(self, *, ipv4: bool, ipv6: bool) -> Iterator[str]:
        if ipv4:
            yield str(next(self._public_ipv4))
        if ipv6:
            yield str(next(self._public_ipv6))


class Wiretap:
    """Keeps every packet that is put on a segment: the internet's, unless told otherwise."""

    def __init__(self, topology: Topology, segment: Segment | None = None) -> None:
        self.packets: list[tuple[float, Packet]] = []
        self._segment = segment or topology.internet
        topology.taps.append(self._see)

    def payloads(self) -> list[bytes]:
        """Return the datagrams alone."""
        return [packet.payload for _, packet in self.packets]

    def _see(self, now: float, segment: Segment, packet: Packet) -> None:
        if segment is self._segment:
            self.packets.append((now, packet))


class Attacker:
    """A machine on the internet that sends whatever it likes from whatever address it likes."""

    def __init__(self, topology: Topology, name: str = "mallory") -> None:
        self.host = topology.add_host(name)
        self.udp_port = self.host.listen(self)
        self.received: list[Packet] = []

    @property
    def endpoint(self) -> Endpoint:
        """Its true endpoint."""
        return Endpoint(self.host.addresses()[0], self.udp_port)

    def send(
        self, destination: Endpoint, payload: bytes, spoofed_source: Endpoint | None = None
    ) -> None:
        """Put a datagram on the internet."""
        packet = Packet(spoofed_source or self.endpoint, destination, payload)
        self.host.ports[0].send(packet)

    def receive_packet(self, packet: Packet) -> None:
        """Keep what was answered."""
        self.received.append(packet)

    def receive_refusal(self, packet: Packet) -> None:
        """Do not care."""


class Talker:
    """A UDP socket on a host that keeps what it receives."""

    def __init__(self, host: Host, udp_port: int = 0) -> None:
        self.host = host
        self.udp_port = host.listen(self, udp_port)
        self.received: list[Packet] = []

    def receive_packet(self, packet: Packet) -> None:
        """Keep a datagram."""
        self.received.append(packet)

    def receive_refusal(self, packet: Packet) -> None:
        """Do not care."""

    def send(
        self,
        destination: Endpoint,
        payload: bytes = b"hello",
        ttl: int = 0,
        *,
        dont_fragment: bool = False,
    ) -> None:
        """Send a datagram."""
        self.host.send(self.udp_port, destination, payload, ttl, dont_fragment=dont_fragment)

    @property
    def endpoint(self) -> Endpoint:
        """Where it is on its own segment."""
        return Endpoint(self.host.addresses()[0], self.udp_port)

    @property
    def sources(self) -> list[Endpoint]:
        """Where what it received came from."""
        return [packet.source for packet in self.received]
