"""The embedded supernode: hosted by an edge that was told of none and found none on the LAN."""

import socket
from collections.abc import Iterable
from pathlib import Path

import trio

from mesh.cli.supernodes import SupernodeTarget
from mesh.cli.values import HostPort
from mesh.constants import DEFAULT_PORT
from mesh.errors import ConfigError
from mesh.net.link import LocalAddress
from mesh.net.udp import open_udp

PORTS_TRIED = 16


async def host_supernode(
    nursery: trio.Nursery, state_dir: Path, community_id: bytes, local: Iterable[LocalAddress]
) -> SupernodeTarget:
    """Start a supernode for one community in ``nursery`` and return it as our target.

    Its key and leases live in ``state_dir``, so that invites stay good when it comes back.

    Raises:
        ConfigError: none of the ports is free.
        StateError: its state is corrupt or cannot be written.
    """
    from supernode.config import SupernodeConfig  # noqa: PLC0415 - only where one is hosted
    from supernode.server import SupernodeServer  # noqa: PLC0415

    port = free_port()
    server = SupernodeServer(
        SupernodeConfig(
            state_dir,
            listen=(f"0.0.0.0:{port}", f"[::]:{port}"),
            only_community=community_id,
            may_change_port=True,  # somebody may have taken it since we looked
        )
    )
    await nursery.start(server.run)
    return SupernodeTarget(
        host_ports=embedded_host_ports(local, server.endpoints[0].port),
        fingerprint=server.fingerprint,
        how_to_accept="join again",
        is_kept=False,
    )


def embedded_host_ports(local: Iterable[LocalAddress], port: int) -> tuple[HostPort, ...]:
    """Return where our own supernode is reached: by loopback only where there is no network.

    We register from a LAN address if there is one: it is what the supernode tells the others, and
    they cannot use 127.0.0.1.
    """
    hosts = [str(one.address.ip) for one in local if is_told_to_others(one)]
    ipv4_first = sorted(hosts, key=lambda host: ":" in host)
    return tuple(HostPort(host, port) for host in ipv4_first or ["127.0.0.1"])


def is_told_to_others(local: LocalAddress) -> bool:
    """Whether an address of this machine helps another machine to reach it."""
    ip = local.address.ip
    return local.is_up and not (local.is_overlay or ip.is_loopback or ip.is_link_local)


def places_for_others(places: Iterable[HostPort]) -> tuple[HostPort, ...]:
    """Return the places that another machine may try: none with a zone, loopback if all else fails.

    On loopback an invite is good for this machine only, as in a trial of two edges on one host.
    """
    without_zone = [place for place in places if "%" not in place.host]
    remote = [place for place in without_zone if not _is_loopback(place.host)]
    return tuple(remote or without_zone)


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")


def free_port() -> int:
    """Return the first free UDP port from the default one on.

    Raises:
        ConfigError: none of 16 is free.
    """
    for port in range(DEFAULT_PORT, DEFAULT_PORT + PORTS_TRIED):
        try:
            open_udp(socket.AF_INET, "", port).close()
        except ConfigError:
            continue
        return port
    raise ConfigError(
        "embedded supernode",
        "",
        f"UDP ports {DEFAULT_PORT} to {DEFAULT_PORT + PORTS_TRIED - 1} are all taken;"
        " name a supernode with --supernode",
    )
