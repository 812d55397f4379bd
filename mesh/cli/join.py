"""``mesh-edge join``: from settings to a running overlay, and back to nothing at the end.

Order matters: what can fail for want of privilege comes before anything else is touched, a key is
stored before it is used, and everything that was set up ends with the one nursery.
"""

import contextlib
import logging
import signal
import time
from collections.abc import Sequence
from typing import TextIO

import trio

from mesh.cli.cpu import has_aes_instructions
from mesh.cli.embedded import host_supernode
from mesh.cli.membership import Membership, find_membership
from mesh.cli.overlay import networks_of, order_proposals
from mesh.cli.running import Plan, RunningEdge
from mesh.cli.settings import JoinSettings
from mesh.cli.supernodes import SupernodeTarget, configured_target, found_target, kept_targets
from mesh.cli.values import format_kept_supernode
from mesh.core.config import EdgeConfig, SupernodeConfig
from mesh.crypto.identity import Identity
from mesh.net.lan import find_supernodes
from mesh.net.link import configure_link, local_networks
from mesh.net.paths import control_path, default_runtime_dir, default_state_dir, quoted
from mesh.net.state import StateDir
from mesh.net.tap import Tap, open_tap
from mesh.net.udp import open_udp_pair
from mesh.wire.messages import AddressMode

PROGRAM = "mesh-edge"

FRAMES_QUEUED = 500
"""How many frames may wait in the TAP."""

SUPER_FRAMES_QUEUED = 200
"""The same where they are up to 64 KiB: what waits there delays what comes behind it."""

SEGMENTS_PER_SUPER_FRAME = 44
"""Sealed, 44 segments of 1452 bytes are what one UDP_SEGMENT send takes (64 KiB); one more would
make every super-frame a full send and a stub."""

_log = logging.getLogger(__name__)


async def join(settings: JoinSettings, out: TextIO) -> None:
    """Join a community and stay until a signal or ``leave``.

    Args:
        settings: checked already.
        out: where the two lines that scripts read go.

    Raises:
        MeshError: the overlay cannot be joined, or was lost for good; possibly in a group.
    """
    async with trio.open_nursery() as nursery:
        await nursery.start(_stop_on_signals, nursery.cancel_scope)
        state = StateDir(settings.state_dir or default_state_dir(PROGRAM))
        identity = Identity(state.identity())
        with contextlib.ExitStack() as held:
            tap = held.enter_context(open_tap(settings.tap, offload=settings.offload))
            await configure_link(
                tap.index,
                mtu=settings.mtu,
                mac=settings.mac or identity.default_mac,
                txqlen=SUPER_FRAMES_QUEUED if tap.has_offload else FRAMES_QUEUED,
                gso_max_segs=SEGMENTS_PER_SUPER_FRAME if tap.has_offload else 0,
            )
            sockets = open_udp_pair(settings.port, offload=settings.offload)
            for port in sockets.values():
                held.enter_context(port)
            plan = await _plan(settings, state, identity, tap, nursery)
            for warning in (*settings.warnings, *state.warnings):
                _log.warning("%s", warning)
            runtime_dir = settings.runtime_dir or default_runtime_dir(PROGRAM)
            edge = RunningEdge(plan, state, tap, sockets, out)
            await edge.run(control_path(runtime_dir, settings.community))
        nursery.cancel_scope.cancel()


async def _plan(
    settings: JoinSettings,
    state: StateDir,
    identity: Identity,
    tap: Tap,
    nursery: trio.Nursery,
) -> Plan:
    """Find keys and supernodes; an embedded one is started in ``nursery``."""
    membership = await find_membership(settings, state)
    local = await local_networks((tap.index,))
    targets = await _known_supernodes(settings, state, membership)
    hosted_port = 0
    if not targets:
        _log.info("no supernode was named and none found on the LAN: hosting one")
        directory = state.path / "communities" / quoted(settings.community) / "supernode"
        community_id = membership.keys.community_id
        hosted = await host_supernode(nursery, directory, community_id, local)
        targets, hosted_port = (hosted,), hosted.host_ports[0].port
    config = edge_config(
        settings,
        identity,
        membership,
        targets,
        subnets=order_proposals(membership.keys.subnet_proposals(), networks_of(local)),
        last_address=state.last_address(settings.community),
        epoch=state.next_epoch(int(time.time())),
        has_uso=tap.has_uso,
    )
    return Plan(settings, membership, config, targets, hosted_port)


async def _known_supernodes(
    settings: JoinSettings, state: StateDir, membership: Membership
) -> tuple[SupernodeTarget, ...]:
    """Return those that were named, else one of the LAN, else those of an earlier invite."""
    community = settings.community
    if settings.supernodes:
        if settings.is_invited:
            state.save_supernodes(community, map(format_kept_supernode, settings.supernodes))
        return tuple(
            configured_target(supernode, state, is_invited=settings.is_invited)
            for supernode in settings.supernodes
        )
    found = await find_supernodes(membership.keys.community_id)
    kept = kept_targets(state, community)
    if kept and not any(one.serves_us for one in found):
        return kept
    best = found_target(found)
    return () if best is None else (best,)


def edge_config(
    settings: JoinSettings,
    identity: Identity,
    membership: Membership,
    targets: Sequence[SupernodeTarget],
    *,
    subnets: Sequence[object],
    last_address: str,
    epoch: int,
    has_uso: bool,
) -> EdgeConfig:
    """Return what the engine has to be told.

    Args:
        settings: what the user asked for.
        identity: who we are.
        membership: the community's keys.
        targets: the supernodes, in the order in which they are numbered.
        subnets: proposals for the community's subnet, preferred first.
        last_address: the lease of an earlier run (CIDR) or "".
        epoch: greater than at any earlier start.
        has_uso: whether the TAP takes super-frames of UDP.
    """
    modes = {"auto": AddressMode.AUTO, "none": AddressMode.NONE}
    addresses = {"auto": last_address, "none": ""}
    return EdgeConfig(
        identity=identity,
        community=membership.keys,
        epoch=epoch,
        name=settings.name,
        mac=settings.mac or identity.default_mac,
        mtu=settings.mtu,
        relay_only=settings.relay_only,
        hard_punch=settings.hard_punch,
        no_relay=settings.no_relay,
        address_mode=modes.get(settings.address, AddressMode.FIXED),
        address=addresses.get(settings.address, settings.address),
        subnets=tuple(map(str, subnets)),
        supernodes=tuple(SupernodeConfig(str(one), one.fingerprint) for one in targets),
        has_aes=has_aes_instructions(),
        advertise=settings.advertise,
        has_uso=has_uso,
    )


async def _stop_on_signals(scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            _log.info("%s: leaving", signal.Signals(number).name)
            scope.cancel()
            return
