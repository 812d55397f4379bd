"""The supernodes of an edge: registered with all of them at once, one of them its primary.

Theory of operation. Each configured supernode has a registration of its own, and none waits for
another: when one dies there is nothing to be set up. Peers are met through every supernode that
both sides are registered with, and each of these is a relay (`mesh.core.paths` chooses). The
*primary* is the one that answers fastest; a change must gain as much as one between paths. It is
what the user is shown, and nothing else hangs on it.
"""

from collections.abc import Callable, Iterator

from mesh.addresses import EdgeId, Endpoint
from mesh.constants import RTT_GAIN, RTT_GAIN_SHARE
from mesh.core.context import Context
from mesh.core.outbox import Via
from mesh.core.registration import Registration
from mesh.core.timers import Timer
from mesh.engine import SocketId, Transport

SPARE_DELAY = 0.25  # s; so that spares can be asked for the address that the first one leases


class Supernodes:
    """One registration per configured supernode.

    Attributes:
        primary: the best connected one; while none is, the last one that was.
        by_via: the connected ones by all ways that lead to them.
        on_doubt: told of a supernode that may be gone.
        on_loss: told of one that is gone.
        on_move: told of one that is reached by another way.
    """

    def __init__(self, context: Context, our_id: EdgeId) -> None:
        self._registrations = [
            Registration(number, supernode, context, our_id, self)
            for number, supernode in enumerate(context.config.supernodes)
        ]
        self.primary = self._registrations[0]
        self.by_via: dict[Via, Registration] = {}
        self.on_doubt: Callable[[Registration, float], None] = lambda _registration, _now: None
        self.on_loss: Callable[[Registration, float], None] = lambda _registration, _now: None
        self.on_move: Callable[[Registration, float], None] = lambda _registration, _now: None

    def __iter__(self) -> Iterator[Registration]:
        return iter(self._registrations)

    def are_serving(self) -> bool:
        """Whether we are registered with any of them."""
        return bool(self.by_via)

    def are_serving_by(self, fingerprint: str, but: Registration) -> bool:
        """Whether we are registered with this very supernode under another of its names."""
        return any(
            each is not but and each.is_connected and each.fingerprint == fingerprint
            for each in self._registrations
        )

    def at(self, via: Via) -> Registration | None:
        """Return the registration whose supernode is at this place, connected or not."""
        found = [each for each in self._registrations if via in each.contact.vias]
        return next(
            (each for each in found if each.contact.via == via), found[0] if found else None
        )

    def is_way_of_another(self, registration: Registration, via: Via) -> bool:
        """Whether a different supernode is reached by this way."""
        return any(
            each.contact.via == via and each.is_connected
            for each in self._registrations
            if each is not registration
        )

    @property
    def is_on_loopback(self) -> bool:
        """Whether a supernode is on this very machine, and so other edges perhaps too.

        Decided by where we send, not by what it says: a remote one must not aim us at ourselves.
        """
        return any(is_on_loopback(registration) for registration in self._registrations)

    def set_endpoints(self, number: int, endpoints: list[Endpoint], now: float) -> None:
        """Learn where a supernode is; it is registered with at once, or a moment after others."""
        registration = self._registrations[number]
        registration.set_endpoints(endpoints, now)
        if endpoints:
            delay = 0.0 if self.are_serving() else number * SPARE_DELAY
            registration.start_if_idle(now + delay, now)

    def set_stream(self, number: int, via: Via, transport: Transport, now: float) -> None:
        """Learn that the driver has opened a stream to a supernode."""
        self._registrations[number].set_stream(via, transport, now)

    def socket_closed(self, socket: SocketId, now: float) -> None:
        """Learn that a stream has ended."""
        for registration in self._registrations:
            registration.stream_ended(socket, now)

    def transport(self, via: Via) -> Transport:
        """Return what carries datagrams by this way, relayed or not."""
        registration = self.by_via.get(via.supernode)
        if registration is None or registration.contact.via != via.supernode:
            return Transport.UDP
        return registration.contact.transport

    def handle_timer(self, timer: Timer, number: object, now: float) -> None:
        """Pass a timer on to its registration."""
        for registration in self._registrations:
            if registration.number == number:
                match timer:
                    case Timer.REGISTER:
                        registration.handle_register_timer(now)
                    case Timer.SUPERNODE_HEARTBEAT:
                        registration.handle_heartbeat_timer(now)
                    case Timer.NAT_OBSERVATION:
                        registration.nat_observer.handle_timer(now)
                    case Timer.STREAM:
                        registration.handle_stream_timer(now)
                    case Timer.UDP_PROBE:
                        registration.handle_udp_probe_timer(now)
                    case _:
                        registration.handle_membership_timer(now)

    def changed(self, registration: Registration, now: float) -> None:
        """See to what hangs on a registration that was connected, lost, moved or measured."""
        was_connected = registration in self.by_via.values()
        self._note_ways()
        if was_connected and not registration.is_connected:
            self.on_loss(registration, now)
            self._try_other_names(registration, now)
        self._choose_primary()

    def _try_other_names(self, lost: Registration, now: float) -> None:
        for each in self._registrations:
            if each is not lost and each.fingerprint == lost.fingerprint:
                each.start_if_idle(now, now)

    def moved(self, registration: Registration, now: float) -> None:
        """See to what is sent through a supernode that is reached by another way now."""
        self._note_ways()
        self.on_move(registration, now)

    def _note_ways(self) -> None:
        connected = [each for each in self._registrations if each.is_connected]
        self.by_via = {via: each for each in connected for via in each.contact.vias}
        # Last, so that nobody takes the way that another one is reached by.
        self.by_via |= {
            each.contact.via: each for each in connected if each.contact.via is not None
        }

    def doubted(self, registration: Registration, now: float) -> None:
        """Look for a better one: this one has left a ping unanswered."""
        self._choose_primary()
        self.on_doubt(registration, now)

    def _choose_primary(self) -> None:
        for registration in self._registrations:
            if _is_better(registration, self.primary):
                self.primary = registration

    def leave(self, now: float) -> None:
        """Tell all supernodes that we go."""
        for registration in self._registrations:
            registration.leave(now)


def is_on_loopback(registration: Registration) -> bool:
    """Whether we reach a supernode without leaving this machine.

    A stream says nothing: its other end may be a proxy here, and the supernode anywhere.
    """
    via = registration.contact.via
    if registration.contact.transport is not Transport.UDP:
        return False
    return via is not None and (via.endpoint[0] == "::1" or via.endpoint[0].startswith("127."))


def _is_better(registration: Registration, primary: Registration) -> bool:
    if registration is primary or not registration.is_connected:
        return False
    if not primary.is_connected:
        return True
    new, old = registration.contact.liveness, primary.contact.liveness
    if new.is_shaky or old.is_shaky:
        return old.is_shaky and not new.is_shaky
    if new.rtt is None or old.rtt is None:
        return False
    return old.rtt - new.rtt > max(RTT_GAIN, RTT_GAIN_SHARE * old.rtt)
