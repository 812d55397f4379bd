"""From the facts of a check to a verdict in words, and what the user could do.

Two tables. `VERDICTS` holds, from bad to good and from sure to unsure, when each verdict is due:
the first one that fits is it. `ADVICE` holds what may be worth doing, each piece on its own.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from mesh.cli.netcheck.facts import Answer, Facts, Filtering, Key, Mapping, NatFacts, WayFacts


class Kind(enum.StrEnum):
    """How well this machine can be part of a mesh; the first word of the report."""

    OFFLINE = "offline"
    BLOCKED = "blocked"
    TCP_ONLY = "tcp-only"
    UDP_443_ONLY = "udp-443-only"
    OPEN = "open"
    MAPPED = "mapped"
    EASY = "easy"
    HARD = "hard"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What it comes to.

    Attributes:
        kind: in one word.
        summary: in one sentence.
        advice: what the user could do, most useful first; may be empty.
    """

    kind: Kind
    summary: str
    advice: tuple[str, ...]


def judge(facts: Facts) -> Verdict:
    """Return the verdict on ``facts``."""
    known = _Known(facts)
    kind = next(rule.kind for rule in VERDICTS if rule.is_due(known))
    summary = next(rule.summary for rule in VERDICTS if rule.kind is kind)
    return Verdict(
        kind, summary, tuple(piece.text for piece in ADVICE if piece.is_due(known, kind))
    )


class _Known:
    """The facts, as the tables ask for them."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        ways = facts.supernodes
        self.udp = any(way.udp is Answer.ANSWERED for way in ways)
        self.udp_ipv4 = _has_udp(ways, "ipv4")
        self.udp_ipv6 = _has_udp(ways, "ipv6")
        self.udp_443 = any(way.udp_443 is Answer.ANSWERED for way in ways)
        self.tcp = any(Answer.ANSWERED in {way.tcp, way.tcp_443} for way in ways) or any(
            stream.answer is Answer.ANSWERED for stream in facts.streams
        )
        self.tcp_443_passes = any(way.tcp_443 in {Answer.ANSWERED, Answer.OPEN} for way in ways)
        self.is_online = facts.local.has_ipv4 or facts.local.has_ipv6
        self.is_mapped = any(one.external and one.is_public for one in facts.port_mapping)
        self.is_mapped_in_vain = not self.is_mapped and any(
            one.external for one in facts.port_mapping
        )
        self.is_mapping_refused = bool(facts.port_mapping) and not any(
            one.external for one in facts.port_mapping
        )
        # Peers without IPv6 are many: it decides only where there is nothing else.
        nat = facts.nat if self.udp_ipv4 else facts.ipv6 if self.udp_ipv6 else NatFacts()
        self.is_open = nat.mapping is Mapping.NONE and nat.filtering is Filtering.ADDRESS
        self.is_easy = nat.mapping in {Mapping.NONE, Mapping.INDEPENDENT}
        self.is_hard = nat.mapping is Mapping.DEPENDENT
        self.has_wrong_key = any(way.key is Key.WRONG for way in ways)
        self.is_narrow = any(way.mtu == 0 and way.udp is Answer.ANSWERED for way in ways)


def _has_udp(ways: tuple[WayFacts, ...], family: str) -> bool:
    return any(way.udp is Answer.ANSWERED for way in ways if way.family == family)


class Rule(NamedTuple):
    """When a verdict is due, and what it says."""

    kind: Kind
    is_due: Callable[[_Known], bool]
    summary: str


VERDICTS: Final = (
    Rule(
        Kind.OPEN,
        lambda known: known.is_open,
        "This machine can be reached by everybody: every peer gets a direct path.",
    ),
    Rule(
        Kind.MAPPED,
        lambda known: known.udp and known.is_mapped,
        "The router forwards a port to this machine when asked: every peer gets a direct path.",
    ),
    Rule(
        Kind.EASY,
        lambda known: known.is_easy,
        "Peers get a direct path, unless their own NAT is a symmetric one with which guessing"
        " fails.",
    ),
    Rule(
        Kind.HARD,
        lambda known: known.is_hard,
        "This NAT uses another port for every destination (symmetric): peers with the same kind are"
        " reached through the supernode, others directly after some guessing at ports.",
    ),
    Rule(
        Kind.UNKNOWN,
        lambda known: known.udp,
        "Supernodes are reached by UDP, but the kind of NAT in between could not be found out.",
    ),
    Rule(
        Kind.UDP_443_ONLY,
        lambda known: known.udp_443,
        "UDP passes to port 443 only: the supernode is reached there, other peers mostly through"
        " it.",
    ),
    Rule(
        Kind.TCP_ONLY,
        lambda known: known.tcp,
        "UDP does not pass: everything goes through the supernode by TCP, which works and is"
        " slower.",
    ),
    Rule(
        Kind.BLOCKED,
        lambda known: known.is_online or bool(known.facts.local.addresses),
        "No supernode answers, neither by UDP nor by TCP.",
    ),
    Rule(
        Kind.OFFLINE,
        lambda _: True,
        "This machine has no network.",
    ),
)


class Advice(NamedTuple):
    """Something to do, and when it is worth saying."""

    is_due: Callable[[_Known, Kind], bool]
    text: str


_NEEDS_HELP: Final = frozenset({Kind.HARD, Kind.EASY})

ADVICE: Final = (
    Advice(
        lambda known, _: known.has_wrong_key,
        "A supernode proved another key than the one that is known: if its owner did not change it,"
        " somebody pretends to be it. Ask for a new invite or fingerprint.",
    ),
    Advice(
        lambda _, kind: kind is Kind.OFFLINE,
        "Connect this machine to a network.",
    ),
    Advice(
        lambda known, kind: kind is Kind.BLOCKED and not known.is_online,
        "There is no default route: check the router, or set one.",
    ),
    Advice(
        lambda known, kind: kind is Kind.BLOCKED and known.is_online,
        "Check that the supernode runs and that its address and port are right; then let UDP, or at"
        " least TCP, out to that port in the firewalls on the way.",
    ),
    Advice(
        lambda known, kind: kind is Kind.BLOCKED and known.tcp_443_passes,
        "TCP to port 443 passes: a supernode that listens there (--listen-ws, or behind a web"
        " server) would be reached.",
    ),
    Advice(
        lambda known, kind: kind is Kind.BLOCKED and not known.tcp_443_passes,
        "If this network wants everything to go through an HTTP proxy, join with --proxy.",
    ),
    Advice(
        lambda _, kind: kind is Kind.TCP_ONLY,
        "Let UDP out to the supernode's port, or use a supernode on UDP port 443, which some"
        " firewalls let pass.",
    ),
    Advice(
        lambda _, kind: kind is Kind.UDP_443_ONLY,
        "Name the supernode with port 443: --supernode HOST:443.",
    ),
    Advice(
        lambda known, kind: kind in _NEEDS_HELP and known.is_mapping_refused,
        "The router can forward ports but refused: allow UPnP, NAT-PMP or PCP for this machine.",
    ),
    Advice(
        lambda known, kind: kind in _NEEDS_HELP and known.is_mapped_in_vain,
        "The router forwards ports, but is itself behind another NAT: ask the provider for a public"
        " address, or forward the port in the outer router as well.",
    ),
    Advice(
        lambda known, kind: kind is Kind.HARD and not known.facts.port_mapping,
        "Switch UPnP, NAT-PMP or PCP on in the router; or forward a UDP port N to this machine and"
        " join with --port N --advertise PUBLIC-ADDRESS:N.",
    ),
    Advice(
        lambda known, kind: kind is Kind.HARD and not known.facts.local.has_ipv6,
        "IPv6 has no such NAT: with it, peers that have it too are reached directly.",
    ),
    Advice(
        lambda known, kind: kind is Kind.HARD and known.udp_ipv6,
        "IPv6 works here: peers that have it too are reached directly all the same.",
    ),
    Advice(
        lambda _, kind: kind is Kind.UNKNOWN,
        "Name a supernode out on the internet with --supernode, or a second one: what they see"
        " tells what the NAT does.",
    ),
    Advice(
        lambda known, _: known.is_narrow,
        "Packets of 1280 bytes are lost on the way to a supernode: find the link or tunnel with the"
        " small MTU, or join with --mtu 1000.",
    ),
)
