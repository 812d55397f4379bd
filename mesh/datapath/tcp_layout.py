"""Where the headers of a TCP frame lie: Ethernet with VLAN tags, IPv4 or IPv6, TCP.

RFC 791, RFC 8200 section 4, RFC 9293 section 3.1. Nothing here is taken on trust, hdr_len of the
virtio-net header least of all: offsets come from the headers themselves and are checked against the
frame's length.
"""

import struct
from typing import NamedTuple, Protocol

from mesh.wire.datagram import Buffer
from mesh.wire.ethernet import ETHERTYPE_IPV4, ETHERTYPE_IPV6, VLAN_TPIDS

IPPROTO_TCP = 6
TCP_CHECKSUM_OFFSET = 16

FIN, PSH, CWR = 0x01, 0x08, 0x80  # TCP's flags that belong to the last segment, and to the first
TCP_FLAGS_OFFSET = 13
TCP_SEQUENCE_OFFSET = 4
# SYN, RST and URG: a segment with one of these is never split and never joined.
ODD_FLAGS = 0x02 | 0x04 | 0x20

_WORD = struct.Struct(">H")
_IPV4_DONT_FRAGMENT = 0x4000
_IPV4_MIN_BYTES = 20
_IPV6_BYTES = 40
_TCP_MIN_BYTES = 20
_MAX_VLAN_TAGS = 4
_MAX_EXTENSIONS = 8
# Hop-by-hop, routing and destination options: next header and length in units of 8 bytes (RFC
# 8200). Not the fragment header: there is no telling what lies behind it.
_EXTENSIONS = frozenset({0, 43, 60})


class IpLayout(Protocol):
    """What the layouts of TCP and UDP have in common; see `TcpLayout`."""

    @property
    def network(self) -> int: ...  # noqa: D102
    @property
    def transport(self) -> int: ...  # noqa: D102
    @property
    def is_ipv4(self) -> bool: ...  # noqa: D102


class TcpLayout(NamedTuple):
    """Offsets from the first byte of the frame.

    Attributes:
        network: of the IP header.
        transport: of the TCP header.
        payload: of the TCP payload; never beyond the end of the frame.
        is_ipv4: else IPv6.
        is_atomic: whether IP can neither fragment the packet nor needs its id (RFC 6864).
        flags: TCP's.
    """

    network: int
    transport: int
    payload: int
    is_ipv4: bool
    is_atomic: bool
    flags: int


def tcp_layout(frame: Buffer) -> TcpLayout | None:
    """Return where the headers of a frame of at least 14 bytes lie; None for all but TCP.

    None, too, for a fragment, for headers that end beyond the frame, and for an IP length that is
    not the frame's (a frame that was padded, for one).
    """
    # Hot path: once per super-frame and once per run of segments.
    length = len(frame)
    network, transport, is_ipv4, is_atomic = network_layer(frame, IPPROTO_TCP)
    if not transport or transport + _TCP_MIN_BYTES > length:
        return None
    payload = transport + (frame[transport + 12] >> 4) * 4
    if not transport + _TCP_MIN_BYTES <= payload <= length:
        return None
    flags = frame[transport + TCP_FLAGS_OFFSET]
    return TcpLayout(network, transport, payload, is_ipv4, is_atomic, flags)


def network_layer(frame: Buffer, protocol: int) -> tuple[int, int, bool, bool]:
    """Return where IP and what it carries start, the latter 0 for anything but ``protocol``.

    And whether it is IPv4, and whether the packet is atomic; see `TcpLayout`.
    """
    # Hot path.
    network = 14
    length = len(frame)
    (kind,) = _WORD.unpack_from(frame, 12)
    while kind in VLAN_TPIDS:
        if network > 14 + 4 * _MAX_VLAN_TAGS or network + 4 > length:
            return network, 0, False, False
        (kind,) = _WORD.unpack_from(frame, network + 2)
        network += 4
    if kind == ETHERTYPE_IPV4:
        transport, is_atomic = _behind_ipv4(frame, network, length, protocol)
        return network, transport, True, is_atomic
    if kind == ETHERTYPE_IPV6:
        return network, _behind_ipv6(frame, network, length, protocol), False, True
    return network, 0, False, False


def _behind_ipv4(frame: Buffer, network: int, length: int, protocol: int) -> tuple[int, bool]:
    """Return where the payload starts, 0 for another protocol, and whether the packet is atomic."""
    if network + _IPV4_MIN_BYTES > length or frame[network] >> 4 != 4:
        return 0, False
    header_bytes = (frame[network] & 15) * 4
    (total,) = _WORD.unpack_from(frame, network + 2)
    (fragment,) = _WORD.unpack_from(frame, network + 6)
    if (
        header_bytes < _IPV4_MIN_BYTES
        or frame[network + 9] != protocol
        or total != length - network
        or fragment & ~_IPV4_DONT_FRAGMENT
    ):
        return 0, False
    return network + header_bytes, fragment == _IPV4_DONT_FRAGMENT


def _behind_ipv6(frame: Buffer, network: int, length: int, protocol: int) -> int:
    """Return where the payload starts, 0 for another protocol."""
    offset = network + _IPV6_BYTES
    if offset > length or frame[network] >> 4 != 6:
        return 0
    if _WORD.unpack_from(frame, network + 4)[0] != length - offset:
        return 0
    kind = frame[network + 6]
    for _ in range(_MAX_EXTENSIONS):
        if kind == protocol:
            return offset
        if kind not in _EXTENSIONS or offset + 8 > length:
            return 0
        kind, units = frame[offset], frame[offset + 1]
        offset += 8 + 8 * units
    return 0


def set_lengths(
    headers: bytearray, layout: IpLayout, end: int, checksum_offset: int = TCP_CHECKSUM_OFFSET
) -> None:
    """Change the lengths in the headers of a packet, and the checksums that cover them.

    Args:
        headers: from the first byte of the frame to the end of the TCP header; changed in place.
            TCP's or UDP's checksum is a partial one: the sum over the pseudo header.
        layout: of the frame.
        end: where the packet is to end, at most 65535 behind the start of its IP header.
        checksum_offset: of the partial checksum from the start of its header.
    """
    network, transport = layout.network, layout.transport
    if layout.is_ipv4:
        old_end = network + int(_WORD.unpack_from(headers, network + 2)[0])
        _WORD.pack_into(headers, network + 2, end - network)
        set_ipv4_checksum(headers, layout)
    else:
        old_end = network + _IPV6_BYTES + int(_WORD.unpack_from(headers, network + 4)[0])
        _WORD.pack_into(headers, network + 4, end - network - _IPV6_BYTES)
    # The pseudo header counts TCP's bytes. Changing the sum by the difference, instead of making it
    # anew, is right for every routing header as well. It is never 0: the protocol is in it.
    at = transport + checksum_offset
    (partial,) = _WORD.unpack_from(headers, at)
    _WORD.pack_into(headers, at, (partial + end - old_end - 1) % 0xFFFF + 1)


def reopen_checksum(frame: memoryview, layout: TcpLayout) -> bool:
    """Put a partial TCP checksum in the place of a complete one, if that is right.

    One that a routing header makes to be over another address counts as wrong.
    """
    address_bytes, first = (4, layout.network + 12) if layout.is_ipv4 else (16, layout.network + 8)
    segment = bytes(frame[layout.transport :])
    # 2^16 is 1 modulo 0xffff, and the addresses have whole words: one number is the sum of all.
    pseudo = int.from_bytes(frame[first : first + 2 * address_bytes], "big")
    pseudo += IPPROTO_TCP + len(segment)
    total = pseudo + int.from_bytes(segment + bytes(len(segment) & 1), "big")
    if total % 0xFFFF:
        return False
    at = layout.transport + TCP_CHECKSUM_OFFSET
    _WORD.pack_into(frame, at, (pseudo - 1) % 0xFFFF + 1)
    return True


def set_ipv4_checksum(headers: bytearray, layout: IpLayout) -> None:
    """Write the IPv4 header's checksum (RFC 1071)."""
    at = layout.network + 10
    headers[at : at + 2] = b"\0\0"
    # 2^16 is 1 modulo 0xffff: the remainder is the end-around-carry sum of all words.
    words = int.from_bytes(headers[layout.network : layout.transport], "big")
    _WORD.pack_into(headers, at, 0xFFFF - words % 0xFFFF)
