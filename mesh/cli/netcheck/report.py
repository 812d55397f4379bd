"""What a check prints: one JSON document, or a few tables for people."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, TextIO

from rich.text import Text

from mesh.cli.netcheck.facts import Answer, Facts, Key, NatFacts, RouterFacts, StreamFacts, WayFacts
from mesh.cli.netcheck.verdict import Kind, Verdict
from mesh.cli.tables import milliseconds, print_table

_STYLES: Final[Mapping[Kind, str]] = {
    Kind.OFFLINE: "red",
    Kind.BLOCKED: "red",
    Kind.TCP_ONLY: "yellow",
    Kind.UDP_443_ONLY: "yellow",
    Kind.HARD: "yellow",
    Kind.UNKNOWN: "yellow",
    Kind.EASY: "green",
    Kind.MAPPED: "green",
    Kind.OPEN: "green",
}
_COLUMNS: Final = ("supernode", "endpoint", "udp", "rtt", "mtu", "tcp", "udp 443", "tcp 443")
_YES_NO: Final = {True: "yes", False: "no", None: "-"}


def document(facts: Facts, verdict: Verdict) -> dict[str, Any]:
    """Return what ``--json`` prints: the verdict, then the fields of `Facts`."""
    return {"verdict": dataclasses.asdict(verdict), **dataclasses.asdict(facts)}


def print_report(facts: Facts, verdict: Verdict, out: TextIO) -> None:
    """Print the supernodes, what is in between, the verdict, and what could be done."""
    if facts.supernodes:
        print_table(_COLUMNS, [_way_row(way) for way in facts.supernodes], out, empty="")
    else:
        out.write("no supernode has an address\n")
    out.write("\n")
    rows: list[tuple[str, str | Text]] = [
        ("supernodes from", facts.source),
        ("addresses", " ".join(facts.local.addresses) or "none"),
        ("default routes", " ".join(facts.local.gateways) or "none"),
        ("nat, ipv4", _nat(facts.nat)),
        ("hairpin", _YES_NO[facts.nat.hairpin]),
        ("ipv6", _nat(facts.ipv6) if facts.local.has_ipv6 else "none"),
        ("streams", ", ".join(map(_stream, facts.streams)) or "none tried"),
        ("port mapping", ", ".join(map(_router, facts.port_mapping)) or "none"),
        ("verdict", Text(verdict.kind.value, style=_STYLES[verdict.kind])),
    ]
    print_table(None, rows, out, empty="")
    out.write(f"\n{verdict.summary}\n")
    out.writelines(f"- {piece}\n" for piece in verdict.advice)


def _way_row(way: WayFacts) -> tuple[str, ...]:
    udp = way.udp.value
    if way.key is Key.WRONG:
        udp += ", wrong key"
    return (
        way.supernode,
        way.endpoint,
        udp,
        milliseconds(way.rtt_ms),
        "-" if way.mtu is None else "below 1280" if way.mtu == 0 else str(way.mtu),
        *map(_shown, (way.tcp, way.udp_443, way.tcp_443)),
    )


def _shown(answer: Answer) -> str:
    return "-" if answer is Answer.UNTRIED else answer.value


def _nat(nat: NatFacts) -> str:
    if not nat.seen_as:
        return "unknown: nobody said where this machine is seen"
    parts = [
        f"mapping {nat.mapping.value}",
        f"filtering {nat.filtering.value}",
        f"ports {nat.ports}",
        f"seen as {' '.join(nat.seen_as)}",
    ]
    return "; ".join(parts)


def _stream(stream: StreamFacts) -> str:
    return f"{stream.way} {stream.answer.value}"


def _router(router: RouterFacts) -> str:
    if not router.external:
        return f"{router.protocol} refuses"
    behind = "" if router.is_public else ", which is behind another NAT"
    return f"{router.protocol} forwards from {router.external}{behind}"
