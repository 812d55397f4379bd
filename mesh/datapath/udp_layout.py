"""Where the headers of a UDP frame lie; RFC 768. What is below: `mesh.datapath.tcp_layout`."""

import struct
from typing import NamedTuple

from mesh.datapath.tcp_layout import network_layer, set_lengths
from mesh.wire.datagram import Buffer

IPPROTO_UDP = 17
UDP_HEADER_BYTES = 8
UDP_CHECKSUM_OFFSET = 6
_UDP_LENGTH_OFFSET = 4

_WORD = struct.Struct(">H")


class UdpLayout(NamedTuple):
    """Offsets from the first byte of the frame.

    Attributes:
        network: of the IP header.
        transport: of the UDP header.
        payload: of the UDP payload; never beyond the end of the frame.
        is_ipv4: else IPv6.
        is_atomic: whether IP can neither fragment the packet nor needs its id (RFC 6864).
    """

    network: int
    transport: int
    payload: int
    is_ipv4: bool
    is_atomic: bool


def udp_layout(frame: Buffer) -> UdpLayout | None:
    """Return where the headers of a frame of at least 14 bytes lie; None for all but UDP.

    None, too, for a fragment, and where an IP or UDP length is not the frame's.
    """
    # Hot path: once per super-frame and once per run of datagrams.
    network, transport, is_ipv4, is_atomic = network_layer(frame, IPPROTO_UDP)
    payload = transport + UDP_HEADER_BYTES
    if not transport or payload > len(frame):
        return None
    (length,) = _WORD.unpack_from(frame, transport + _UDP_LENGTH_OFFSET)
    if length != len(frame) - transport:
        return None
    return UdpLayout(network, transport, payload, is_ipv4, is_atomic)


def set_udp_lengths(headers: bytearray, layout: UdpLayout, end: int) -> None:
    """Change the lengths in the headers of a packet, as `set_lengths` does."""
    set_lengths(headers, layout, end, UDP_CHECKSUM_OFFSET)
    _WORD.pack_into(headers, layout.transport + _UDP_LENGTH_OFFSET, end - layout.transport)
