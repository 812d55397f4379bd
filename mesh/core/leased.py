"""Which leased addresses an edge takes; docs/protocol.md section 15.1.

A supernode is trusted to keep addresses apart, not to route this machine's traffic: whoever may put
``8.8.8.9/1`` on an interface takes over half of the internet.
"""

import ipaddress

from mesh.core.config import EdgeConfig
from mesh.wire.messages import AddressMode


class Lease:
    """Our address, which all supernodes are asked for: the first one's word counts.

    Attributes:
        address: CIDR, or empty.
    """

    def __init__(self) -> None:
        self.address = ""
        self._lessor: int | None = None

    def take(self, supernode: int, address: str) -> bool:
        """Take in what a supernode leases to us (CIDR or empty); whether ours has changed.

        A lease stays when its supernode dies, and another one's leaves it alone: connections
        inside the overlay outlive a supernode.
        """
        if self._lessor not in {None, supernode} and self.address:
            return False
        self._lessor = supernode
        changed, self.address = address != self.address, address
        return changed


def is_acceptable(address: str, config: EdgeConfig) -> bool:
    """Whether a supernode's word for our address is one that we configure.

    Args:
        address: CIDR, as the wire's schema lets it through, or empty.
        config: without an address wanted nothing is accepted, with a fixed one only that one, else
            a host address of one of our proposals, which all members derive alike.
    """
    match config.address_mode:
        case AddressMode.NONE:
            return not address
        case AddressMode.FIXED:
            return address == config.address
        case AddressMode.AUTO:
            return bool(address) and _is_host_of_a_proposal(address, config)


def _is_host_of_a_proposal(address: str, config: EdgeConfig) -> bool:
    interface = ipaddress.IPv4Interface(address)
    network = interface.network
    is_host = interface.ip not in {network.network_address, network.broadcast_address}
    return is_host and str(network) in config.subnets
