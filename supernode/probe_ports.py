"""Opens the observation ports: two more UDP ports on every address that is listened on.

docs/protocol.md section 10.7. The two numbers are the same everywhere, so that one answer to a
registration names them for all addresses.
"""

import contextlib
import socket
from collections.abc import Iterable
from typing import NamedTuple

from mesh.engine import SocketId
from mesh.errors import ConfigError
from mesh.net.udp import UdpPort, open_udp

ATTEMPTS = 8  # a number that is free on one address may be taken on another
FIRST_SOCKET_ID = 500  # above those of all listening sockets, below those that a driver gives out


class ObservationPorts(NamedTuple):
    """Two ports, open on every address.

    Attributes:
        numbers: the UDP ports.
        pairs: per address, the sockets that have them.
    """

    numbers: tuple[int, int]
    pairs: list[tuple[UdpPort, UdpPort]]

    @property
    def sockets(self) -> dict[SocketId, UdpPort]:
        """All of them, by number."""
        return {port.socket_id: port for pair in self.pairs for port in pair}


def open_observation_ports(
    listening: Iterable[UdpPort], wanted: tuple[int, ...]
) -> ObservationPorts | None:
    """Open them beside what is listened on.

    Args:
        listening: where the supernode is reached.
        wanted: the two numbers, or none for any.

    Returns:
        None where no two free numbers could be had; edges are told of none then.

    Raises:
        ConfigError: a wanted one is taken or not ours to take.
    """
    hosts = list(dict.fromkeys(port.local.host for port in listening))
    for _ in range(ATTEMPTS):
        try:
            return _open(hosts, wanted)
        except ConfigError:
            if wanted:
                raise
    return None


def _open(hosts: list[str], wanted: tuple[int, ...]) -> ObservationPorts:
    numbers = list(wanted) or [0, 0]
    pairs: list[tuple[UdpPort, UdpPort]] = []
    with contextlib.ExitStack() as stack:
        for host in hosts:
            pair = []
            for place in (0, 1):
                socket_id = FIRST_SOCKET_ID + 2 * len(pairs) + place
                port = stack.enter_context(_open_one(host, numbers[place], socket_id))
                numbers[place] = port.local.port
                pair.append(port)
            pairs.append((pair[0], pair[1]))
        stack.pop_all()
    return ObservationPorts((numbers[0], numbers[1]), pairs)


def _open_one(host: str, number: int, socket_id: SocketId) -> UdpPort:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return open_udp(family, host, number, socket_id=socket_id, where="--probe-ports")
