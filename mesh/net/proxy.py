"""HTTP proxies: which one, from an option or the environment.

The variables are those of curl and wget: ``https_proxy``, ``http_proxy``, ``all_proxy`` and
``no_proxy``, in either case, small letters first.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

_VARIABLES = ("https_proxy", "http_proxy", "all_proxy")
_DEFAULT_PORTS = {"http": 80, "https": 443}


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
    shown = re.sub(r"//.*@", "//...@", url, flags=re.DOTALL)  # a password may have any sign
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


def no_proxy_from_environment(environment: Mapping[str, str]) -> str:
    """Return the list of hosts that no proxy is asked for."""
    return environment.get("no_proxy") or environment.get("NO_PROXY") or ""


def is_proxied(host: str, no_proxy: str) -> bool:
    """Whether the list leaves ``host`` (a name or numeric address) to the proxy."""
    entries = no_proxy.lower().split(",")
    return not any(_matches(entry.strip(), host.lower()) for entry in entries)


def _matches(entry: str, host: str) -> bool:
    if entry in {"", "*"}:
        return entry == "*"
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        name = entry.rpartition(":")[0] if entry.rpartition(":")[2].isdigit() else entry
        name = (name or entry).removeprefix("*").lstrip(".")
        return host == name or host.endswith(f".{name}")
