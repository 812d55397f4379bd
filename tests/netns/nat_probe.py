"""Finds out how a machine's NAT maps and filters (RFC 4787), by asking from where it is seen.

```
   server, ports 7001 and 7002 ──┐
                             internet ── NAT ── machine, one socket
   stranger ─────────────────────┘
```
"""

import enum
from dataclasses import dataclass

from tests.netns.lab import Internet, Lab, address_of
from tests.netns.sockets import Address, Agent, UdpSocket

SERVER_PORTS = (7001, 7002)


class Scope(enum.Enum):
    """What a mapping, or the permission to come in, depends on."""

    NOTHING = "endpoint-independent"
    ADDRESS = "address-dependent"
    ENDPOINT = "address- and port-dependent"


@dataclass(frozen=True)
class Behaviour:
    """What was found out about a NAT.

    Attributes:
        mapping: of what in the destination the public endpoint depends.
        filtering: of what in the source it depends whether a datagram comes in.
        keeps_port: the public port was that of the machine's socket.
        is_sequential: mappings made one after the other got the next port each.
    """

    mapping: Scope
    filtering: Scope
    keeps_port: bool = True
    is_sequential: bool = False


class Observers:
    """Sockets on the internet that say where a machine is seen, and knock at its NAT.

    Attributes:
        server: the socket on the first of the server's ports.
        server_endpoint: where that is.
    """

    def __init__(self, lab: Lab, internet: Internet) -> None:
        server = lab.public_host("server", internet)
        stranger = lab.public_host("stranger", internet)
        agent = Agent(server)
        self.host = server
        self.server, self.other_port = (agent.udp(port=port) for port in SERVER_PORTS)
        self.server_endpoint = address_of(server), SERVER_PORTS[0]
        self.other_port_endpoint = address_of(server), SERVER_PORTS[1]
        self.stranger = Agent(stranger).udp()
        self.stranger_endpoint = address_of(stranger), self.stranger.port

    def mapping_towards_server(self, inside: UdpSocket) -> Address:
        """Send to the server and return the source that it saw."""
        return _seen(inside, self.server, self.server_endpoint)

    def mapping_towards_other_port(self, inside: UdpSocket) -> Address:
        """Send to the server's other port and return the source that it saw."""
        return _seen(inside, self.other_port, self.other_port_endpoint)

    def observe(self, inside: UdpSocket) -> Behaviour:
        """Find out about the NAT in front of a socket that has not sent anything yet."""
        first = self.mapping_towards_server(inside)
        assert passes(self.server, first, inside, 1.0), "not even answers come in"
        # Filtering first: what is sent to a stranger lets the stranger in.
        filtering = Scope.ENDPOINT
        if passes(self.stranger, first, inside):
            filtering = Scope.NOTHING
        elif passes(self.other_port, first, inside):
            filtering = Scope.ADDRESS
        # From a new socket: a router that answers strangers has spoilt this one's mapping by now.
        inside = inside.another()
        first = self.mapping_towards_server(inside)
        second = self.mapping_towards_other_port(inside)
        third = _seen(inside, self.stranger, self.stranger_endpoint)
        mapping = Scope.NOTHING
        if second != first:
            mapping = Scope.ENDPOINT
        elif third != first:
            mapping = Scope.ADDRESS
        ports = [first[1], second[1], third[1]]
        is_sequential = ports == [first[1], first[1] + 1, first[1] + 2]
        return Behaviour(mapping, filtering, first[1] == inside.port, is_sequential)


def passes(sender: UdpSocket, to: Address, receiver: UdpSocket, timeout: float = 0.2) -> bool:
    """Whether a datagram comes through."""
    sender.send(b"knock", to)
    return receiver.receive(timeout) is not None


def _seen(inside: UdpSocket, receiver: UdpSocket, endpoint: Address) -> Address:
    inside.send(b"hello", endpoint)
    seen = receiver.receive()
    assert seen is not None, f"nothing got through to {endpoint}"
    return seen.source
