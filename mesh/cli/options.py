"""The options of ``join`` as a table: the command line and the TOML file both read it."""

import enum
from dataclasses import dataclass


class OptionKind(enum.Enum):
    """What an option looks like on the command line and in TOML."""

    TEXT = "text"
    NUMBER = "number"
    SWITCH = "switch"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    Attributes:
        name: as in TOML; the flag is ``--name``.
        kind: a TEXT is a string, a NUMBER may be an integer, a SWITCH is a boolean, a LIST is a
            string or several; on the command line a LIST is repeated.
        metavar: what stands for the value in ``--help``.
        help: one line for ``--help``.
        variable: the environment variable that sets it too, or "".
    """

    name: str
    kind: OptionKind
    metavar: str
    help: str
    variable: str = ""


JOIN_OPTIONS = (
    Option(
        "supernode",
        OptionKind.LIST,
        "HOST:PORT|URL[#FINGERPRINT]",
        "where to register (repeatable); default: one found on the LAN, else one is hosted here;"
        " URL is tcp://HOST:PORT, ws://HOST or wss://HOST[/PATH]",
    ),
    Option(
        "transport",
        OptionKind.TEXT,
        "auto|udp|tcp|ws",
        "how to reach supernodes; default: auto: UDP or, where it does not pass, the others",
    ),
    Option(
        "proxy",
        OptionKind.TEXT,
        "URL|none",
        "HTTP proxy for what is not UDP; default: https_proxy, http_proxy, all_proxy and no_proxy",
    ),
    Option("tls-ca", OptionKind.TEXT, "FILE", "further authorities (PEM) to trust for wss://"),
    Option(
        "key",
        OptionKind.TEXT,
        "SECRET",
        "the community's secret; visible in the process list, prefer --key-file",
        variable="MESH_KEY",
    ),
    Option("key-file", OptionKind.TEXT, "FILE", "a file that holds the secret on one line"),
    Option("open", OptionKind.SWITCH, "", "no secret: whoever knows the name may join"),
    Option("name", OptionKind.TEXT, "NAME", "what peers call this edge; default: the host's name"),
    Option("tap", OptionKind.TEXT, "NAME", "the interface; default: the first free of mesh0, ..."),
    Option(
        "address",
        OptionKind.TEXT,
        "auto|none|CIDR",
        "a lease from the supernode, left unset, or fixed; default: auto",
    ),
    Option("mtu", OptionKind.NUMBER, "N", "the interface's MTU, 576 to 9000; default: 1500"),
    Option("mac", OptionKind.TEXT, "MAC", "the interface's MAC; default: from the identity"),
    Option("port", OptionKind.NUMBER, "N", "the UDP port to bind; default: any"),
    Option(
        "advertise",
        OptionKind.LIST,
        "ADDR:PORT",
        "an endpoint at which peers reach this edge, such as a forwarded port (repeatable)",
    ),
    Option("no-port-mapping", OptionKind.SWITCH, "", "do not ask the router for a port"),
    Option("no-lan-peers", OptionKind.SWITCH, "", "no multicast for peers on the same LAN"),
    Option("relay-only", OptionKind.SWITCH, "", "never use a direct path"),
    Option(
        "no-hard-punch",
        OptionKind.SWITCH,
        "",
        "no many sockets or ports at once where a NAT leaves no other direct path",
    ),
    Option("no-relay", OptionKind.SWITCH, "", "never send frames through a supernode"),
    Option("no-offload", OptionKind.SWITCH, "", "no GSO, GRO or TSO"),
    Option("no-realtime", OptionKind.SWITCH, "", "do not run ahead of busy programs"),
    Option(
        "no-broadcast-routes",
        OptionKind.SWITCH,
        "",
        "leave 255.255.255.255 and multicast to the machine's own routes",
    ),
    Option(
        "state-dir",
        OptionKind.TEXT,
        "DIR",
        "keys, pins and leases; default: /var/lib/mesh-edge, or under XDG_STATE_HOME",
        variable="MESH_STATE_DIR",
    ),
    Option(
        "runtime-dir",
        OptionKind.TEXT,
        "DIR",
        "the control socket; default: /run/mesh-edge, or under XDG_RUNTIME_DIR",
        variable="MESH_RUNTIME_DIR",
    ),
)

OPTION_NAMED = {option.name: option for option in JOIN_OPTIONS}
