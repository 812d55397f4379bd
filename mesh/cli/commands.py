"""The commands that ask a running edge over its control socket."""

import json
import os
import select
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from mesh.cli.announce import print_invite_code
from mesh.cli.sources import UsageError
from mesh.cli.terminal import printable
from mesh.cli.values import read_community
from mesh.errors import MeshError
from mesh.net.control import ControlError, NotRunning, call
from mesh.net.paths import control_path, running

LEAVE_TIMEOUT = 10.0  # s; the edge gives its goodbyes 2 s at most


def find_edge(runtime_dir: Path, community: str | None) -> Path:
    """Return the control socket of ``community``, or of the one edge that runs here.

    Raises:
        UsageError: the name is no community's, or several edges run and none was named.
        MeshError: no edge runs, as far as this user can see.
    """
    if community is not None:
        try:
            return control_path(runtime_dir, read_community(community))
        except ValueError as error:
            raise UsageError("COMMUNITY", "", str(error)) from None
    try:
        found = {name: path for name, path in running(runtime_dir).items() if _is_alive(path)}
    except PermissionError:
        raise not_allowed(runtime_dir) from None
    if not found:
        raise MeshError(f"no edge is running in {runtime_dir}{_hint()}")
    if len(found) > 1:
        names = ", ".join(map(printable, sorted(found)))
        raise UsageError("COMMUNITY", "", f"several edges run here; say which: {names}")
    return next(iter(found.values()))


def _is_alive(path: Path) -> bool:
    try:
        for _ in call(path, {"command": "status"}):
            pass
    except NotRunning:
        return False
    except ControlError:
        return True  # busy or on its way out, which the command itself will tell
    return True


def ask(path: Path, request: Mapping[str, Any], timeout: float | None = 10.0) -> Iterable[Any]:
    """Yield the replies to one request.

    Raises:
        MeshError: nobody answers, the request is refused, or the socket is another user's.
    """
    try:
        yield from call(path, dict(request), timeout=timeout)
    except NotRunning:
        name = printable(path.name.removesuffix(path.suffix))
        raise MeshError(f"no edge of {name} is running in {path.parent}{_hint()}") from None
    except PermissionError:
        raise not_allowed(path) from None


def not_allowed(path: Path) -> MeshError:
    """Return the error for a control socket that belongs to somebody else."""
    return MeshError(f"{path} belongs to another user; try again with sudo")


def _hint() -> str:
    return "" if os.geteuid() == 0 else "; edges of root are seen by root (sudo) only"


def print_view(path: Path, command: str, out: TextIO, *, as_json: bool) -> int:
    """Carry out ``status``, ``peers`` or ``fdb``.

    Raises:
        MeshError: see `ask`.
    """
    view = _only_reply(path, {"command": command})
    if as_json:
        print(json.dumps(view, indent=2), file=out)
        return 0
    from mesh.cli import tables  # noqa: PLC0415 - rich costs 60 ms that JSON need not pay

    match command:
        case "status":
            tables.print_status(view, out)
        case "peers":
            tables.print_peers(view, out)
        case _:
            tables.print_fdb(view, out)
    return 0


def _only_reply(path: Path, request: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
    replies = list(ask(path, request))
    if not replies:
        raise MeshError(f"{path} answered nothing; is another version of mesh-edge running?")
    return replies[0]


def print_invite(path: Path, out: TextIO) -> int:
    """Carry out ``invite``: the URL alone on stdout, a QR code on a terminal.

    Raises:
        MeshError: see `ask`; or no supernode has answered yet.
    """
    url = _only_reply(path, {"command": "invite"})["invite"]
    print(url, file=out, flush=True)
    print_invite_code(url)
    return 0


def leave(path: Path) -> int:
    """Carry out ``leave``: return when the edge has gone.

    Raises:
        MeshError: see `ask`; or it did not go in time.
    """
    process = 0
    try:
        for reply in ask(path, {"command": "leave"}):
            process = reply["pid"]
    except ControlError:
        if not process:  # else it hung up because it is leaving
            raise
    if not _wait_for_end(process):
        raise MeshError(f"the edge (process {process}) did not leave within {LEAVE_TIMEOUT:.0f} s")
    return 0


def _wait_for_end(process: int) -> bool:
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        readable, _, _ = select.select([descriptor], [], [], LEAVE_TIMEOUT)
        return bool(readable)
    finally:
        os.close(descriptor)


def ping(path: Path, peer: str, count: int, out: TextIO) -> int:
    """Carry out ``ping``: a line per ping, and one when the path becomes direct.

    Why it is not direct is told with the first ping that is not.

    Returns:
        0 if any ping was answered, else 1.

    Raises:
        MeshError: see `ask`; or the peer is unknown or ambiguous.
    """
    kinds: list[str] = []
    request = {"command": "ping", "peer": peer, "count": count}
    began_at = time.monotonic()
    for reply in ask(path, request):
        kind, why = reply["kind"], reply.get("why", "")
        reason = f" ({printable(why)})" if why and kind not in kinds else ""
        print(f"{printable(peer)}: {describe_ping(reply)}{reason}", file=out, flush=True)
        if kind == "direct" and kinds and kinds[-1] != "direct":
            after = f"after {time.monotonic() - began_at:.1f} s"
            print(f"{printable(peer)}: the path has become direct, {after}", file=out, flush=True)
        kinds.append(kind)
    return 0 if any(kind in {"direct", "relay"} for kind in kinds) else 1


def describe_ping(reply: Mapping[str, Any]) -> str:
    """Return what one ping's reply says, without the peer's name."""
    match reply["kind"]:
        case "direct":
            return f"direct via {reply['endpoint']} in {reply['rtt_ms']:.1f} ms"
        case "relay":
            return f"through the relay {reply['endpoint']} in {reply['rtt_ms']:.1f} ms"
        case "none":
            return "no path yet"
        case _:
            return "no answer"
