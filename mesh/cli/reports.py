"""Events in the words of an operator: what is worth a log line, and how loud."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

from mesh import events
from mesh.addresses import EdgeId
from mesh.cli.terminal import printable
from mesh.constants import PROTOCOL_VERSION
from mesh.events import Event, PathKind


class Line(NamedTuple):
    """One log line; lines with one ``reason`` are limited together."""

    level: int
    text: str
    reason: str


def describe(event: Event, supernodes: Sequence[str]) -> Line | None:
    """Return the line for ``event``, or None where an operator need not know.

    Args:
        event: from an edge's engine.
        supernodes: the names of the supernodes by number.
    """
    match event:
        case events.PeerUp():
            return _line(event, f"{_name(event.name, event.peer)} is up", event.peer)
        case events.PeerDown():
            return _line(event, f"{_name(event.name, event.peer)} is gone", event.peer)
        case events.PathChanged():
            return _line(event, _describe_path(event), event.peer + event.kind.encode())
        case events.StreamWanted(number):
            return _line(event, f"{supernodes[number]} does not answer by UDP: trying streams too")
        case events.StreamUnwanted(number):
            return _line(event, f"{supernodes[number]} answers by UDP: no stream is needed")
        case _:
            return _describe_rarer(event, supernodes)


def _describe_rarer(event: Event, supernodes: Sequence[str]) -> Line | None:
    match event:
        case events.GuessFailed(peer, name, retry_in):
            text = f"{_name(name, peer)}: guessing at ports found no direct path; again in "
            return _line(event, f"{text}{retry_in:.0f} s", peer)
        case events.PathMeasured(peer, name, mtu):
            text = f"{_name(name, peer)}: the path carries packets of {mtu} bytes"
            return _line(event, text, peer)
        case _:
            return _describe_supernode(event, supernodes)


def _describe_path(event: events.PathChanged) -> str:
    name = _name(event.name, event.peer)
    rtt = "" if event.rtt is None else f", {1000 * event.rtt:.1f} ms"
    match event.kind:
        case PathKind.DIRECT:
            return f"{name}: direct via {event.endpoint}{rtt}"
        case PathKind.RELAY:
            return f"{name}: through the relay{rtt}"
        case PathKind.NONE:
            return f"{name}: no path"


def _describe_supernode(event: Event, supernodes: Sequence[str]) -> Line | None:
    text, level = "", logging.INFO
    match event:
        case events.Registered(number, _, seen_as, is_first):
            again = "" if is_first else " again"
            text = f"registered{again} with {supernodes[number]}, seen as {seen_as}"
        case events.SupernodeSeen(number, fingerprint):
            text = f"first contact with {supernodes[number]}: its key is {fingerprint}"
        case events.SupernodeLost(number, silent_for):
            text = f"{supernodes[number]} is silent for {silent_for:.0f} s; trying on"
            level = logging.WARNING
        case events.SupernodeKeyMismatch(number, expected, found):
            text = f"{supernodes[number]} has key {found}, not {expected}: refused"
            level = logging.ERROR
        case events.Refused(number, reason, detail):
            text = f"{supernodes[number]}: {reason.sentence}" + (
                f" ({printable(detail)})" if detail else ""
            )
            level = logging.ERROR
        case events.Replaced(number):
            text = f"{supernodes[number]}: another machine registered with this edge's identity; "
            text += "not used any more"
            level = logging.ERROR
        case events.LeaseDistrusted(number, address):
            text = f"{supernodes[number]} leased {address}, which is no address for a private LAN: "
            text += "not configured; use --address CIDR or another supernode"
            level = logging.WARNING
        case events.LeasesDiffer(number, address, in_use):
            text = f"{supernodes[number]} leased {address}, another one {in_use}, which stays: "
            text += "if a member has the same address, use --address CIDR"
            level = logging.WARNING
        case events.SupernodeVersion(number, version):
            text = f"{supernodes[number]} speaks protocol version {version}, we speak "
            text += f"{PROTOCOL_VERSION}; upgrade one of them"
            level = logging.WARNING
        case _:  # the rest is a supernode's or a probe's
            return None
    return _line(event, text, level=level)


def _line(event: Event, text: str, about: bytes = b"", level: int = logging.INFO) -> Line:
    return Line(level, text, f"{type(event).__name__} {about.hex()}")


def _name(name: str, peer: EdgeId) -> str:
    return printable(name) or peer.hex()[:8]
