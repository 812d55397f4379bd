"""Events in the words of an operator."""

import logging

import pytest

from mesh import events
from mesh.addresses import EdgeId, Endpoint
from mesh.cli.reports import describe
from mesh.errors import RefusalReason
from mesh.events import Event, PathKind

PEER = EdgeId(bytes(range(16)))
SEEN_AS = Endpoint("198.51.100.7", 4242)
SUPERNODES = ("supernode vpn.example:7777",)


@pytest.mark.parametrize(
    ("event", "level", "parts"),
    [
        (events.PeerUp(PEER, "desk"), logging.INFO, ["desk", "up"]),
        (events.PeerUp(PEER, ""), logging.INFO, ["00010203"]),
        (events.PeerDown(PEER, "desk"), logging.INFO, ["desk", "gone"]),
        (
            events.PathChanged(PEER, "desk", PathKind.DIRECT, SEEN_AS, 0.0123),
            logging.INFO,
            ["desk", "direct", "198.51.100.7:4242", "12.3 ms"],
        ),
        (
            events.PathChanged(PEER, "desk", PathKind.RELAY, SEEN_AS, None),
            logging.INFO,
            ["desk", "relay"],
        ),
        (
            events.GuessFailed(PEER, "desk", 62.3),
            logging.INFO,
            ["desk", "no direct path", "again in 62 s"],
        ),
        (events.PathMeasured(PEER, "desk", 1400), logging.INFO, ["desk", "packets of 1400 bytes"]),
        (events.PathChanged(PEER, "desk", PathKind.NONE, None, None), logging.INFO, ["no path"]),
        (
            events.Registered(0, "10.1.2.3/22", SEEN_AS, is_first=True),
            logging.INFO,
            ["registered with supernode vpn.example:7777", "198.51.100.7:4242"],
        ),
        (
            events.Registered(0, "10.1.2.3/22", SEEN_AS, is_first=False),
            logging.INFO,
            ["registered again"],
        ),
        (events.SupernodeSeen(0, "f" * 32), logging.INFO, ["first contact", "f" * 32]),
        (events.SupernodeLost(0, 8.4), logging.WARNING, ["silent for 8 s"]),
        (
            events.SupernodeKeyMismatch(0, "a" * 32, "b" * 32),
            logging.ERROR,
            ["a" * 32, "b" * 32, "refused"],
        ),
        (
            events.Refused(0, RefusalReason.COMMUNITY_FULL, "8\nof 8"),
            logging.ERROR,
            ["as many members", "8\\nof 8"],
        ),
        (events.SupernodeVersion(0, 2), logging.WARNING, ["version 2", "upgrade"]),
    ],
)
def test_what_an_operator_should_know_is_one_line(
    event: Event, level: int, parts: list[str]
) -> None:
    line = describe(event, SUPERNODES)
    assert line is not None
    assert line.level == level
    for part in parts:
        assert part in line.text
    assert line.text.isprintable()


def test_a_hostile_name_cannot_forge_a_line() -> None:
    line = describe(events.PeerUp(PEER, "x\n2024 INFO all is well\x1b[2J"), SUPERNODES)
    assert line is not None
    assert line.text.isprintable()


def test_answers_to_pings_are_not_logged() -> None:
    assert describe(events.ProbeAnswered(PEER, b"", PathKind.RELAY, None, 0.1), SUPERNODES) is None


def test_lines_about_different_peers_are_limited_apart() -> None:
    other = EdgeId(bytes(16))
    first = describe(events.PeerUp(PEER, "a"), SUPERNODES)
    second = describe(events.PeerUp(other, "a"), SUPERNODES)
    assert first is not None
    assert second is not None
    assert first.reason != second.reason
