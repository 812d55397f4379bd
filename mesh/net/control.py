"""The control socket: a unix stream socket that carries one request and its replies as JSON lines.

A request is one JSON object on one line of at most 64 KiB: ``{"command": "peers", ...}``. The answer
is any number of ``{"reply": ...}`` lines, then ``{"end": true}``, or ``{"error": "sentence"}``.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import trio

from mesh.errors import MeshError

Request: TypeAlias = dict[str, Any]
Dispatch: TypeAlias = Callable[[Request], AsyncIterator[Any]]
"""An async generator function: yields JSON-serialisable replies; raises MeshError to refuse."""


class ControlError(MeshError):
    """The running program refused a command, or went away while it answered."""


class NotRunning(ControlError):  # noqa: N818 - names what was found
    """Nobody listens on the control socket."""


async def serve_control(
    path: Path,
    dispatch: Dispatch,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve commands on ``path`` (mode 0600) until cancelled; the file is removed at the end.

    A stale socket file is removed first. A `MeshError` out of ``dispatch`` becomes the error line.

    Raises:
        ConfigError: another process answers on ``path``, or it cannot be made.
    """
    raise NotImplementedError


def call(path: Path, request: Request, *, timeout: float | None = 10.0) -> Iterator[Any]:
    """Send one request and yield the replies; blocking, for programs without trio.

    Args:
        path: see `mesh.net.paths.control_path`.
        request: at least ``{"command": ...}``.
        timeout: seconds to wait for each line; None waits forever.

    Raises:
        NotRunning: nobody listens.
        ControlError: the command was refused, or the connection broke.
        PermissionError: the socket belongs to another user.
    """
    raise NotImplementedError
