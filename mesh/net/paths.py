"""Where files live: state directories, runtime directories and control sockets (cli.md)."""

import os
import urllib.parse
from pathlib import Path
from typing import Final

_SUFFIX: Final = ".sock"


def default_state_dir(program: str) -> Path:
    """Return ``/var/lib/PROGRAM`` for root, else ``$XDG_STATE_HOME/PROGRAM`` (~/.local/state)."""
    if os.geteuid() == 0:
        return Path("/var/lib", program)
    return _xdg("XDG_STATE_HOME", Path.home() / ".local" / "state") / program


def default_runtime_dir(program: str) -> Path:
    """Return ``/run/PROGRAM`` for root, else ``$XDG_RUNTIME_DIR/PROGRAM``.

    Without XDG_RUNTIME_DIR (no login session) it is a directory of the state directory: not
    ``/tmp``, where another user could make it first.
    """
    if os.geteuid() == 0:
        return Path("/run", program)
    if os.environ.get("XDG_RUNTIME_DIR"):
        return _xdg("XDG_RUNTIME_DIR", Path()) / program
    return default_state_dir(program) / "run"


def control_path(runtime_dir: Path, name: str) -> Path:
    """Return the control socket of a community (or of the supernode); ``name`` is percent-quoted.

    64 bytes of name quote to at most 192, well within a file name's 255.
    """
    return runtime_dir / (quoted(name) + _SUFFIX)


def running(runtime_dir: Path) -> dict[str, Path]:
    """Return the control sockets in ``runtime_dir`` by community name; some may be stale."""
    try:
        found = sorted(path for path in runtime_dir.iterdir() if path.suffix == _SUFFIX)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {unquoted(path.name.removesuffix(_SUFFIX)): path for path in found}


def quoted(name: str) -> str:
    """Return ``name`` as one safe file name: percent-quoted, dots and slashes included."""
    return urllib.parse.quote(name, safe="").replace(".", "%2E")


def unquoted(file_name: str) -> str:
    """Read what `quoted` wrote."""
    return urllib.parse.unquote(file_name)


def _xdg(variable: str, default: Path) -> Path:
    """Return a base directory; a relative one is to be ignored (XDG base directory spec)."""
    configured = Path(os.environ.get(variable, ""))
    return configured if configured.is_absolute() else default
