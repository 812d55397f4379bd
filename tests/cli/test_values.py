"""The values of options: good ones in canonical form, bad ones refused with a sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.cli import values
from mesh.cli.values import HostPort, SupernodeAddress

FINGERPRINT = "abcdefghijklmnopqrstuvwxyz234567"
READERS = (
    values.read_supernode,
    values.read_port,
    values.read_mtu,
    values.read_mac,
    values.read_interface_name,
    values.read_address,
    values.read_endpoint,
    values.read_community,
    values.read_edge_name,
    values.read_secret,
)


@given(st.text())
def test_any_text_is_read_or_refused_with_one_line(text: str) -> None:
    for read in READERS:
        try:
            read(text)
        except ValueError as error:
            sentence = str(error)  # most texts raise, some may not
            assert sentence
            assert "\n" not in sentence


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("1.2.3.4:7777", "1.2.3.4", 7777),
        ("[fd00:0::1]:7777", "fd00::1", 7777),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
        ("VPN.example.org:65535", "vpn.example.org", 65535),
        ("my_host:1", "my_host", 1),
        ("vpn.example.:1", "vpn.example.", 1),
    ],
)
def test_a_host_and_port_are_read_in_canonical_form(text: str, host: str, port: int) -> None:
    assert values.read_host_port(text) == HostPort(host, port)


def test_a_host_and_port_are_written_as_they_are_read() -> None:
    for text in ("1.2.3.4:7777", "[fd00::1]:7777", "vpn.example:1"):
        assert str(values.read_host_port(text)) == text


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("vpn.example", "has no port"),
        ("", "has no port"),
        (":7777", "host name"),
        ("vpn.example:", "not a port"),
        ("vpn.example:http", "not a port"),
        ("vpn.example:0", "not a port"),
        ("vpn.example:65536", "not a port"),
        ("vpn.example:-1", "not a port"),
        ("vpn.example:\u0667", "not a port"),
        ("vpn_example!:1", "host name"),
        ("-vpn:1", "host name"),
        ("a..b:1", "host name"),
        ("x" * 64 + ":1", "host name"),
        (".".join(["x" * 60] * 5) + ":1", "host name"),
        ("10.1:1", "IPv4"),
        ("256.1.1.1:1", "IPv4"),
        ("fd00::1:7777", "[ADDRESS]:PORT"),
        ("[10.0.0.1]:7777", "IPv6"),
        ("[fd00::1]", "has no port"),
    ],
)
def test_a_bad_host_or_port_is_refused(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        values.read_host_port(text)
    assert part in str(caught.value)


def test_a_supernode_may_carry_its_fingerprint_in_either_case() -> None:
    expected = SupernodeAddress((HostPort("h", 1),), FINGERPRINT)
    assert values.read_supernode(f"h:1#{FINGERPRINT.upper()}") == expected
    assert values.read_supernode("h:1") == SupernodeAddress((HostPort("h", 1),))


def test_a_supernode_may_be_named_by_streams_beside_udp_or_alone() -> None:
    wss, tcp = values.read_way("wss://h/x"), values.read_way("tcp://h:1")
    assert values.read_supernode(f"h:1,h:443,wss://h/x,tcp://h:1#{FINGERPRINT}") == (
        SupernodeAddress((HostPort("h", 1), HostPort("h", 443)), FINGERPRINT, (wss, tcp))
    )
    assert values.read_supernode("wss://H/x") == SupernodeAddress(
        (HostPort("h", 443),), "", (wss,), has_udp=False
    )
    with pytest.raises(ValueError, match="not a host name"):
        values.read_supernode("tcp://h_!:1")


def test_a_bad_fingerprint_is_refused() -> None:
    for fingerprint in ("", "short", FINGERPRINT + "a", "1" * 32):
        with pytest.raises(ValueError, match="not a fingerprint"):
            values.read_supernode(f"h:1#{fingerprint}")


@pytest.mark.parametrize("text", ["576", "1500", "9000"])
def test_an_mtu_within_the_limits_is_read(text: str) -> None:
    assert values.read_mtu(text) == int(text)


@pytest.mark.parametrize("text", ["575", "9001", "", "-1", "1e3", "1500.0", "0x5dc", "9" * 5000])
def test_an_mtu_beyond_the_limits_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="576 to 9000"):
        values.read_mtu(text)


@pytest.mark.parametrize("text", ["a", "mesh0", "tap-1.x", "x" * 15])
def test_an_interface_name_is_read(text: str) -> None:
    assert values.read_interface_name(text) == text


@pytest.mark.parametrize("text", ["", ".", "..", "x" * 16, "a b", "a/b", "a:b", "mesh%d", "ü"])
def test_a_bad_interface_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="interface name"):
        values.read_interface_name(text)


def test_an_address_is_a_word_or_a_host_in_a_network() -> None:
    assert values.read_address("auto") == "auto"
    assert values.read_address("none") == "none"
    assert values.read_address("10.1.2.3/24") == "10.1.2.3/24"
    assert values.read_address("10.1.2.3/255.255.255.0") == "10.1.2.3/24"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "ADDRESS/PREFIX"),
        ("dhcp", "ADDRESS/PREFIX"),
        ("10.1.2.3", "ADDRESS/PREFIX"),
        ("10.1.2.3/", "ADDRESS/PREFIX"),
        ("10.1.2.3/33", "ADDRESS/PREFIX"),
        ("10.1.2.300/24", "ADDRESS/PREFIX"),
        ("fd00::1/64", "IPv6"),
        ("10.1.2.3/32", "no room"),
        ("10.1.2.2/31", "no room"),
        ("10.1.2.3/0", "no room"),
        ("10.1.2.0/24", "the network"),
        ("10.1.2.255/24", "broadcast"),
        ("127.0.0.1/8", "interface"),
        ("224.0.0.1/4", "interface"),
        ("0.0.0.1/8", "interface"),
        ("250.0.0.1/8", "interface"),
    ],
)
def test_a_bad_address_is_refused(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        values.read_address(text)
    assert part in str(caught.value)


@pytest.mark.parametrize("text", ["", "02:00:00:00:00", "01:00:5e:00:00:01", "00:00:00:00:00:00"])
def test_a_bad_mac_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"MAC|address"):
        values.read_mac(text)


def test_names_are_normalised() -> None:
    assert values.read_community("cafe\u0301") == "caf\u00e9"
    assert values.read_edge_name("cafe\u0301") == "caf\u00e9"


@pytest.mark.parametrize("text", ["", "  ", "a\nb", "\x1b[31m", "x" * 65, "\udcff", "\u202ex"])
def test_a_bad_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="name"):
        values.read_community(text)
    with pytest.raises(ValueError, match="name"):
        values.read_edge_name(text)


@pytest.mark.parametrize("text", ["", "hunter2\n", "hunter2\x00", "hunter2\udcff", "hunter2" * 200])
def test_a_bad_secret_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="key") as caught:
        values.read_secret(text)
    assert "hunter2" not in str(caught.value)


def test_a_supernode_that_is_kept_reads_back_as_it_was() -> None:
    supernode = SupernodeAddress(
        (HostPort("192.0.2.1", 7777), HostPort("fd00::1", 7778)), "a234567b" * 4
    )
    by_stream = values.read_supernode(f"wss://h/x,tcp://h:1#{FINGERPRINT}")
    for kept in (supernode, by_stream):
        assert values.read_kept_supernode(values.format_kept_supernode(kept)) == kept


@pytest.mark.parametrize("line", ["", "host", "host:1", "host:1#short", "host:1,#" + "a" * 32])
def test_a_broken_line_of_kept_supernodes_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        values.read_kept_supernode(line)


@pytest.mark.parametrize(
    "text",
    [
        "vpn.example:7777",
        "45.0.0.1",
        "45.0.0.1:0",
        "2a0f::1:7777",
        "0.0.0.0:7777",
        "127.0.0.1:7777",
        "224.0.0.1:7777",
        "[fe80::1%eth0]:7777",
    ],
)
def test_what_no_peer_can_send_to_is_not_advertised(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        values.read_endpoint(text)


@pytest.mark.parametrize(
    "text",
    [
        "sn.example:7777",
        f"1.2.3.4:7777,[fd00::1]:7777#{'a' * 32}",
        f"1.2.3.4:7777,wss://sn.example:443/mesh#{'a' * 32}",
        "tcp://sn.example:7777",
    ],
)
def test_a_supernode_is_written_as_it_is_read(text: str) -> None:
    assert values.format_supernode(values.read_supernode(text)) == text
