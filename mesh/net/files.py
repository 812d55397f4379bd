"""Small files that are whole or old, never half: atomic writes, careful reads."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mesh.errors import StateError

MAX_FILE_BYTES: Final = 1024 * 1024

_LOCK_TIMEOUT: Final = 3.0  # s; what is done under a lock takes milliseconds
_LOCK_RETRY_INTERVAL: Final = 0.01  # s
_READABLE_BY_OTHERS: Final = 0o044


def read_file(path: Path) -> bytes | None:
    """Return the content of ``path``, or None if there is no such file.

    Raises:
        StateError: it cannot be read, or has more than 1 MiB.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise StateError(f"{path} is too large for a state file; move it out of the way")
    return content


def write_file(path: Path, content: bytes) -> None:
    """Write ``path`` (mode 0600) so that after a crash at any moment it is the old or the new one.

    Raises:
        StateError: it cannot be written (disk full...); the old file is intact.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _write_new(temporary, content)
        temporary.rename(path)
        _sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StateError(
            f"{path} cannot be written: {error.strerror}; what was there before is kept"
        ) from error


def make_directory(path: Path) -> None:
    """Make ``path`` (mode 0700) and its parents if they are not there.

    Raises:
        StateError: it cannot be made, or something else has its name.
    """
    try:
        # Not mkdir(parents=True): that gives parents the mode of the umask.
        for missing in reversed([path, *path.parents]):
            missing.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StateError(f"the directory {path} cannot be made: {error.strerror}") from error


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep other processes out of ``directory`` meanwhile: for what is read, changed and written.

    The lock is on a file that only we can open, not on the directory, which others may.

    Raises:
        StateError: the lock cannot be had: no space, no permission, or held for too long.
    """
    path = directory / ".lock"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateError(f"{path} cannot be opened: {error.strerror}") from error
    try:
        _lock(fd, path)
        yield
    finally:
        os.close(fd)


def _lock(fd: int, path: Path) -> None:
    give_up_at = time.monotonic() + _LOCK_TIMEOUT
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up_at:
                raise StateError(f"another process keeps {path} locked; stop it first") from None
            time.sleep(_LOCK_RETRY_INTERVAL)
        else:
            return


def keep_corrupt(path: Path, content: bytes) -> Path:
    """Copy ``content`` to the first free ``NAME.corrupt-N``, unless a copy is there; return it.

    Raises:
        StateError: the copy cannot be written.
    """
    number = 1
    while True:
        copy = path.with_name(f"{path.name}.corrupt-{number}")
        kept = read_file(copy)
        if kept is None:
            write_file(copy, content)
            return copy
        if kept == content:  # every start finds the same file; one copy is enough
            return copy
        number += 1


def is_readable_by_others(path: Path) -> bool:
    """Whether the group or everybody may read ``path``; False if it is not there."""
    try:
        return bool(path.stat().st_mode & _READABLE_BY_OTHERS)
    except OSError:
        return False


def _write_new(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)  # left by a killed process that had our number
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(fd)


def _sync_directory(directory: Path) -> None:
    """Make a rename last through a power cut."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
