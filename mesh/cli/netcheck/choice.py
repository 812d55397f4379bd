"""Which supernodes a check talks to, and where they come from; nothing is kept or made for it.

In this order: those named on the command line, those of the running edge, those of the invite or
configuration, those of an earlier invite, one found on the LAN.
"""

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from mesh.cli.commands import ask, find_edge
from mesh.cli.invite import is_invite, parse_invite
from mesh.cli.membership import find_membership
from mesh.cli.settings import JoinSettings, load_join_settings
from mesh.cli.sources import (
    Flags,
    Layer,
    UsageError,
    layer_from_environment,
    layer_from_flags,
)
from mesh.cli.supernodes import SupernodeTarget, configured_target, found_target, kept_targets
from mesh.cli.values import SupernodeAddress, read_supernode
from mesh.errors import MeshError
from mesh.net.lan import find_supernodes
from mesh.net.paths import default_runtime_dir, default_state_dir
from mesh.net.state import StateDir

PROGRAM: Final = "mesh-edge"
_CONTROL_PATIENCE: Final = 1.0  # s


class Choice(NamedTuple):
    """Supernodes, and where they come from in words."""

    source: str
    targets: tuple[SupernodeTarget, ...]


async def choose(
    argument: str | None, flags: Flags, environment: Mapping[str, str], config: str | None
) -> Choice:
    """Return the supernodes to talk to.

    Args:
        argument: a community's name or an invite, or None.
        flags: what argparse found, by option name.
        environment: ``os.environ``.
        config: the file that ``--config`` names.

    Raises:
        MeshError: there is none, or what was said contradicts itself.
    """
    layers = (layer_from_flags(flags), layer_from_environment(environment))
    state = _existing_state(layers)
    if "supernode" in layers[0]:
        named = layers[0]["supernode"].read(read_supernode)
        return Choice("--supernode", _targets(named, state))
    running = _of_running_edge(argument, layers)
    if running:
        return Choice("the running edge", running)
    settings = None
    if argument is not None:
        settings = load_join_settings(argument, flags, environment, config=config)
        if settings.supernodes:
            source = "the invite" if settings.is_invited else "the configuration"
            return Choice(source, _targets(settings.supernodes, state))
        kept = () if state is None else kept_targets(state, settings.community)
        if kept:
            return Choice("an earlier invite", kept)
    best = found_target(await find_supernodes(await _community_id(settings, state)))
    if best is None:
        raise MeshError(
            "no supernode is known here and none was found on the LAN; name one with"
            " --supernode HOST:PORT, or an invite"
        )
    return Choice("the LAN", (best,))


def _existing_state(layers: Iterable[Layer]) -> StateDir | None:
    """Return the state directory if there is one that we may read: a check makes none."""
    path = _directory(layers, "state-dir", default_state_dir(PROGRAM))
    if not (path.is_dir() and os.access(path, os.R_OK | os.W_OK | os.X_OK)):
        return None
    return StateDir(path)


def _directory(layers: Iterable[Layer], name: str, default: Path) -> Path:
    for layer in layers:
        if name in layer:
            return layer[name].read(Path)[0]
    return default


def _targets(
    supernodes: Iterable[SupernodeAddress], state: StateDir | None
) -> tuple[SupernodeTarget, ...]:
    if state is None:
        return tuple(
            SupernodeTarget(one.host_ports, one.fingerprint, "", ways=one.ways, has_udp=one.has_udp)
            for one in supernodes
        )
    return tuple(configured_target(one, state, is_invited=False) for one in supernodes)


def _of_running_edge(argument: str | None, layers: Iterable[Layer]) -> tuple[SupernodeTarget, ...]:
    """Return the supernodes of the edge that runs here, with the keys that it knows."""
    community = argument
    if argument is not None and is_invite(argument):
        community = parse_invite(argument).community
    runtime = _directory(layers, "runtime-dir", default_runtime_dir(PROGRAM))
    try:
        path = find_edge(runtime, community)
        [texts] = ask(path, {"command": "supernodes"}, timeout=_CONTROL_PATIENCE)
        return _targets(map(read_supernode, texts), None)
    except UsageError:
        raise
    except (MeshError, ValueError, TypeError):
        return ()  # none runs, or it is somebody else's, or an older one


async def _community_id(settings: JoinSettings | None, state: StateDir | None) -> bytes:
    """Return what an embedded supernode answers to; at random where we are no member."""
    if settings is not None and state is not None:
        known = replace(settings, key=replace(settings.key, may_be_made=False))
        with contextlib.suppress(MeshError):
            return (await find_membership(known, state)).keys.community_id
    return os.urandom(32)
