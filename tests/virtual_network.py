"""A virtual IP network: segments, ports and hosts; routing is strictly by address.

A *segment* is a switch (the internet is one, every LAN another). A *port* joins a node to a segment
and is the link between them: latency, jitter, loss, duplication and reordering are the port's, in
both directions. Whatever no port of a segment owns goes to the segment's gateway, where it has one,
and is dropped otherwise; so a private address means nothing outside its LAN.
"""

import errno
import ipaddress
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

from mesh.addresses import Endpoint
from tests.virtual_clock import VirtualClock

IpNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT_TTL = 64
ETHERNET_MTU = 1500
UDP_HEADER_BYTES = 8
IPV4_HEADER_BYTES = 20
IPV6_HEADER_BYTES = 40


class Packet(NamedTuple):
    """A UDP datagram in its IP packet, or in the fragments of one, which travel together.

    Attributes:
        dont_fragment: whether no router may cut it.
        piece_bytes: the length of the longest fragment with its header, 0 if it is whole.
    """

    source: Endpoint
    destination: Endpoint
    payload: bytes
    ttl: int = DEFAULT_TTL
    dont_fragment: bool = False
    piece_bytes: int = 0

    @property
    def ip_bytes(self) -> int:
        """The length of the whole packet."""
        return len(self.payload) + UDP_HEADER_BYTES + self._header_bytes

    @property
    def fragments(self) -> int:
        """How many packets carry it."""
        if not self.piece_bytes:
            return 1
        room = (self.piece_bytes - self._header_bytes) // 8 * 8
        return -(-(len(self.payload) + UDP_HEADER_BYTES) // room)

    @property
    def _header_bytes(self) -> int:
        return IPV6_HEADER_BYTES if self.destination.is_ipv6 else IPV4_HEADER_BYTES

    def cut_to(self, mtu: int) -> "Packet":
        """Return it as it fits a link of this MTU, fragmented if need be."""
        return (
            self if (self.piece_bytes or self.ip_bytes) <= mtu else self._replace(piece_bytes=mtu)
        )


@dataclass(frozen=True, slots=True)
class LinkConditions:
    """What one link does to the packets that cross it, in each direction.

    Attributes:
        latency: seconds.
        jitter: up to so many seconds more, evenly spread; packets keep their order.
        loss: the share of packets that vanish.
        duplication: the share of packets that arrive twice.
        reordering: the share of packets that later ones overtake.
        mtu: bytes of the largest IP packet; routers fragment IPv4 packets that may be, and drop
            what is too large else.
        is_black_hole: drops whatever is larger than its MTU, and every fragment.
    """

    latency: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    mtu: int = ETHERNET_MTU
    is_black_hole: bool = False

    def fit(self, packet: Packet) -> Packet | None:
        """Return a packet as it leaves a router on this link, or None where it does not."""
        fitting = packet.cut_to(self.mtu)
        if self.is_black_hole and fitting.piece_bytes:
            return None
        if fitting is not packet and (packet.dont_fragment or packet.destination.is_ipv6):
            return None
        return fitting


PERFECT = LinkConditions()
LAN = LinkConditions(latency=0.0002)
INTERNET = LinkConditions(latency=0.010)
UNPLUGGED = LinkConditions(loss=1.0)
OVERTAKEN_BY = 0.030  # s; how late a reordered packet is, at most


class Node(Protocol):
    """What can be joined to a segment."""

    def receive_packet(self, packet: Packet, port: "Port") -> None:
        """Take a packet that arrived on ``port``."""
        ...

    def receive_refusal(self, packet: Packet, port: "Port") -> None:
        """Take the ICMP error about a packet that left by ``port``, which it quotes."""
        ...


@dataclass(eq=False, slots=True)
class Port:
    """Where a node meets a segment, and the link between them."""

    node: Node
    segment: "Segment"
    addresses: list[str]
    conditions: LinkConditions = PERFECT
    busy_until: dict["Port", float] = field(default_factory=dict)

    def send(self, packet: Packet) -> None:
        """Put a packet on the segment; its source may be a lie."""
        self.segment.carry(packet, self)

    def address_for(self, *, ipv6: bool) -> str | None:
        """Return the port's first address of the family."""
        return next((text for text in self.addresses if (":" in text) == ipv6), None)


Tap: TypeAlias = Callable[[float, "Segment", Packet], None]
"""Sees every packet that is put on any segment: the time, where, and what."""


@dataclass(eq=False)
class Segment:
    """A switch that knows which port owns which address or network.

    Attributes:
        blocked: pairs of addresses, source and destination, between which nothing passes.
        rejects: whether senders are told of it by ICMP.
    """

    name: str
    clock: VirtualClock
    dice: random.Random
    taps: list[Tap]
    networks: tuple[IpNetwork, ...] = ()
    unroutable: int = 0
    too_large: int = 0
    gateways: dict[bool, Port] = field(default_factory=dict)
    blocked: set[tuple[str, str]] = field(default_factory=set)
    rejects: bool = False
    _owners: dict[str, Port] = field(default_factory=dict)
    _routes: list[tuple[IpNetwork, Port]] = field(default_factory=list)
    _hosts_given: int = 1

    def attach(
        self, node: Node, addresses: list[str], conditions: LinkConditions = PERFECT
    ) -> Port:
        """Join a node; it owns ``addresses`` from now on."""
        port = Port(node, self, list(addresses), conditions)
        for address in addresses:
            assert address not in self._owners, f"{address} is taken on {self.name}"
            self._owners[address] = port
        return port

    def detach(self, port: Port) -> None:
        """Pull a node's plug."""
        for address in port.addresses:
            del self._owners[address]

    def renumber(self, port: Port, addresses: list[str]) -> None:
        """Give a port other addresses."""
        self.detach(port)
        port.addresses = list(addresses)
        for address in addresses:
            self._owners[address] = port

    def route(self, network: IpNetwork, port: Port) -> None:
        """Send what is for ``network`` to ``port``."""
        self._routes.append((network, port))

    def block(self, left: str, right: str) -> None:
        """Let nothing pass between two addresses, either way."""
        self.blocked |= {(left, right), (right, left)}

    def refuse(self, packet: Packet, teller: Port) -> None:
        """Carry an ICMP error from ``teller`` to where the packet that it quotes came from."""
        receiver = self._port_towards(packet.source.host, teller)
        if receiver is not None:
            delay = teller.conditions.latency + receiver.conditions.latency
            self.clock.after(delay, lambda: receiver.node.receive_refusal(packet, receiver))

    def free_addresses(self) -> list[str]:
        """Return the next unused address of each network of the segment."""
        self._hosts_given += 1
        return [str(network[self._hosts_given]) for network in self.networks]

    def carry(self, packet: Packet, sender: Port) -> None:
        """Take a packet to the port that owns its destination, as the two links allow."""
        for tap in self.taps:
            tap(self.clock.now, self, packet)
        if (packet.source.host, packet.destination.host) in self.blocked:
            if self.rejects:
                delay = 2 * sender.conditions.latency
                self.clock.after(delay, lambda: sender.node.receive_refusal(packet, sender))
            return
        receiver = self._port_towards(packet.destination.host, sender)
        if receiver is None:
            self.unroutable += 1
            return
        fitting = sender.conditions.fit(packet)
        fitting = receiver.conditions.fit(fitting) if fitting is not None else None
        if fitting is None:
            self.too_large += 1
            return
        arriving = fitting
        for _ in range(self._copies_that_survive(sender, receiver, arriving.fragments)):
            arrival = self._arrival(sender, receiver)
            self.clock.at(arrival, lambda: receiver.node.receive_packet(arriving, receiver))

    def _port_towards(self, host: str, sender: Port) -> Port | None:
        port = self._owners.get(host)
        if port is None and self._routes:
            address = ipaddress.ip_address(host)
            port = next((to for network, to in self._routes if address in network), None)
        if port is None:
            port = self.gateways.get(":" in host)
        return None if port is sender else port

    def _copies_that_survive(self, sender: Port, receiver: Port, fragments: int) -> int:
        copies = 1
        for link in (sender.conditions, receiver.conditions):
            if link.loss and any(self.dice.random() < link.loss for _ in range(fragments)):
                return 0
            if link.duplication and self.dice.random() < link.duplication:
                copies += 1
        return copies

    def _arrival(self, sender: Port, receiver: Port) -> float:
        arrival = self.clock.now
        is_overtaken = False
        for link in (sender.conditions, receiver.conditions):
            arrival += link.latency
            if link.jitter:
                arrival += self.dice.uniform(0, link.jitter)
            if link.reordering and self.dice.random() < link.reordering:
                is_overtaken = True
        if is_overtaken:
            return arrival + self.dice.uniform(0, OVERTAKEN_BY)
        arrival = max(arrival, receiver.busy_until.get(sender, 0.0))
        receiver.busy_until[sender] = arrival
        return arrival


class Application(Protocol):
    """What listens on a UDP port of a host."""

    def receive_packet(self, packet: Packet) -> None:
        """Take a datagram."""
        ...

    def receive_refusal(self, packet: Packet) -> None:
        """Take the ICMP error about a datagram that was sent, which it quotes."""
        ...


class SendError(Exception):
    """The host's kernel refuses to send."""

    number = 0


class NoRouteError(SendError):
    """The host has no address of the family it would have to send from."""

    number = errno.ENETUNREACH


class NotPermittedError(SendError):
    """A firewall on the machine refuses."""

    number = errno.EPERM


class TooLargeError(SendError):
    """The datagram must not be fragmented and is larger than the interface's MTU."""

    number = errno.EMSGSIZE


class Host:
    """A machine with interfaces and UDP ports.

    Attributes:
        ports: its interfaces; the first one of a family is the default route.
        blocks_udp: a firewall on the machine drops all UDP, both ways.
        refused: addresses to which a firewall on the machine lets nothing out.
        blocks_tcp: the same for streams.
    """

    def __init__(self, name: str, clock: VirtualClock) -> None:
        self.name = name
        self.ports: list[Port] = []
        self.blocks_udp = False
        self.refused: set[str] = set()
        self.blocks_tcp = False
        self._clock = clock
        self._applications: dict[tuple[bool, int], Application] = {}
        self._next_port = 40000
        self._routes: dict[str, tuple[Port, str] | None] = {}

    def plug_into(
        self, segment: Segment, addresses: list[str] | None = None, conditions: LinkConditions = LAN
    ) -> Port:
        """Add an interface, with the segment's next free addresses unless some are given."""
        port = segment.attach(self, addresses or segment.free_addresses(), conditions)
        self.ports.append(port)
        self._routes.clear()
        return port

    def unplug(self, port: Port) -> None:
        """Remove an interface."""
        port.segment.detach(port)
        self.ports.remove(port)
        self._routes.clear()

    def addresses(self) -> list[str]:
        """Return the addresses of all interfaces."""
        return [address for port in self.ports for address in port.addresses]

    def listen(self, application: Application, udp_port: int = 0) -> int:
        """Bind a UDP port of both families; 0 for any; return it."""
        if not udp_port:
            self._next_port += 1
            udp_port = self._next_port
        for ipv6 in (False, True):
            assert (ipv6, udp_port) not in self._applications, f"port {udp_port} is taken"
            self._applications[ipv6, udp_port] = application
        return udp_port

    def close(self, udp_port: int) -> None:
        """Free a UDP port."""
        for ipv6 in (False, True):
            self._applications.pop((ipv6, udp_port), None)

    def send(
        self,
        udp_port: int,
        destination: Endpoint,
        payload: bytes,
        ttl: int = 0,
        *,
        dont_fragment: bool = False,
    ) -> None:
        """Send a datagram from the interface that the destination is reached through.

        Raises:
            NoRouteError: there is none.
            TooLargeError: it would have to be fragmented and must not be.
        """
        if destination.host in self.addresses():
            packet = Packet(Endpoint(destination.host, udp_port), destination, payload)
            self._clock.after(0.0, lambda: self._deliver(packet))
            return
        if destination.host not in self._routes:
            self._routes[destination.host] = self._route_towards(destination.host)
        route = self._routes[destination.host]
        if route is None:
            raise NoRouteError(f"{self.name} cannot reach {destination}")
        if destination.host in self.refused:
            raise NotPermittedError(f"the firewall of {self.name} refuses {destination}")
        if self.blocks_udp:
            return
        port, source = route
        origin = Endpoint(source, udp_port)
        packet = Packet(origin, destination, payload, ttl or DEFAULT_TTL, dont_fragment)
        if not port.conditions.is_black_hole:  # else the interface knows nothing of it
            cut = packet.cut_to(port.conditions.mtu)
            if dont_fragment and cut is not packet:
                raise TooLargeError(f"{packet.ip_bytes} bytes for {port.conditions.mtu}")
            packet = cut
        port.send(packet)

    def receive_packet(self, packet: Packet, port: Port) -> None:  # noqa: ARG002 - Node
        """Take a packet off a segment."""
        if packet.destination.host in self.addresses() and not self.blocks_udp:
            self._deliver(packet)

    def receive_refusal(self, packet: Packet, port: Port) -> None:  # noqa: ARG002 - Node
        """Tell whoever sent a packet that it was refused."""
        application = self._applications.get((packet.source.is_ipv6, packet.source.port))
        if application is not None:
            application.receive_refusal(packet)

    def _deliver(self, packet: Packet) -> None:
        key = (packet.destination.is_ipv6, packet.destination.port)
        application = self._applications.get(key)
        if application is not None:
            application.receive_packet(packet)

    def _route_towards(self, host: str) -> tuple[Port, str] | None:
        """Return the interface that leads to an address, and the source address on it."""
        address = ipaddress.ip_address(host)
        candidates = [
            (port, source)
            for port in self.ports
            if (source := port.address_for(ipv6=address.version == 6)) is not None
        ]
        for port, source in candidates:
            if any(address in network for network in port.segment.networks):
                return port, source
        return candidates[0] if candidates else None
