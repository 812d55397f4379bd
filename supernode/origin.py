"""Where a datagram came from."""

from typing import NamedTuple

from mesh.addresses import Endpoint
from mesh.engine import SocketId


class Origin(NamedTuple):
    """A source endpoint and the socket that heard it: together, where to answer."""

    endpoint: Endpoint
    socket: SocketId
