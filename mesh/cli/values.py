"""The text of one option, read into its value; every refusal says what was found and expected.

Each ``read_*`` function takes what the user wrote, wherever that stood, and raises ``ValueError``
with a sentence that reads well behind the name of the option.
"""

import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from typing import NamedTuple

from mesh.addresses import Endpoint, MacAddress, is_usable_candidate, parse_endpoint, parse_mac
from mesh.constants import FINGERPRINT_BYTES, MAX_COMMUNITY_NAME_BYTES, MAX_NAME_BYTES
from mesh.engine import Transport
from mesh.net.proxy import Proxy, read_proxy
from mesh.net.stream_way import StreamWay, read_stream_way

MIN_MTU = 576  # bytes; what every IPv4 host must accept: RFC 791 section 3.1
MAX_MTU = 9000  # bytes; MAX_FRAME_BYTES less Ethernet header and one VLAN tag
MAX_INTERFACE_NAME_BYTES = 15  # Linux: IFNAMSIZ less the closing zero byte
MAX_HOST_NAME_BYTES = 253  # RFC 1035 section 2.3.4, without the closing dot
MAX_SECRET_BYTES = 1024  # far above any passphrase; keeps an invite within one QR code or message

_HOST_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_FINGERPRINT_CHARS = -(-FINGERPRINT_BYTES * 8 // 5)
_FINGERPRINT = re.compile(rf"[a-z2-7]{{{_FINGERPRINT_CHARS}}}")


class HostPort(NamedTuple):
    """A host name or numeric address, and a UDP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_numeric(self) -> bool:
        """Whether the host is an address, so that no resolver is needed."""
        return _is_address(self.host)


@dataclass(frozen=True, slots=True)
class SupernodeAddress:
    """One supernode.

    Attributes:
        host_ports: the places where it may answer, at least one.
        fingerprint: or ``""``.
        ways: streams that lead to it.
        has_udp: whether it is worth asking at ``host_ports``, or only known by its ``ways``.
    """

    host_ports: tuple[HostPort, ...]
    fingerprint: str = ""
    ways: tuple[StreamWay, ...] = ()
    has_udp: bool = True


def read_supernode(text: str) -> SupernodeAddress:
    """Read ``PLACE[,PLACE...][#FINGERPRINT]``, each ``HOST:PORT`` or a URL of `read_way`.

    Raises:
        ValueError: what is wrong with it.
    """
    places, separator, fingerprint = text.partition("#")
    if separator:
        fingerprint = read_fingerprint(fingerprint)
    return _supernode_at(places, fingerprint)


def read_kept_supernode(text: str) -> SupernodeAddress:
    """Read what `format_kept_supernode` wrote: ``PLACE,PLACE#FINGERPRINT``.

    Raises:
        ValueError: what is wrong with it.
    """
    places, _, fingerprint = text.partition("#")
    return _supernode_at(places, read_fingerprint(fingerprint))


def format_kept_supernode(supernode: SupernodeAddress) -> str:
    """Return one line of text for the state directory."""
    return f"{_format_places(supernode)}#{supernode.fingerprint}"


def format_supernode(supernode: SupernodeAddress) -> str:
    """Return what `read_supernode` reads."""
    places = _format_places(supernode)
    return f"{places}#{supernode.fingerprint}" if supernode.fingerprint else places


def _format_places(supernode: SupernodeAddress) -> str:
    places = (*(supernode.host_ports if supernode.has_udp else ()), *supernode.ways)
    return ",".join(map(str, places))


def _supernode_at(places: str, fingerprint: str) -> SupernodeAddress:
    texts = places.split(",")
    ways = tuple(read_way(text) for text in texts if "://" in text)
    host_ports = tuple(read_host_port(text) for text in texts if "://" not in text)
    if host_ports:
        return SupernodeAddress(host_ports, fingerprint, ways)
    named = HostPort(_canonical_host(ways[0].host), ways[0].port)
    return SupernodeAddress((named,), fingerprint, ways, has_udp=False)


def read_way(text: str) -> StreamWay:
    """Read ``tcp://HOST:PORT``, ``ws://HOST[:PORT][/PATH]`` or ``wss://HOST[:PORT][/PATH]``.

    Raises:
        ValueError: what is wrong with it.
    """
    way = read_stream_way(text)
    _check_host(way.host)
    return way


def read_fingerprint(text: str) -> str:
    """Read the 32 base32 characters of docs/protocol.md section 3.2, in either case.

    Raises:
        ValueError: it is something else.
    """
    if not _FINGERPRINT.fullmatch(text.lower()):
        raise ValueError(
            f"{text!r} is not a fingerprint: {_FINGERPRINT_CHARS} characters from a-z and 2-7"
        )
    return text.lower()


def read_host_port(text: str) -> HostPort:
    """Read ``1.2.3.4:7777``, ``[fd00::1]:7777`` or ``name.example:7777``.

    Raises:
        ValueError: what is wrong with it.
    """
    host, separator, port = text.rpartition(":")
    if not separator or "]" in port:
        raise ValueError(f"{text!r} has no port; write HOST:PORT, such as vpn.example:7777")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host or not _is_address(host):
            raise ValueError(f"{host!r} is not an IPv6 address")
    elif ":" in host:
        raise ValueError(f"{text!r}: write IPv6 addresses as [ADDRESS]:PORT")
    else:
        _check_host(host)
    return HostPort(_canonical_host(host), read_port(port, lowest=1))


def _canonical_host(host: str) -> str:
    return str(ipaddress.ip_address(host)) if _is_address(host) else host.lower()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _check_host(host: str) -> None:
    if _is_address(host):
        return
    name = host.removesuffix(".")
    labels = name.split(".")
    if labels[-1].isdigit():
        # A resolver would read 10.1 or 010.0.0.1 in the manner of inet_aton: nobody means that.
        raise ValueError(f"{host!r} is not an IPv4 address")
    if len(name) > MAX_HOST_NAME_BYTES or not all(map(_HOST_LABEL.fullmatch, labels)):
        raise ValueError(f"{host!r} is not a host name (write other scripts as xn--...)")


def read_port(text: str, *, lowest: int = 0) -> int:
    """Read a UDP port; 0, where ``lowest`` allows it, means any.

    Raises:
        ValueError: it is not a number of ``lowest`` to 65535.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and lowest <= int(text) <= 65535):
        any_port = " (0 means any)" if lowest == 0 else ""
        raise ValueError(f"{text!r} is not a port: a number from {lowest} to 65535{any_port}")
    return int(text)


def read_endpoint(text: str) -> Endpoint:
    """Read ``1.2.3.4:7777`` or ``[2001:db8::1]:7777``: where peers are to send to.

    Raises:
        ValueError: it is something else, or no machine's address.
    """
    endpoint = parse_endpoint(text)
    if "%" in endpoint.host or not is_usable_candidate(endpoint):
        raise ValueError(f"{text!r} is no address at which another machine can reach this one")
    return endpoint


def read_transport(text: str) -> Transport | None:
    """Read ``udp``, ``tcp`` or ``ws``; None stands for ``auto``.

    Raises:
        ValueError: it is something else.
    """
    if text == "auto":
        return None
    try:
        return Transport(text)
    except ValueError:
        raise ValueError(f"{text!r} is not auto, udp, tcp or ws") from None


def read_proxy_choice(text: str) -> Proxy | None:
    """Read an HTTP proxy's URL, or ``none``.

    Raises:
        ValueError: it is something else.
    """
    return None if text == "none" else read_proxy(text)


def read_mtu(text: str) -> int:
    """Read the TAP's MTU in bytes.

    Raises:
        ValueError: it is not a number of 576 to 9000.
    """
    is_number = text.isascii() and text.isdigit() and len(text) <= 5
    if not is_number or not MIN_MTU <= int(text) <= MAX_MTU:
        raise ValueError(f"{text!r} is not an MTU: a number from {MIN_MTU} to {MAX_MTU}")
    return int(text)


def read_mac(text: str) -> MacAddress:
    """Read an interface's MAC address.

    Raises:
        ValueError: it is something else, or a group or all-zero address.
    """
    return parse_mac(text)


def read_interface_name(text: str) -> str:
    """Read the name of a network interface as Linux allows it.

    Raises:
        ValueError: it is too long, empty, or holds a character that interface names cannot.
    """
    size = len(text.encode(errors="replace"))
    if not 0 < size <= MAX_INTERFACE_NAME_BYTES:
        raise ValueError(
            f"{text!r} has {size} bytes; an interface name has 1 to {MAX_INTERFACE_NAME_BYTES}"
        )
    # The kernel itself refuses only '/', ':' and white space, but takes '%' for a numbered pattern,
    # and names that tools cannot show help nobody.
    if text in {".", ".."} or not re.fullmatch(r"[!-~]+", text) or re.search(r"[/:%]", text):
        raise ValueError(f"{text!r} is not an interface name: letters, digits, '-', '_' and '.'")
    return text


def read_address(text: str) -> str:
    """Read ``auto``, ``none`` or a fixed IPv4 address with its prefix.

    Returns:
        The word, or the CIDR in canonical text, such as ``10.1.2.3/24``.

    Raises:
        ValueError: it is something else, or no host's address.
    """
    if text in {"auto", "none"}:
        return text
    address, separator, _prefix = text.partition("/")
    if not separator:
        raise ValueError(f"{text!r} is not auto, none or ADDRESS/PREFIX, such as 10.1.2.3/24")
    if ":" in address:
        raise ValueError("only the IPv4 address can be fixed; IPv6 comes from the identity")
    try:
        interface = ipaddress.IPv4Interface(text)
    except ValueError:
        raise ValueError(f"{text!r} is not ADDRESS/PREFIX, such as 10.1.2.3/24") from None
    _check_is_host(interface)
    return interface.with_prefixlen


def _check_is_host(interface: ipaddress.IPv4Interface) -> None:
    network, ip = interface.network, interface.ip
    if not 1 <= network.prefixlen <= 30:
        raise ValueError(f"/{network.prefixlen} leaves no room for other members; use /1 to /30")
    if ip == network.network_address:
        raise ValueError(f"{ip} is the network {network} itself, not a host in it")
    if ip == network.broadcast_address:
        raise ValueError(f"{ip} is the broadcast address of {network}, not a host in it")
    if ip.is_loopback or ip.is_multicast or ip.is_reserved or ip.packed[0] == 0:
        raise ValueError(f"{ip} cannot be the address of an interface")


def read_community(text: str) -> str:
    """Read a community's name: 1 to 64 bytes of text, normalised to NFC.

    Raises:
        ValueError: it is empty, too long, or holds control characters.
    """
    return _read_name(text, "a community's name", MAX_COMMUNITY_NAME_BYTES)


def read_edge_name(text: str) -> str:
    """Read the name that this edge shows its peers: 1 to 64 bytes of text, normalised to NFC.

    Raises:
        ValueError: it is empty, too long, or holds control characters.
    """
    return _read_name(text, "an edge's name", MAX_NAME_BYTES)


def _read_name(text: str, what: str, max_bytes: int) -> str:
    if not text.strip() or not text.isprintable():
        # Lone surrogates, which stand for arguments that are not UTF-8, are unprintable too.
        raise ValueError(f"{text!r} is not {what}: printable text, not empty")
    name = unicodedata.normalize("NFC", text)
    size = len(name.encode())
    if size > max_bytes:
        raise ValueError(f"{what} has at most {max_bytes} bytes, this one has {size}")
    return name


def read_secret(text: str) -> str:
    """Read a community's secret; the message of a refusal never repeats it.

    Raises:
        ValueError: it is empty, not UTF-8, too long, or has more than one line.
    """
    if not text:
        raise ValueError("the key is empty; use --open for a community without one")
    if any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in text):
        raise ValueError("the key holds a line break, a control character or bytes beyond UTF-8")
    if len(text.encode()) > MAX_SECRET_BYTES:
        raise ValueError(f"the key has more than {MAX_SECRET_BYTES} bytes")
    return text
