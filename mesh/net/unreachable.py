"""What routers say of datagrams that they did not forward: ICMP by way of a socket's error queue.

Linux's numbers, of linux/errqueue.h, linux/in.h and linux/in6.h. Anybody can forge ICMP: whoever
reads this must not take it for more than a rumour. What a queued error quotes of the datagram is
its UDP payload, whole if the router quotes enough (RFC 1812 section 4.3.2.3: up to 576 bytes).
"""

import socket
import struct
from typing import Final, NamedTuple

from mesh.addresses import Endpoint

_IP_RECVERR: Final = 11
_IPV6_RECVERR: Final = 25
_MSG_ERRQUEUE: Final = 0x2000
_ORIGIN_ICMP: Final = 2
_ORIGIN_ICMP6: Final = 3
_UNREACHABLE: Final = {(_ORIGIN_ICMP, 3), (_ORIGIN_ICMP6, 1)}  # origin and type
_TOO_LARGE: Final = (_ORIGIN_ICMP, 3, 4)  # "fragmentation needed" is of the same type
_SOCK_EXTENDED_ERR: Final = struct.Struct("=IBBBBII")  # errno, origin, type, code, pad, info, data
_ANCILLARY_BYTES: Final = 512
_QUOTED_BYTES: Final = 2048
MAX_READ_AT_ONCE: Final = 64


class Unreachable(NamedTuple):
    """One datagram that a router, or the host at the end, refused.

    Attributes:
        destination: where it was sent to.
        errno: what the kernel makes of the ICMP code.
        quoted: the beginning of its UDP payload, or all of it; nobody has authenticated it.
    """

    destination: Endpoint
    errno: int
    quoted: bytes


def queue_errors(udp: socket.socket) -> None:
    """Have the kernel queue ICMP errors; each makes a send or read fail once as well."""
    if udp.family == socket.AF_INET6:
        udp.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
    else:
        udp.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)


def take_errors_untrusted(udp: socket.socket) -> list[Unreachable]:
    """Read what is queued, 64 errors at most; the socket stays readable while there are more."""
    found = []
    for _ in range(MAX_READ_AT_ONCE):
        try:
            quoted, ancillary, _, address = udp.recvmsg(
                _QUOTED_BYTES, _ANCILLARY_BYTES, _MSG_ERRQUEUE
            )
        except BlockingIOError:
            break
        except OSError:  # the error that the socket was to fail with next
            continue
        error = _read_error(ancillary)
        if error is not None and address:
            found.append(Unreachable(_endpoint_of(address), error, quoted))
    return found


def _read_error(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    """Return the errno, if the error says that the destination cannot be reached."""
    for level, kind, content in ancillary:
        is_error = (level, kind) in {
            (socket.IPPROTO_IP, _IP_RECVERR),
            (socket.IPPROTO_IPV6, _IPV6_RECVERR),
        }
        if is_error and len(content) >= _SOCK_EXTENDED_ERR.size:
            errno, origin, icmp_type, code, *_ = _SOCK_EXTENDED_ERR.unpack_from(content)
            is_about_size = (origin, icmp_type, code) == _TOO_LARGE
            if (origin, icmp_type) in _UNREACHABLE and not is_about_size:
                return int(errno)
    return None


def _endpoint_of(address: tuple[str, int] | tuple[str, int, int, int]) -> Endpoint:
    host = address[0].partition("%")[0]
    if len(address) == 4 and address[3]:
        host = f"{host}%{address[3]}"
    return Endpoint(host, address[1])
