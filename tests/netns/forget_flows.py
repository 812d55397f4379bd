"""Makes the kernel of a router forget all its flows, as ``conntrack -F`` does, without packages.

Run with nothing but the standard library: ``python -I -S forget_flows.py``.
"""

import socket
import struct

_NETLINK_NETFILTER = 12
_SUBSYSTEM_CONNTRACK = 1
_MESSAGE_DELETE = 2
_REQUEST_WITH_ACKNOWLEDGEMENT = 1 | 4
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
_NETFILTER_HEADER = struct.Struct("!BBH")  # address family (0: all), version, resource


def main() -> None:
    """Delete every entry of the connection tracking table of this network namespace.

    Raises:
        OSError: the kernel refused.
    """
    kind = _SUBSYSTEM_CONNTRACK << 8 | _MESSAGE_DELETE
    body = _NETFILTER_HEADER.pack(0, 0, 0)  # no attribute that would name a flow: all of them
    length = _HEADER.size + len(body)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
        netlink.bind((0, 0))
        netlink.send(_HEADER.pack(length, kind, _REQUEST_WITH_ACKNOWLEDGEMENT, 1, 0) + body)
        answer = netlink.recv(4096)
    (error,) = struct.unpack_from("=i", answer, _HEADER.size)
    if error:
        raise OSError(-error, "the kernel did not forget its flows")


if __name__ == "__main__":
    main()
