# ruff: noqa: S105, S106 - made-up secrets
"""Invites: what is written can be read, and what was damaged is refused by name."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.cli.invite import (
    MAX_INVITE_ENDPOINTS,
    MAX_INVITE_WAYS,
    Invite,
    format_invite,
    is_invite,
    parse_invite,
)
from mesh.cli.values import HostPort, SupernodeAddress, read_way
from mesh.errors import ConfigError

FINGERPRINT = "abcdefghijklmnopqrstuvwxyz234567"
SECRET = "correct horse battery staple"

labels = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
host_names = st.lists(labels, min_size=1, max_size=4).map(".".join)
hosts = st.one_of(
    host_names,
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
)
host_ports = st.builds(HostPort, hosts, st.integers(1, 65535))
ways = st.builds(
    lambda scheme, place, path: read_way(f"{scheme}://{place}{path}"),
    st.sampled_from(["ws", "wss"]),
    host_ports,
    st.sampled_from(["", "/", "/mesh", "/a/b~c&d=e%20+f"]),
)
fingerprints = st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=32, max_size=32)
spares = st.builds(
    SupernodeAddress,
    st.lists(host_ports, min_size=1, max_size=3).map(tuple),
    fingerprints,
    st.lists(ways, max_size=2).map(tuple),
)
shown_text = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20
).map(lambda text: unicodedata.normalize("NFC", text))
names = shown_text.filter(lambda text: len(text.encode()) <= 64 and text.isprintable())
secrets = st.one_of(st.none(), shown_text)


@st.composite
def invites(draw: st.DrawFn) -> Invite:
    is_open = draw(st.booleans())
    return Invite(
        host_ports=tuple(
            draw(st.lists(host_ports, min_size=1, max_size=MAX_INVITE_ENDPOINTS)),
        ),
        community=draw(names),
        fingerprint=draw(fingerprints),
        ways=tuple(draw(st.lists(ways, max_size=MAX_INVITE_WAYS))),
        spares=tuple(draw(st.lists(spares, max_size=3))),
        is_open=is_open,
        secret=None if is_open else draw(secrets),
    )


@given(invites())
def test_what_was_formatted_parses_to_the_same_invite(invite: Invite) -> None:
    assert parse_invite(format_invite(invite)) == invite


@given(invites())
def test_an_invite_is_printable_ascii_without_spaces(invite: Invite) -> None:
    url = format_invite(invite)
    assert url.isascii()
    assert url.isprintable()
    assert " " not in url


@given(st.text())
def test_any_text_parses_or_is_refused(text: str) -> None:
    for candidate in (text, "mesh://" + text, f"mesh://h:1/{text}?s={FINGERPRINT}#{text}"):
        try:
            parse_invite(candidate)
        except ConfigError as error:
            assert error.where == "invite"  # noqa: PT017 - most texts raise, some may not


@given(invites(), st.data())
def test_an_invite_cut_before_its_secret_is_refused_or_differs(
    invite: Invite, data: st.DataObject
) -> None:
    url = format_invite(invite).partition("#")[0].partition("&")[0]
    cut = url[: data.draw(st.integers(0, len(url) - 1))]
    with pytest.raises(ConfigError):
        parse_invite(cut)


def test_a_full_invite_reads_as_the_specification_says() -> None:
    text = f"mesh://vpn.example:7777,[2001:db8::1]:7778/my%20lan?s={FINGERPRINT}#p%23s%25w"
    assert parse_invite(text) == Invite(
        (HostPort("vpn.example", 7777), HostPort("2001:db8::1", 7778)),
        "my lan",
        FINGERPRINT,
        secret="p#s%w",
    )


def test_the_ways_of_an_invite_are_escaped() -> None:
    text = f"mesh://vpn.example:443/lan?s={FINGERPRINT}&w=wss://vpn.example:443/a%26b,tcp://h:1"
    invite = parse_invite(text)
    assert list(map(str, invite.ways)) == ["wss://vpn.example:443/a&b", "tcp://h:1"]
    assert format_invite(invite) == text


def test_an_invite_may_name_further_supernodes() -> None:
    other = "234567abcdefghijklmnopqrstuvwxyz"
    text = f"mesh://a.example:7777/lan?s={FINGERPRINT}&also=[2001:db8::1]:7,b:8%23{other}"
    invite = parse_invite(text)
    places = (HostPort("2001:db8::1", 7), HostPort("b", 8))
    assert invite.spares == (SupernodeAddress(places, other),)
    assert format_invite(invite) == text


def test_an_open_invite_says_so_and_carries_no_secret() -> None:
    invite = Invite((HostPort("10.0.0.1", 7777),), "lan", FINGERPRINT, is_open=True)
    assert format_invite(invite) == f"mesh://10.0.0.1:7777/lan?s={FINGERPRINT}&open=1"


def test_a_slash_in_a_community_is_escaped() -> None:
    invite = Invite((HostPort("10.0.0.1", 7777),), "a/b?c#d", FINGERPRINT, secret="x")
    assert parse_invite(format_invite(invite)).community == "a/b?c#d"


def test_the_repr_of_an_invite_hides_the_secret() -> None:
    assert SECRET not in repr(Invite((HostPort("h", 1),), "lan", FINGERPRINT, secret=SECRET))


@pytest.mark.parametrize(
    ("text", "key", "part"),
    [
        ("http://h:1/c", "scheme", "mesh://"),
        ("mesh://", "community", "/COMMUNITY"),
        ("mesh://h:1", "community", "/COMMUNITY"),
        (f"mesh://h:1/?s={FINGERPRINT}", "community", "not empty"),
        (f"mesh://h:1/a/b?s={FINGERPRINT}", "community", "/COMMUNITY"),
        (f"mesh://h:1/{'x' * 65}?s={FINGERPRINT}", "community", "64 bytes"),
        (f"mesh://h:1/a%0Ab?s={FINGERPRINT}", "community", "printable"),
        (f"mesh://h:1/a%zz?s={FINGERPRINT}", "community", "hex digits"),
        (f"mesh://h:1/a%FF?s={FINGERPRINT}", "community", "UTF-8"),
        (f"mesh://h/c?s={FINGERPRINT}", "supernode", "no port"),
        (f"mesh://h:1/c?s={FINGERPRINT}&also=h:2", "also", "fingerprint"),
        (f"mesh://h:1/c?s={FINGERPRINT}&also=[fe80::1%2525eth0]:2%23{FINGERPRINT}", "also", ""),
        (f"mesh://h:1/c?s={FINGERPRINT}&also=" + "|".join(["h:2"] * 8), "also", "more than 7"),
        (f"mesh:///c?s={FINGERPRINT}", "supernode", "no port"),
        (f"mesh://h:0/c?s={FINGERPRINT}", "supernode", "not a port"),
        (f"mesh://h:65536/c?s={FINGERPRINT}", "supernode", "not a port"),
        (f"mesh://h:1,/c?s={FINGERPRINT}", "supernode", "no port"),
        (f"mesh://1::2:7/c?s={FINGERPRINT}", "supernode", "[ADDRESS]"),
        (f"mesh://[nope]:7/c?s={FINGERPRINT}", "supernode", "IPv6"),
        (f"mesh://[fe80::1%25eth0]:7/c?s={FINGERPRINT}", "supernode", "zone"),
        (f"mesh://{','.join(['h:1'] * 17)}/c?s={FINGERPRINT}", "supernode", "more than 16"),
        ("mesh://h:1/c", "s", "missing"),
        ("mesh://h:1/c?s=", "s", "fingerprint"),
        ("mesh://h:1/c?s=short#key", "s", "fingerprint"),
        (f"mesh://h:1/c?s={FINGERPRINT}&s={FINGERPRINT}", "s", "twice"),
        (f"mesh://h:1/c?s={FINGERPRINT}&open=0", "open", "open=1"),
        (f"mesh://h:1/c?s={FINGERPRINT}&open=1#key", "open", "secret"),
        (f"mesh://h:1/c?s={FINGERPRINT}&colour=red", "parameters", "colour"),
        (f"mesh://h:1/c?s={FINGERPRINT}#", "secret", "empty"),
        (f"mesh://h:1/c?s={FINGERPRINT}#a%0ab", "secret", "line break"),
        (f"mesh://h:1/c?s={FINGERPRINT}#a b", "text", "space"),
        (f"mesh://h:1/ü?s={FINGERPRINT}", "text", "ASCII"),
        (f"mesh://h:1/c?s={FINGERPRINT}#{'x' * 5000}", "length", "more than"),
    ],
)
def test_a_broken_invite_is_refused_and_its_broken_part_named(
    text: str, key: str, part: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_invite(text)
    assert caught.value.where == "invite"
    assert caught.value.key == key
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_refusal_never_repeats_the_secret() -> None:
    for broken in ("%zz", "%0a", "%FF"):
        with pytest.raises(ConfigError) as caught:
            parse_invite(f"mesh://h:1/c?s={FINGERPRINT}#hunter2{broken}")
        assert "hunter2" not in str(caught.value)


def test_an_invite_is_told_from_a_community_by_its_scheme() -> None:
    assert is_invite("mesh://")
    assert is_invite("MESH://x")
    assert not is_invite("mesh")
    assert not is_invite("home mesh://")
