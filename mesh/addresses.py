"""Names of things on the network: edges, MAC addresses and endpoints; protocol section 2.

An address is kept in the form in which the hot path compares it: MAC addresses and edge ids are
bytes, an endpoint is the (host, port) tuple that the socket layer uses.
"""

import ipaddress
from typing import NamedTuple, NewType

from mesh.constants import EDGE_ID_BYTES
from mesh.errors import MalformedMessage

EdgeId = NewType("EdgeId", bytes)
"""16 bytes: the hash of an edge's static public key (protocol section 3.1)."""

MacAddress = NewType("MacAddress", bytes)
"""6 bytes in the order in which they stand in a frame."""

BROADCAST_MAC = MacAddress(b"\xff" * 6)


class Endpoint(NamedTuple):
    """An address and UDP or TCP port, equal to the socket layer's ``(host, port)`` tuple.

    ``host`` is a numeric IPv4 or IPv6 address in its canonical text; link-local IPv6 addresses
    carry ``%`` and the interface index. Port 0 is told of who is on a stream: section 19.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_ipv6(self) -> bool:
        """Whether the host is an IPv6 address."""
        return ":" in self.host


def parse_endpoint(text: str) -> Endpoint:
    """Read ``1.2.3.4:7777`` or ``[fd00::1]:7777``.

    Raises:
        ValueError: the text is not a numeric address and a port of 1 to 65535.
    """
    host, separator, port_text = text.rpartition(":")
    if not separator or not port_text.isascii() or not port_text.isdigit():
        raise ValueError(f"{text!r} is not ADDRESS:PORT")
    if host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
        raise ValueError(f"{text!r}: write IPv6 addresses as [ADDRESS]:PORT")
    address = ipaddress.ip_address(host.strip("[]"))
    port = int(port_text)
    if not 0 < port < 65536:
        raise ValueError(f"{text!r}: a port is a number from 1 to 65535")
    return Endpoint(str(address), port)


def encode_endpoint(endpoint: Endpoint) -> bytes:
    """Return 6 bytes (IPv4) or 18 bytes (IPv6): the address, then the port, big-endian.

    A zone (``%2``) means nothing to another machine and is left out.
    """
    address = ipaddress.ip_address(endpoint.host.partition("%")[0])
    return address.packed + endpoint.port.to_bytes(2, "big")


def decode_endpoint(encoded: bytes, *, may_lack_port: bool = False) -> Endpoint:
    """Read what `encode_endpoint` wrote.

    Args:
        encoded: of any length.
        may_lack_port: whether it may be that of a stream, with port 0: protocol section 19.

    Raises:
        MalformedMessage: the length is neither 6 nor 18, or the port is zero.
    """
    if len(encoded) not in {6, 18}:
        raise MalformedMessage("an endpoint has 6 or 18 bytes")
    port = int.from_bytes(encoded[-2:], "big")
    if port == 0 and not may_lack_port:
        raise MalformedMessage("an endpoint has a port")
    return Endpoint(str(ipaddress.ip_address(encoded[:-2])), port)


def is_usable_candidate(endpoint: Endpoint, *, allow_loopback: bool = False) -> bool:
    """Whether a datagram may be sent to an endpoint that somebody else named.

    Never multicast, unspecified, reserved or broadcast addresses; loopback only where both sides
    are known to share a machine.
    """
    address = ipaddress.ip_address(endpoint.host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return False
    if address.is_loopback:
        return allow_loopback
    return not (
        address.is_multicast
        or address.is_unspecified
        or (address.version == 4 and address.is_reserved)
        or endpoint.port == 0
    )


def format_mac(mac: bytes) -> str:
    """Return ``02:00:5e:10:00:01``."""
    return mac.hex(":")


def parse_mac(text: str) -> MacAddress:
    """Read six colon- or dash-separated pairs of hex digits.

    Raises:
        ValueError: it is something else, or a group (multicast) or all-zero address.
    """
    parts = text.replace("-", ":").split(":")
    if len(parts) != 6 or not all(len(part) == 2 for part in parts):
        raise ValueError(f"{text!r} is not a MAC address such as 02:00:5e:10:00:01")
    try:
        mac = bytes.fromhex("".join(parts))
    except ValueError:
        raise ValueError(f"{text!r} is not a MAC address such as 02:00:5e:10:00:01") from None
    if mac[0] & 1 or not any(mac):
        raise ValueError(f"{text!r} is a group or all-zero address; an interface needs its own")
    return MacAddress(mac)


def parse_edge_id(text: str) -> EdgeId:
    """Read 32 hex digits.

    Raises:
        ValueError: it is something else.
    """
    raw = bytes.fromhex(text)
    if len(raw) != EDGE_ID_BYTES:
        raise ValueError(f"{text!r} is not an edge id of {2 * EDGE_ID_BYTES} hex digits")
    return EdgeId(raw)
