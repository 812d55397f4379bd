"""Read-only views of an edge for the control socket; the shapes are in `mesh.snapshots`."""

from collections import Counter

from mesh.addresses import format_mac
from mesh.core.context import Context
from mesh.core.local import LocalEndpoints
from mesh.core.mtu_probes import packet_bytes
from mesh.core.nat_kind import NatKind, NatMapping
from mesh.core.peer import Peer
from mesh.core.registration import Registration
from mesh.core.supernodes import Supernodes
from mesh.core.switch import FdbEntry
from mesh.core.why import TransportOf, way_views, why
from mesh.events import DropReason, PathKind
from mesh.snapshots import (
    EdgeView,
    FdbView,
    NatView,
    PathView,
    PeerView,
    SessionView,
    SupernodeView,
)


def milliseconds(seconds: float | None) -> float | None:
    """Return ``seconds`` in milliseconds, rounded for people; None stays None."""
    return None if seconds is None else round(seconds * 1000, 3)


def matches(peer: Peer, text: str) -> bool:
    """Whether a name, an id prefix of 4 digits or more, an address or a MAC means this peer."""
    wanted = text.strip().lower()
    if not wanted:
        return False
    bare_addresses = {address.partition("/")[0].lower() for address in peer.addresses}
    return (
        wanted == peer.name.lower()
        or wanted in bare_addresses
        or wanted == format_mac(peer.mac)
        or (len(wanted) >= 4 and peer.edge_id.hex().startswith(wanted))
    )


def path_view(peer: Peer, transport_of: TransportOf) -> PathView:
    """Return how a peer is reached."""
    active = peer.paths.active
    if active is None:
        return PathView(
            kind=str(PathKind.NONE), transport="udp", endpoint="", rtt_ms=None, mtu=None
        )
    return PathView(
        kind=str(active.kind),
        transport=str(transport_of(active.via)),
        endpoint=str(active.via.endpoint),
        rtt_ms=milliseconds(active.rtt),
        mtu=packet_bytes(active),
    )


def peer_view(
    peer: Peer, context: Context, local: LocalEndpoints, transport_of: TransportOf, now: float
) -> PeerView:
    """Return one row of ``mesh-edge peers``."""
    our_nat = _nat_verdict(local, context.our_nat.kind)
    session = peer.sessions.current
    is_established = session is not None and now < peer.sessions.seals_until
    leased = peer.member.address if peer.member is not None else ""
    return PeerView(
        id=peer.edge_id.hex(),
        name=peer.name,
        mac=format_mac(peer.mac),
        addresses=list(peer.addresses or ((leased,) if leased else ())),
        path=path_view(peer, transport_of),
        why=why(peer, context.config, our_nat, now),
        paths=way_views(peer, transport_of, now),
        session=SessionView(
            established=is_established,
            suite=session.suite.protocol_suffix if session is not None else "",
            age_s=round(now - session.created_at, 3) if session is not None else 0.0,
        ),
        tx_bytes=peer.sender.sent_bytes,
        rx_bytes=peer.rx_bytes,
        tx_frames=peer.sender.sent_frames,
        rx_frames=peer.rx_frames,
        last_seen_s=round(now - peer.last_heard_at, 3) if peer.is_up else None,
    )


def fdb_view(entry: FdbEntry, name: str) -> FdbView:
    """Return one row of ``mesh-edge fdb``."""
    return FdbView(
        mac=format_mac(entry.mac), peer=entry.port.hex(), name=name, age_s=round(entry.age, 3)
    )


def nat_view(kind: NatKind) -> NatView:
    """Return what was found out about our NAT, in words."""
    mapping, filtering, ports = kind.words
    return NatView(mapping=mapping, filtering=filtering, ports=ports, step=kind.step)


def _nat_verdict(local: LocalEndpoints, kind: NatKind) -> str:
    """Return the verdict in one word: what the supernode's observation ports say counts most."""
    verdict = local.nat
    if verdict == "open" or kind.mapping is NatMapping.UNKNOWN:
        return verdict
    return "easy" if kind.mapping is NatMapping.INDEPENDENT else "hard"


def supernode_view(registration: Registration, *, is_primary: bool) -> SupernodeView:
    """Return how one supernode is reached."""
    via = registration.contact.via
    return SupernodeView(
        name=registration.config.host_port,
        endpoint=str(via.endpoint) if via is not None else registration.config.host_port,
        connected=registration.is_connected,
        rtt_ms=milliseconds(registration.contact.liveness.rtt),
        transport=str(registration.contact.transport),
        is_primary=is_primary,
    )


def edge_view(
    context: Context,
    supernodes: Supernodes,
    local: LocalEndpoints,
    peers: int,
    drops: Counter[DropReason],
) -> EdgeView:
    """Return the engine's share of ``mesh-edge status``."""
    config, leased, seen_as = (
        context.config,
        context.lease.address,
        supernodes.primary.contact.seen_as,
    )
    own = [leased] if leased else []
    ula = str(config.community.ipv6_address(config.identity.interface_id))
    return EdgeView(
        community=config.community.name,
        id=config.identity.edge_id.hex(),
        name=config.name,
        mac=format_mac(config.mac),
        addresses=[*own, ula],
        mtu=config.mtu,
        supernode=supernode_view(supernodes.primary, is_primary=True),
        supernodes=[
            supernode_view(each, is_primary=each is supernodes.primary) for each in supernodes
        ],
        endpoint=str(seen_as) if seen_as is not None else "",
        nat=_nat_verdict(local, context.our_nat.kind),
        nat_detail=nat_view(context.our_nat.kind),
        peers=peers,
        drops={str(reason): count for reason, count in sorted(drops.items())},
    )
