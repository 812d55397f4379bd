"""The verdict on every combination of what can be found."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest

from mesh.cli.netcheck.facts import (
    Answer,
    Facts,
    Filtering,
    Key,
    LocalFacts,
    Mapping,
    NatFacts,
    RouterFacts,
    StreamFacts,
    WayFacts,
)
from mesh.cli.netcheck.verdict import ADVICE, VERDICTS, Kind, judge

ONLINE = LocalFacts(("192.168.1.2/24",), ("192.168.1.1",), has_ipv4=True)
DUAL_STACK = LocalFacts(ONLINE.addresses, ONLINE.gateways, has_ipv4=True, has_ipv6=True)
ALONE = LocalFacts(("192.168.1.2/24",))
NOTHING = LocalFacts()
MAPS = (RouterFacts("pcp", "ipv4", "192.168.1.1", "45.0.1.2:4000", is_public=True),)
MAPS_IN_VAIN = (RouterFacts("pcp", "ipv4", "192.168.1.1", "100.64.0.2:4000", is_public=False),)
REFUSES = (RouterFacts("upnp", "ipv4", "192.168.1.1", "", is_public=False),)
EASY = NatFacts(Mapping.INDEPENDENT, Filtering.PORT)
HARD = NatFacts(Mapping.DEPENDENT, Filtering.PORT)
PUBLIC = NatFacts(Mapping.NONE, Filtering.ADDRESS)
FIREWALLED = NatFacts(Mapping.NONE, Filtering.PORT)
UNKNOWN = NatFacts()
WEB = StreamFacts("sn:7777", "wss://sn:443/mesh", Answer.ANSWERED)


def way(udp: Answer = Answer.ANSWERED, family: str = "ipv4", **others: object) -> WayFacts:
    return WayFacts("sn:7777", "5.0.0.1:7777", family, udp, **others)  # type: ignore[arg-type]


def facts(
    *ways: WayFacts,
    nat: NatFacts = UNKNOWN,
    ipv6: NatFacts = UNKNOWN,
    mapping: tuple[RouterFacts, ...] = (),
    local: LocalFacts = ONLINE,
) -> Facts:
    return Facts("--supernode", ways or (way(),), nat, ipv6, mapping, local)


def everything() -> Iterator[Facts]:
    ways = itertools.product(
        (Answer.ANSWERED, Answer.SILENT),
        ("ipv4", "ipv6"),
        (Key.RIGHT, Key.WRONG),
        (0, 1500),
        (Answer.ANSWERED, Answer.REFUSED, Answer.SILENT),
        (Answer.ANSWERED, Answer.SILENT),
        (Answer.ANSWERED, Answer.OPEN, Answer.SILENT),
    )
    nats = [NatFacts(mapping, filtering) for mapping in Mapping for filtering in Filtering]
    for udp, family, key, mtu, tcp, udp_443, tcp_443 in ways:
        one = way(udp, family, key=key, mtu=mtu, tcp=tcp, udp_443=udp_443, tcp_443=tcp_443)
        for nat, router in itertools.product(nats, ((), MAPS, MAPS_IN_VAIN, REFUSES)):
            for local in (ONLINE, DUAL_STACK, ALONE, NOTHING):
                yield facts(one, nat=nat, ipv6=nat, mapping=router, local=local)


def test_every_combination_has_a_verdict_that_fits_what_is_reached() -> None:
    for found in everything():
        verdict = judge(found)
        [one] = found.supernodes
        has_udp = one.udp is Answer.ANSWERED
        if has_udp:
            assert verdict.kind in {Kind.OPEN, Kind.MAPPED, Kind.EASY, Kind.HARD, Kind.UNKNOWN}
        elif one.udp_443 is Answer.ANSWERED:
            assert verdict.kind is Kind.UDP_443_ONLY
        elif Answer.ANSWERED in {one.tcp, one.tcp_443}:
            assert verdict.kind is Kind.TCP_ONLY
        else:
            assert verdict.kind in {Kind.BLOCKED, Kind.OFFLINE}
            assert (verdict.kind is Kind.OFFLINE) is (not found.local.addresses)
        if verdict.kind not in {Kind.OPEN, Kind.MAPPED, Kind.EASY}:
            assert verdict.advice, verdict.kind
        assert (one.key is Key.WRONG) is any("another key" in text for text in verdict.advice)


def test_every_verdict_and_every_piece_of_advice_is_given_some_time() -> None:
    kinds, said = set(), set()
    both = facts(way(), way(family="ipv6"), nat=HARD, ipv6=FIREWALLED)
    for found in itertools.chain(everything(), [both]):
        verdict = judge(found)
        kinds.add(verdict.kind)
        said.update(verdict.advice)
    assert kinds == set(Kind) == {rule.kind for rule in VERDICTS}
    assert said == {piece.text for piece in ADVICE}


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (facts(nat=PUBLIC), Kind.OPEN),
        (facts(nat=FIREWALLED), Kind.EASY),
        (facts(nat=EASY), Kind.EASY),
        (facts(nat=HARD), Kind.HARD),
        (facts(nat=HARD, mapping=MAPS), Kind.MAPPED),
        (facts(nat=HARD, mapping=MAPS_IN_VAIN), Kind.HARD),
        (facts(nat=UNKNOWN), Kind.UNKNOWN),
        (facts(way(Answer.SILENT), way(family="ipv6"), nat=HARD, ipv6=FIREWALLED), Kind.EASY),
        (facts(way(), way(family="ipv6"), nat=HARD, ipv6=FIREWALLED), Kind.HARD),
        (facts(way(), way(family="ipv6"), nat=EASY, ipv6=PUBLIC), Kind.EASY),
        # What is known of a family in which nothing is reached is of no use.
        (facts(way(Answer.SILENT), nat=PUBLIC, mapping=MAPS), Kind.BLOCKED),
        (facts(way(Answer.SILENT, tcp=Answer.ANSWERED)), Kind.TCP_ONLY),
        (facts(way(Answer.SILENT, tcp=Answer.OPEN)), Kind.BLOCKED),
        (facts(way(Answer.SILENT, tcp_443=Answer.ANSWERED)), Kind.TCP_ONLY),
        (
            facts(way(Answer.SILENT, udp_443=Answer.ANSWERED, tcp=Answer.ANSWERED)),
            Kind.UDP_443_ONLY,
        ),
        (replace(facts(way(Answer.SILENT)), streams=(WEB,)), Kind.TCP_ONLY),
        (facts(way(Answer.NO_ROUTE), local=NOTHING), Kind.OFFLINE),
        (facts(way(Answer.NO_ROUTE), local=ALONE), Kind.BLOCKED),
        (facts(way(Answer.SILENT), way(Answer.ANSWERED), nat=EASY), Kind.EASY),
    ],
)
def test_what_it_comes_to(found: Facts, kind: Kind) -> None:
    assert judge(found).kind is kind


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (facts(nat=HARD), "Switch UPnP"),
        (facts(nat=HARD), "IPv6"),
        (facts(nat=HARD, mapping=REFUSES), "refused"),
        (facts(nat=EASY, mapping=MAPS_IN_VAIN), "another NAT"),
        (facts(way(Answer.SILENT, tcp_443=Answer.OPEN)), "--listen-ws"),
        (facts(way(Answer.SILENT)), "--proxy"),
        (facts(way(Answer.NO_ROUTE), local=ALONE), "default route"),
        (facts(way(mtu=0), nat=EASY), "--mtu"),
    ],
)
def test_what_is_advised(found: Facts, words: str) -> None:
    assert any(words in text for text in judge(found).advice)


@pytest.mark.parametrize(
    "found", [facts(nat=PUBLIC), facts(nat=EASY), facts(nat=HARD, mapping=MAPS)]
)
def test_who_needs_nothing_is_told_to_do_nothing(found: Facts) -> None:
    assert judge(found).advice == ()


def test_who_has_ipv6_is_not_told_to_get_it() -> None:
    advice = judge(facts(nat=HARD, local=DUAL_STACK)).advice
    assert not any("IPv6" in text for text in advice)
