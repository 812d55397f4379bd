"""Routers between a LAN and what is outside: NATs of every kind, and a firewall without NAT.

The words are those of RFC 4787: a NAT *maps* an inside endpoint to a port of its own address and
*filters* what comes back to that port. Mapping may depend on the destination (then the NAT is
called symmetric) or not; filtering may depend on the remote address, on its address and port, or on
nothing.
"""

import enum
import math
import random
from dataclasses import dataclass, field, replace

from mesh.addresses import Endpoint
from tests.virtual_clock import VirtualClock
from tests.virtual_network import IpNetwork, LinkConditions, Packet, Port, Segment

FIRST_PORT = 20000
LAST_PORT = 60000


class Dependence(enum.Enum):
    """What a mapping or a filter depends on."""

    NOTHING = "endpoint-independent"
    ADDRESS = "address-dependent"
    ADDRESS_AND_PORT = "address- and port-dependent"

    def key(self, remote: Endpoint) -> object:
        """Return the part of ``remote`` that makes a difference."""
        if self is Dependence.NOTHING:
            return None
        return remote.host if self is Dependence.ADDRESS else remote


class PortChoice(enum.Enum):
    """Which public port a new mapping gets."""

    PRESERVED = "the inside port where it is free"
    SEQUENTIAL = "one more than the last one"
    RANDOM = "any"


@dataclass(frozen=True, slots=True)
class NatBehaviour:
    """How a NAT behaves.

    Attributes:
        mapping: what a mapping depends on, besides the inside endpoint.
        filtering: what must have been contacted from inside before it may answer.
        port_choice: which public port a new mapping gets.
        timeout: seconds without traffic after which a mapping is forgotten.
        inbound_refreshes: whether traffic from outside counts as traffic.
        hairpin: whether inside hosts reach each other by the public address.
        rejects: a Linux router whose INPUT chain accepts: an unsolicited datagram from R to port P
            is taken for the router's own, so that a later mapping towards R cannot have port P.
    """

    mapping: Dependence = Dependence.NOTHING
    filtering: Dependence = Dependence.ADDRESS_AND_PORT
    port_choice: PortChoice = PortChoice.RANDOM
    timeout: float = 30.0
    inbound_refreshes: bool = True
    hairpin: bool = False
    rejects: bool = False


FULL_CONE = NatBehaviour(filtering=Dependence.NOTHING)
ADDRESS_RESTRICTED = NatBehaviour(filtering=Dependence.ADDRESS)
PORT_RESTRICTED = NatBehaviour()
HOME_ROUTER = NatBehaviour(port_choice=PortChoice.PRESERVED)
REJECTING_ROUTER = replace(HOME_ROUTER, rejects=True)
SYMMETRIC = NatBehaviour(mapping=Dependence.ADDRESS_AND_PORT)
SYMMETRIC_SEQUENTIAL = replace(SYMMETRIC, port_choice=PortChoice.SEQUENTIAL)


@dataclass(slots=True)
class _Mapping:
    inside: Endpoint
    key: object
    port: int
    used_at: float
    contacted: dict[object, float] = field(default_factory=dict)


class NatRouter:
    """A router with one public IPv4 address and a LAN behind it.

    Attributes:
        lan: the segment inside.
        public_address: its address outside.
        behaviour: may be replaced at any time.
        refused: datagrams from outside that it did not let in.
    """

    def __init__(
        self,
        outside: Segment,
        public_address: str,
        lan: Segment,
        behaviour: NatBehaviour,
        *,
        clock: VirtualClock,
        dice: random.Random,
        conditions: LinkConditions,
    ) -> None:
        self.lan = lan
        self.behaviour = behaviour
        self.public_address = public_address
        self.refused = 0
        self.outside_port = outside.attach(self, [public_address], conditions)
        inside_address = next(str(network[1]) for network in lan.networks if network.version == 4)
        self.inside_port = lan.attach(self, [inside_address])
        lan.gateways[False] = self.inside_port
        self._clock = clock
        self._dice = dice
        self._by_inside: dict[tuple[Endpoint, object], _Mapping] = {}
        self._by_port: dict[int, _Mapping] = {}
        self._claimed_at: dict[tuple[int, Endpoint], float] = {}
        self._last_port = dice.randrange(FIRST_PORT, LAST_PORT - 10000)

    def flush(self) -> None:
        """Forget all mappings, as a reboot does."""
        self._by_inside.clear()
        self._by_port.clear()
        self._claimed_at.clear()

    def change_address(self, public_address: str) -> None:
        """Get another public address, as after a reconnection; mappings are lost."""
        self.outside_port.segment.renumber(self.outside_port, [public_address])
        self.public_address = public_address
        self.flush()

    def mapping_count(self) -> int:
        """Return how many mappings are alive."""
        return sum(not self._is_stale(mapping) for mapping in self._by_port.values())

    def receive_packet(self, packet: Packet, port: Port) -> None:
        """Translate a packet that arrived on either side."""
        if packet.ttl <= 1:
            return
        packet = packet._replace(ttl=packet.ttl - 1)
        if port is self.outside_port:
            self._receive_from_outside(packet)
        elif packet.destination.host == self.public_address:
            self._hairpin(packet)
        elif packet.destination.host not in self.inside_port.addresses:
            self.outside_port.send(packet._replace(source=self._translate_outbound(packet)))

    def receive_refusal(self, packet: Packet, port: Port) -> None:  # noqa: ARG002 - Node
        """Translate an ICMP error back, and what it quotes."""
        mapping = self._by_port.get(packet.source.port)
        if mapping is not None:
            self.lan.refuse(packet._replace(source=mapping.inside), self.inside_port)

    def _translate_outbound(self, packet: Packet) -> Endpoint:
        key = (packet.source, self._mapping_key(packet))
        mapping = self._by_inside.get(key)
        if mapping is None or self._is_stale(mapping):
            self._forget(mapping)
            mapping = self._new_mapping(packet.source, packet.destination, key[1])
        mapping.used_at = self._clock.now
        mapping.contacted[self.behaviour.filtering.key(packet.destination)] = self._clock.now
        return Endpoint(self.public_address, mapping.port)

    def _mapping_key(self, packet: Packet) -> object:
        """A flow whose port the router took for its own traffic gets a mapping to itself."""
        if self.behaviour.rejects:
            usual = self._by_inside.get((packet.source, None))
            port = usual.port if usual else packet.source.port
            if self._is_claimed(port, packet.destination):
                return packet.destination
        return self.behaviour.mapping.key(packet.destination)

    def _receive_from_outside(self, packet: Packet) -> None:
        mapping = self._by_port.get(packet.destination.port)
        if mapping is None or self._is_stale(mapping) or not self._may_enter(mapping, packet):
            self.refused += 1
            if self.behaviour.rejects:
                self._claimed_at[packet.destination.port, packet.source] = self._clock.now
            return
        if self.behaviour.inbound_refreshes:
            mapping.used_at = self._clock.now
            mapping.contacted[self.behaviour.filtering.key(packet.source)] = self._clock.now
        self.inside_port.send(packet._replace(destination=mapping.inside))

    def _hairpin(self, packet: Packet) -> None:
        if self.behaviour.hairpin:
            self._receive_from_outside(packet._replace(source=self._translate_outbound(packet)))

    def _may_enter(self, mapping: _Mapping, packet: Packet) -> bool:
        if self.behaviour.filtering is Dependence.NOTHING:
            return True
        contacted_at = mapping.contacted.get(self.behaviour.filtering.key(packet.source))
        return contacted_at is not None and self._clock.now - contacted_at <= self.behaviour.timeout

    def _new_mapping(self, inside: Endpoint, remote: Endpoint, key: object) -> _Mapping:
        mapping = _Mapping(inside, key, self._free_port(inside, remote), self._clock.now)
        self._by_inside[inside, key] = mapping
        self._by_port[mapping.port] = mapping
        return mapping

    def _free_port(self, inside: Endpoint, remote: Endpoint) -> int:
        if self.behaviour.port_choice is PortChoice.PRESERVED:
            port = inside.port
        elif self.behaviour.port_choice is PortChoice.SEQUENTIAL:
            self._last_port += 1
            port = self._last_port
        else:
            port = self._dice.randrange(FIRST_PORT, LAST_PORT)
        while not self._is_free(port, remote):
            port = port + 1 if port < LAST_PORT else FIRST_PORT
        self._last_port = port
        return port

    def _is_free(self, port: int, remote: Endpoint) -> bool:
        holder = self._by_port.get(port)
        if holder is not None and self._is_stale(holder):
            self._forget(holder)
            holder = None
        return holder is None and not self._is_claimed(port, remote)

    def _is_claimed(self, port: int, remote: Endpoint) -> bool:
        claimed_at = self._claimed_at.get((port, remote), -math.inf)
        return self._clock.now - claimed_at <= self.behaviour.timeout

    def _is_stale(self, mapping: _Mapping) -> bool:
        return self._clock.now - mapping.used_at > self.behaviour.timeout

    def _forget(self, mapping: _Mapping | None) -> None:
        if mapping is not None:
            self._by_inside.pop((mapping.inside, mapping.key), None)
            self._by_port.pop(mapping.port, None)


class Firewall:
    """A stateful router that translates nothing: only what was asked for from inside may enter."""

    def __init__(
        self,
        outside: Segment,
        lan: Segment,
        network: IpNetwork,
        *,
        clock: VirtualClock,
        conditions: LinkConditions,
        timeout: float = 30.0,
    ) -> None:
        self.lan = lan
        self.timeout = timeout
        self.outside_port = outside.attach(self, [], conditions)
        outside.route(network, self.outside_port)
        self.inside_port = lan.attach(self, [str(network[1])])
        lan.gateways[network.version == 6] = self.inside_port
        self._clock = clock
        self._flows: dict[tuple[Endpoint, Endpoint], float] = {}

    def receive_refusal(self, packet: Packet, port: Port) -> None:  # noqa: ARG002 - Node
        """Pass an ICMP error on."""
        self.lan.refuse(packet, self.inside_port)

    def flush(self) -> None:
        """Forget all flows."""
        self._flows.clear()

    def receive_packet(self, packet: Packet, port: Port) -> None:
        """Let a packet pass, or not."""
        if packet.ttl <= 1:
            return
        is_outbound = port is self.inside_port
        ends = (packet.source, packet.destination)
        flow = ends if is_outbound else (ends[1], ends[0])
        if not is_outbound and self._clock.now - self._flows.get(flow, -math.inf) > self.timeout:
            return
        self._flows[flow] = self._clock.now
        onward = self.outside_port if is_outbound else self.inside_port
        onward.send(packet._replace(ttl=packet.ttl - 1))
