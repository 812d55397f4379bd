"""Observation ports: where an edge pings to learn what its NAT makes of another destination.

docs/protocol.md section 10.7. A ping under the session of a registered edge is answered with the
endpoint it was seen from, and with nothing else: it never moves the edge, and the answer has no
digest. Whatever else arrives is dropped.
"""

from collections.abc import Callable, Sequence

from mesh.engine import Buffer, OutgoingDatagrams, SocketId
from mesh.events import DropReason
from mesh.wire.datagram import is_transport_untrusted, peek_transport_untrusted
from mesh.wire.inner import open_control_untrusted, wrap_control
from mesh.wire.messages import Ping, Pong, decode_message, encode_message
from supernode.origin import Origin
from supernode.registry import Registry


class Observation:
    """Answers on the observation ports.

    Args:
        registry: who is registered.
        send: takes what is to be sent.
        count_drop: told why a datagram came to nothing.

    Attributes:
        ports: their numbers, the same on every address; none before `open_sockets`.
    """

    def __init__(
        self,
        registry: Registry,
        send: Callable[[OutgoingDatagrams], None],
        count_drop: Callable[[DropReason, int], None],
    ) -> None:
        self.ports: tuple[int, ...] = ()
        self._registry = registry
        self._send = send
        self._count_drop = count_drop
        self._others: dict[SocketId, SocketId] = {}

    def __contains__(self, socket: SocketId) -> bool:
        return socket in self._others

    def open_sockets(
        self, ports: tuple[int, int], pairs: Sequence[tuple[SocketId, SocketId]]
    ) -> None:
        """Learn the two port numbers, and the sockets that have them, a pair per address."""
        self.ports = ports
        for one, other in pairs:
            self._others[one], self._others[other] = other, one

    def receive_untrusted(self, datagram: Buffer, origin: Origin, now: float) -> None:
        """Answer a ping of a registered edge.

        Raises:
            RemoteError: it does not verify or parse.
        """
        index = peek_transport_untrusted(datagram)[0] if is_transport_untrusted(datagram) else 0
        registration = self._registry.by_index(index)
        if registration is None:
            self._count_drop(DropReason.UNKNOWN_SESSION, 1)
            return
        session = registration.session_of(index)
        if session.is_expired(now) or registration.session.is_expired(now):
            self._count_drop(DropReason.EXPIRED_SESSION, 1)
            return
        message = decode_message(open_control_untrusted(session.open_untrusted(datagram)))
        if not isinstance(message, Ping):
            self._count_drop(DropReason.UNKNOWN_MESSAGE, 1)
            return
        answer = wrap_control(encode_message(Pong(message.token, origin.endpoint)))
        sealed = registration.session.seal(answer)
        socket = self._others[origin.socket] if message.other else origin.socket
        self._send(OutgoingDatagrams((sealed,), len(sealed), origin.endpoint, socket))
