"""From what the talks with supernodes found to facts; pure."""

from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, ip_address

from mesh.addresses import Endpoint
from mesh.cli.netcheck.facts import (
    Answer,
    Filtering,
    Key,
    LocalFacts,
    Mapping,
    NatFacts,
    RouterFacts,
)
from mesh.core.conversation import NO_WAY_ERRNOS, Conversation
from mesh.core.nat_kind import NatFiltering, judge
from mesh.net.link import Gateway, LocalAddress
from mesh.net.router import PortMapping, RouterLink


def answer_of(talk: Conversation) -> Answer:
    """Return whether a supernode answered."""
    if talk.rtt is not None:
        return Answer.ANSWERED
    return Answer.NO_ROUTE if talk.errno in NO_WAY_ERRNOS else Answer.SILENT


def key_of(talk: Conversation) -> Key:
    """Return whether it has the right key."""
    if not talk.fingerprint:
        return Key.UNKNOWN
    return {None: Key.NEW, True: Key.RIGHT, False: Key.WRONG}[talk.is_key_right]


def is_afar(endpoint: Endpoint, local: Sequence[LocalAddress]) -> bool:
    """Whether a supernode is beyond our networks, and so beyond a NAT if there is one."""
    address = ip_address(endpoint.host.partition("%")[0])
    is_near = address.is_loopback or address.is_link_local
    return not is_near and not any(address in one.address.network for one in local)


def nat_facts(
    talks: Sequence[Conversation], local_hosts: Collection[str], local_port: int
) -> NatFacts:
    """Return what one socket's talks, all of one family, say of the NAT and firewall in between.

    Args:
        talks: with supernodes.
        local_hosts: the addresses of this machine.
        local_port: what the socket is bound to.
    """
    seen = [talk.seen_as for talk in talks if talk.seen_as is not None]
    seen += [endpoint for talk in talks for endpoint in talk.observed]
    strangers = [talk.lets_in_strangers for talk in talks if talk.lets_in_strangers is not None]
    kind = judge(local_port, seen, _filtering_of(strangers))
    mapping, filtering, ports = kind.words
    if seen and all(endpoint.host in local_hosts for endpoint in seen):
        mapping = Mapping.NONE
        ports = "preserved" if seen[0].port == local_port else "changed"
    return NatFacts(
        mapping=Mapping(mapping),
        filtering=Filtering(filtering),
        ports=ports,
        seen_as=tuple(dict.fromkeys(map(str, seen))),
    )


def _filtering_of(strangers: Sequence[bool]) -> NatFiltering:
    if not strangers:
        return NatFiltering.UNKNOWN
    return NatFiltering.ADDRESS if any(strangers) else NatFiltering.PORT


def router_facts(
    link: RouterLink, protocol: str, mapping: PortMapping | None, seen_hosts: Collection[str]
) -> RouterFacts:
    """Return what came of asking a router for a port.

    Args:
        link: to the router.
        protocol: the one it was asked by.
        mapping: what it offered.
        seen_hosts: the addresses that supernodes see us at, none where that is not known.
    """
    external = mapping.external if mapping is not None else None
    return RouterFacts(
        protocol=protocol,
        family="ipv6" if link.is_ipv6 else "ipv4",
        router=link.router,
        external="" if external is None else str(external),
        is_public=external is not None and _is_public(external.host, seen_hosts),
    )


def _is_public(host: str, seen_hosts: Collection[str]) -> bool:
    """Whether a router's address is one at which the world reaches it."""
    if seen_hosts:
        return host in seen_hosts
    address = ip_address(host)
    return address.is_global or not isinstance(address, IPv4Address)


def local_facts(local: Sequence[LocalAddress], gateways: Sequence[Gateway]) -> LocalFacts:
    """Return what the machine has; overlays and interfaces without a link are left out."""
    usable = [one for one in local if one.is_up and not one.is_overlay]
    indexes = {one.index for one in usable}
    ways_out = [one.host for one in gateways if one.index in indexes]
    lasting = [one.address for one in usable if not one.address.ip.is_link_local]
    return LocalFacts(
        addresses=tuple(map(str, lasting)),
        gateways=tuple(ways_out),
        has_ipv4=any(one.version == 4 for one in lasting) and any(":" not in w for w in ways_out),
        has_ipv6=any(one.version == 6 and not one.ip.is_private for one in lasting)
        and any(":" in way for way in ways_out),
    )
