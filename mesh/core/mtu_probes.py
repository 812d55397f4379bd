"""Probes of the size of the path that one peer's frames take; docs/protocol.md section 12.7.

Only that path is probed: what the others carry matters once they are needed, and then one round
trip tells. Until it is over frames are cut to the base size, so that nothing is lost.
"""

import math

from mesh.constants import BASE_DATAGRAM_BYTES, RELAY_HEADER_BYTES
from mesh.core import trust
from mesh.core.context import Context
from mesh.core.frame_sender import BASE_FRAME_BYTES, OVERHEAD_BYTES
from mesh.core.outbox import Via
from mesh.core.path import Path
from mesh.core.paths import PathTable
from mesh.core.pmtu import (
    ETHERNET_MTU,
    IPV4_HEADERS_BYTES,
    IPV6_HEADERS_BYTES,
    PathMtu,
    likely_bytes,
    sizes_up_to,
)
from mesh.crypto.session import Session
from mesh.wire.inner import wrap_control
from mesh.wire.messages import encode_message, padded_ping


def datagram_bytes(path: Path | None) -> int:
    """Return the largest datagram that a path is known to carry, envelope included."""
    return BASE_DATAGRAM_BYTES if path is None or path.mtu is None else path.mtu.datagram_bytes


def packet_bytes(path: Path) -> int:
    """Return the same as bytes of an IP packet, which is how people know the MTU of a link."""
    headers = IPV6_HEADERS_BYTES if path.via.endpoint.is_ipv6 else IPV4_HEADERS_BYTES
    return datagram_bytes(path) + headers


class MtuProbes:
    """Finds out how large a datagram the path in use carries."""

    def __init__(self, context: Context, paths: PathTable) -> None:
        self._context = context
        self._paths = paths
        self._largest = context.config.max_frame_bytes + OVERHEAD_BYTES
        self._watched: Path | None = None
        self._told = ETHERNET_MTU

    def frame_bytes(self, vias: tuple[Via, ...]) -> int:
        """Return the largest frame that fits all of these ways whole.

        Two ways mean doubt, and the second one has not been looked at for a while: base size.
        """
        if len(vias) != 1:
            return BASE_FRAME_BYTES
        size = datagram_bytes(self._paths.find(vias[0])) - OVERHEAD_BYTES
        return size - RELAY_HEADER_BYTES if vias[0].relay_id else size

    def next_at(self) -> float:
        """Return when `send_due` may have something to say, or ``math.inf``."""
        mtu = None if self._watched is None else self._watched.mtu
        return math.inf if mtu is None else mtu.next_probe_at

    def watch(self, now: float) -> None:
        """See which path frames take; one that was not in use has to be measured anew."""
        path = self._paths.active
        if path is self._watched:
            return
        self._watched = path
        if path is not None and path.mtu is not None:
            path.mtu.doubt(now)

    def path_answered(self, via: Via, now: float) -> None:
        """Learn that a small ping was answered on a way: if frames take it, it can be measured."""
        self.watch(now)
        path = self._watched
        if path is None or path.via != via:
            return
        if path.mtu is None:
            largest = self._largest + (RELAY_HEADER_BYTES if via.relay_id else 0)
            likely = likely_bytes(is_ipv6=via.endpoint.is_ipv6)
            path.mtu = PathMtu(sizes_up_to(largest), likely, now)
        else:
            path.mtu.path_answered(now)

    def confirm(self, path: Path, now: float) -> bool:
        """See to it that the size in use is probed again, where ``path`` is the one in use.

        Returns:
            Whether it is another one, so that this is still to be done.
        """
        if path is not self._watched:
            return True
        if path.mtu is not None:
            path.mtu.confirm(now)
        return False

    def network_changed(self, now: float) -> None:
        """React to new local addresses: the same endpoints may be reached by other links now."""
        if self._watched is not None and self._watched.mtu is not None:
            self._watched.mtu.doubt(now)
            self._paths.fresh_until = -math.inf

    def send_due(self, session: Session, now: float) -> Path | None:
        """Send the probe that is due.

        Returns:
            The path if it is to be pinged beside the probe.
        """
        path = self._watched
        if path is None or path.mtu is None:
            return None
        timeout = trust.answer_timeout(path)
        before = path.mtu.datagram_bytes
        size = path.mtu.probe_due(now, path.last_pong_at, timeout)
        if path.mtu.datagram_bytes != before:
            self._paths.fresh_until = -math.inf
        if not size:
            return None
        token = self._context.entropy(8)
        envelope = RELAY_HEADER_BYTES if path.via.relay_id else 0
        ping = padded_ping(token, size - envelope - OVERHEAD_BYTES)
        datagram = session.seal(wrap_control(encode_message(ping)))
        path.mtu.probe_sent(token, size)
        self._context.outbox.send_whole(path.via, datagram)
        return path if path.mtu.wants_ping else None

    def receive_pong(self, token: bytes, via: Via, now: float) -> bool:
        """Take in a pong; return whether it answers a probe of the way that it came by."""
        path = self._paths.find(via)
        if path is None or path.mtu is None or not path.mtu.receive_pong(token, now):
            return False
        path.last_heard_at = now
        self._paths.fresh_until = -math.inf
        return True

    def news(self) -> int:
        """Return the bytes of IP packet that the path in use has been found to carry, or 0.

        0 while it is being measured, and where there is nothing new. What Ethernet carries is what
        everybody expects, and more is no news.
        """
        path = self._watched
        if path is None or path.mtu is None or not path.mtu.is_complete:
            return 0
        found = min(packet_bytes(path), ETHERNET_MTU)
        is_new, self._told = found != self._told, found
        return found if is_new else 0

    def receive_too_large(self, supernode_or_peer: Via, size: int, now: float) -> bool:
        """Learn that our interface does not take datagrams of ``size`` bytes to an endpoint.

        Returns:
            Whether a path leads there.
        """
        concerned = [
            path
            for path in self._paths.paths()
            if path.mtu is not None and path.via.supernode == supernode_or_peer
        ]
        for path in concerned:
            if path.mtu is not None:
                path.mtu.receive_too_large(size, now)
        if concerned:
            self._paths.fresh_until = -math.inf
        return bool(concerned)
