"""The program ``mesh-edge``: what was typed, to an exit code and at most one line of complaint.

Exit codes: 0 fine, 1 failed, 2 usage. What a command does not need it does not import: starting
Python is most of the time between ``join`` and the first ping.
"""

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence

from mesh.cli.arguments import EXIT_USAGE, build_parser, flags_of
from mesh.cli.settings import load_join_settings, runtime_dir
from mesh.cli.sources import UsageError
from mesh.cli.terminal import printable
from mesh.errors import MeshError

EXIT_FINE = 0
EXIT_FAILED = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; ``argv`` is that of the process by default.

    Returns:
        The exit code.

    Raises:
        SystemExit: from argparse, for ``--help``, ``--version`` and usage errors.
    """
    arguments = build_parser().parse_args(argv)
    _set_up_logging(arguments)
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


def _run(arguments: argparse.Namespace) -> int:
    match arguments.command:
        case "join":
            return _join(arguments)
        case "keygen":
            from mesh.crypto.community import generate_secret  # noqa: PLC0415 - see above

            sys.stdout.write(generate_secret(os.urandom) + "\n")
            return EXIT_FINE
        case "netcheck":
            return _check_network(arguments)
        case _:
            return _ask_running_edge(arguments)


def _check_network(arguments: argparse.Namespace) -> int:
    import trio  # noqa: PLC0415 - see above

    from mesh.cli.netcheck.command import check  # noqa: PLC0415 - see above

    as_json = arguments.json
    flags = flags_of(arguments)
    trio.run(check, arguments.community, flags, arguments.config, as_json, sys.stdout)
    return EXIT_FINE


def _join(arguments: argparse.Namespace) -> int:
    is_piped = arguments.community == "-"
    settings = load_join_settings(
        sys.stdin.readline().strip() if is_piped else arguments.community,
        flags_of(arguments),
        os.environ,
        config=arguments.config,
        is_visible=not is_piped,
    )
    from mesh.cli.join import join  # noqa: PLC0415 - see above
    from mesh.net.data_loop import DataLoop  # noqa: PLC0415 - see above

    DataLoop().run(join, settings, sys.stdout)
    return EXIT_FINE


def _ask_running_edge(arguments: argparse.Namespace) -> int:
    from mesh.cli import commands  # noqa: PLC0415 - see above
    from mesh.net.paths import default_runtime_dir  # noqa: PLC0415 - see above

    directory = runtime_dir(flags_of(arguments), os.environ) or default_runtime_dir("mesh-edge")
    path = commands.find_edge(directory, arguments.community)
    match arguments.command:
        case "ping":
            return commands.ping(path, arguments.peer, arguments.count, sys.stdout)
        case "leave":
            return commands.leave(path)
        case "invite":
            return commands.print_invite(path, sys.stdout)
        case command:
            return commands.print_view(path, command, sys.stdout, as_json=arguments.json)


def _set_up_logging(arguments: argparse.Namespace) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    level = logging.INFO
    if arguments.verbose or arguments.debug:
        level = logging.DEBUG
    elif arguments.quiet:
        level = logging.WARNING
    for name in ("mesh", "supernode"):
        logging.getLogger(name).setLevel(level)


def _complain(error: Exception) -> int:
    causes = list(_leaves(error))
    cause = next((one for one in causes if isinstance(one, MeshError)), causes[0])
    sentence = str(cause)
    if not isinstance(cause, MeshError | OSError):
        sentence = f"unexpected {type(cause).__name__}: {cause}; run again with --debug for more"
    one_line = printable(" ".join(sentence.split()))
    sys.stderr.write(f"mesh-edge: {one_line}\n")
    return EXIT_USAGE if isinstance(cause, UsageError) else EXIT_FAILED


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield what a group of trio's is made of; the first failure comes first."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


if __name__ == "__main__":
    sys.exit(main())
