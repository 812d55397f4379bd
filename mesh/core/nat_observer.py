"""Finds out the kind of our NAT with one supernode's observation ports; protocol section 10.7.

Theory of operation. Three destinations see our socket: the supernode's own port, and the
observation ports A and B. As long as nothing has been sent to B, an answer that A has it send gets
in only through a NAT that does not filter by port. B is asked itself only where the supernode and A
see different endpoints: a Linux router that rejects what comes in has taken the answer of B for its
own, and maps what its edge sends there to another port, as if it were a symmetric one.

    start ─▶ A, and "A, let B answer" ─answered by B, or not for 1 s─▶ alike ─▶ verdict
                                                                    └▶ else ask B ─▶ verdict

Whatever is unanswered is repeated a few times; where A or B never answer the verdict stays unknown.
"""

from collections.abc import Callable

from mesh.addresses import Endpoint
from mesh.core.context import Context
from mesh.core.nat_kind import NatFiltering, judge
from mesh.core.outbox import Via
from mesh.core.timers import Timer
from mesh.engine import SocketId, WellKnownSocket
from mesh.wire.messages import TOKEN_BYTES, Ping

ASK_INTERVAL = 0.35  # s; until an ask is repeated
FILTERING_ASKS = 3  # without an answer from B: it does not get in
MAX_ASKS = 6  # of one port that does not answer

SendPing = Callable[[Via, Ping], None]
"""Sends a ping under the session with the supernode, if there is one."""


class NatObserver:
    """One supernode's view of our NAT; its verdict goes to the `OurNat` of the context.

    Args:
        context: the engine's.
        number: of the supernode.
        send: how pings leave.
    """

    def __init__(self, context: Context, number: int, send: SendPing) -> None:
        self._context = context
        self._number = number
        self._send = send
        self._via: Via | None = None
        self._probes: tuple[int, ...] = ()
        self._seen_as: Endpoint | None = None
        self._seen: list[Endpoint] = []
        self._asked: list[Via] = []
        self._asks = 0
        self._filtering = NatFiltering.UNKNOWN
        self._tokens: dict[bytes, bool] = {}

    def registered(
        self, via: Via | None, probes: tuple[int, ...], seen_as: Endpoint, now: float
    ) -> None:
        """Find out, unless this is known; IPv6 and streams have nothing to be found out.

        Args:
            via: the supernode.
            probes: its observation ports.
            seen_as: how the supernode itself sees us.
            now: the time.
        """
        self._via = via
        self._probes = probes
        self.seen(seen_as, now)

    def moved(self, via: Via) -> None:
        """Learn that the supernode is reached by another way now: a stream, or UDP again."""
        self._via = via

    def seen(self, endpoint: Endpoint, now: float) -> None:
        """Find out anew, if the supernode sees us elsewhere than when we last found out."""
        via = self._via
        if endpoint == self._seen_as or via is None or len(self._probes) != 2:
            return
        self.stop()
        self._seen_as = endpoint
        if endpoint.is_ipv6 or not endpoint.port or via.socket != WellKnownSocket.UDP_IPV4:
            return
        self._seen = [endpoint]
        self._asked = [self.place(via.socket, port) for port in (0, 1)]
        self._asks = 0
        self._filtering = NatFiltering.UNKNOWN
        self.handle_timer(now)

    @property
    def has_ports(self) -> bool:
        """Whether the supernode has observation ports that our IPv4 socket reaches."""
        via = self._via
        is_udp = via is not None and via.socket == WellKnownSocket.UDP_IPV4
        return is_udp and len(self._probes) == 2

    def place(self, socket: SocketId, port: int) -> Via:
        """Return the way from one of our sockets to observation port 0 or 1."""
        host = self._via.endpoint.host if self._via is not None else ""
        return Via(socket, Endpoint(host, self._probes[port]))

    def stop(self) -> None:
        """Give up what is under way; the verdict stays."""
        self._asked = []
        self._tokens.clear()
        self._context.timers.cancel(Timer.NAT_OBSERVATION, self._number)

    def handle_timer(self, now: float) -> None:
        """Ask, or ask again."""
        if not self._asked:
            return
        is_first = len(self._asked) == 2
        if is_first and len(self._seen) == 2 and self._asks >= FILTERING_ASKS:
            self._filtering_known(NatFiltering.PORT, now)
            return
        if self._asks >= MAX_ASKS:
            self.stop()
            self._seen_as = (
                None  # the next sign of life from the supernode is a reason to try again
            )
            return
        self._asks += 1
        self._ping(other=False)
        if is_first:
            self._ping(other=True)
        self._context.timers.set(Timer.NAT_OBSERVATION, self._number, now + ASK_INTERVAL)

    def _ping(self, *, other: bool) -> None:
        token = self._context.entropy(TOKEN_BYTES)
        self._tokens[token] = other
        self._send(self._asked[0], Ping(token, other=other))

    def _filtering_known(self, filtering: NatFiltering, now: float) -> None:
        self._filtering = filtering
        if self._seen[0] == self._seen[1]:
            self._finish(now)
            return
        del self._asked[0]
        self._asks = 0
        self._tokens.clear()
        self.handle_timer(now)

    def receive_pong(self, token: bytes, via: Via, endpoint: Endpoint | None, now: float) -> bool:
        """Take in a pong of the supernode; whether it was the answer to an ask of ours."""
        other = self._tokens.pop(token, None)
        if other is None or endpoint is None:
            return other is not None
        is_first = len(self._asked) == 2
        if other:
            if via == self._asked[1]:
                self._see(endpoint)
                self._filtering_known(NatFiltering.ADDRESS, now)
        elif via == self._asked[0]:
            if is_first:
                self._see(endpoint)
            else:
                self._seen.append(endpoint)
                self._finish(now)
        return True

    def _see(self, endpoint: Endpoint) -> None:
        """Note how A sees us; the answer that B sends says that, too."""
        if len(self._seen) == 1:
            self._seen.append(endpoint)

    def _finish(self, now: float) -> None:
        self.stop()
        nat = self._context.our_nat
        nat.found(self._number, judge(nat.local_port, self._seen, self._filtering), now)
