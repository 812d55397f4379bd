"""The contract between an engine and the driver that moves bytes for it.

An engine is told batches of bytes and the time; it answers with batches of bytes, a deadline and
events. It opens no socket, reads no clock, rolls no dice and writes no log: same inputs, same
outputs. What crosses this border is always a batch, a batch of one included, because the cost that
counts in Python is per call.

A driver calls one input method at a time, then drains the outputs in this order:
``events_to_report``, ``datagrams_to_send``, ``frames_to_write``. Only after
``receive_frames`` it may call that again first, a bounded number of times: what an engine makes of
a frame is a copy, and small frames for one peer leave together. Buffers are lent: what a driver
hands in may be reused once the outputs of that call have been drained and sent (so that a relay
forwards a batch without copying it), and what an engine hands out is valid until the driver's next
call into it. Whoever keeps bytes for longer copies them.
"""

import enum
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from mesh.addresses import Endpoint
from mesh.events import Event

Buffer: TypeAlias = bytes | bytearray | memoryview

Entropy: TypeAlias = Callable[[int], bytes]
"""``os.urandom`` in life, a seeded generator in tests."""

SocketId: TypeAlias = int
"""Names a socket or stream of the driver; the driver hands out the numbers."""


class WellKnownSocket(enum.IntEnum):
    """The sockets that every driver has (when the machine has the family)."""

    UDP_IPV4 = 0
    UDP_IPV6 = 1


class Transport(enum.StrEnum):
    """What carries datagrams between an edge and a supernode: the ``transport`` of the JSON."""

    UDP = "udp"
    TCP = "tcp"
    WEBSOCKET = "ws"


def udp_socket_for(endpoint: Endpoint) -> SocketId:
    """Return the well-known socket whose family reaches ``endpoint``."""
    return WellKnownSocket.UDP_IPV6 if ":" in endpoint[0] else WellKnownSocket.UDP_IPV4


class ReceivedDatagrams(NamedTuple):
    """Datagrams that arrived together from one source on one socket.

    Attributes:
        buffer: the datagrams one behind the other (as UDP_GRO delivers them); not authenticated.
        segment_bytes: the length of each; the last one may be shorter.
        source: where they came from, with the meaning of the address on that socket.
        socket: what they arrived on.
    """

    buffer: Buffer
    segment_bytes: int
    source: Endpoint
    socket: SocketId


class OutgoingDatagrams(NamedTuple):
    """Equal-sized datagrams for one endpoint, ready for one ``sendmsg`` with UDP_SEGMENT.

    Attributes:
        buffers: an iovec; its pieces joined are the datagrams one behind the other.
        segment_bytes: the length of each; the last one may be shorter. A driver without
            UDP_SEGMENT cuts at this length.
        destination: where to.
        socket: what to send on.
        ttl: a hop limit for these datagrams only, or 0 for the socket's own.
        dont_fragment: whether each has to cross in one piece or not at all: probes of the path's
            size. Streams have no packets, and ignore it.
    """

    buffers: Sequence[Buffer]
    segment_bytes: int
    destination: Endpoint
    socket: SocketId
    ttl: int = 0
    dont_fragment: bool = False


FrameIovec: TypeAlias = Sequence[Buffer]
"""One write to the TAP: a virtio-net header of 10 bytes and the frame, in any number of pieces."""


class Engine(Protocol):
    """What an edge and a supernode have in common.

    No method raises for anything a network can send. ``now`` is a monotonic clock in seconds and
    never runs backwards.
    """

    def receive_datagrams(self, batch: ReceivedDatagrams, now: float) -> None:
        """Take in what a socket delivered."""
        ...

    def handle_timers(self, now: float) -> None:
        """Do what is due; harmless when nothing is."""
        ...

    def next_timer_at(self) -> float:
        """Return the moment of the next deadline, or ``math.inf``."""
        ...

    def datagrams_to_send(self) -> list[OutgoingDatagrams]:
        """Return, and forget, what is to be sent."""
        ...

    def events_to_report(self) -> list[Event]:
        """Return, and forget, what happened since the last call."""
        ...

    def receive_send_error(
        self, socket: SocketId, destination: Endpoint, errno: int, now: float
    ) -> None:
        """Learn that the kernel refused a send with ``errno``."""
        ...

    def receive_too_large(
        self, socket: SocketId, destination: Endpoint, datagram_bytes: int, now: float
    ) -> None:
        """Learn that a datagram sent with ``dont_fragment`` is too large for our own interface."""
        ...

    def socket_closed(self, socket: SocketId, now: float) -> None:
        """Learn that a stream has ended (or a socket is gone): nothing can be sent there."""
        ...

    def stop(self, now: float) -> None:
        """Say goodbye to everybody; drain the outputs once more after this."""
        ...


class FrameEngine(Engine, Protocol):
    """An engine with a TAP."""

    def receive_frames(self, read: Buffer, now: float) -> None:
        """Take in one TAP read: a virtio-net header of 10 bytes and a frame or super-frame.

        A buffer that can be written is written over: headers of segments are made in it.
        """
        ...

    def receive_burst(self, reads: Sequence[memoryview], now: float) -> None:
        """Take in TAP reads that came together: as `receive_frames` for each, sooner done.

        They can be written, and are written over.
        """
        ...

    def forward_frame(self, read: memoryview, now: float) -> OutgoingDatagrams | None:
        """Take in a lone small frame by a short way, and return what is to be sent at once.

        None: there is none, nothing was done, and `receive_frames` takes it. To be called only
        while no output waits. What is returned is lent until the next call.

        Args:
            read: one TAP read, which can be written, and is written over if it is taken.
            now: the time.
        """
        ...

    def deliver_datagram(self, batch: ReceivedDatagrams, now: float) -> FrameIovec | None:
        """Take in a lone small datagram by a short way, and return the frame to be written at once.

        An empty one: it held something else, and all outputs are to be taken. None: there is no
        short way, nothing was done, and `receive_datagrams` takes it. As `forward_frame` otherwise.
        """
        ...

    def receive_unreachable(
        self, socket: SocketId, destination: Endpoint, quoted: bytes, now: float
    ) -> None:
        """Learn that a router or host sent ICMP: a datagram for ``destination`` was not delivered.

        ``quoted`` is the beginning of its payload, or all of it. Anybody can forge this.
        """
        ...

    def receive_unsent(
        self, socket: SocketId, destination: Endpoint, datagrams: list[bytes], now: float
    ) -> None:
        """Take back the datagrams of a refused send, right after `receive_send_error`."""
        ...

    def frames_to_write(self) -> list[FrameIovec]:
        """Return, and forget, what is to be written to the TAP."""
        ...
