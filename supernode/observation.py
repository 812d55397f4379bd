"""Observation ports: where an edge pings to learn what its NAT makes of another destination.

docs/protocol.md section 10.7. A ping under the session of an edge, registered or not yet, is
answered with the endpoint it was seen from, and with nothing else: it never moves the edge, and the
answer has no digest. Whatever else arrives is dropped.
"""

from collections.abc import Callable, Sequence

from mesh.engine import Buffer, OutgoingDatagrams, SocketId
from mesh.events import DropReason
from mesh.wire.datagram import is_transport_untrusted, peek_transport_untrusted
from mesh.wire.inner import open_control_untrusted, wrap_control
from mesh.wire.messages import Ping, Pong, decode_message, encode_message
from supernode.origin import Origin
from supernode.reception import Guest
from supernode.registry import Registry


class Observation:
    """Answers on the observation ports.

    Args:
        registry: who is registered.
        find_guest: returns who is not, and has a session of this index of ours.
        send: takes what is to be sent.
        count_drop: told why a datagram came to nothing.

    Attributes:
        ports: their numbers, the same on every address; none before `open_sockets`.
    """

    def __init__(
        self,
        registry: Registry,
        find_guest: Callable[[int], Guest | None],
        send: Callable[[OutgoingDatagrams], None],
        count_drop: Callable[[DropReason, int], None],
    ) -> None:
        self.ports: tuple[int, ...] = ()
        self._registry = registry
        self._find_guest = find_guest
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
        """Answer a ping of an edge.

        Raises:
            RemoteError: it does not verify or parse.
        """
        index = peek_transport_untrusted(datagram)[0] if is_transport_untrusted(datagram) else 0
        registration = self._registry.by_index(index)
        guest = self._find_guest(index)
        if registration is not None:
            ours, current = registration.session_of(index), registration.session
        elif guest is not None and _may_ask(guest, origin):
            ours = current = guest.session
        else:
            self._count_drop(DropReason.UNKNOWN_SESSION, 1)
            return
        if ours.is_expired(now) or current.is_expired(now):
            self._count_drop(DropReason.EXPIRED_SESSION, 1)
            return
        message = decode_message(open_control_untrusted(ours.open_untrusted(datagram)))
        if guest is not None:
            guest.messages_left -= 1
        if not isinstance(message, Ping):
            self._count_drop(DropReason.UNKNOWN_MESSAGE, 1)
            return
        answer = wrap_control(encode_message(Pong(message.token, origin.endpoint)))
        sealed = current.seal(answer)
        socket = self._others[origin.socket] if message.other else origin.socket
        self._send(OutgoingDatagrams((sealed,), len(sealed), origin.endpoint, socket))


def _may_ask(guest: Guest, origin: Origin) -> bool:
    """Whether to look at what a guest sent from here.

    It has proved nothing but that it receives at one address: answers that go to another one, or
    more of them than it may ask for, would be turned on somebody.
    """
    return guest.messages_left > 0 and guest.origin.endpoint.host == origin.endpoint.host
