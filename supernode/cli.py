"""The program ``supernode``: what was typed, to an exit code and at most one line of complaint.

Exit codes: 0 fine, 1 failed, 2 usage.
"""

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import trio

import mesh
from mesh.errors import MeshError
from mesh.net.control import NotRunning, call
from mesh.net.data_loop import DataLoop
from mesh.net.paths import control_path, default_runtime_dir, default_state_dir
from supernode import tables
from supernode.config import (
    SupernodeConfig,
    parse_listen_address,
    parse_probe_ports,
    parse_trusted_proxy,
    read_config_file,
)
from supernode.server import CONTROL_NAME, SupernodeServer
from supernode.store.urls import parse_store_url

PROGRAM = "mesh-supernode"  # names its directories
EXIT_FINE = 0
EXIT_FAILED = 1

_PRINTERS: dict[str, Callable[[Any, TextIO], None]] = {
    "status": tables.print_status,
    "communities": tables.print_communities,
    "edges": tables.print_edges,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; ``argv`` is that of the process by default.

    Returns:
        The exit code.

    Raises:
        SystemExit: from argparse, for ``--help``, ``--version`` and usage errors.
    """
    arguments = build_parser().parse_args(argv)
    _set_up_logging(is_debug=arguments.debug)
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return EXIT_FAILED
    except BrokenPipeError:
        # The reader (head, less) has seen enough; without this, closing stdout would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except Exception as error:  # the top of the program
        if arguments.debug:
            raise
        return _complain(error)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="supernode", description="The meeting point of a mesh.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"supernode {mesh.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    everywhere = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    everywhere.add_argument(
        "--runtime-dir", type=Path, metavar="DIR", help="where the control socket is"
    )
    everywhere.add_argument("--debug", action="store_true", help="log more; show tracebacks")
    _add_run(commands.add_parser("run", parents=[everywhere], help="serve until SIGTERM"))
    for name, description in (
        ("status", "edges, communities, relayed bytes, uptime"),
        ("communities", "one row per community"),
        ("edges", "one row per registered edge"),
    ):
        command = commands.add_parser(name, parents=[everywhere], help=description)
        command.add_argument("--json", action="store_true", help="for scripts")
    return parser


def _add_run(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "--listen",
        action="append",
        type=_listen_address,
        metavar="ADDR:PORT",
        help="may be repeated; default 0.0.0.0:7777 and [::]:7777",
    )
    run.add_argument(
        "--no-tcp",
        action="store_false",
        dest="takes_tcp",
        default=None,
        help="UDP only on these; else streams are taken there too, for who has no UDP",
    )
    run.add_argument(
        "--listen-ws",
        action="append",
        type=_listen_address,
        metavar="ADDR:PORT",
        help="TCP and WebSocket only; may be repeated; for a reverse proxy, or port 443",
    )
    run.add_argument(
        "--tls-cert", type=Path, metavar="FILE", help="certificate and chain (PEM): takes wss://"
    )
    run.add_argument(
        "--tls-key", type=Path, metavar="FILE", help="its key; default: in the same file"
    )
    run.add_argument(
        "--trust-proxy",
        action="append",
        type=_trusted_proxy,
        metavar="ADDR",
        help="a reverse proxy whose X-Forwarded-For is believed; may be repeated",
    )
    run.add_argument(
        "--probe-ports",
        type=_probe_ports,
        metavar="PORT,PORT",
        help="UDP ports at which edges find out what their NATs do; default: any two",
    )
    run.add_argument("--state-dir", type=Path, metavar="DIR", help="where key and leases are kept")
    run.add_argument("--config", type=Path, metavar="FILE", help="TOML with the same names")
    run.add_argument(
        "--store",
        type=_store_url,
        metavar="URL",
        help="sqlite:///PATH or memory:; default: a file in the state directory",
    )


def _listen_address(text: str) -> str:
    try:
        parse_listen_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _trusted_proxy(text: str) -> str:
    try:
        parse_trusted_proxy(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _probe_ports(text: str) -> tuple[int, int]:
    try:
        return parse_probe_ports(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _store_url(text: str) -> str:
    try:
        parse_store_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "run":
        DataLoop().run(_serve, SupernodeServer(config_of(arguments)))
        return EXIT_FINE
    return _ask(arguments)


def config_of(arguments: argparse.Namespace) -> SupernodeConfig:
    """Return what ``run`` was told: flags, then the file, then the defaults.

    Raises:
        ConfigError: the file cannot be used.
    """
    settings: dict[str, Any] = {
        "state_dir": default_state_dir(PROGRAM),
        "runtime_dir": default_runtime_dir(PROGRAM),
    }
    if arguments.config is not None:
        settings.update(read_config_file(arguments.config))
    flags = {
        "listen": tuple(arguments.listen) if arguments.listen else None,
        "takes_tcp": arguments.takes_tcp,
        "listen_ws": tuple(arguments.listen_ws) if arguments.listen_ws else None,
        "tls_cert": arguments.tls_cert,
        "tls_key": arguments.tls_key,
        "trust_proxy": tuple(arguments.trust_proxy) if arguments.trust_proxy else None,
        "probe_ports": arguments.probe_ports,
        "state_dir": arguments.state_dir,
        "runtime_dir": arguments.runtime_dir,
        "store": arguments.store,
    }
    settings.update({name: value for name, value in flags.items() if value is not None})
    return SupernodeConfig(**settings)


async def _serve(server: SupernodeServer) -> None:
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            await nursery.start(server.run)
            for endpoint in server.endpoints:
                sys.stdout.write(f"listening on {endpoint}, key {server.fingerprint}\n")
            sys.stdout.flush()
            await anext(aiter(signals))
            nursery.cancel_scope.cancel()


def _ask(arguments: argparse.Namespace) -> int:
    runtime_dir = arguments.runtime_dir or default_runtime_dir(PROGRAM)
    path = control_path(runtime_dir, CONTROL_NAME)
    try:
        [reply] = call(path, {"command": arguments.command})
    except NotRunning:
        return _say(f"no supernode is running on {path}; start one, or name its --runtime-dir")
    except PermissionError:
        return _say(f"{path} belongs to another user; run this as the one who started it")
    if arguments.json:
        sys.stdout.write(json.dumps(reply, indent=2) + "\n")
    else:
        _PRINTERS[arguments.command](reply, sys.stdout)
    return EXIT_FINE


def _set_up_logging(*, is_debug: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for name in ("mesh", "supernode"):
        logging.getLogger(name).setLevel(logging.DEBUG if is_debug else logging.INFO)


def _complain(error: Exception) -> int:
    causes = list(_leaves(error))
    cause = next((each for each in causes if isinstance(each, MeshError)), causes[0])
    if isinstance(cause, MeshError | OSError):
        return _say(str(cause))
    return _say(f"unexpected {type(cause).__name__}: {cause}; run again with --debug for more")


def _say(sentence: str) -> int:
    one_line = " ".join(sentence.split())
    sys.stderr.write(f"supernode: {one_line}\n")
    return EXIT_FAILED


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield what a group of trio's is made of."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


if __name__ == "__main__":
    sys.exit(main())
