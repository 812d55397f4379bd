"""Members of a community finding each other on the LAN by multicast; docs/protocol.md section 14.1.

Announcements tell strangers nothing, and prove no more than that some member made them once: what
one names is a candidate, to be pinged under a session like any other.
"""

import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

import trio

from mesh.addresses import EdgeId, Endpoint
from mesh.errors import RemoteError
from mesh.net.multicast import (
    host_of,
    is_on_our_links,
    join_groups,
    multicast,
    open_all,
    open_asker,
    open_listener,
)
from mesh.net.rate_limit import RateLimit
from mesh.wire.lan_peer import NONCE_BYTES, encode_announcement, open_announcement_untrusted

ANNOUNCE_INTERVAL: Final = 60.0
"""Seconds; members that were there before are told at once, by the first ones."""

FIRST_INTERVALS: Final = (0.5, 2.0)
"""Seconds after the first announcement, which may be lost, to the second, and on to the third."""

_MAX_DATAGRAM_BYTES: Final = 2048
_MAX_NONCES: Final = 1024  # of the latest announcements: a replay of one of them is nothing new

# At most this many announcements are taken, and nothing is answered.
_TAKEN_AT_ONCE: Final = 100
_TAKEN_PER_SECOND: Final = 20.0
_TAKEN_AT_ONCE_PER_SOURCE: Final = 10
_TAKEN_PER_SECOND_PER_SOURCE: Final = 0.5


@dataclass(frozen=True, slots=True)
class LanPeersConfig:
    """Who announces what.

    Attributes:
        lan_key: the community's, 32 bytes.
        edge_id: ours.
        ports: our UDP port by address family; none for a family means no announcement there.
        leave_out: returns the indexes of interfaces that lead into the overlay.
    """

    lan_key: bytes
    edge_id: EdgeId
    ports: Mapping[int, int]
    leave_out: Callable[[], Awaitable[Collection[int]]]


class LanPeers:
    """Announces an edge and listens to others; `run` does so until it is cancelled."""

    def __init__(self, config: LanPeersConfig, found: Callable[[EdgeId, Endpoint], None]) -> None:
        """Prepare; ``found`` is told of each announcement that a member made, ours left out."""
        self._config = config
        self._found = found
        self._wake = trio.Event()
        self._nonces: dict[bytes, None] = {}
        self._limit = RateLimit(
            _TAKEN_AT_ONCE,
            _TAKEN_PER_SECOND,
            _TAKEN_AT_ONCE_PER_SOURCE,
            _TAKEN_PER_SECOND_PER_SOURCE,
        )

    def wake(self) -> None:
        """Announce anew: the networks around have changed."""
        self._wake.set()

    async def run(self) -> None:
        """Announce and listen until cancelled; without multicast this does nothing."""
        with contextlib.ExitStack() as stack:
            listeners = open_all(stack, open_listener)
            askers = open_all(stack, open_asker)
            async with trio.open_nursery() as nursery:
                for listener in listeners:
                    nursery.start_soon(self._listen, listener)
                while True:
                    await join_groups(listeners)
                    for interval in (*FIRST_INTERVALS, ANNOUNCE_INTERVAL):
                        await self._announce(askers)
                        if await self._is_woken_within(interval):
                            break

    async def _is_woken_within(self, interval: float) -> bool:
        with trio.move_on_after(interval):
            await self._wake.wait()
            self._wake = trio.Event()
            return True
        return False

    async def _announce(self, askers: list[trio.socket.SocketType]) -> None:
        config = self._config
        leave_out = await config.leave_out()
        for asker in askers:
            port = config.ports.get(asker.family, 0)
            if port:
                nonce = os.urandom(NONCE_BYTES)
                datagram = encode_announcement(config.lan_key, config.edge_id, port, nonce)
                await multicast([asker], datagram, leave_out)

    async def _listen(self, listener: trio.socket.SocketType) -> None:
        while True:
            try:
                datagram, source = await listener.recvfrom(_MAX_DATAGRAM_BYTES)
            except OSError:  # nothing that concerns us
                await trio.lowlevel.checkpoint()
                continue
            if is_on_our_links(source) and self._limit.allows(host_of(source), trio.current_time()):
                self.receive_untrusted(datagram, host_of(source))

    def receive_untrusted(self, datagram: bytes, host: str) -> None:
        """Take in what somebody on the LAN sent; never raises."""
        try:
            edge_id, port, nonce = open_announcement_untrusted(self._config.lan_key, datagram)
        except RemoteError:
            return
        if nonce in self._nonces or edge_id == self._config.edge_id:
            return
        self._nonces[nonce] = None
        while len(self._nonces) > _MAX_NONCES:
            del self._nonces[next(iter(self._nonces))]
        self._found(edge_id, Endpoint(host, port))


def ports_by_family(port_ipv4: int, port_ipv6: int) -> dict[int, int]:
    """Return the ports under the families' numbers."""
    return {socket.AF_INET: port_ipv4, socket.AF_INET6: port_ipv6}
