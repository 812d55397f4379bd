"""Invites: everything another machine needs, in one URL; docs/protocol.md section 16.

``mesh://ENDPOINT[,ENDPOINT...]/COMMUNITY?s=FINGERPRINT[&w=WAY[,WAY...]][&also=...][&open=1][#SECRET]``
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import quote, unquote

from mesh.cli.values import (
    HostPort,
    SupernodeAddress,
    format_kept_supernode,
    read_community,
    read_fingerprint,
    read_host_port,
    read_kept_supernode,
    read_secret,
    read_way,
)
from mesh.errors import ConfigError
from mesh.net.stream_way import StreamWay

SCHEME = "mesh://"
MAX_INVITE_BYTES = 4096  # an invite is typed, scanned or sent in a message
MAX_INVITE_ENDPOINTS = 16
MAX_INVITE_WAYS = 4
MAX_INVITE_SPARES = 7

_BETWEEN_SPARES = "|"  # stands in no place

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNSEEN = re.compile(r"[^!-~]")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Invite:
    """What an invite says.

    Attributes:
        host_ports: where the supernode may answer; at least one.
        community: the community's name, NFC.
        fingerprint: the supernode's, 32 characters.
        ways: streams that lead to the supernode.
        spares: further supernodes of the community, each with its fingerprint.
        is_open: the community has no secret.
        secret: the community's secret, or None where it is open or told otherwise.
    """

    host_ports: tuple[HostPort, ...]
    community: str
    fingerprint: str
    ways: tuple[StreamWay, ...] = ()
    spares: tuple[SupernodeAddress, ...] = ()
    is_open: bool = False
    secret: str | None = field(default=None, repr=False)


def is_invite(text: str) -> bool:
    """Whether the argument is meant as an invite and not as a community's name."""
    return text[: len(SCHEME)].lower() == SCHEME


def format_invite(invite: Invite) -> str:
    """Return the URL; everything in it is printable ASCII without spaces."""
    endpoints = ",".join(map(str, invite.host_ports[:MAX_INVITE_ENDPOINTS]))
    url = f"{SCHEME}{endpoints}/{quote(invite.community, safe='')}?s={invite.fingerprint}"
    if invite.ways:
        url += "&w=" + quote(",".join(map(str, invite.ways[:MAX_INVITE_WAYS])), safe=",/:")
    if invite.spares:
        spares = map(format_kept_supernode, invite.spares[:MAX_INVITE_SPARES])
        url += "&also=" + quote(_BETWEEN_SPARES.join(spares), safe=",/:[]")
    if invite.is_open:
        return url + "&open=1"
    return url if invite.secret is None else f"{url}#{quote(invite.secret, safe='')}"


def parse_invite(text: str) -> Invite:
    """Read an invite, strictly: one that was cut off or mistyped must not half work.

    Raises:
        ConfigError: ``where`` is "invite", ``key`` the part that is wrong. The message never
            repeats the secret.
    """
    if not is_invite(text):
        raise _broken("scheme", f"an invite starts with {SCHEME}")
    if len(text) > MAX_INVITE_BYTES:
        raise _broken("length", f"it has more than {MAX_INVITE_BYTES} characters")
    if _UNSEEN.search(text):
        raise _broken("text", "it holds a space, a line break or a character beyond ASCII")
    # Cut from the right end of the grammar to the left, so that each part may hold any character
    # that only those behind it give a meaning.
    rest, has_secret, secret = text[len(SCHEME) :].partition("#")
    rest, _, query = rest.partition("?")
    authority, slash, community = rest.partition("/")
    if not slash or "/" in community:
        raise _broken("community", "it has no /COMMUNITY behind the supernode")
    parameters = _parse_query(query)
    invite = Invite(
        host_ports=_parse_host_ports(authority),
        community=_read("community", read_community, _unescape("community", community)),
        fingerprint=_read("s", read_fingerprint, parameters["s"]),
        ways=_parse_ways(parameters["w"]) if "w" in parameters else (),
        spares=_parse_spares(parameters["also"]) if "also" in parameters else (),
        is_open="open" in parameters,
        secret=_read("secret", read_secret, _unescape("secret", secret)) if has_secret else None,
    )
    if invite.is_open and has_secret:
        raise _broken("open", "it says that the community is open and holds a secret too")
    return invite


def _parse_host_ports(authority: str) -> tuple[HostPort, ...]:
    places = authority.split(",")
    if len(places) > MAX_INVITE_ENDPOINTS:
        raise _broken("supernode", f"it names more than {MAX_INVITE_ENDPOINTS} endpoints")
    host_ports = tuple(_read("supernode", read_host_port, place) for place in places)
    _refuse_zones("supernode", host_ports)
    return host_ports


def _refuse_zones(key: str, host_ports: tuple[HostPort, ...]) -> None:
    for host_port in host_ports:
        if "%" in host_port.host:
            raise _broken(key, f"{host_port} has a zone, which means nothing elsewhere")


def _parse_spares(text: str) -> tuple[SupernodeAddress, ...]:
    texts = _unescape("also", text).split(_BETWEEN_SPARES)
    if len(texts) > MAX_INVITE_SPARES:
        raise _broken("also", f"it names more than {MAX_INVITE_SPARES} supernodes")
    spares = tuple(_read("also", read_kept_supernode, one) for one in texts)
    for spare in spares:
        _refuse_zones("also", spare.host_ports)
    return spares


def _parse_ways(text: str) -> tuple[StreamWay, ...]:
    texts = _unescape("w", text).split(",")
    if len(texts) > MAX_INVITE_WAYS:
        raise _broken("w", f"it names more than {MAX_INVITE_WAYS} ways")
    return tuple(_read("w", read_way, text) for text in texts)


def _parse_query(query: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for item in query.split("&") if query else []:
        name, _, value = item.partition("=")
        if name in parameters:
            raise _broken(name, "it stands there twice")
        if name not in {"s", "w", "also", "open"}:
            raise _broken("parameters", f"{name!r} is unknown; is theirs a newer mesh-edge?")
        parameters[name] = value
    if "s" not in parameters:
        raise _broken("s", "the supernode's fingerprint is missing; was the invite cut off?")
    if parameters.get("open", "1") != "1":
        raise _broken("open", f"it is {parameters['open']!r}; only open=1 is known")
    return parameters


def _unescape(key: str, text: str) -> str:
    if _BAD_ESCAPE.search(text):
        raise _broken(key, "a % in it is not followed by two hex digits")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise _broken(key, "it is not UTF-8 once its % escapes are read") from None


def _read(key: str, read: Callable[[str], _Value], text: str) -> _Value:
    try:
        return read(text)
    except ValueError as error:
        raise _broken(key, str(error)) from None


def _broken(key: str, message: str) -> ConfigError:
    return ConfigError("invite", key, message)
