"""UDP sockets as ports of an engine: one batch per call, nothing of the engine inside."""

from types import TracebackType

from mesh.addresses import Endpoint
from mesh.engine import OutgoingDatagrams, ReceivedDatagrams, SocketId


class UdpPort:
    """One bound, non-blocking UDP socket; made by `open_udp`.

    Attributes:
        socket_id: the number that engine and driver know it by.
        local: the bound address and port; the address is ``0.0.0.0`` or ``::`` if unspecified.
    """

    socket_id: SocketId
    local: Endpoint

    def fileno(self) -> int:
        """Return the file descriptor, -1 after `close`."""
        raise NotImplementedError

    async def wait_readable(self) -> None:
        """Wait until a datagram or an error is there to be read."""
        raise NotImplementedError

    def receive_into(self, buffer: memoryview) -> ReceivedDatagrams | None:
        """Read one batch into ``buffer`` (64 KiB); None if nothing is there.

        Raises:
            OSError: what the kernel reports of an earlier send (ECONNREFUSED...); the socket goes on.
        """
        raise NotImplementedError

    def send(self, batch: OutgoingDatagrams) -> None:
        """Send the datagrams of ``batch``, in order.

        Raises:
            BlockingIOError: the socket's buffer is full; the rest of the batch was not sent.
            OSError: the kernel refuses; the rest of the batch was not sent.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the socket; harmless the second time."""
        raise NotImplementedError

    def __enter__(self) -> "UdpPort":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_udp(
    family: int, host: str = "", port: int = 0, *, socket_id: SocketId | None = None
) -> UdpPort:
    """Open and bind one socket.

    Args:
        family: ``socket.AF_INET`` or ``socket.AF_INET6`` (IPv6 only, never mapped IPv4).
        host: a numeric address, ``fe80::1%2`` or ``fe80::1%eth0`` for link-local ones; empty for any.
        port: 0 for any.
        socket_id: by default the `WellKnownSocket` of the family.

    Raises:
        ConfigError: the port is taken or not ours to take, or the address is none of this machine's.
        OSError: the machine does not have the address family.
    """
    raise NotImplementedError


def open_udp_pair(port: int = 0) -> dict[SocketId, UdpPort]:
    """Open the two well-known sockets on any address, on one port number if it can be had.

    With ``port`` 0 the IPv6 socket tries the port the IPv4 one got, then any. A family that the
    machine does not have is left out.

    Raises:
        ConfigError: ``port`` is taken, or the machine has neither family.
    """
    raise NotImplementedError
