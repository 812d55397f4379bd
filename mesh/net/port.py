"""What a driver moves batches through: UDP sockets, and streams that carry the same datagrams."""

from typing import Protocol

from mesh.engine import OutgoingDatagrams, ReceivedDatagrams, SocketId


class PortClosed(Exception):  # noqa: N818 - what happened, not an error: every stream ends one day
    """A port came to its end: nothing will arrive there and nothing can be sent."""


class Port(Protocol):
    """One socket or stream, known to engine and driver by a number; never blocks."""

    @property
    def socket_id(self) -> SocketId:
        """The number; unique among the ports of one driver."""
        ...

    async def wait_readable(self) -> None:
        """Wait until something, an error or the end is there to be read.

        Raises:
            trio.ClosedResourceError: `close` was called.
        """
        ...

    def receive_into(self, buffer: memoryview) -> ReceivedDatagrams | None:
        """Read one batch into ``buffer`` (64 KiB); None if there is no whole datagram.

        Raises:
            PortClosed: the other side or the network ended it.
            OSError: what the kernel reports of an earlier send; it goes on.
        """
        ...

    def send(self, batch: OutgoingDatagrams) -> None:
        """Send the datagrams of ``batch``, in order, or drop what does not fit.

        Raises:
            BlockingIOError: there was no room; the rest of the batch was not sent.
            OSError: it was refused; the rest of the batch was not sent.
        """
        ...

    def close(self) -> None:
        """Close it; harmless the second time."""
        ...
