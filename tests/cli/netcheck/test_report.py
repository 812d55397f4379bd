"""What people and scripts are shown."""

import io
import json
from dataclasses import fields

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
    WayFacts,
)
from mesh.cli.netcheck.report import document, print_report
from mesh.cli.netcheck.verdict import Kind, judge

WAY = WayFacts(
    "sn.example:7777",
    "45.0.1.2:7777",
    "ipv4",
    Answer.ANSWERED,
    23.14,
    Key.RIGHT,
    "a" * 32,
    "45.0.2.2:4000",
    1492,
    Answer.ANSWERED,
    Answer.SILENT,
    Answer.REFUSED,
)
FACTS = Facts(
    "--supernode",
    (WAY,),
    NatFacts(Mapping.INDEPENDENT, Filtering.PORT, "changed", ("45.0.2.2:4000",), hairpin=False),
    NatFacts(),
    (
        RouterFacts("pcp", "ipv4", "192.168.1.1", "45.0.2.2:4000", is_public=True),
        RouterFacts("upnp", "ipv4", "192.168.1.1", "", is_public=False),
        RouterFacts("nat-pmp", "ipv4", "192.168.1.1", "100.64.0.9:4000", is_public=False),
    ),
    LocalFacts(("192.168.1.2/24",), ("192.168.1.1",), has_ipv4=True),
)


def shown(facts: Facts) -> str:
    out = io.StringIO()
    print_report(facts, judge(facts), out)
    return out.getvalue()


def test_the_json_holds_every_fact_under_the_name_that_it_has_in_the_code() -> None:
    read = json.loads(json.dumps(document(FACTS, judge(FACTS))))
    assert set(read) == {"verdict"} | {field.name for field in fields(Facts)}
    assert set(read["supernodes"][0]) == {field.name for field in fields(WayFacts)}
    assert read["supernodes"][0]["udp"] == "answered"
    assert read["supernodes"][0]["key"] == "right"
    assert read["nat"]["mapping"] == "endpoint-independent"
    assert read["verdict"]["kind"] == Kind.MAPPED
    assert read["verdict"]["advice"] == []


def test_people_are_shown_what_was_found_and_what_it_means() -> None:
    text = shown(FACTS)
    for words in (
        "23.1 ms",
        "1492",
        "mapping endpoint-independent; filtering by address and port; ports changed",
        "pcp forwards from 45.0.2.2:4000, upnp refuses, nat-pmp forwards from 100.64.0.9:4000,",
        "behind another NAT",
        "every peer gets a direct path.",
    ):
        assert words in text
    assert "\x1b" not in text


def test_a_wrong_key_and_a_narrow_way_stand_out() -> None:
    way = WayFacts("sn:1", "1.2.3.4:1", "ipv4", Answer.ANSWERED, 1.0, Key.WRONG, mtu=0)
    text = shown(Facts("the invite", (way,), NatFacts(), NatFacts(), (), LocalFacts()))
    assert "wrong key" in text
    assert "below 1280" in text
    assert "\n- A supernode proved another key" in text


def test_without_any_address_of_a_supernode_the_rest_is_shown() -> None:
    text = shown(Facts("the invite", (), NatFacts(), NatFacts(), (), LocalFacts()))
    assert text.startswith("no supernode has an address\n")
    assert "offline" in text


@pytest.mark.parametrize("kind", Kind)
def test_every_verdict_has_a_row_in_the_manual(kind: Kind) -> None:
    with open("docs/operations.md", encoding="utf-8") as manual:  # noqa: PTH123
        assert f"`{kind.value}`" in manual.read()
