"""Finding a supernode on the LAN by multicast; docs/protocol.md section 14.

Nothing here is authenticated: a query tells the community only to who knows its id, an answer says
where a supernode claims to be, and the handshake with it proves or refutes that.
"""

import base64
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from mesh.addresses import Endpoint
from mesh.errors import MalformedMessage
from mesh.net.multicast import (
    SocketAddress,
    host_of,
    is_on_our_links,
    join_groups,
    multicast,
    open_all,
    open_asker,
    open_listener,
)
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
        askers = open_all(stack, open_asker)
        with trio.move_on_after(timeout) as scope:
            async with trio.open_nursery() as nursery:
                for asker in askers:
                    nursery.start_soon(_listen, asker, query, community_id, found, scope)
                for _ in range(QUERIES):
                    await multicast(askers, query.encode())
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
        listeners = open_all(stack, open_listener)
        async with trio.open_nursery() as nursery:
            await nursery.start(watch_links, wake)
            await join_groups(listeners)
            for listener in listeners:
                nursery.start_soon(_answer_queries, listener, responder)
            task_status.started()
            async for _ in rescans:
                await join_groups(listeners)


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
    datagram: bytes, source: SocketAddress, query: LanQuery, community_id: bytes
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
    endpoint = Endpoint(host_of(source), answer.port)
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
            if not is_on_our_links(source):
                continue
            if not limit.allows(host_of(source), trio.current_time()):
                continue
            answer = _answer_untrusted(datagram, responder)
            if answer is not None:
                await listener.sendto(answer, source)
        except OSError:  # an unreachable asker; the next one may not be
            await trio.lowlevel.checkpoint()


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
