"""What an edge's engine has to be told before it starts."""

from dataclasses import dataclass

from mesh.addresses import Endpoint, MacAddress
from mesh.crypto.community import CommunityKeys
from mesh.crypto.identity import Identity
from mesh.wire.messages import AddressMode

_ETHERNET_OVERHEAD_BYTES = 14 + 4


@dataclass(frozen=True, slots=True)
class SupernodeConfig:
    """One supernode: the name the user knows it by, and its pin or the empty string."""

    host_port: str
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    """The settings of one edge.

    Attributes:
        identity: the edge's static key pair.
        community: the keys of the community.
        epoch: upper half of initiation numbers; greater than at any earlier start (section 5.1).
        name: what peers call this edge; at most 64 bytes.
        mac: the TAP's address, 6 bytes.
        mtu: the TAP's MTU; frames may be 14 bytes longer (18 with a VLAN tag).
        relay_only: never use or offer a direct path.
        no_relay: never send frames through a supernode.
        hard_punch: whether ports may be guessed where a NAT leaves nothing else (section 12.8).
        address_mode: how the IPv4 address is found.
        address: CIDR: the fixed address, or the one held before, or empty.
        subnets: proposals for the community's subnet, the preferred one first.
        supernodes: where to register.
        has_aes: whether this CPU has AES instructions.
        advertise: endpoints known to reach this edge.
        has_uso: whether the TAP takes super-frames of UDP.
    """

    identity: Identity
    community: CommunityKeys
    epoch: int
    name: str
    mac: MacAddress
    mtu: int = 1500
    relay_only: bool = False
    no_relay: bool = False
    hard_punch: bool = True
    address_mode: AddressMode = AddressMode.AUTO
    address: str = ""
    subnets: tuple[str, ...] = ()
    supernodes: tuple[SupernodeConfig, ...] = ()
    has_aes: bool = True
    advertise: tuple[Endpoint, ...] = ()
    has_uso: bool = False

    @property
    def max_frame_bytes(self) -> int:
        """The largest frame of the TAP: its MTU, the Ethernet header and one VLAN tag."""
        return self.mtu + _ETHERNET_OVERHEAD_BYTES
