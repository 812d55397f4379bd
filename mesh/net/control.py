"""The control socket: a unix stream socket that carries one request and its replies in JSON lines.

A request is one JSON object on one line of at most 64 KiB: ``{"command": "peers", ...}``. The
answer is any number of ``{"reply": ...}`` lines, then ``{"end": true}`` or ``{"error": "..."}``.
A connection that ends without one of the last two was cut.
"""

import contextlib
import fcntl
import json
import os
import socket
import stat
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

import trio

from mesh.errors import ConfigError, MeshError

Request: TypeAlias = dict[str, Any]
Dispatch: TypeAlias = Callable[[Request], AsyncIterator[Any]]
"""An async generator function: yields JSON-serialisable replies; raises MeshError to refuse."""

MAX_REQUEST_BYTES: Final = 64 * 1024

_REQUEST_TIMEOUT: Final = 10.0
_MAX_CONNECTIONS: Final = 64
_SUN_PATH_BYTES: Final = 107  # struct sockaddr_un less the closing zero
_PROBE_TIMEOUT: Final = 1.0
_LOCK_TRIES: Final = 300
_LOCK_RETRY_INTERVAL: Final = 0.01


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

    A stale socket file is removed first, and the directory is made (0700) if needed. A `MeshError`
    out of ``dispatch`` becomes the error line; a client that hangs up ends its command at its next
    reply.

    Raises:
        ConfigError: another process answers on ``path``, or it cannot be made.
    """
    listener, made = _listen(path)
    limit = trio.CapacityLimiter(_MAX_CONNECTIONS)

    async def serve(stream: trio.SocketStream) -> None:
        await _serve_connection(stream, dispatch, limit)

    try:
        task_status.started()
        await trio.serve_listeners(serve, [trio.SocketListener(listener)])
    finally:
        listener.close()
        _remove_own(path, made)


def call(path: Path, request: Request, *, timeout: float | None = 10.0) -> Iterator[Any]:
    """Send one request and yield the replies; blocking, for programs without trio.

    Args:
        path: see `mesh.net.paths.control_path`.
        request: at least ``{"command": ...}``.
        timeout: seconds to wait for each line; None waits forever.

    Raises:
        NotRunning: nobody listens.
        ControlError: the command was refused, the connection broke, or the time ran out.
        PermissionError: the socket belongs to another user.
    """
    with _connect(path, timeout) as connection:
        try:
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as lines:
                yield from _replies(lines)
        except TimeoutError as error:
            raise ControlError(f"no answer on {path} within {timeout:.0f} s") from error
        except OSError as error:
            raise ControlError(f"the connection to {path} broke: {error.strerror}") from error


def _replies(lines: Iterator[bytes]) -> Iterator[Any]:
    for line in lines:
        answer = json.loads(line)
        if "error" in answer:
            raise ControlError(str(answer["error"]))
        if "end" in answer:
            return
        yield answer["reply"]
    raise ControlError("the program stopped while it was answering")


async def _serve_connection(
    stream: trio.SocketStream, dispatch: Dispatch, limit: trio.CapacityLimiter
) -> None:
    async with stream:
        with contextlib.suppress(trio.WouldBlock, trio.BrokenResourceError):  # full, or hung up
            limit.acquire_nowait()
            try:
                await _answer(stream, dispatch)
            finally:
                limit.release()


async def _answer(stream: trio.SocketStream, dispatch: Dispatch) -> None:
    try:
        replies = dispatch(await _read_request(stream))
        try:
            async for reply in replies:
                await _send_line(stream, {"reply": reply})
        finally:
            if isinstance(replies, AsyncGenerator):
                await replies.aclose()
        await _send_line(stream, {"end": True})
    except MeshError as error:
        await _send_line(stream, {"error": str(error)})


async def _read_request(stream: trio.SocketStream) -> Request:
    """Read one line and the object on it.

    Raises:
        ControlError: it is too long, too slow, cut short or not a JSON object.
    """
    line = bytearray()
    with trio.move_on_after(_REQUEST_TIMEOUT):
        while b"\n" not in line:
            chunk = await stream.receive_some(MAX_REQUEST_BYTES)
            line += chunk
            if not chunk or len(line) > MAX_REQUEST_BYTES:
                break
    request_line, newline, _ = line.partition(b"\n")
    if not newline:
        raise ControlError(f"a request is one line of at most {MAX_REQUEST_BYTES} bytes")
    try:
        request = json.loads(request_line)
    except (ValueError, RecursionError) as error:
        raise ControlError("a request is one JSON object") from error
    if not isinstance(request, dict):
        raise ControlError("a request is one JSON object")
    return request


async def _send_line(stream: trio.SocketStream, answer: dict[str, Any]) -> None:
    await stream.send_all(json.dumps(answer).encode() + b"\n")


def _listen(path: Path) -> tuple[trio.socket.SocketType, os.stat_result]:
    """Make the socket file and listen; also return what tells that file from others."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked_directory(path.parent) as directory:
            _remove_stale(path)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                # Linux gives the file the mode of the socket: never a moment of more than 0600.
                os.fchmod(listener.fileno(), 0o600)
                _bind(listener, path, directory)
                listener.listen(_MAX_CONNECTIONS)
                made = path.lstat()
            except BaseException:
                listener.close()
                raise
    except OSError as error:
        raise ConfigError(
            str(path), "", f"the control socket cannot be made: {error.strerror}"
        ) from error
    listener.setblocking(False)
    return trio.socket.from_stdlib_socket(listener), made


def _remove_own(path: Path, made: os.stat_result) -> None:
    """Remove our socket file, not that of who came after us."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(made, path.lstat()):
            path.unlink()


@contextlib.contextmanager
def _locked_directory(directory: Path) -> Iterator[int]:
    """Lock ``directory`` so that of two programs that start at once one sees the other's socket."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(fd, directory)
        yield fd
    finally:
        os.close(fd)


def _lock(fd: int, directory: Path) -> None:
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_RETRY_INTERVAL)
        else:
            return
    raise ConfigError(str(directory), "", "another process keeps the directory locked; stop it")


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(str(path), "", "is in the way of the control socket; remove it")
    try:
        _connect(path, _PROBE_TIMEOUT).close()
    except NotRunning:
        path.unlink(missing_ok=True)
        return
    except ControlError:
        pass  # somebody listens and is busy
    raise ConfigError(str(path), "", "already running: another process answers on this socket")


def _connect(path: Path, timeout: float | None) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        with _connectable(path) as address:
            connection.connect(address)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
        connection.close()
        raise NotRunning(f"nothing is running on {path}") from error
    except (TimeoutError, BlockingIOError) as error:
        connection.close()
        raise ControlError(f"the program on {path} does not answer") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _bind(listener: socket.socket, path: Path, directory: int) -> None:
    """Bind to ``path``, whose length sockaddr_un would limit to 107 bytes."""
    if len(os.fsencode(path)) <= _SUN_PATH_BYTES:
        listener.bind(str(path))
        return
    temporary = f"/proc/self/fd/{directory}/.{os.getpid()}"
    listener.bind(temporary)
    Path(temporary).rename(path)


@contextlib.contextmanager
def _connectable(path: Path) -> Iterator[str]:
    """Give what to connect to: ``path``, by way of a descriptor where it is too long."""
    if len(os.fsencode(path)) <= _SUN_PATH_BYTES:
        yield str(path)
        return
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
