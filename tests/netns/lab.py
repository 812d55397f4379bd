"""Networks of machines: an internet of routed /24s, homes behind NATs, switches, point by point.

```
  public host ── 45.0.N.0/24 ──┐
                            internet ── 45.0.M.0/24 ── wan0 [router, a NAT] lan0 ─┬─ eth0 host
  public host ── 45.0.K.0/24 ──┘                                192.168.1.0/24    └─ eth0 host
```

Homes all use the same private network, as homes do: a peer's LAN address is often one's own.
"""

import enum
import itertools
import sys
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Network
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from tests.netns.cable import Conditions
from tests.netns.cables import Cables
from tests.netns.namespaces import Host, UserNamespace
from tests.netns.nats import Nat, hairpin, ruleset

HOME_NETWORK: Final = IPv4Network("192.168.1.0/24")
CARRIER_NETWORK: Final = IPv4Network("100.64.0.0/24")
_FORGET_FLOWS = Path(__file__).with_name("forget_flows.py")


class Refusal(enum.Enum):
    """What a firewall on the way does with what it does not let through, as nft calls it."""

    DROP = "drop"
    REJECT = "reject with icmpx admin-prohibited"


Plug: TypeAlias = Callable[[Host, str, Host, str], None]
"""Connects an interface of one machine to one of another, which are new and up afterwards."""


class Uplink(Protocol):
    """Something a machine can be plugged into."""

    def attach(self, host: Host, interface: str) -> IPv4Address:
        """Plug in ``host``; return the address it got."""
        ...

    def spare_address(self, current: IPv4Address) -> IPv4Address:
        """Return another address that is free where ``current`` is in use."""
        ...


class Internet:
    """A router to which every attached machine has a link, and a network, of its own.

    Attributes:
        host: the router's namespace: what captures see everything from.
    """

    def __init__(self, host: Host, plug: Plug, *, has_ipv6: bool) -> None:
        self.host = host
        self._plug = plug
        self.has_ipv6 = has_ipv6
        self._numbers = itertools.count(1)
        self._make_router()

    def _make_router(self) -> None:
        self.host.sysctl({"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"})
        self.host.nft(_MANY_HOPS)

    def attach(self, host: Host, interface: str = "wan0") -> IPv4Address:
        """Give ``host`` a link, a public address (and an IPv6 one) and a default route."""
        number = next(self._numbers)
        port = f"port{number}"
        self._plug(self.host, port, host, interface)
        self.host.ip(f"address add 45.0.{number}.1/24 dev {port}")
        host.ip(
            f"address add 45.0.{number}.2/24 broadcast + dev {interface}",
            f"route add default via 45.0.{number}.1",
        )
        if self.has_ipv6:
            self.host.ip(f"address add 2a0f:{number}::1/64 dev {port} nodad")
            host.ip(
                f"address add 2a0f:{number}::2/64 dev {interface} nodad",
                f"route add default via 2a0f:{number}::1",
            )
        return IPv4Address(f"45.0.{number}.2")

    def spare_address(self, current: IPv4Address) -> IPv4Address:
        """Return the next address: every machine is alone in its network."""
        return current + 1

    def route(self, network: IPv4Network | IPv6Network, via: str) -> None:
        """Send what is for ``network`` to the machine that has the address ``via``."""
        self.host.ip(f"route replace {network} via {via}")

    def block(self, left: object, right: object, refusal: Refusal = Refusal.DROP) -> None:
        """Let nothing pass between two addresses or networks, either way, until `unblock`."""
        rules = "\n".join(
            f"    ip saddr {source} ip daddr {destination} {refusal.value}"
            for source, destination in ((left, right), (right, left))
        )
        self.host.nft(_BLOCKS.format(rules=rules))

    def unblock(self) -> None:
        """Let everything pass again."""
        self.host.nft("table inet blocks\ndelete table inet blocks\n")


# One router is two hops from anybody to anybody: what is sent with a low hop limit on purpose, to
# die on the way, would arrive.
_MANY_HOPS = """
table inet hops {
  chain prerouting {
    type filter hook prerouting priority raw; policy accept;
    ip ttl < 8 ip ttl set 1
    ip6 hoplimit 2-8 ip6 hoplimit set 1
  }
}
"""

_BLOCKS = """
table inet blocks {{
  chain forward {{
    type filter hook forward priority filter; policy accept;
{rules}
  }}
}}
"""


class Lan:
    """A switch, and a router on it where ``switch`` is one.

    Attributes:
        switch: the namespace that the bridge ``lan0`` lives in.
        network: its IPv4 network; the first address is the gateway's.
    """

    def __init__(
        self, switch: Host, network: IPv4Network, gateway: IPv4Address | None, plug: Plug
    ) -> None:
        self.switch = switch
        self._plug = plug
        self.network = network
        self.gateway = gateway
        self._addresses = itertools.islice(network.hosts(), 1, None)
        self._numbers = itertools.count()
        switch.ip("link add lan0 type bridge", "link set lan0 up")
        if gateway:
            switch.ip(f"address add {gateway}/{network.prefixlen} broadcast + dev lan0")

    def attach(self, host: Host, interface: str = "eth0") -> IPv4Address:
        """Plug ``host`` in: an address, and a default route if there is a router."""
        port = f"port{next(self._numbers)}"
        self._plug(self.switch, port, host, interface)
        self.switch.ip(f"link set {port} master lan0")
        address = next(self._addresses)
        host.ip(f"address add {address}/{self.network.prefixlen} broadcast + dev {interface}")
        if self.gateway:
            host.ip(f"route add default via {self.gateway}")
        return address

    def spare_address(self, _current: IPv4Address) -> IPv4Address:
        """Return an address that nobody has had."""
        return next(self._addresses)


class Home:
    """A router with a NAT of some kind, and the LAN behind it.

    Attributes:
        router: its namespace, with ``wan0`` and ``lan0``.
        nat: its kind.
        public_address: the router's address on ``wan0``.
        lan: what its machines are plugged into.
    """

    def __init__(
        self,
        router: Host,
        uplink: Uplink,
        nat: Nat,
        network: IPv4Network,
        plug: Plug,
        *,
        hairpin: bool = False,
    ) -> None:
        """Build it; ``hairpin`` lets its machines reach each other by their public endpoints."""
        self.router = router
        self._hairpin = hairpin
        self.nat = nat
        self.public_address = uplink.attach(router, "wan0")
        self._uplink = uplink
        self._udp_timeout: int | None = None
        router.sysctl({"net/ipv4/ip_forward": "1"})
        self.lan = Lan(router, network, network[1], plug)
        self._load_rules()

    def _load_rules(self) -> None:
        """Set up the NAT from nothing, as a router does that has just started."""
        rules = ruleset(self.nat, str(self.public_address), self._udp_timeout)
        if self._hairpin:
            rules += hairpin(str(self.public_address))
        self.router.nft("flush ruleset\n" + rules)
        if self.nat is Nat.FIREWALL:
            assert isinstance(self._uplink, Internet), "the internet routes public addresses"
            self._uplink.route(self.lan.network, str(self.public_address))

    def attach(self, host: Host, interface: str = "eth0") -> IPv4Address:
        """Plug ``host`` into the LAN."""
        return self.lan.attach(host, interface)

    def spare_address(self, current: IPv4Address) -> IPv4Address:
        """Return an address of the LAN that nobody has had."""
        return self.lan.spare_address(current)

    # What befalls home routers

    def set_udp_timeout(self, seconds: int) -> None:
        """Have idle UDP mappings forgotten after so long."""
        self._udp_timeout = seconds
        names = ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream")
        self.router.sysctl({f"net/netfilter/{name}": str(seconds) for name in names})
        self._load_rules()

    def flush_conntrack(self) -> None:
        """Forget every mapping, as a router that is restarted; its links stay up."""
        self._load_rules()
        self.router.run(sys.executable, "-I", "-S", str(_FORGET_FLOWS))

    def power_off(self) -> None:
        """Take both cables of the router down, and its memory with them."""
        self.router.ip("link set wan0 down", "link set lan0 down")
        self.flush_conntrack()

    def power_on(self) -> None:
        """Come back as before, with a new mapping for everybody."""
        self.router.ip("link set wan0 up", "link set lan0 up")
        self._add_default_route()

    def change_public_address(self) -> IPv4Address:
        """Get another address from the provider, as after a reconnect; return it."""
        before, self.public_address = (
            self.public_address,
            self._uplink.spare_address(self.public_address),
        )
        self.router.ip(
            f"address delete {before}/24 dev wan0",
            f"address add {self.public_address}/24 broadcast + dev wan0",
        )
        self._add_default_route()
        self.flush_conntrack()
        return self.public_address

    def _add_default_route(self) -> None:
        gateway = IPv4Interface(f"{self.public_address}/24").network[1]
        self.router.ip(f"route replace default via {gateway}")


class Lab:
    """All the machines of one test module; `close` leaves nothing behind."""

    def __init__(self, files: Path) -> None:
        self.files = files
        self._user_namespace = UserNamespace()
        self._hosts: dict[str, Host] = {}
        self._public_networks = itertools.count(1)
        self._plug: Plug = plug

    def use_cables(self, conditions: Conditions, seed: str = "1") -> Cables:
        """Have every link that is made from now on treat frames so."""
        cables = Cables(self.host("cables"), conditions, seed)
        self._plug = cables.lay
        return cables

    def host(self, name: str) -> Host:
        """Return a new machine with nothing plugged in."""
        assert name not in self._hosts, f"there is a machine {name} already"
        host = Host(name, self.files / name, self._user_namespace.prefix)
        self._hosts[name] = host
        return host

    def internet(self, *, has_ipv6: bool = False) -> Internet:
        """Return the one internet of this lab."""
        return Internet(self.host("internet"), self._plug, has_ipv6=has_ipv6)

    def public_host(self, name: str, internet: Internet) -> Host:
        """Return a new machine with a public address on ``wan0``."""
        host = self.host(name)
        internet.attach(host, "wan0")
        return host

    def home(self, name: str, uplink: Uplink, nat: Nat = Nat.PORT_RESTRICTED) -> Home:
        """Return a new home; double NAT is a home that has another one as its uplink."""
        network = HOME_NETWORK
        if nat is Nat.FIREWALL:
            network = IPv4Network(f"44.{next(self._public_networks)}.0.0/24")
        elif isinstance(uplink, Home) and uplink.lan.network == HOME_NETWORK:
            network = IPv4Network("192.168.2.0/24")
        return Home(self.host(name), uplink, nat, network, self._plug)

    def carrier(self, name: str, internet: Internet, nat: Nat, *, hairpin: bool = False) -> Home:
        """Return a new provider's NAT, to be the uplink of homes (RFC 6598 addresses)."""
        return Home(self.host(name), internet, nat, CARRIER_NETWORK, self._plug, hairpin=hairpin)

    def home_host(self, name: str, home: Home) -> Host:
        """Return a new machine on ``eth0`` of a home."""
        host = self.host(name)
        home.attach(host)
        return host

    def lan(self, name: str, network: str = "192.168.7.0/24") -> Lan:
        """Return a switch without a router."""
        return Lan(self.host(name), IPv4Network(network), None, self._plug)

    def lan_host(self, name: str, lan: Lan) -> Host:
        """Return a new machine on ``eth0`` of a LAN."""
        host = self.host(name)
        lan.attach(host)
        return host

    def close(self) -> None:
        """Kill everything that runs in the lab."""
        for host in self._hosts.values():
            host.close()
        self._user_namespace.close()


def unplug(host: Host, interface: str = "eth0") -> None:
    """Pull a cable out for good: the interface is gone, as a USB adapter is."""
    host.ip(f"link delete {interface}")


def plug(left: Host, left_interface: str, right: Host, right_interface: str) -> None:
    """Connect two machines by a cable whose ends are up."""
    left.ip(
        f"link add {left_interface} type veth peer name {right_interface} netns {right.pid}",
        f"link set {left_interface} up",
    )
    right.ip(f"link set {right_interface} up")


def address_of(host: Host, interface: str = "wan0") -> str:
    """Return the first IPv4 address of an interface."""
    words = host.run("ip", "-4", "-brief", "address", "show", interface).stdout.split()
    return words[2].partition("/")[0]
