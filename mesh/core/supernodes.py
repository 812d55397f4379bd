"""Which of the configured supernodes an edge is registered with."""

from mesh.addresses import EdgeId, Endpoint
from mesh.core.context import Context
from mesh.core.registration import ATTEMPTS_PER_SUPERNODE, Registration
from mesh.core.timers import Timer


class Supernodes:
    """One registration per configured supernode, one of them in use at a time.

    Attributes:
        current: the registration in use, connected or trying to be.
    """

    def __init__(self, context: Context, our_id: EdgeId) -> None:
        self._registrations = [
            Registration(number, supernode, context, our_id)
            for number, supernode in enumerate(context.config.supernodes)
        ]
        self.current = self._registrations[0]

    @property
    def is_on_loopback(self) -> bool:
        """Whether the supernode is on this very machine, and so other edges perhaps too.

        Decided by where we send, not by what it says: a remote one must not aim us at ourselves.
        """
        via = self.current.via
        return via is not None and (via.endpoint[0] == "::1" or via.endpoint[0].startswith("127."))

    def set_endpoints(self, number: int, endpoints: list[Endpoint], now: float) -> None:
        """Learn where a supernode is; the one in use is registered with at once."""
        registration = self._registrations[number]
        registration.set_endpoints(endpoints)
        if registration is self.current and endpoints:
            registration.start_if_idle(now)

    def handle_timer(self, timer: Timer, number: object, now: float) -> None:
        """Pass a timer on to its registration, or to the next one after too many failures."""
        registration = self.current
        if number != registration.number:
            return
        match timer:
            case Timer.REGISTER:
                if registration.failed_attempts >= ATTEMPTS_PER_SUPERNODE:
                    self._choose_next()
                self.current.handle_register_timer(now)
            case Timer.SUPERNODE_HEARTBEAT:
                registration.handle_heartbeat_timer(now)
            case _:
                registration.handle_membership_timer(now)

    def _choose_next(self) -> None:
        if len(self._registrations) > 1:
            self.current.suspend()
            following = (self.current.number + 1) % len(self._registrations)
            self.current = self._registrations[following]

    def leave(self) -> None:
        """Tell all supernodes that we go."""
        for registration in self._registrations:
            registration.leave()
