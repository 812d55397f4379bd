"""The kinds of connection that machines have, and what must come of two of them.

```
   open ──────────────────────────────── internet        every other kind, with its own router(s):
   machine ── home router ────────────── internet        a NAT or a stateful firewall
   machine ── home router ── carrier ─── internet        double NAT
```
"""

import enum
from typing import Final

from tests.netns.lab import Internet, Lab
from tests.netns.namespaces import Host
from tests.netns.nats import Nat


class Kind(enum.Enum):
    """How a machine is connected; the value is its name in tables and on the command line."""

    OPEN = "open"
    FULL_CONE = "full-cone"
    ADDRESS_RESTRICTED = "address-restricted"
    PORT_RESTRICTED = "port-restricted"
    PORT_CHANGED = "port-changed"
    REJECTING = "rejecting"
    FIREWALL = "firewall"
    DOUBLE = "double"
    SEQUENTIAL = "sequential"
    SYMMETRIC = "symmetric"
    DOUBLE_SYMMETRIC = "double-symmetric"

    @property
    def is_hard(self) -> bool:
        """Whether peers see it at an endpoint that nobody can tell beforehand."""
        return self in (Kind.SEQUENTIAL, Kind.SYMMETRIC, Kind.DOUBLE_SYMMETRIC)

    @property
    def is_strict(self) -> bool:
        """Whether it lets in only what comes from an endpoint that it has sent to."""
        return self not in (Kind.OPEN, Kind.FULL_CONE, Kind.ADDRESS_RESTRICTED)


_NATS: Final = {
    Kind.FULL_CONE: Nat.FULL_CONE,
    Kind.ADDRESS_RESTRICTED: Nat.ADDRESS_RESTRICTED,
    Kind.PORT_RESTRICTED: Nat.PORT_RESTRICTED,
    Kind.PORT_CHANGED: Nat.PORT_CHANGED,
    Kind.REJECTING: Nat.REJECTING,
    Kind.FIREWALL: Nat.FIREWALL,
    Kind.SEQUENTIAL: Nat.SYMMETRIC_SEQUENTIAL,
    Kind.SYMMETRIC: Nat.SYMMETRIC,
}
_CARRIERS: Final = {Kind.DOUBLE: Nat.PORT_RESTRICTED, Kind.DOUBLE_SYMMETRIC: Nat.SYMMETRIC}


def connect(lab: Lab, internet: Internet, kind: Kind, name: str) -> Host:
    """Return a new machine that is connected in this way, with routers of its own."""
    if kind is Kind.OPEN:
        return lab.public_host(name, internet)
    if kind in _NATS:
        return lab.home_host(name, lab.home(f"{name}-router", internet, _NATS[kind]))
    carrier = lab.carrier(f"{name}-carrier", internet, _CARRIERS[kind])
    return lab.home_host(name, lab.home(f"{name}-router", carrier))


def must_be_direct(left: Kind, right: Kind) -> bool:
    """Whether a pair of these kinds has to find a direct path without a router's help."""
    return not (left.is_hard and right.is_hard)


def takes_guessing(left: Kind, right: Kind) -> bool:
    """Whether a direct path is found only by guessing at endpoints: it may take several tries."""
    return left.is_hard != right.is_hard and left.is_strict and right.is_strict
