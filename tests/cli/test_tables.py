"""Tables for people."""

import io
from typing import Any

import pytest

from mesh.cli.tables import amount, duration, print_fdb, print_peers, print_status

PEER: dict[str, Any] = {
    "id": "00" * 16,
    "name": "[red]desk\x1b[2J[/red]",
    "mac": "02:00:00:00:00:01",
    "addresses": ["10.1.2.3/22", "fd00::1/64"],
    "path": {"kind": "direct", "transport": "udp", "endpoint": "[2001:db8::1]:5", "rtt_ms": 1.25},
    "session": {"established": True, "suite": "25519_AESGCM_SHA256", "age_s": 1.0},
    "tx_bytes": 1500,
    "rx_bytes": 0,
    "tx_frames": 1,
    "rx_frames": 0,
    "last_seen_s": None,
}
STATUS: dict[str, Any] = {
    "community": "lan",
    "id": "ab" * 16,
    "name": "desk",
    "mac": "02:00:00:00:00:01",
    "addresses": ["10.1.2.3/22"],
    "mtu": 1500,
    "supernodes": [
        {
            "endpoint": "5.6.7.8:443",
            "connected": False,
            "rtt_ms": None,
            "transport": "tcp",
            "is_primary": False,
        },
        {
            "endpoint": "1.2.3.4:7777",
            "connected": True,
            "rtt_ms": 3,
            "transport": "udp",
            "is_primary": True,
        },
    ],
    "endpoint": "5.6.7.8:9",
    "nat": "easy",
    "nat_detail": {"ports": "preserved"},
    "peers": 2,
    "mapped": [],
    "drops": {"malformed": 3, "replayed": 0},
    "tap": "mesh0",
    "offload": False,
    "realtime": False,
    "uptime_s": 61.0,
    "version": "0",
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def peers_on(out: io.StringIO, *peers: dict[str, Any]) -> str:
    print_peers(peers, out)
    return out.getvalue()


def test_a_path_says_what_carries_it_where_that_is_not_udp() -> None:
    path = {"kind": "relay", "transport": "tcp", "endpoint": "1.2.3.4:443", "rtt_ms": 1.0}
    assert "relay (tcp)" in peers_on(io.StringIO(), {**PEER, "path": path})
    assert "(udp)" not in peers_on(io.StringIO(), PEER)


def test_a_hostile_name_is_shown_as_text_and_read_as_no_markup() -> None:
    shown = peers_on(io.StringIO(), PEER)
    assert "[red]desk\\x1b[2J[/red]" in shown
    assert "\x1b" not in shown


def test_a_pipe_gets_whole_lines_without_colour() -> None:
    header, row = peers_on(io.StringIO(), PEER).splitlines()
    assert header.split()[:3] == ["name", "id", "addresses"]
    assert "10.1.2.3 fd00::1" in row
    assert "[2001:db8::1]:5" in row
    assert "1.2 ms" in row
    assert "1.5 kB / 0 B" in row
    assert row == row.rstrip()


def test_a_terminal_gets_colour_unless_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[32m" in peers_on(Terminal(), PEER)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in peers_on(Terminal(), PEER)


def test_empty_tables_say_so() -> None:
    assert peers_on(io.StringIO()) == "no peers yet\n"
    out = io.StringIO()
    print_fdb([], out)
    assert out.getvalue() == "no addresses learnt yet\n"


def test_columns_are_aligned() -> None:
    lines = peers_on(io.StringIO(), {**PEER, "name": "a"}, {**PEER, "name": "b" * 30}).splitlines()
    assert len({line.index("direct") for line in lines[1:]}) == 1


def test_the_status_shows_what_matters() -> None:
    out = io.StringIO()
    print_status(STATUS, out)
    shown = out.getvalue()
    for part in (
        "lan",
        "mesh0",
        "supernode  1.2.3.4:7777 by UDP, connected, 3.0 ms",
        "spare      5.6.7.8:443 by TCP, not connected",
        "easy",
        "malformed 3",
        "1 min",
    ):
        assert part in shown
    assert "replayed" not in shown
    assert "mapped     -" in shown


def test_the_status_shows_mapped_ports() -> None:
    out = io.StringIO()
    mapped = [{"protocol": "pcp", "external": "45.0.0.1:7801", "expires_s": 7000.0}]
    print_status({**STATUS, "mapped": mapped}, out)
    assert "45.0.0.1:7801 (pcp)" in out.getvalue()


def test_a_lost_supernode_shows() -> None:
    out = io.StringIO()
    supernodes = [{**one, "connected": False, "rtt_ms": None} for one in STATUS["supernodes"]]
    print_status({**STATUS, "supernodes": supernodes}, out)
    assert "supernode  1.2.3.4:7777 by UDP, not connected" in out.getvalue()


def test_durations_and_amounts_have_two_digits_that_say_something() -> None:
    assert [duration(s) for s in (0, 59.4, 61, 3661, 90000)] == [
        "0 s",
        "59 s",
        "1 min 1 s",
        "1 h 1 min",
        "1 d 1 h",
    ]
    assert [amount(n) for n in (0, 999, 1000, 1_500_000, 2 * 10**9, 3 * 10**12)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.5 MB",
        "2.0 GB",
        "3.0 TB",
    ]
