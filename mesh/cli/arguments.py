"""The command line of ``mesh-edge``: commands, arguments and help."""

import argparse
from typing import NoReturn

import mesh
from mesh.cli.options import JOIN_OPTIONS, OPTION_NAMED, Option, OptionKind
from mesh.cli.sources import Flags

EXIT_USAGE = 2
DEFAULT_PINGS = 5
MAX_PINGS = 1_000_000


class _Parser(argparse.ArgumentParser):
    """Says what is wrong on one line; ``--help`` is for the rest."""

    def error(self, message: str) -> NoReturn:
        one_line = " ".join(message.split())
        self.exit(EXIT_USAGE, f"{self.prog}: {one_line}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; `flags_of` turns its results into options by name."""
    parser = _Parser(
        prog="mesh-edge",
        description="One LAN for machines behind any NAT: a peer-to-peer virtual Ethernet.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mesh-edge {mesh.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_join(commands)
    for name, summary in (
        ("status", "show the state of a running edge"),
        ("peers", "list the peers of a running edge"),
        ("fdb", "list the MAC addresses it has learnt"),
    ):
        command = _add_command(commands, name, summary)
        _add_community(command)
        command.add_argument("--json", action="store_true", help="JSON instead of a table")
    ping = _add_command(commands, "ping", "ping a peer and show the path taken")
    ping.add_argument("peer", metavar="PEER", help="its name, address, MAC or id")
    ping.add_argument(
        "-c", "--count", metavar="N", type=_count, default=DEFAULT_PINGS, help="how often"
    )
    ping.add_argument("--community", metavar="COMMUNITY", help="needed where several edges run")
    _add_community(_add_command(commands, "leave", "stop a running edge"))
    _add_community(_add_command(commands, "invite", "print the invite of a running edge"))
    _add_netcheck(commands)
    keygen = commands.add_parser("keygen", help="print a new community key", allow_abbrev=False)
    _add_verbosity(keygen)
    return parser


def flags_of(arguments: argparse.Namespace) -> Flags:
    """Return the options of `mesh.cli.options` that were parsed, by name."""
    parsed = {name.replace("_", "-"): value for name, value in vars(arguments).items()}
    return {name: parsed[name] for name in OPTION_NAMED if name in parsed}


def _add_join(commands: "argparse._SubParsersAction[_Parser]") -> None:
    join = commands.add_parser(
        "join",
        help="join a community and stay until Ctrl-C",
        description="Join a community, by name or invite, and stay until Ctrl-C or SIGTERM.",
        allow_abbrev=False,
    )
    join.add_argument(
        "community",
        metavar="COMMUNITY|INVITE",
        help="a name, or mesh://... in quotes, or - to read either from standard input",
    )
    for option in JOIN_OPTIONS:
        _add_option(join, option)
    join.add_argument(
        "--config",
        metavar="FILE",
        help="TOML with the same names, flags win; default: /etc/mesh-edge/COMMUNITY.toml",
    )
    _add_verbosity(join)


def _add_netcheck(commands: "argparse._SubParsersAction[_Parser]") -> None:
    netcheck = commands.add_parser(
        "netcheck",
        help="examine the network: NAT, firewall, router, supernodes",
        description="Examine the network and say what it means for direct paths to peers. Needs"
        " no privilege, joins nothing, and leaves a running edge alone.",
        allow_abbrev=False,
    )
    netcheck.add_argument(
        "community",
        metavar="COMMUNITY|INVITE",
        nargs="?",
        help="whose supernodes to use; default: those of the running edge, or one on the LAN",
    )
    for name in ("supernode", "state-dir", "runtime-dir"):
        _add_option(netcheck, OPTION_NAMED[name])
    netcheck.add_argument("--config", metavar="FILE", help="as for join")
    netcheck.add_argument("--json", action="store_true", help="JSON instead of a table")
    _add_verbosity(netcheck)


def _add_command(
    commands: "argparse._SubParsersAction[_Parser]", name: str, summary: str
) -> _Parser:
    command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
    _add_option(command, OPTION_NAMED["runtime-dir"])
    _add_verbosity(command)
    return command


def _add_community(command: _Parser) -> None:
    command.add_argument(
        "community", metavar="COMMUNITY", nargs="?", help="needed where several edges run"
    )


def _add_option(command: _Parser, option: Option) -> None:
    flag = f"--{option.name}"
    match option.kind:
        case OptionKind.SWITCH:
            command.add_argument(flag, action="store_true", help=option.help)
        case OptionKind.LIST:
            command.add_argument(flag, action="append", metavar=option.metavar, help=option.help)
        case OptionKind.TEXT | OptionKind.NUMBER:
            command.add_argument(flag, metavar=option.metavar, help=option.help)


def _add_verbosity(command: _Parser) -> None:
    command.add_argument("-v", "--verbose", action="store_true", help="log more")
    command.add_argument("-q", "--quiet", action="store_true", help="log warnings and errors only")
    command.add_argument("--debug", action="store_true", help="log all; tracebacks of errors")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 8 and 0 < int(text) <= MAX_PINGS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MAX_PINGS}")
    return int(text)
