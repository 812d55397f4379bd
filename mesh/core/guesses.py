"""Which public ports of a peer's hard NAT to try; docs/protocol.md section 12.8.

Pure: what was seen (and dice) in, ports out.
"""

from mesh.constants import GUESS_PREDICTIONS
from mesh.engine import Entropy

FIRST_PORT = 1024  # NATs leave those below to the router itself
_PORTS = 1 << 16


def predicted_ports(last: int, stride: int) -> list[int]:
    """Return the ports that come next in a sequence.

    Args:
        last: the port that the peer's newest mapping got.
        stride: from one to the next, modulo 65536.
    """
    ports = [(last + stride * ahead) % _PORTS for ahead in range(1, GUESS_PREDICTIONS + 1)]
    return [port for port in dict.fromkeys(ports) if port >= FIRST_PORT]


def random_ports(count: int, entropy: Entropy) -> list[int]:
    """Return ``count`` different ports of 1024 and above."""
    chosen: dict[int, None] = {}
    while len(chosen) < count:
        drawn = entropy(2 * (count - len(chosen)))
        for place in range(0, len(drawn), 2):
            port = int.from_bytes(drawn[place : place + 2], "big")
            if port >= FIRST_PORT:
                chosen[port] = None
    return list(chosen)
