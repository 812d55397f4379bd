"""The ways to one supernode: UDP to each endpoint, or a stream; docs/protocol.md section 19.

Theory of operation. UDP is what we want. Where it draws no answer a stream is asked for, and the
driver opens one, by whatever means; until it is not wanted any more it opens another when it ends.
A session moves between the two by roaming: whoever is pinged by a new way and answers is there.

    by UDP ──silence──▶ stream wanted ──opened, and it answers──▶ by stream
      ▲                      │                                       │
      ├──────UDP answers─────┘                                       │
      └────────────── a ping by UDP is answered ─────────────────────┘

While a stream is in use UDP is pinged now and then, ever more rarely.
"""

from typing import NamedTuple

from mesh import events
from mesh.addresses import Endpoint
from mesh.core.context import Context
from mesh.core.outbox import Via
from mesh.core.timers import Timer
from mesh.engine import SocketId, Transport, udp_socket_for

STREAM_PATIENCE = 1.5  # s without an answer by UDP before a stream is asked for
UDP_PROBE_INTERVAL_MIN = 2.0  # s between pings by UDP while a stream is in use
UDP_PROBE_INTERVAL_MAX = 60.0  # s
UDP_PROBE_GROWTH = 1.5  # per ping that brought no move
UDP_ASK_AGAIN = 1.0  # s after an answer by UDP that brought no move
UDP_PROVED = 60.0  # s by UDP, after which it counts as well as if it had never failed
MAX_PROBES = 8  # pings by other ways that may still be answered
PROBE_REPEATS = 3  # the first pong comes before the supernode has moved us, and one may be lost


class Probe(NamedTuple):
    """A ping under way that may move us: by which way, and how many may follow it."""

    via: Via
    repeats_left: int


class Ways:
    """The ways to one supernode; asks the driver for a stream, and for none.

    Attributes:
        stream: the stream, while there is one.
    """

    def __init__(self, number: int, context: Context) -> None:
        self.stream: Via | None = None
        self._number = number
        self._context = context
        self._endpoints: list[Endpoint] = []
        self._transport = Transport.TCP
        self._is_stream_wanted = False
        self._probes: dict[bytes, Probe] = {}
        self._probe_interval = UDP_PROBE_INTERVAL_MIN
        self._udp_since = 0.0

    # Where

    def set_endpoints(self, endpoints: list[Endpoint]) -> None:
        """Learn where the supernode's name leads to."""
        self._endpoints = list(endpoints)

    def set_stream(self, via: Via, transport: Transport) -> None:
        """Learn that a stream has been opened."""
        self.stream, self._transport = via, transport

    def stream_ended(self, socket: SocketId) -> Via | None:
        """Learn that a socket is gone; return the stream if it was that."""
        stream = self.stream
        if stream is None or stream.socket != socket:
            return None
        self.stream = None
        return stream

    def udp(self) -> list[Via]:
        """Return the ways by UDP: IPv6 and IPv4 in turn, IPv6 first (RFC 8305 section 4)."""
        families = [[e for e in self._endpoints if e.is_ipv6 == ipv6] for ipv6 in (True, False)]
        longest = max(map(len, families))
        ordered = [family[n] for n in range(longest) for family in families if n < len(family)]
        return [Via(udp_socket_for(endpoint), endpoint) for endpoint in ordered]

    def in_order(self, current: Via | None, attempts: int) -> list[Via]:
        """Return the ways that an attempt tries, one after the other.

        Args:
            current: the one in use, if any.
            attempts: how many have failed; each starts with another endpoint.
        """
        udp = self.udp()
        first = attempts % len(udp) if udp else 0
        ways = [*([self.stream] if self.stream else []), *udp[first:], *udp[:first]]
        ways.sort(key=lambda way: way != current)
        return ways

    def transport(self, via: Via | None) -> Transport:
        """Return what carries datagrams by ``via``."""
        return self._transport if via is not None and via == self.stream else Transport.UDP

    # Which

    def asked(self, now: float) -> None:
        """Note that an answer is waited for: a stream is wanted if none comes soon."""
        if not self._is_stream_wanted:
            at = now + STREAM_PATIENCE
            self._context.timers.set_no_later_than(Timer.STREAM, self._number, at)

    def answered(self, via: Via) -> None:
        """Note that the supernode has answered by this way, whatever it said."""
        if via != self.stream:
            self._context.timers.cancel(Timer.STREAM, self._number)

    def want_stream(self, now: float) -> None:
        """Ask for a stream: UDP draws no answer."""
        self._context.timers.cancel(Timer.STREAM, self._number)
        if not self._is_stream_wanted:
            if now - self._udp_since > UDP_PROVED:
                self._probe_interval = UDP_PROBE_INTERVAL_MIN
            self._is_stream_wanted = True
            self._context.events.append(events.StreamWanted(self._number))

    def use(self, via: Via, now: float) -> None:
        """Note by which way we are registered now."""
        timers = self._context.timers
        timers.cancel(Timer.STREAM, self._number)
        if via == self.stream:
            timers.set_no_later_than(Timer.UDP_PROBE, self._number, now + self._probe_interval)
            return
        timers.cancel(Timer.UDP_PROBE, self._number)
        if self._is_stream_wanted:
            self._udp_since = now
        self.want_no_stream()

    def want_no_stream(self) -> None:
        """Give up the stream: UDP answers, or nothing is wanted from this supernode."""
        self._context.timers.cancel(Timer.STREAM, self._number)
        if self._is_stream_wanted:
            self._is_stream_wanted = False
            self._context.events.append(events.StreamUnwanted(self._number))

    def probe_soon(self, now: float) -> None:
        """React to a change of networks: UDP may work here."""
        self._probe_interval = UDP_PROBE_INTERVAL_MIN
        if self._context.timers.is_set(Timer.UDP_PROBE, self._number):
            self._context.timers.set(Timer.UDP_PROBE, self._number, now)

    def udp_answered(self, now: float) -> None:
        """Learn that UDP works, though the supernode has not followed us there: keep at it."""
        self._probe_interval = UDP_PROBE_INTERVAL_MIN
        self._context.timers.set_no_later_than(Timer.UDP_PROBE, self._number, now + UDP_ASK_AGAIN)

    def probe_due(self, now: float) -> list[Via]:
        """Return the ways by UDP to ping now, while a stream is in use."""
        self._probe_interval = min(UDP_PROBE_GROWTH * self._probe_interval, UDP_PROBE_INTERVAL_MAX)
        at = now + self._context.jitter(self._probe_interval, 0.2)
        self._context.timers.set(Timer.UDP_PROBE, self._number, at)
        return self.udp()

    # Moving

    def probed(self, token: bytes, via: Via, repeats_left: int = PROBE_REPEATS) -> None:
        """Note that a ping left by another way than the one in use."""
        self._probes[token] = Probe(via, repeats_left)
        while len(self._probes) > MAX_PROBES:
            del self._probes[next(iter(self._probes))]

    def take_probe(self, token: bytes, via: Via) -> Probe | None:
        """Take in a pong; return the probe that it answers, if it came by the same way."""
        probe = self._probes.get(token)
        if probe is None or probe.via != via:
            return None
        return self._probes.pop(token)
