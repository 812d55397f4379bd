"""The kinds of NAT and firewall that homes have, as nftables rules for a Linux router.

Every ruleset takes ``wan0`` for the interface to the world, ``lan0`` for the one to the home, and
the router's public IPv4 address.
"""

import enum


class Nat(enum.Enum):
    """A kind of home router; mapping / filtering in brackets (RFC 4787)."""

    FULL_CONE = "full-cone"
    """(endpoint-independent / endpoint-independent)."""
    ADDRESS_RESTRICTED = "address-restricted"
    """(endpoint-independent / address-dependent)."""
    PORT_RESTRICTED = "port-restricted"
    """(endpoint-independent / address- and port-dependent): the usual home router."""
    PORT_CHANGED = "port-changed"
    """As port-restricted, from another port than the one that the machine used."""
    REJECTING = "rejecting"
    """As port-restricted, but an early probe from outside is answered and spoils the mapping."""
    SYMMETRIC = "symmetric"
    """(address- and port-dependent / the same), random ports."""
    SYMMETRIC_SEQUENTIAL = "symmetric-sequential"
    """(address- and port-dependent / the same), the next port for every mapping."""
    FIREWALL = "firewall"
    """No NAT: public addresses behind a stateful firewall."""
    UDP_BLOCKED = "udp-blocked"
    """Masquerades, but lets no UDP through."""


SEQUENTIAL_FIRST_PORT = 30000
SEQUENTIAL_PORTS = 500
CHANGED_PORTS = (20000, 29999)
CONE_TIMEOUT = 300  # s


def ruleset(kind: Nat, public_address: str, udp_timeout: int | None = None) -> str:
    """Return what to load with ``nft --file`` on the router.

    Args:
        kind: of NAT or firewall.
        public_address: of ``wan0``.
        udp_timeout: seconds after which a cone NAT closes to strangers; what conntrack knows has
            timeouts of its own.
    """
    nat = _nat_rules(kind, public_address, udp_timeout or CONE_TIMEOUT)
    return _INPUT[kind is Nat.REJECTING] + _FORWARD[kind] + nat


def hairpin(public_address: str) -> str:
    """Return what makes a full cone also turn around what its own machines send to it."""
    return _HAIRPIN.format(address=public_address)


# Dropping in INPUT means that a probe to a port that is not mapped yet leaves no conntrack entry,
# which would take the port away from the mapping that the machine inside is about to make.
_INPUT_DROPS = """
table inet input {
  chain input {
    type filter hook input priority filter; policy accept;
    iifname "wan0" ct state established,related accept
    iifname "wan0" meta l4proto { tcp, udp } drop
  }
}
"""
_INPUT = {True: "", False: _INPUT_DROPS}

# Unsolicited IPv6 meets a stateful firewall at every home router.
_FORWARD_CHAIN = """
table inet forward {{
  chain forward {{
    type filter hook forward priority filter; policy accept;
    {first}
    ct state established,related accept
    iifname "wan0" ct status dnat accept
    iifname "wan0" drop
  }}
}}
"""
_FORWARD = {kind: _FORWARD_CHAIN.format(first="") for kind in Nat}
_FORWARD[Nat.UDP_BLOCKED] = _FORWARD_CHAIN.format(first="meta l4proto udp drop")

# The postrouting hook right behind srcnat sees the translated source port, and conntrack still
# knows the original one: together they are the mapping.
_CONE = """
table ip cone {{
  map mapped {{
    type inet_service : ipv4_addr . inet_service
    flags dynamic,timeout; size 65535; timeout {timeout}s
  }}
  set contacted {{
    type inet_service . ipv4_addr
    flags dynamic,timeout; size 65535; timeout {timeout}s
  }}
  chain learn {{
    type filter hook postrouting priority srcnat + 1;
    oifname "wan0" update @mapped {{ udp sport : ct original ip saddr . ct original proto-src }}
    oifname "wan0" update @contacted {{ udp sport . ip daddr }}
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    iifname "wan0" ip daddr {address} {filter} dnat ip to udp dport map @mapped
  }}
}}
"""

# The source is translated as well (RFC 4787, REQ-9), to the same port as towards the world.
_HAIRPIN = """
table ip cone {{
  chain turn {{
    type nat hook prerouting priority dstnat;
    iifname "lan0" ip daddr {address} dnat ip to udp dport map @mapped
  }}
}}
table ip nat {{
  chain turned {{
    type nat hook postrouting priority srcnat;
    iifname "lan0" oifname "lan0" ct status dnat snat to {address}
  }}
}}
"""

_SOURCE_NAT = """
table ip nat {{
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    oifname "wan0" {statement}
  }}
}}
"""


def _nat_rules(kind: Nat, public_address: str, timeout: int) -> str:
    if kind is Nat.FIREWALL:
        return ""
    first_port, last_port = CHANGED_PORTS
    statement = {
        Nat.PORT_CHANGED: f"meta l4proto udp snat to {public_address}:{first_port}-{last_port}",
        Nat.SYMMETRIC: "masquerade random,fully-random",
        Nat.SYMMETRIC_SEQUENTIAL: _sequential(public_address),
    }.get(kind, "masquerade")
    inbound = {
        Nat.FULL_CONE: "",
        Nat.ADDRESS_RESTRICTED: "udp dport . ip saddr @contacted",
    }.get(kind)
    cone = ""
    if inbound is not None:
        cone = _CONE.format(address=public_address, filter=inbound, timeout=timeout)
    return _SOURCE_NAT.format(statement=statement) + cone


def _sequential(public_address: str) -> str:
    """Return a statement that takes the next port for each mapping.

    nft 1.0.6 swaps the bytes of ``numgen … offset`` where it is used as a port; a map is not
    affected.
    """
    ports = ", ".join(f"{n} : {SEQUENTIAL_FIRST_PORT + n}" for n in range(SEQUENTIAL_PORTS))
    numbers = f"numgen inc mod {SEQUENTIAL_PORTS} map {{ {ports} }}"
    return f"meta l4proto udp snat to {public_address} : {numbers}"
