"""A community's secret, read from a file."""

import os
import stat
from pathlib import Path

from mesh.cli.values import read_secret
from mesh.errors import ConfigError

MAX_KEY_FILE_BYTES = 4096  # the file holds one line; whoever names a disk image means another file


def read_key_file(path: Path, where: str) -> tuple[str, list[str]]:
    """Return the secret in ``path``, one line of text, and warnings about the file.

    Pipes and ``/dev/stdin`` work too; of them there is no mode to warn about.

    Args:
        path: the file.
        where: what named it, for messages.

    Raises:
        ConfigError: the file is missing, unreadable, no file, empty, or not one line of UTF-8.
            The message names it and never repeats its content.
    """
    try:
        with path.open("rb") as file:
            warnings = _mode_warnings(path, os.fstat(file.fileno()))
            raw = file.read(MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(where, "", f"cannot read {path}: {error.strerror}") from None
    except ValueError:  # a zero byte in the name
        raise ConfigError(where, "", "the file's name holds a zero byte") from None
    return _parse_secret(raw, path), warnings


def _parse_secret(raw: bytes, path: Path) -> str:
    if len(raw) > MAX_KEY_FILE_BYTES:
        raise ConfigError(str(path), "", f"a key file has at most {MAX_KEY_FILE_BYTES} bytes")
    if not raw.strip():
        raise ConfigError(str(path), "", "the key file is empty; it holds the key on one line")
    try:
        return read_secret(raw.decode().strip("\r\n"))
    except UnicodeDecodeError:
        raise ConfigError(str(path), "", "the key file is not UTF-8 text") from None
    except ValueError as error:
        raise ConfigError(str(path), "", str(error)) from None


def _mode_warnings(path: Path, status: os.stat_result) -> list[str]:
    if not stat.S_ISREG(status.st_mode):
        return []
    return readable_by_others(path, status)


def readable_by_others(path: Path, status: os.stat_result) -> list[str]:
    """Return a warning if users other than the owner may read a file that holds a secret."""
    if not status.st_mode & (stat.S_IRGRP | stat.S_IROTH):
        return []
    who = "every user" if status.st_mode & stat.S_IROTH else "its group"
    return [f"{path} holds a secret and can be read by {who} of this machine: chmod 600 {path}"]
