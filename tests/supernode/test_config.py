"""The configuration file: every mistake is named with file and key."""

from pathlib import Path

import pytest

from mesh.addresses import Endpoint
from mesh.errors import ConfigError
from supernode.config import parse_listen_address, read_config_file
from supernode.limits import SupernodeLimits


def read(tmp_path: Path, text: str) -> dict[str, object]:
    file = tmp_path / "supernode.toml"
    file.write_text(text)
    return read_config_file(file)


def test_every_key_is_read(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        """
        listen = ["0.0.0.0:7000", "[::]:7000"]
        state-dir = "state"
        runtime-dir = "/run/x"
        store = "memory:"
        probe-ports = "7779,7780"
        [limits]
        max-edges = 5
        relay-rate-bytes = 1000
        """,
    )
    assert settings == {
        "listen": ("0.0.0.0:7000", "[::]:7000"),
        "state_dir": tmp_path / "state",
        "runtime_dir": Path("/run/x"),
        "store": "memory:",
        "probe_ports": (7779, 7780),
        "limits": SupernodeLimits(max_edges=5, relay_rate_bytes=1000),
    }


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "") == {}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("listen = 7", "listen: has to be a list of strings, not 7"),
        ('listen = ["host:1"]', "listen: 'host:1': 'host' is not a numeric address"),
        ('probe-ports = "7,7"', "probe-ports: '7,7' is not two different UDP ports"),
        ("probe-ports = 7", "probe-ports: has to be a string, not 7"),
        ("state-dir = 7", "state-dir: has to be a string, not 7"),
        ("liten = 7", "liten: is not an option; did you mean listen?"),
        ("qqq = 7", "qqq: is not an option; known are listen"),
        ("limits = 7", "limits: has to be a table, not 7"),
        ("[limits]\nmax-edges = true", "max-edges: has to be a whole number above 0"),
        ("[limits]\nmax-edges = 0", "max-edges: has to be a whole number above 0"),
        ("[limits]\nmax-edgse = 1", "did you mean max-edges?"),
        ('[limits]\nonly-community = "x"', "only-community: is not an option"),
        ("listen = [", "is not TOML"),
    ],
)
def test_a_mistake_is_named_with_file_and_key(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "supernode.toml"))
    assert complaint in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_config_file(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("0.0.0.0:7777", Endpoint("0.0.0.0", 7777)),  # noqa: S104 - not bound
        ("[::]:0", Endpoint("::", 0)),
        ("[2001:DB8::1]:80", Endpoint("2001:db8::1", 80)),
    ],
)
def test_listen_addresses_are_numeric(text: str, endpoint: Endpoint) -> None:
    assert parse_listen_address(text) == endpoint


@pytest.mark.parametrize(
    "text",
    ["", "7777", "1.2.3.4", "1.2.3.4:", "::1:7777", "[::1:7", "1.2.3.4:65536", "a:1", "[]:1"],
)
def test_what_is_no_address_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_listen_address(text)
    assert repr(text) in str(caught.value)
