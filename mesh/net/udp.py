"""UDP sockets as ports of an engine: one batch per call, nothing of the engine inside."""

import contextlib
import errno
import socket
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self, TypeAlias

import trio

from mesh.addresses import Endpoint
from mesh.constants import BASE_DATAGRAM_BYTES
from mesh.engine import Buffer, OutgoingDatagrams, ReceivedDatagrams, SocketId, WellKnownSocket
from mesh.errors import ConfigError
from mesh.net.unreachable import Unreachable, queue_errors, take_errors_untrusted

RECEIVE_BUFFER_BYTES = 65536
"""Room for the largest datagram, so that none is ever truncated."""

_SOCKET_BUFFER_BYTES: Final = 4 * 1024 * 1024
_ADDRESSES_CACHED: Final = 4096

# Linux's numbers; Python's socket module does not name them (asm-generic/socket.h, linux/in.h,
# linux/in6.h).
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_DONT: Final = 0
_PMTUDISC_PROBE: Final = 3  # don't fragment, whatever ICMP has said of the path before
_SOL_UDP: Final = 17  # linux/udp.h, from here on
_UDP_SEGMENT: Final = 103
_UDP_GRO: Final = 104

_SENDS_FAILED_BY_ICMP: Final = 3  # in a row, within the microseconds of one send

_GSO_MAX_DATAGRAMS: Final = 64  # UDP_MAX_SEGMENTS of kernels before 6.9
_GSO_MAX_BYTES: Final = 65_507  # what one UDP send takes
_GSO_SIZE: Final = struct.Struct("=H")
_GRO_SIZE: Final = struct.Struct("=i")
_GRO_SPACE: Final = socket.CMSG_SPACE(_GRO_SIZE.size)
# EMSGSIZE, and EINVAL before Linux 6.14: more than the interface's MTU; EINVAL: some driver; EIO:
# the device cannot complete checksums.
_GSO_REFUSALS: Final = frozenset({errno.EIO, errno.EINVAL, errno.EMSGSIZE})

_MTU_DISCOVERY: Final = {
    socket.AF_INET: (socket.IPPROTO_IP, _IP_MTU_DISCOVER),
    socket.AF_INET6: (socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER),
}

_SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
_AncillaryData: TypeAlias = list[tuple[int, int, bytes]]


class UdpPort:
    """One bound, non-blocking UDP socket; made by `open_udp`.

    Attributes:
        socket_id: the number that engine and driver know it by.
        local: the bound address and port; the address is ``0.0.0.0`` or ``::`` if unspecified.
        has_gso: whether batches leave in one system call (UDP_SEGMENT); false from the first
            refusal on that is not about the size of the datagrams.
        has_gro: whether they arrive in one (UDP_GRO).
        hears_icmp: whether `hear_icmp` was called.
        has_errors: whether a call has failed by what `take_unreachable` has not returned yet.
    """

    def __init__(self, bound: socket.socket, socket_id: SocketId, *, offload: bool = False) -> None:
        """Wrap a bound, non-blocking datagram socket and own it from now on."""
        self.has_gso = offload and _has_gso(bound)
        self.has_gro = offload and _turn_gro_on(bound)
        self.hears_icmp = self.has_errors = False
        self.socket_id = socket_id
        self._socket = bound
        self._is_ipv6 = bound.family == socket.AF_INET6
        self._unsegmentable_bytes = _GSO_MAX_BYTES  # datagrams of so many are more than the MTU
        self._endpoints: dict[_SocketAddress, Endpoint] = {}
        self._addresses: dict[Endpoint, _SocketAddress] = {}
        self.local = self._endpoint_of(bound.getsockname())

    def __repr__(self) -> str:
        return f"<UdpPort {self.socket_id} on {self.local}>"

    def fileno(self) -> int:
        """Return the file descriptor, -1 after `close`."""
        return self._socket.fileno()

    async def wait_readable(self) -> None:
        """Wait until a datagram or an error is there to be read."""
        await trio.lowlevel.wait_readable(self._socket)

    def receive_into(self, buffer: memoryview) -> ReceivedDatagrams | None:
        """Read one batch into ``buffer`` (64 KiB); None if nothing is there.

        A datagram of zero bytes comes back as a batch with an empty buffer.

        Raises:
            OSError: what the kernel reports of an earlier send (ECONNREFUSED...); it goes on.
        """
        # Hot path.
        try:
            if self.has_gro:
                length, ancillary, _, address = self._socket.recvmsg_into((buffer,), _GRO_SPACE)
            else:
                length, address = self._socket.recvfrom_into(buffer)
                ancillary = []
        except BlockingIOError:
            return None
        except OSError:
            if self.hears_icmp:
                self.has_errors = True
                return None  # it is in the queue as well
            raise
        segment_bytes = length
        if ancillary and ancillary[0][1] == _UDP_GRO:  # nothing else was asked for
            (segment_bytes,) = _GRO_SIZE.unpack_from(ancillary[0][2])
        # The same object for the same source: making an Endpoint costs four times the look-up.
        source = self._endpoints.get(address) or self._endpoint_of(address)
        return ReceivedDatagrams(buffer[:length], segment_bytes, source, self.socket_id)

    def hear_icmp(self) -> None:
        """Collect what ICMP says of earlier sends, for `take_unreachable`.

        The socket is readable from then on while there is some, though there may be no datagram.
        """
        queue_errors(self._socket)
        self.hears_icmp = True

    def take_unreachable(self) -> list[Unreachable]:
        """Return what ICMP says of earlier sends; nobody has authenticated it."""
        self.has_errors = False
        return take_errors_untrusted(self._socket)

    def send(self, batch: OutgoingDatagrams) -> None:
        """Send the datagrams of ``batch``, in order.

        Raises:
            BlockingIOError: the socket's buffer is full; the rest of the batch was not sent.
            OSError: the kernel refuses; the rest of the batch was not sent.
        """
        # Hot path.
        try:
            self._send(batch)
        except BlockingIOError:
            raise
        except OSError:
            if not self.hears_icmp:
                raise
            self.has_errors = True
            self._send_again(batch)

    def _send_again(self, batch: OutgoingDatagrams) -> None:
        """Send what the kernel has refused, a few times: each ICMP error fails one send.

        Whatever its destination; who floods us with forged ones must not make good ways look bad.

        Raises:
            OSError: it was no ICMP.
        """
        for _ in range(_SENDS_FAILED_BY_ICMP):
            with contextlib.suppress(OSError):
                return self._send(batch)
        return self._send(batch)

    def _send(self, batch: OutgoingDatagrams) -> None:
        # Hot path.
        buffers, segment_bytes, destination, _, ttl, dont_fragment = batch
        address: _SocketAddress = destination
        if self._is_ipv6:
            address = self._addresses.get(destination) or self._address_of(destination)
        ancillary = self._hop_limit(ttl) if ttl else []
        total = len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
        if dont_fragment:
            self._send_whole(batch, ancillary, address)
        elif total <= segment_bytes:
            self._socket.sendmsg(buffers, ancillary, 0, address)
        elif not self.has_gso or not self._send_at_once(batch, total, ancillary, address):
            for datagram in _cut(buffers, segment_bytes):
                self._socket.sendmsg([datagram], ancillary, 0, address)

    def _send_at_once(
        self,
        batch: OutgoingDatagrams,
        total: int,
        ancillary: _AncillaryData,
        address: _SocketAddress,
    ) -> bool:
        """Send a batch with UDP_SEGMENT; return whether the kernel took it.

        The kernel cuts nothing that it would have to fragment as well, so the refusal of large
        datagrams may be about the interface, which other datagrams do not take or which grows
        again. Any other one turns UDP_SEGMENT off for this socket, for ever.

        Raises:
            OSError: a refusal that is not about segmentation.
        """
        # Hot path.
        size = batch.segment_bytes
        if (
            total > _GSO_MAX_BYTES
            or total > size * _GSO_MAX_DATAGRAMS
            or size >= self._unsegmentable_bytes
        ):
            return False
        ancillary = [*ancillary, (_SOL_UDP, _UDP_SEGMENT, _GSO_SIZE.pack(size))]
        try:
            try:
                self._socket.sendmsg(batch.buffers, ancillary, 0, address)
            except OSError as error:
                if not self.hears_icmp or error.errno != errno.EMSGSIZE:
                    raise
                # Of IPv6 the kernel reports "packet too big", true or forged, like this.
                self._socket.sendmsg(batch.buffers, ancillary, 0, address)
        except OSError as error:
            if error.errno not in _GSO_REFUSALS:
                raise
            is_old = error.errno == errno.EINVAL and size > BASE_DATAGRAM_BYTES
            if error.errno == errno.EMSGSIZE or is_old:
                self._unsegmentable_bytes = size
            else:
                self.has_gso = False
            return False
        return True

    def _send_whole(
        self, batch: OutgoingDatagrams, ancillary: _AncillaryData, address: _SocketAddress
    ) -> None:
        """Send datagrams that nobody may fragment; all others stay free of that.

        Raises:
            OSError: EMSGSIZE if our own interface does not take them in one piece.
        """
        size = batch.segment_bytes
        level, option = _MTU_DISCOVERY[self._socket.family]
        self._socket.setsockopt(level, option, _PMTUDISC_PROBE)
        try:
            for datagram in _cut(batch.buffers, size):
                self._socket.sendmsg([datagram], ancillary, 0, address)
        finally:
            self._socket.setsockopt(level, option, _PMTUDISC_DONT)
        if size >= self._unsegmentable_bytes:  # the interface has grown
            self._unsegmentable_bytes = size + 1

    def close(self) -> None:
        """Close the socket; harmless the second time."""
        if self._socket.fileno() >= 0:
            with contextlib.suppress(RuntimeError):  # outside trio.run nobody can be waiting
                trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _endpoint_of(self, address: _SocketAddress) -> Endpoint:
        """Turn the socket layer's address into an Endpoint, ``%index`` for link-local ones."""
        if len(self._endpoints) >= _ADDRESSES_CACHED:  # a flood of forged sources ends here
            self._endpoints.clear()
        host = address[0]
        if len(address) == 4 and address[3]:
            host = f"{host.partition('%')[0]}%{address[3]}"
        endpoint = self._endpoints[address] = Endpoint(host, address[1])
        return endpoint

    def _address_of(self, endpoint: Endpoint) -> _SocketAddress:
        """Turn an Endpoint into the socket layer's IPv6 address."""
        if len(self._addresses) >= _ADDRESSES_CACHED:
            self._addresses.clear()
        host, _, zone = endpoint.host.partition("%")
        address = self._addresses[endpoint] = (host, endpoint.port, 0, int(zone or 0))
        return address

    def _hop_limit(self, ttl: int) -> _AncillaryData:
        if self._is_ipv6:
            return [(socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, struct.pack("=i", ttl))]
        return [(socket.IPPROTO_IP, socket.IP_TTL, struct.pack("=i", ttl))]


def open_udp(
    family: int,
    host: str = "",
    port: int = 0,
    *,
    socket_id: SocketId | None = None,
    where: str = "--port",
    offload: bool = True,
) -> UdpPort:
    """Open and bind one socket.

    Args:
        family: ``socket.AF_INET`` or ``socket.AF_INET6`` (IPv6 only, never mapped IPv4).
        host: a numeric address, ``fe80::1%2`` or ``fe80::1%eth0`` for link-local ones; empty for
            any.
        port: 0 for any.
        socket_id: by default the `WellKnownSocket` of the family.
        where: the option that an error names.
        offload: whether to use UDP_SEGMENT and UDP_GRO where the kernel has them.

    Raises:
        ConfigError: the port is taken or not ours to take, or the address is none of this
            machine's.
        OSError: the machine does not have the address family (EAFNOSUPPORT).
    """
    if socket_id is None:
        is_ipv6 = family == socket.AF_INET6
        socket_id = WellKnownSocket.UDP_IPV6 if is_ipv6 else WellKnownSocket.UDP_IPV4
    unbound = socket.socket(family, socket.SOCK_DGRAM)
    try:
        _prepare(unbound)
        _bind(unbound, host, port, where)
    except BaseException:
        unbound.close()
        raise
    return UdpPort(unbound, socket_id, offload=offload)


def open_udp_pair(
    port: int = 0, *, where: str = "--port", offload: bool = True
) -> dict[SocketId, UdpPort]:
    """Open the two well-known sockets on any address, on one port number if it can be had.

    With ``port`` 0 the IPv6 socket tries the port the IPv4 one got, then any. A family that the
    machine does not have is left out.

    Args:
        port: 0 for any.
        where: what to name in an error.
        offload: whether to use UDP_SEGMENT and UDP_GRO where the kernel has them.

    Raises:
        ConfigError: ``port`` is taken, or the machine has neither family.
    """
    pair: dict[SocketId, UdpPort] = {}
    try:
        for family in (socket.AF_INET, socket.AF_INET6):
            wanted = port or next((other.local.port for other in pair.values()), 0)
            opened = _open_if_supported(family, wanted, not port, where, offload)
            if opened is not None:
                pair[opened.socket_id] = opened
    except BaseException:
        for opened in pair.values():
            opened.close()
        raise
    if not pair:
        raise ConfigError(where, "", "this machine has neither IPv4 nor IPv6")
    return pair


def _open_if_supported(
    family: int,
    port: int,
    is_wish: bool,  # noqa: FBT001
    where: str,
    offload: bool,  # noqa: FBT001
) -> UdpPort | None:
    """Open on ``port``, or if that is only a wish on any; None without the address family."""
    try:
        try:
            return open_udp(family, "", port, where=where, offload=offload)
        except ConfigError:
            if not is_wish or not port:
                raise
            return open_udp(family, "", 0, where=where, offload=offload)
    except OSError as error:
        if error.errno not in {errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT}:
            raise
        return None


def _prepare(unbound: socket.socket) -> None:
    unbound.setblocking(False)
    for forced, polite in (
        (_SO_RCVBUFFORCE, socket.SO_RCVBUF),
        (_SO_SNDBUFFORCE, socket.SO_SNDBUF),
    ):
        try:  # above net.core.*mem_max, which root may exceed
            unbound.setsockopt(socket.SOL_SOCKET, forced, _SOCKET_BUFFER_BYTES)
        except PermissionError:
            unbound.setsockopt(socket.SOL_SOCKET, polite, _SOCKET_BUFFER_BYTES)
    # Path MTU discovery by ICMP is off: routers may fragment, and nobody's forged "fragmentation
    # needed" shrinks what we send. How large a datagram may be is found out by probes.
    if unbound.family == socket.AF_INET6:
        unbound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    level, option = _MTU_DISCOVERY[unbound.family]
    unbound.setsockopt(level, option, _PMTUDISC_DONT)


def _has_gso(unbound: socket.socket) -> bool:
    """Whether the kernel knows UDP_SEGMENT (4.18 and above)."""
    try:
        unbound.getsockopt(_SOL_UDP, _UDP_SEGMENT)
    except OSError:
        return False
    return True


def _turn_gro_on(unbound: socket.socket) -> bool:
    """Whether the kernel knows UDP_GRO (5.0 and above); it is on then."""
    try:
        unbound.setsockopt(_SOL_UDP, _UDP_GRO, 1)
    except OSError:
        return False
    return True


def _bind(unbound: socket.socket, host: str, port: int, where: str) -> None:
    place = f"{host or 'any address'}, UDP port {port}"
    try:
        [(_, _, _, _, address), *_] = socket.getaddrinfo(
            host or None,
            port,
            unbound.family,
            socket.SOCK_DGRAM,
            flags=socket.AI_PASSIVE | socket.AI_NUMERICHOST,
        )
        unbound.bind(address)
    except socket.gaierror as error:
        raise ConfigError(where, "", f"{host!r} is not a numeric address") from error
    except OSError as error:
        match error.errno:
            case errno.EADDRINUSE:
                problem = "it is taken by another program; choose another port"
            case errno.EACCES:
                problem = "we may not use it; choose a port of 1024 or above"
            case errno.EADDRNOTAVAIL | errno.ENODEV | errno.EINVAL:
                problem = "it is not an address of this machine"
            case _:
                raise
        raise ConfigError(where, "", f"{place}: {problem}") from error


def _cut(buffers: Sequence[Buffer], segment_bytes: int) -> list[memoryview]:
    joined = memoryview(b"".join(buffers))
    return [joined[start : start + segment_bytes] for start in range(0, len(joined), segment_bytes)]
