"""The settings of one ``join``: flags win over invite, environment and TOML, in this order."""

import dataclasses
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from mesh.addresses import Endpoint, MacAddress
from mesh.cli import values
from mesh.cli.invite import Invite, is_invite, parse_invite
from mesh.cli.keys import read_key_file
from mesh.cli.sources import (
    Flags,
    Given,
    Layer,
    UsageError,
    layer_from_environment,
    layer_from_file,
    layer_from_flags,
)
from mesh.cli.values import SupernodeAddress
from mesh.constants import MAX_NAME_BYTES
from mesh.engine import Transport
from mesh.net.proxy import Proxy, no_proxy_from_environment, proxy_from_environment

CONFIG_DIR = Path("/etc/mesh-edge")
DEFAULT_MTU = 1500  # bytes; that of a real Ethernet

_KEY_OPTIONS = ("key", "key-file", "open")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Key:
    """How this edge proves that it is a member.

    Attributes:
        secret: the community's secret, or None: there is none (open), or one kept from an
            earlier run is to be used.
        is_open: the community has no secret.
        may_be_made: a new secret may be made where none is kept.
    """

    secret: str | None = dataclasses.field(default=None, repr=False)
    is_open: bool = False
    may_be_made: bool = True


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How supernodes are reached where UDP does not pass, or is not wanted.

    Attributes:
        transport: the only one to be used, or None: UDP, and the others where it does not pass.
        proxy: the HTTP proxy to go through, or None.
        no_proxy: hosts that are reached without it, as in the variable of that name.
        tls_ca: a file with authorities beside those of the machine.
    """

    transport: Transport | None = None
    proxy: Proxy | None = None
    no_proxy: str = ""
    tls_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class JoinSettings:
    """What ``join`` was told, checked.

    Attributes:
        community: the community's name.
        key: its secret, or where to get it from.
        is_invited: the argument was an invite, whose secret is worth keeping.
        supernodes: where to register; none: find or host one.
        name: what peers call this edge.
        tap: the interface's name, or None for the first free one.
        address: ``auto``, ``none`` or a CIDR.
        mtu: bytes.
        mac: or None for the identity's.
        port: UDP; 0 for any.
        advertise: endpoints known to reach this edge.
        port_mapping: ask the router for a port.
        lan_peers: announce ourselves to members on the same LAN.
        streams: how supernodes are reached where UDP is not used.
        relay_only: never a direct path.
        hard_punch: guess at ports where a NAT leaves no other direct path.
        no_relay: never through a supernode.
        offload: ask the kernel for super-frames.
        realtime: ask the kernel for real-time scheduling.
        broadcast_routes: route broadcast and multicast to the TAP.
        state_dir: or None for the default.
        runtime_dir: or None for the default.
        warnings: sentences for the user.
    """

    community: str
    key: Key
    is_invited: bool
    supernodes: tuple[SupernodeAddress, ...]
    name: str
    tap: str | None
    address: str
    mtu: int
    mac: MacAddress | None
    port: int
    advertise: tuple[Endpoint, ...]
    port_mapping: bool
    lan_peers: bool
    streams: StreamSettings
    relay_only: bool
    hard_punch: bool
    no_relay: bool
    offload: bool
    realtime: bool
    broadcast_routes: bool
    state_dir: Path | None
    runtime_dir: Path | None
    warnings: tuple[str, ...] = ()


def load_join_settings(
    argument: str,
    flags: Flags,
    environment: Mapping[str, str],
    *,
    config: str | None = None,
    config_dir: Path = CONFIG_DIR,
    is_visible: bool = True,
) -> JoinSettings:
    """Gather and check the settings of ``mesh-edge join ARGUMENT``.

    Args:
        argument: a community's name or an invite.
        flags: what argparse found, by option name.
        environment: ``os.environ``.
        config: the file that ``--config`` names.
        config_dir: where ``COMMUNITY.toml`` is looked for otherwise; the name percent-encoded.
        is_visible: whether ``argument`` stands in the process list.

    Raises:
        ConfigError: naming the flag, variable or file and key, what was found and expected.
    """
    invite = parse_invite(argument) if is_invite(argument) else None
    community = invite.community if invite else _read_community(argument)
    path = Path(config) if config is not None else config_dir / f"{quote(community, safe='')}.toml"
    file_layer, warnings = layer_from_file(path, must_exist=config is not None)
    layers = (layer_from_flags(flags), layer_from_environment(environment), file_layer)
    key, key_warnings = _choose_key(layers, invite)
    if not is_visible:
        key_warnings = [warning for warning in key_warnings if warning != _INVITE_IS_VISIBLE]
    chosen = _Chosen(layers)
    _refuse_both(chosen, "relay-only", "no-relay")
    streams, proxy_warnings = _choose_streams(chosen, environment)
    return JoinSettings(
        community=community,
        key=key,
        is_invited=invite is not None,
        supernodes=_choose_supernodes(layers, invite),
        name=chosen.optional("name", values.read_edge_name) or default_name(),
        tap=chosen.optional("tap", values.read_interface_name),
        address=chosen.value("address", values.read_address, "auto"),
        mtu=chosen.value("mtu", values.read_mtu, DEFAULT_MTU),
        mac=chosen.optional("mac", values.read_mac),
        port=chosen.value("port", values.read_port, 0),
        advertise=chosen.several("advertise", values.read_endpoint),
        port_mapping=not chosen.is_on("no-port-mapping"),
        lan_peers=not chosen.is_on("no-lan-peers"),
        streams=streams,
        relay_only=chosen.is_on("relay-only"),
        hard_punch=not chosen.is_on("no-hard-punch"),
        no_relay=chosen.is_on("no-relay"),
        offload=not chosen.is_on("no-offload"),
        realtime=not chosen.is_on("no-realtime"),
        broadcast_routes=not chosen.is_on("no-broadcast-routes"),
        state_dir=chosen.optional("state-dir", Path),
        runtime_dir=chosen.optional("runtime-dir", Path),
        warnings=(*warnings, *key_warnings, *proxy_warnings),
    )


def runtime_dir(flags: Flags, environment: Mapping[str, str]) -> Path | None:
    """Return the runtime directory that flags or environment name, else None."""
    chosen = _Chosen((layer_from_flags(flags), layer_from_environment(environment)))
    return chosen.optional("runtime-dir", Path)


def default_name(host_name: str | None = None) -> str:
    """Return the host's name, made to fit; ``edge`` where it has none that can be shown."""
    name = socket.gethostname() if host_name is None else host_name
    try:
        return values.read_edge_name(name.encode()[:MAX_NAME_BYTES].decode(errors="ignore"))
    except ValueError:
        return "edge"


class _Chosen:
    """The first layer that says something wins."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = layers

    def given(self, name: str) -> Given | None:
        return next((layer[name] for layer in self._layers if name in layer), None)

    def value(self, name: str, read: Callable[[str], _Value], default: _Value) -> _Value:
        given = self.given(name)
        return default if given is None else given.read(read)[0]

    def optional(self, name: str, read: Callable[[str], _Value]) -> _Value | None:
        given = self.given(name)
        return None if given is None else given.read(read)[0]

    def several(self, name: str, read: Callable[[str], _Value]) -> tuple[_Value, ...]:
        given = self.given(name)
        return () if given is None else tuple(dict.fromkeys(given.read(read)))

    def is_on(self, name: str) -> bool:
        return self.given(name) is not None


def _read_community(argument: str) -> str:
    try:
        return values.read_community(argument)
    except ValueError as error:
        raise UsageError("COMMUNITY", "", str(error)) from None


def _refuse_both(chosen: _Chosen, first: str, second: str) -> None:
    given = chosen.given(second)
    if given is not None and chosen.is_on(first):
        raise given.refusal(f"contradicts {first}; leave one of them away")


def _choose_streams(
    chosen: _Chosen, environment: Mapping[str, str]
) -> tuple[StreamSettings, list[str]]:
    """Return the settings, and a warning about a variable that names no proxy of ours."""
    given = chosen.given("proxy")
    complaint, no_proxy = "", ""
    if given is not None:
        [proxy] = given.read(values.read_proxy_choice)
    else:
        proxy, complaint = proxy_from_environment(environment)
        no_proxy = no_proxy_from_environment(environment)
    settings = StreamSettings(
        transport=chosen.value("transport", values.read_transport, None),
        proxy=proxy,
        no_proxy=no_proxy,
        tls_ca=chosen.optional("tls-ca", Path),
    )
    return settings, [complaint] if complaint else []


def _choose_supernodes(
    layers: Sequence[Layer], invite: Invite | None
) -> tuple[SupernodeAddress, ...]:
    flags, environment, file = layers
    if invite is not None and "supernode" not in flags:
        first = SupernodeAddress(invite.host_ports, invite.fingerprint, invite.ways)
        return (first, *invite.spares)
    given = _Chosen((flags, environment, file)).given("supernode")
    supernodes = () if given is None else given.read(values.read_supernode)
    return tuple(dict.fromkeys(supernodes))


_INVITE_IS_VISIBLE = (
    "the invite shows the key to every user in the process list while this runs; the key is kept,"
    " so the next time join by the community's name (or: mesh-edge join - <FILE)"
)


def _choose_key(layers: Sequence[Layer], invite: Invite | None) -> tuple[Key, list[str]]:
    flags, environment, file = layers
    given = _key_options_in(flags)
    if invite is not None and (invite.is_open or invite.secret is not None):
        if given:
            raise given[0][1].refusal("the invite says already how to join; leave this away")
        return Key(invite.secret, is_open=invite.is_open, may_be_made=False), (
            [] if invite.secret is None else [_INVITE_IS_VISIBLE]
        )
    for layer in (flags, environment, file):
        given = _key_options_in(layer)
        if len(given) > 1:
            raise given[1][1].refusal(f"contradicts {given[0][0]}; leave one of them away")
        if given:
            return _read_key(*given[0])
    return Key(may_be_made=invite is None), []


def _key_options_in(layer: Layer) -> list[tuple[str, Given]]:
    return [(name, layer[name]) for name in _KEY_OPTIONS if name in layer]


def _read_key(name: str, given: Given) -> tuple[Key, list[str]]:
    if name == "open":
        return Key(is_open=True, may_be_made=False), []
    if name == "key-file":
        where = f"{given.where}: {given.key}" if given.key else given.where
        secret, warnings = read_key_file(Path(given.texts[0]), where)
        return Key(secret, may_be_made=False), warnings
    secret = given.read(values.read_secret)[0]
    warnings = (
        ["--key shows the key to every user in the process list; prefer --key-file or MESH_KEY"]
        if given.is_flag
        else []
    )
    return Key(secret, may_be_made=False), warnings
