"""Where files live: state directories, runtime directories and control sockets (cli.md)."""

from pathlib import Path


def default_state_dir(program: str) -> Path:
    """Return ``/var/lib/PROGRAM`` for root, else ``$XDG_STATE_HOME/PROGRAM`` (``~/.local/state``)."""
    raise NotImplementedError


def default_runtime_dir(program: str) -> Path:
    """Return ``/run/PROGRAM`` for root, else ``$XDG_RUNTIME_DIR/PROGRAM`` (or under the state dir)."""
    raise NotImplementedError


def control_path(runtime_dir: Path, name: str) -> Path:
    """Return the control socket of a community (or of the supernode); ``name`` is percent-quoted."""
    raise NotImplementedError


def running(runtime_dir: Path) -> dict[str, Path]:
    """Return the control sockets in ``runtime_dir`` by community name; some may be stale."""
    raise NotImplementedError
