"""What a supernode is told: addresses, directories, store and limits; from flags and a TOML file.

::

    listen = ["0.0.0.0:7777", "[::]:7777"]
    listen-ws = ["0.0.0.0:443"]
    tls-cert = "/etc/mesh-supernode/chain.pem"
    tls-key = "/etc/mesh-supernode/key.pem"
    trust-proxy = ["127.0.0.1"]
    probe-ports = "7779,7780"
    state-dir = "/var/lib/mesh-supernode"
    runtime-dir = "/run/mesh-supernode"
    store = "sqlite:////var/lib/mesh-supernode/leases.sqlite3"

    [limits]
    max-edges = 8192
"""

import dataclasses
import difflib
import ipaddress
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

from mesh.addresses import Endpoint
from mesh.errors import ConfigError
from supernode.limits import SupernodeLimits

_TEXTS = ("state-dir", "runtime-dir", "store", "tls-cert", "tls-key")
_PATHS = ("state-dir", "runtime-dir", "tls-cert", "tls-key")
_KEYS = ("listen", "listen-ws", "probe-ports", "no-tcp", "trust-proxy", *_TEXTS, "limits")
_LIMITS = {
    field.name.replace("_", "-"): field.name
    for field in dataclasses.fields(SupernodeLimits)
    if field.name != "only_community"
}


@dataclass(frozen=True, slots=True)
class SupernodeConfig:
    """Everything `supernode.server.SupernodeServer` needs to know.

    Attributes:
        state_dir: for the key and, unless ``store`` says otherwise, the leases.
        listen: ``ADDR:PORT`` texts, port 0 for any; empty for the default port on any address.
        runtime_dir: for the control socket, or None for none.
        store: a URL, or empty for a SQLite file in ``state_dir``.
        limits: caps and budgets.
        only_community: the 32-byte id of the one community served (embedded), or None for any.
        takes_tcp: whether streams are taken on the ports of ``listen`` too.
        listen_ws: ``ADDR:PORT`` texts where streams only are taken.
        tls_cert: a file with a certificate (PEM, its chain behind it), or None: no TLS.
        tls_key: a file with its key, or None: it is in the same file.
        trust_proxy: whose ``X-Forwarded-For`` is believed: addresses or networks.
        probe_ports: the two observation ports, or none for any two.
        may_change_port: whether any free port will do where the port is taken.
    """

    state_dir: Path
    listen: tuple[str, ...] = ()
    runtime_dir: Path | None = None
    store: str = ""
    limits: SupernodeLimits = dataclasses.field(default_factory=SupernodeLimits)
    only_community: bytes | None = None
    takes_tcp: bool = True
    listen_ws: tuple[str, ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    trust_proxy: tuple[str, ...] = ()
    probe_ports: tuple[int, ...] = ()
    may_change_port: bool = False


def parse_listen_address(text: str) -> Endpoint:
    """Read ``ADDR:PORT``, as `mesh.addresses.parse_endpoint` does, with port 0 for any.

    Raises:
        ValueError: it is something else; the message quotes it.
    """
    host, separator, port_text = text.rpartition(":")
    if not separator or not port_text.isascii() or not port_text.isdigit():
        raise ValueError(f"{text!r} is not ADDR:PORT, such as 0.0.0.0:7777 or [::]:7777")
    if host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
        raise ValueError(f"{text!r}: write IPv6 addresses as [ADDR]:PORT")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        raise ValueError(f"{text!r}: {host!r} is not a numeric address") from None
    if int(port_text) > 65535:
        raise ValueError(f"{text!r}: a port is a number from 0 to 65535")
    return Endpoint(str(address), int(port_text))


def read_config_file(path: Path) -> dict[str, Any]:
    """Return what a TOML file says under the names of `SupernodeConfig`, checked.

    Raises:
        ConfigError: it cannot be read, is not TOML, has unknown keys or values of a wrong type.
    """
    where = str(path)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(where, "", f"cannot be read: {error.strerror}") from None
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise ConfigError(where, "", f"is not TOML: {error}") from None
    _check_keys(document, _KEYS, where)
    settings: dict[str, Any] = {}
    for key, check in _LISTS.items():
        if key in document:
            settings[key.replace("-", "_")] = _read_list(document[key], check, key, where)
    if "no-tcp" in document:
        settings["takes_tcp"] = not _read_switch(document["no-tcp"], "no-tcp", where)
    settings.update(_read_texts(document, path))
    readers = {"probe-ports": _read_probe_ports, "limits": _read_limits}
    for key in readers.keys() & document.keys():
        settings[key.replace("-", "_")] = readers[key](document[key], where)
    return settings


def _read_texts(document: Mapping[str, object], path: Path) -> dict[str, str | Path]:
    """Return the texts; files and directories are relative to that of the configuration."""
    texts: dict[str, str | Path] = {}
    for key in _TEXTS:
        if key in document:
            value = document[key]
            if not isinstance(value, str):
                raise ConfigError(str(path), key, f"has to be a string, not {value!r}")
            name = key.replace("-", "_")
            texts[name] = path.parent / value if key in _PATHS else value
    return texts


def _read_switch(value: object, key: str, where: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(where, key, f"has to be a boolean, not {value!r}")
    return value


def parse_trusted_proxy(text: str) -> IPv4Network | IPv6Network:
    """Read an address or network, such as ``127.0.0.1`` or ``10.0.0.0/8``.

    Raises:
        ValueError: it is something else; the message quotes it.
    """
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an address or network, such as 127.0.0.1") from None


_LISTS: dict[str, Callable[[str], object]] = {
    "listen": parse_listen_address,
    "listen-ws": parse_listen_address,
    "trust-proxy": parse_trusted_proxy,
}


def _read_list(
    value: object, check: Callable[[str], object], key: str, where: str
) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ConfigError(where, key, f"has to be a list of strings, not {value!r}")
    try:
        for text in texts:
            check(text)
    except ValueError as error:
        raise ConfigError(where, key, str(error)) from None
    return tuple(texts)


def parse_probe_ports(text: str) -> tuple[int, int]:
    """Read ``PORT,PORT``, two different ones.

    Raises:
        ValueError: it is something else; the message quotes it.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 2 and all(part.isascii() and part.isdigit() for part in parts):
        one, other = map(int, parts)
        if one != other and 0 < one < 65536 and 0 < other < 65536:
            return one, other
    raise ValueError(f"{text!r} is not two different UDP ports, such as 7779,7780")


def _read_probe_ports(value: object, where: str) -> tuple[int, int]:
    if not isinstance(value, str):
        raise ConfigError(where, "probe-ports", f"has to be a string, not {value!r}")
    try:
        return parse_probe_ports(value)
    except ValueError as error:
        raise ConfigError(where, "probe-ports", str(error)) from None


def _read_limits(value: object, where: str) -> SupernodeLimits:
    if not isinstance(value, dict):
        raise ConfigError(where, "limits", f"has to be a table, not {value!r}")
    _check_keys(value, _LIMITS, where)
    for key, number in value.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ConfigError(where, key, f"has to be a whole number above 0, not {number!r}")
    return SupernodeLimits(**{_LIMITS[key]: number for key, number in value.items()})


def _check_keys(found: Mapping[str, object], known: Collection[str], where: str) -> None:
    for key in found:
        if key not in known:
            close = difflib.get_close_matches(key.lower().replace("_", "-"), known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
            raise ConfigError(where, key, f"is not an option; {hint}")
