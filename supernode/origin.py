"""Where a datagram came from."""

import ipaddress
from typing import NamedTuple

from mesh.addresses import Endpoint
from mesh.engine import SocketId


class Origin(NamedTuple):
    """A source endpoint and the socket that heard it: together, where to answer."""

    endpoint: Endpoint
    socket: SocketId


def source_key(endpoint: Endpoint) -> bytes:
    """Return what a source is counted by: the IPv4 address or the IPv6 /64; section 17."""
    packed = ipaddress.ip_address(endpoint.host.partition("%")[0]).packed
    return packed[:8] if len(packed) == 16 else packed
