"""HTTP proxies: which one, from an option or the environment, and the tunnel through it (CONNECT).

The variables are those of curl and wget: ``https_proxy``, ``http_proxy``, ``all_proxy`` and
``no_proxy``, in either case, small letters first. RFC 9110 section 9.3.6, RFC 7617.
"""

import base64
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from mesh.net.port import PortClosed
from mesh.net.stream_opening import Opening

MAX_ANSWER_BYTES = 16384

_VARIABLES = ("https_proxy", "http_proxy", "all_proxy")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: ([\t -~]*))?\r?\n")
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        host: its name or numeric address.
        port: TCP.
        is_tls: whether one talks TLS with the proxy itself (``https://``).
        credentials: ``user:password``, or "".
    """

    host: str
    port: int
    is_tls: bool = False
    credentials: str = field(default="", repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.is_tls else 'http'}://{host}:{self.port}"


def read_proxy(text: str) -> Proxy:
    """Read ``[http[s]://][USER:PASSWORD@]HOST[:PORT]``.

    Raises:
        ValueError: it is something else; the message does not repeat a password.
    """
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
        parts = urlsplit("")
    shown = re.sub(r"//[^/]*@", "//...@", url)
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError(f"{shown!r} is not an HTTP proxy, such as http://proxy.example:3128")
    if not host or port == 0 or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError(f"{shown!r} is not http://[USER:PASSWORD@]HOST[:PORT]")
    credentials = ""
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(host, port or _DEFAULT_PORTS[parts.scheme], parts.scheme == "https", credentials)


def proxy_from_environment(environment: Mapping[str, str]) -> tuple[Proxy | None, str]:
    """Return the proxy that the environment names, and a complaint about one that is of no use."""
    for name in _VARIABLES:
        text = environment.get(name) or environment.get(name.upper())
        if text:
            try:
                return read_proxy(text), ""
            except ValueError as error:
                return None, f"{name} is not used: {error}"
    return None, ""


def is_proxied(host: str, environment: Mapping[str, str]) -> bool:
    """Whether ``no_proxy`` leaves ``host`` (a name or numeric address) to the proxy."""
    listed = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    return not any(_matches(entry.strip(), host.lower()) for entry in listed.lower().split(","))


def _matches(entry: str, host: str) -> bool:
    if entry in {"", "*"}:
        return entry == "*"
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        name = entry.rpartition(":")[0] if entry.rpartition(":")[2].isdigit() else entry
        name = (name or entry).removeprefix("*").lstrip(".")
        return host == name or host.endswith(f".{name}")


async def open_tunnel(opening: Opening, proxy: Proxy, host: str, port: int) -> None:
    """Ask a proxy to connect us; what is sent afterwards goes to ``host``.

    Args:
        opening: connected with the proxy, its TLS on.
        proxy: who it is.
        host: a name, which the proxy resolves, or a numeric address.
        port: TCP.

    Raises:
        PortClosed: the proxy refused, or is none.
        OSError: the network ended it.
    """
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    request = f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n"
    if proxy.credentials:
        request += f"Proxy-Authorization: Basic {_base64(proxy.credentials)}\r\n"
    await opening.send(f"{request}\r\n".encode("ascii"))
    answer = b""
    while _END not in answer:
        if len(answer) > MAX_ANSWER_BYTES:
            raise PortClosed(f"{proxy} answers with more than a proxy does")
        answer = await opening.peek(len(answer) + 1)
    found = _STATUS_LINE.match(answer)
    if found is None:
        raise PortClosed(f"{proxy} does not answer as an HTTP proxy")
    if not found[1].startswith(b"2"):
        status = f"{found[1].decode()} {(found[2] or b'').decode('ascii')}".strip()
        raise PortClosed(f"{proxy} refuses: {status}")
    await opening.take(answer.index(_END) + len(_END))


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")
