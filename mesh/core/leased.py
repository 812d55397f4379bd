"""Which leased addresses an edge takes; docs/protocol.md section 15.1.

A supernode is trusted to keep addresses apart, not to route this machine's traffic: whoever may put
``8.8.8.9/1`` on an interface takes over half of the internet.
"""

import ipaddress

from mesh.core.config import EdgeConfig
from mesh.wire.messages import AddressMode

MIN_PREFIX = 16  # wider than any community needs, narrower than what would hide other networks

_PRIVATE_NETWORKS = [
    ipaddress.IPv4Network(network)
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
]


def is_acceptable(address: str, config: EdgeConfig) -> bool:
    """Whether a supernode's word for our address is one that we configure.

    Args:
        address: CIDR, as the wire's schema lets it through, or empty.
        config: without an address wanted nothing is accepted, with a fixed one only that one, else
            a host address of one of our proposals or of a private network of at least 16 bits.
    """
    match config.address_mode:
        case AddressMode.NONE:
            return not address
        case AddressMode.FIXED:
            return address == config.address
        case AddressMode.AUTO:
            return bool(address) and _is_private_host(address, config)


def _is_private_host(address: str, config: EdgeConfig) -> bool:
    interface = ipaddress.IPv4Interface(address)
    network = interface.network
    if interface.ip in {network.network_address, network.broadcast_address}:
        return False
    if str(network) in config.subnets:
        return True
    return network.prefixlen >= MIN_PREFIX and any(
        network.subnet_of(private) for private in _PRIVATE_NETWORKS
    )
