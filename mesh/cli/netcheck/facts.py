"""What a check of the network has found: the ``--json`` of ``mesh-edge netcheck``.

The names of the fields are a contract that users script against: add, never rename.
"""

import enum
from dataclasses import dataclass


class Answer(enum.StrEnum):
    """What became of a try to reach somebody."""

    ANSWERED = "answered"
    """A supernode answered, in its own words."""
    OPEN = "open"
    """Somebody took the connection, and it is not a supernode."""
    REFUSED = "refused"
    """The connection was refused: the machine is reached, and nobody listens, or a firewall says
    so."""
    SILENT = "silent"
    """Nothing came back."""
    NO_ROUTE = "no-route"
    """This machine has no way there."""
    UNTRIED = "untried"


class Mapping(enum.StrEnum):
    """Under which public endpoint others see one socket of this machine; RFC 4787 section 4.1."""

    NONE = "none"
    """Its own: there is no NAT."""
    INDEPENDENT = "endpoint-independent"
    """The same for everybody."""
    DEPENDENT = "dependent"
    """Another one for everybody, "symmetric"."""
    UNKNOWN = "unknown"


class Filtering(enum.StrEnum):
    """Who may answer to that endpoint; RFC 4787 section 5."""

    ADDRESS = "none or by address"
    PORT = "by address and port"
    UNKNOWN = "unknown"


class Key(enum.StrEnum):
    """Whether a supernode has the key that it should have."""

    RIGHT = "right"
    NEW = "new"
    """None was known, so that it cannot be told."""
    WRONG = "wrong"
    UNKNOWN = "unknown"
    """It did not answer."""


@dataclass(frozen=True, slots=True)
class WayFacts:
    """One way to one supernode.

    Attributes:
        supernode: its name, as the user knows it.
        endpoint: ``address:port``.
        family: ``ipv4`` or ``ipv6``.
        udp: whether it answers there.
        rtt_ms: the shortest round trip.
        key: whether it proved the right key.
        fingerprint: of the key that it proved.
        seen_as: where it sees us, or empty.
        mtu: the largest IP packet of at most 1500 bytes that reached it whole, 0 if none of 1280 or
            more did, None where it was not tried.
        tcp: whether it answers by TCP at the same port.
        udp_443: whether it answers by UDP at port 443.
        tcp_443: whether anything answers by TCP at port 443.
    """

    supernode: str
    endpoint: str
    family: str
    udp: Answer
    rtt_ms: float | None = None
    key: Key = Key.UNKNOWN
    fingerprint: str = ""
    seen_as: str = ""
    mtu: int | None = None
    tcp: Answer = Answer.UNTRIED
    udp_443: Answer = Answer.UNTRIED
    tcp_443: Answer = Answer.UNTRIED


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """One way to a supernode by stream, other than plain TCP to its address.

    Attributes:
        supernode: its name, as the user knows it.
        way: as a URL; through an HTTP proxy where the environment names one.
        answer: what became of it.
    """

    supernode: str
    way: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class NatFacts:
    """What is between this machine and the internet, in one family.

    Attributes:
        mapping: see `Mapping`.
        filtering: see `Filtering`.
        ports: ``preserved``, ``changed``, ``sequential``, ``random`` or ``unknown``.
        seen_as: all the endpoints that one socket was seen at.
        hairpin: whether two sockets of this machine reach each other by their public endpoints;
            None where there is no NAT, or that was not tried.
    """

    mapping: Mapping = Mapping.UNKNOWN
    filtering: Filtering = Filtering.UNKNOWN
    ports: str = "unknown"
    seen_as: tuple[str, ...] = ()
    hairpin: bool | None = None


@dataclass(frozen=True, slots=True)
class RouterFacts:
    """A protocol by which a router can be asked for a port.

    Attributes:
        protocol: ``pcp``, ``nat-pmp`` or ``upnp``.
        family: ``ipv4`` or ``ipv6``.
        router: its address.
        external: where it would forward from, or empty where it refused.
        is_public: whether others can reach that: not behind yet another NAT.
    """

    protocol: str
    family: str
    router: str
    external: str
    is_public: bool


@dataclass(frozen=True, slots=True)
class LocalFacts:
    """What the machine itself has; overlays are left out.

    Attributes:
        addresses: in CIDR notation.
        gateways: the routers of the default routes, the kernel's favourite of each family first.
        has_ipv4: whether it has an IPv4 address and a default route for it.
        has_ipv6: whether it has a global IPv6 address and a default route for it.
    """

    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    has_ipv4: bool = False
    has_ipv6: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """All of it.

    Attributes:
        source: where the supernodes come from, in words.
        supernodes: the ways to them.
        nat: of IPv4.
        ipv6: the same of IPv6, where a NAT is rare and a firewall is not.
        port_mapping: what the router offers.
        local: what the machine has.
        streams: other ways to the supernodes.
        took_s: for how many seconds the check ran.
    """

    source: str
    supernodes: tuple[WayFacts, ...]
    nat: NatFacts
    ipv6: NatFacts
    port_mapping: tuple[RouterFacts, ...]
    local: LocalFacts
    streams: tuple[StreamFacts, ...] = ()
    took_s: float = 0.0
