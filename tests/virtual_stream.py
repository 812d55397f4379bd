"""Streams in the virtual world: what is sent arrives, in order and once, or the stream ends."""

import itertools
import random
from collections.abc import Callable

from mesh.addresses import Endpoint
from mesh.engine import Transport
from supernode.engine import SupernodeEngine
from tests.virtual_clock import VirtualClock
from tests.virtual_driver import VirtualDriver
from tests.virtual_network import Host, LinkConditions

FIRST_SOCKET = 1000
RETRANSMIT_TIMEOUT = 0.2  # s; Linux's least, doubled each time
GIVE_UP_AFTER = 15.0  # s without getting something across
RETRY_INTERVAL = 1.0  # s; what a driver waits before it tries to open one again

_sockets = itertools.count(FIRST_SOCKET)


class Wire:
    """What TCP makes of the links of two hosts: no loss, but delay."""

    def __init__(self, hosts: tuple[Host, Host], dice: random.Random) -> None:
        self._hosts = hosts
        self._dice = dice

    def transit(self) -> float | None:
        """Return the seconds that a segment takes across, lost ones sent again; None if never."""
        delay, timeout = sum(link.latency for link in self._links()), RETRANSMIT_TIMEOUT
        while not self._is_open() or any(self._dice.random() < each.loss for each in self._links()):
            delay += timeout
            timeout *= 2
            if delay > GIVE_UP_AFTER:
                return None
        return delay

    def _links(self) -> list[LinkConditions]:
        return [host.ports[0].conditions for host in self._hosts if host.ports]

    def _is_open(self) -> bool:
        return all(host.ports and not host.blocks_tcp for host in self._hosts)


class VirtualStream:
    """A stream from an edge to a supernode.

    Attributes:
        is_open: until either side, or the network, ends it.
        sockets: by which the edge and the supernode know it.
    """

    def __init__(
        self, clock: VirtualClock, wire: Wire, ends: tuple[VirtualDriver, VirtualDriver]
    ) -> None:
        self.is_open = True
        self.sockets = (next(_sockets), next(_sockets))
        self._clock = clock
        self._wire = wire
        self._ends = ends
        self._arrivals = [0.0, 0.0]
        edge, supernode = ends
        # Seen from the supernode an edge on a stream has no port (section 19).
        self._seen_as = (
            Endpoint(edge.host.addresses()[0], 0),
            Endpoint(supernode.host.addresses()[0], supernode.udp_port),
        )
        for number, end in enumerate(ends):
            end.add_stream(self.sockets[number], self._sender(1 - number))
        engine = supernode.engine
        assert isinstance(engine, SupernodeEngine)
        engine.stream_opened(self.sockets[1], Transport.TCP)

    @property
    def endpoint(self) -> Endpoint:
        """The supernode's end."""
        return self._seen_as[1]

    def end(self) -> None:
        """End it: both sides learn of it."""
        if self.is_open:
            self.is_open = False
            for socket, driver in zip(self.sockets, self._ends, strict=True):
                self._clock.after(0.0, self._closer(driver, socket))

    def _sender(self, receiver: int) -> Callable[[bytes], None]:
        def send(datagram: bytes) -> None:
            transit = self._wire.transit()
            if transit is None:
                self._clock.after(GIVE_UP_AFTER, self.end)
                return
            arrival = max(self._clock.now + transit, self._arrivals[receiver])
            self._arrivals[receiver] = arrival
            self._clock.at(arrival, lambda: self._deliver(receiver, datagram))

        return send

    def _deliver(self, receiver: int, datagram: bytes) -> None:
        if self.is_open:
            source = self._seen_as[1 - receiver]
            self._ends[receiver].receive_from_stream(self.sockets[receiver], source, datagram)

    @staticmethod
    def _closer(driver: VirtualDriver, socket: int) -> Callable[[], None]:
        return lambda: driver.close_stream(socket)


class StreamKeeper:
    """What opens streams for an edge while its engine wants them, as the program does.

    Attributes:
        streams: those that are open, by the number of the supernode.
        opened: how many there have been.
    """

    def __init__(
        self,
        clock: VirtualClock,
        dice: random.Random,
        driver: VirtualDriver,
        find: Callable[[int], VirtualDriver | None],
        tell: Callable[[int, VirtualStream], None],
    ) -> None:
        self.streams: dict[int, VirtualStream] = {}
        self.opened = 0
        self._clock = clock
        self._dice = dice
        self._driver = driver
        self._find = find
        self._tell = tell
        self._wanted: set[int] = set()

    def want(self, number: int) -> None:
        """Open a stream, and another one whenever it ends."""
        if number not in self._wanted:
            self._wanted.add(number)
            self._keep(number)

    def unwant(self, number: int) -> None:
        """Close the stream, if one was opened."""
        self._wanted.discard(number)
        stream = self.streams.pop(number, None)
        if stream is not None:
            stream.end()

    def _keep(self, number: int) -> None:
        if number not in self._wanted or not self._driver.is_running:
            return
        stream = self.streams.get(number)
        delay = 0.0
        if stream is None or not stream.is_open:
            delay = self._open(number)
        self._clock.after(RETRY_INTERVAL + delay, lambda: self._keep(number))

    def _open(self, number: int) -> float:
        """Try to open a stream; return the seconds that the attempt takes."""
        other = self._find(number)
        if other is None:
            return 0.0
        wire = Wire((self._driver.host, other.host), self._dice)
        there, back = wire.transit(), wire.transit()
        if there is None or back is None:
            return GIVE_UP_AFTER
        self._clock.after(there + back, lambda: self._opened(number, wire, other))
        return there + back

    def _opened(self, number: int, wire: Wire, other: VirtualDriver) -> None:
        ours = self._driver
        if number in self._wanted and ours.is_running and other.is_running:
            self.opened += 1
            stream = self.streams[number] = VirtualStream(self._clock, wire, (ours, other))
            self._tell(number, stream)
