"""Finding a supernode on the LAN by multicast; docs/protocol.md section 14.

Nothing here is authenticated: a query tells the community only to who knows its id, an answer says
where a supernode claims to be, and the handshake with it proves or refutes that.
"""

import base64
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import trio

from mesh.addresses import Endpoint
from mesh.constants import LAN_GROUP_IPV4, LAN_GROUP_IPV6, LAN_PORT
from mesh.errors import MalformedMessage
from mesh.net.link import local_networks
from mesh.net.rate_limit import RateLimit
from mesh.net.watch import watch_links
from mesh.wire.lan import LAN_NONCE_BYTES, LAN_TAG_BYTES, LanAnswer, LanQuery, lan_answer_tag

QUERIES: Final = 3

_QUERY_SHARE: Final = 0.25  # of the timeout between two queries: the last answer has half of it
_GRACE: Final = 0.05
_MAX_FOUND: Final = 64
_MAX_DATAGRAM_BYTES: Final = 2048

# At most this often an answer leaves, each of the size of its query.
_ANSWERS_AT_ONCE: Final = 50
_ANSWERS_PER_SECOND: Final = 50.0
_ANSWERS_AT_ONCE_PER_SOURCE: Final = 10
_ANSWERS_PER_SECOND_PER_SOURCE: Final = 5.0

_MREQN: Final = struct.Struct("=4s4si")  # struct ip_mreqn: group, our address, interface index
_MREQ6: Final = struct.Struct("=16si")  # struct ipv6_mreq: group, interface index
_IP_MULTICAST_ALL: Final = 49
_IPV6_MULTICAST_ALL: Final = 29

_SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]


@dataclass(frozen=True, slots=True)
class FoundSupernode:
    """A supernode that answered; not authenticated before the handshake with it.

    Attributes:
        endpoint: where to register.
        fingerprint: its key's, 32 characters of base32.
        serves_us: whether the tag shows that it knows the community.
        takes_any: whether it takes any community.
    """

    endpoint: Endpoint
    fingerprint: str
    serves_us: bool
    takes_any: bool


@dataclass(frozen=True, slots=True)
class LanResponder:
    """What a supernode says to LAN queries.

    Attributes:
        fingerprint: 20 bytes.
        port: its UDP port.
        takes_any: whether it takes any community; if not, only known ones are answered.
        community_of: given the 16-byte nonce and 16-byte tag of a query (not authenticated),
            returns the 32-byte id of the served community whose tag it is, or None.
    """

    fingerprint: bytes
    port: int
    takes_any: bool
    community_of: Callable[[bytes, bytes], bytes | None]


async def find_supernodes(
    community_id: bytes,
    timeout: float = 0.8,  # noqa: ASYNC109 - how long to listen; running out of it is no failure
) -> list[FoundSupernode]:
    """Ask on every up, multicast-capable, non-overlay interface.

    Those that serve us come first, IPv4 before IPv6. Takes at most ``timeout`` seconds, less once a
    supernode has shown that it knows the community.

    Args:
        community_id: 32 bytes.
        timeout: seconds.
    """
    query = LanQuery.for_community(community_id, os.urandom(LAN_NONCE_BYTES))
    found: dict[Endpoint, FoundSupernode] = {}
    with contextlib.ExitStack() as stack:
        askers = _open_all(stack, _open_asker)
        with trio.move_on_after(timeout) as scope:
            async with trio.open_nursery() as nursery:
                for asker in askers:
                    nursery.start_soon(_listen, asker, query, community_id, found, scope)
                for _ in range(QUERIES):
                    await _ask(askers, query.encode())
                    await trio.sleep(timeout * _QUERY_SHARE)
    return sorted(found.values(), key=lambda one: (not one.serves_us, one.endpoint.is_ipv6))


async def serve_lan(
    responder: LanResponder, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Answer LAN queries on every interface, new ones included, until cancelled.

    Several supernodes of one machine may do so side by side. Overlays are left out: a supernode is
    looked for on the LAN below.
    """
    rescan, rescans = trio.open_memory_channel[None](1)

    def wake(_: object) -> None:
        with contextlib.suppress(trio.WouldBlock):  # a scan is due already
            rescan.send_nowait(None)

    with contextlib.ExitStack() as stack:
        listeners = _open_all(stack, _open_listener)
        async with trio.open_nursery() as nursery:
            await nursery.start(watch_links, wake)
            await _join_groups(listeners)
            for listener in listeners:
                nursery.start_soon(_answer_queries, listener, responder)
            task_status.started()
            async for _ in rescans:
                await _join_groups(listeners)


async def _ask(askers: list[trio.socket.SocketType], query: bytes) -> None:
    for asker in askers:
        for index in await _lan_interfaces(asker.family):
            with contextlib.suppress(OSError):  # an interface that just went away
                _choose_interface(asker, index)
                await asker.sendto(query, (_group(asker.family), LAN_PORT))


async def _listen(
    asker: trio.socket.SocketType,
    query: LanQuery,
    community_id: bytes,
    found: dict[Endpoint, FoundSupernode],
    scope: trio.CancelScope,
) -> None:
    """Collect answers; the first right tag leaves the others only a short grace."""
    while True:
        try:
            datagram, source = await asker.recvfrom(_MAX_DATAGRAM_BYTES)
        except OSError:  # an ICMP error for a query; the next answer may be fine
            continue
        supernode = _read_answer_untrusted(datagram, source, query, community_id)
        if supernode is None or len(found) >= _MAX_FOUND:
            continue
        known = found.get(supernode.endpoint)
        if known is None or not known.serves_us:  # a wrong answer must not displace a right one
            found[supernode.endpoint] = supernode
        if supernode.serves_us:
            scope.deadline = min(scope.deadline, trio.current_time() + _GRACE)


def _read_answer_untrusted(
    datagram: bytes, source: _SocketAddress, query: LanQuery, community_id: bytes
) -> FoundSupernode | None:
    """Return the supernode that an answer to ``query`` tells of, if it is of use to us."""
    try:
        answer = LanAnswer.decode(datagram)
    except MalformedMessage:
        return None
    serves_us = answer.is_from_server_of(community_id)
    if answer.nonce != query.nonce or not (serves_us or answer.takes_any):
        return None
    fingerprint = base64.b32encode(answer.fingerprint).decode().lower()
    endpoint = Endpoint(_host_of(source), answer.port)
    return FoundSupernode(endpoint, fingerprint, serves_us, answer.takes_any)


async def _answer_queries(listener: trio.socket.SocketType, responder: LanResponder) -> None:
    limit = RateLimit(
        _ANSWERS_AT_ONCE,
        _ANSWERS_PER_SECOND,
        _ANSWERS_AT_ONCE_PER_SOURCE,
        _ANSWERS_PER_SECOND_PER_SOURCE,
    )
    while True:
        try:
            datagram, source = await listener.recvfrom(_MAX_DATAGRAM_BYTES)
            if not _is_on_our_links(source):
                continue
            if not limit.allows(_host_of(source), trio.current_time()):
                continue
            answer = _answer_untrusted(datagram, responder)
            if answer is not None:
                await listener.sendto(answer, source)
        except OSError:  # an unreachable asker; the next one may not be
            await trio.lowlevel.checkpoint()


def _is_on_our_links(source: tuple[str, int] | tuple[str, int, int, int]) -> bool:
    """Whether a query came from a LAN: to IPv6 port 7778 anybody on the internet may send.

    Queries to ff02:: leave from link-local addresses; the IPv4 socket hears its group only.
    """
    host = source[0]
    return ":" not in host or host.startswith("fe80:")


def _answer_untrusted(datagram: bytes, responder: LanResponder) -> bytes | None:
    """Return the answer to a query, as long as the query, or None to keep silent."""
    try:
        query = LanQuery.decode(datagram)
    except MalformedMessage:
        return None
    community_id = responder.community_of(query.nonce, query.tag)
    if community_id is not None:
        tag = lan_answer_tag(community_id, query.nonce, responder.fingerprint, responder.port)
    elif responder.takes_any:
        tag = os.urandom(LAN_TAG_BYTES)
    else:
        return None
    return LanAnswer(
        responder.port, query.nonce, tag, responder.fingerprint, responder.takes_any
    ).encode()


def _open_all(
    stack: contextlib.ExitStack, open_one: Callable[[int], socket.socket]
) -> list[trio.socket.SocketType]:
    """Open a socket per address family that the machine has; the stack closes them."""
    opened = []
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            one = trio.socket.from_stdlib_socket(open_one(family))
            opened.append(stack.enter_context(one))
    return opened


def _open_asker(family: int) -> socket.socket:
    """Open a socket for queries and the unicast answers to them; never beyond the first router."""
    asker = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        asker.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
    else:
        asker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
    return asker


def _open_listener(family: int) -> socket.socket:
    """Open a socket that gets what is sent to the group, and only on interfaces joined."""
    listener = socket.socket(family, socket.SOCK_DGRAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
        listener.bind(("::", LAN_PORT))
    else:
        listener.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        listener.bind((LAN_GROUP_IPV4, LAN_PORT))
    return listener


async def _join_groups(listeners: list[trio.socket.SocketType]) -> None:
    """Join the group on every interface; where we are a member already the kernel says so."""
    for listener in listeners:
        for index in await _lan_interfaces(listener.family):
            with contextlib.suppress(OSError):
                if listener.family == socket.AF_INET6:
                    request = _MREQ6.pack(_packed(listener.family), index)
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
                else:
                    request = _MREQN.pack(_packed(listener.family), bytes(4), index)
                    listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)


def _choose_interface(asker: trio.socket.SocketType, index: int) -> None:
    if asker.family == socket.AF_INET6:
        asker.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    else:
        request = _MREQN.pack(bytes(4), bytes(4), index)
        asker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)


async def _lan_interfaces(family: int) -> list[int]:
    """Return the indexes of interfaces on which somebody may be found, in order."""
    version = 6 if family == socket.AF_INET6 else 4
    return sorted(
        {
            one.index
            for one in await local_networks()
            if one.is_up
            and one.is_multicast
            and not one.is_overlay
            and one.address.version == version
        }
    )


def _group(family: int) -> str:
    return LAN_GROUP_IPV6 if family == socket.AF_INET6 else LAN_GROUP_IPV4


def _packed(family: int) -> bytes:
    return socket.inet_pton(family, _group(family))


def _host_of(source: _SocketAddress) -> str:
    """Return the host of a socket address, with ``%index`` for link-local ones."""
    host = source[0].partition("%")[0]
    return f"{host}%{source[3]}" if len(source) == 4 and source[3] else host
