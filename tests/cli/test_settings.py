# ruff: noqa: S105 - made-up secrets
"""Settings: who wins over whom, and which mistake is named how."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from mesh.addresses import Endpoint
from mesh.cli.settings import (
    JoinSettings,
    StreamSettings,
    default_name,
    load_join_settings,
    runtime_dir,
)
from mesh.cli.sources import UsageError
from mesh.cli.values import HostPort, SupernodeAddress
from mesh.engine import Transport
from mesh.errors import ConfigError
from mesh.net.proxy import Proxy

FINGERPRINT = "abcdefghijklmnopqrstuvwxyz234567"
INVITE = f"mesh://1.2.3.4:7777,[fd00::1]:7777/lan?s={FINGERPRINT}#s3cret"


def load(
    argument: str = "lan",
    flags: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    config: Path | None = None,
    config_dir: Path = Path("/nonexistent"),
) -> JoinSettings:
    return load_join_settings(
        argument,
        flags or {},
        environment or {},
        config=None if config is None else str(config),
        config_dir=config_dir,
    )


def write(path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


def refusal(*args: object, **kwargs: object) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(*args, **kwargs)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return caught.value


def test_nothing_said_means_the_defaults() -> None:
    settings = load()
    assert settings.community == "lan"
    assert settings.key.secret is None
    assert not settings.key.is_open
    assert settings.key.may_be_made
    assert settings.supernodes == ()
    assert settings.tap is None
    assert settings.address == "auto"
    assert settings.mtu == 1500
    assert settings.mac is None
    assert settings.port == 0
    assert settings.advertise == ()
    assert settings.port_mapping
    assert settings.streams == StreamSettings()
    assert not settings.relay_only
    assert not settings.no_relay
    assert settings.hard_punch
    assert settings.offload
    assert settings.broadcast_routes
    assert settings.state_dir is None
    assert settings.runtime_dir is None
    assert settings.warnings == ()


def test_every_flag_is_read() -> None:
    settings = load(
        flags={
            "supernode": ["a.example:1", f"[fd00::1]:2#{FINGERPRINT}"],
            "key": "s3cret",
            "name": "desk",
            "tap": "tap9",
            "address": "10.1.2.3/24",
            "mtu": "1400",
            "mac": "02:00:5e:10:00:01",
            "port": "5000",
            "advertise": ["45.0.0.1:7801", "[2a0f::1]:7801", "45.0.0.1:7801"],
            "no-port-mapping": True,
            "no-lan-peers": True,
            "transport": "ws",
            "proxy": "http://proxy.example:3128",
            "tls-ca": "/c",
            "relay-only": True,
            "no-relay": False,
            "no-hard-punch": True,
            "no-offload": True,
            "no-realtime": True,
            "no-broadcast-routes": True,
            "state-dir": "/s",
            "runtime-dir": "/r",
        }
    )
    assert settings.supernodes == (
        SupernodeAddress((HostPort("a.example", 1),)),
        SupernodeAddress((HostPort("fd00::1", 2),), FINGERPRINT),
    )
    assert settings.key.secret == "s3cret"
    assert (settings.name, settings.tap, settings.address) == ("desk", "tap9", "10.1.2.3/24")
    assert (settings.mtu, settings.port) == (1400, 5000)
    assert settings.mac == bytes.fromhex("02005e100001")
    assert settings.advertise == (Endpoint("45.0.0.1", 7801), Endpoint("2a0f::1", 7801))
    assert not settings.port_mapping
    assert not settings.lan_peers
    assert settings.streams == StreamSettings(
        Transport.WEBSOCKET, Proxy("proxy.example", 3128), tls_ca=Path("/c")
    )
    assert settings.relay_only
    assert not settings.hard_punch
    assert not settings.offload
    assert not settings.realtime
    assert not settings.broadcast_routes
    assert (settings.state_dir, settings.runtime_dir) == (Path("/s"), Path("/r"))


def test_a_key_on_the_command_line_draws_a_warning() -> None:
    assert "process list" in load(flags={"key": "s3cret"}).warnings[0]


def test_every_option_is_read_from_toml(tmp_path: Path) -> None:
    config = write(
        tmp_path / "x.toml",
        f"""
        supernode = ["a.example:1", "b.example:2#{FINGERPRINT}"]
        key = "s3cret"
        name = "desk"
        tap = "tap9"
        address = "none"
        mtu = 1400
        mac = "02:00:5e:10:00:01"
        port = 5000
        advertise = "45.0.0.1:7801"
        no-port-mapping = true
        relay-only = false
        no-relay = true
        no-offload = true
        no-realtime = true
        no-broadcast-routes = true
        state-dir = "state"
        runtime-dir = "/r"
        """,
    )
    settings = load(config=config)
    assert [str(place.host_ports[0]) for place in settings.supernodes] == [
        "a.example:1",
        "b.example:2",
    ]
    assert settings.key.secret == "s3cret"
    assert (settings.name, settings.tap, settings.address) == ("desk", "tap9", "none")
    assert (settings.mtu, settings.port) == (1400, 5000)
    assert settings.advertise == (Endpoint("45.0.0.1", 7801),)
    assert not settings.port_mapping
    assert settings.no_relay
    assert not settings.relay_only
    assert not settings.offload
    assert not settings.realtime
    assert not settings.broadcast_routes
    assert (settings.state_dir, settings.runtime_dir) == (tmp_path / "state", Path("/r"))
    assert settings.warnings == ()


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    config = write(tmp_path / "x.toml", 'key = "file"\nstate-dir = "/file"\nmtu = 1000\n')
    environment = {"MESH_KEY": "environment", "MESH_STATE_DIR": "/environment"}
    settings = load(environment=environment, config=config)
    assert settings.key.secret == "environment"
    assert settings.state_dir == Path("/environment")
    assert settings.mtu == 1000
    settings = load(
        flags={"key": "flag", "state-dir": "/flag", "mtu": "1200"},
        environment=environment,
        config=config,
    )
    assert settings.key.secret == "flag"
    assert settings.state_dir == Path("/flag")
    assert settings.mtu == 1200


def test_one_supernode_in_toml_may_be_a_string(tmp_path: Path) -> None:
    config = write(tmp_path / "x.toml", 'supernode = "a.example:1"')
    assert load(config=config).supernodes == (SupernodeAddress((HostPort("a.example", 1),)),)


def test_the_file_of_the_community_is_used_where_it_exists(tmp_path: Path) -> None:
    write(tmp_path / "a%2Fb.toml", "mtu = 1234")
    assert load("a/b", config_dir=tmp_path).mtu == 1234
    assert load("other", config_dir=tmp_path).mtu == 1500


def test_a_file_that_was_named_has_to_exist(tmp_path: Path) -> None:
    assert "no such file" in str(refusal(config=tmp_path / "missing.toml"))


@pytest.mark.parametrize(
    ("text", "key", "part"),
    [
        ("mtuu = 1500", "mtuu", "did you mean mtu?"),
        ("key_file = '/x'", "key_file", "did you mean key-file?"),
        ("[section]\nmtu = 1", "section", "not an option"),
        ("mtu = '1500'", "mtu", "whole number"),
        ("mtu = true", "mtu", "whole number"),
        ("mtu = 1", "mtu", "576 to 9000"),
        ("port = -1", "port", "65535"),
        ("open = 'yes'", "open", "true or false"),
        ("name = 7", "name", "a string"),
        ("supernode = [1]", "supernode", "list of strings"),
        ("supernode = 'nowhere'", "supernode", "no port"),
        ("address = '10.0.0.0/8'", "address", "network"),
        ("mtu 1500", "", "is not TOML"),
        (b"\xff", "", "is not TOML"),
        ("relay-only = true\nno-relay = true", "no-relay", "contradicts"),
        ("open = true\nkey = 's3cret'", "open", "contradicts"),
    ],
)
def test_a_mistake_in_the_file_names_file_and_key(
    tmp_path: Path, text: str | bytes, key: str, part: str
) -> None:
    error = refusal(config=write(tmp_path / "x.toml", text))
    assert error.where == str(tmp_path / "x.toml")
    assert error.key == key
    assert part in str(error)
    assert not isinstance(error, UsageError)


@pytest.mark.parametrize(
    ("flags", "where"),
    [
        ({"mtu": "1"}, "--mtu"),
        ({"port": "x"}, "--port"),
        ({"mac": "x"}, "--mac"),
        ({"tap": "much-too-long-for-linux"}, "--tap"),
        ({"address": "10.0.0.1"}, "--address"),
        ({"name": "a\x1b[2J"}, "--name"),
        ({"supernode": ["a.example:1", "b.example"]}, "--supernode"),
        ({"key": ""}, "--key"),
        ({"key": "a", "key-file": "/b"}, "--key-file"),
        ({"key": "a", "open": True}, "--open"),
        ({"relay-only": True, "no-relay": True}, "--no-relay"),
    ],
)
def test_a_mistake_in_a_flag_is_a_usage_error_that_names_it(
    flags: dict[str, object], where: str
) -> None:
    error = refusal(flags=flags)
    assert isinstance(error, UsageError)
    assert error.where == where


def test_a_bad_community_is_a_usage_error() -> None:
    assert isinstance(refusal("a\nb"), UsageError)


def test_an_empty_key_in_the_environment_is_refused_rather_than_replaced() -> None:
    assert "MESH_KEY" in str(refusal(environment={"MESH_KEY": ""}))


def test_an_empty_directory_in_the_environment_is_as_good_as_none() -> None:
    assert load(environment={"MESH_STATE_DIR": ""}).state_dir is None


def test_a_file_that_holds_a_key_and_is_open_to_others_draws_a_warning(tmp_path: Path) -> None:
    config = write(tmp_path / "x.toml", "key = 's3cret'", mode=0o644)
    assert "chmod 600" in load(config=config).warnings[0]
    assert load(config=write(config, "mtu = 1400", mode=0o644)).warnings == ()


def test_so_does_one_with_a_proxys_password_which_is_never_quoted(tmp_path: Path) -> None:
    config = write(tmp_path / "x.toml", "proxy = 'http://me:s3cret@p.example'", mode=0o644)
    [warning] = load(config=config).warnings
    assert "chmod 600" in warning
    assert load(config=write(config, "proxy = 'http://p.example'", mode=0o644)).warnings == ()
    write(config, "proxy = ['http://me:s3cret@p.example']")
    assert "s3cret" not in str(refusal(config=config))


def test_a_key_file_is_read_without_its_line_end(tmp_path: Path) -> None:
    path = write(tmp_path / "key", " s3cret with spaces \r\n")
    settings = load(flags={"key-file": str(path)})
    assert settings.key.secret == " s3cret with spaces "
    assert settings.warnings == ()


def test_a_key_file_that_others_can_read_draws_a_warning(tmp_path: Path) -> None:
    for mode, who in ((0o644, "every user"), (0o640, "its group")):
        path = write(tmp_path / "key", "s3cret", mode)
        assert who in load(flags={"key-file": str(path)}).warnings[0]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"hunter2\nhunter3\n", "line break"),
        (b"hunter2\xff", "UTF-8"),
        (b"hunter2" * 1000, "4096"),
        (b"hunter2\x00", "control"),
    ],
)
def test_a_bad_key_file_is_named_and_not_repeated(
    tmp_path: Path, content: bytes, part: str
) -> None:
    path = write(tmp_path / "key", content)
    error = refusal(flags={"key-file": str(path)})
    assert str(path) in str(error)
    assert part in str(error)
    assert "hunter2" not in str(error)


def test_a_key_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    assert "No such file" in str(refusal(flags={"key-file": str(tmp_path / "missing")}))
    assert "directory" in str(refusal(flags={"key-file": str(tmp_path)}))
    assert "zero byte" in str(refusal(flags={"key-file": "a\0b"}))


def test_an_invite_brings_supernode_community_and_key() -> None:
    settings = load(INVITE)
    assert settings.is_invited
    assert settings.community == "lan"
    assert settings.key.secret == "s3cret"
    assert settings.supernodes == (
        SupernodeAddress((HostPort("1.2.3.4", 7777), HostPort("fd00::1", 7777)), FINGERPRINT),
    )


def test_an_invite_wins_over_the_environment_and_the_file(tmp_path: Path) -> None:
    config = write(tmp_path / "x.toml", "supernode = 'a.example:1'\nkey = 'file'")
    settings = load(INVITE, environment={"MESH_KEY": "environment"}, config=config)
    assert settings.key.secret == "s3cret"
    assert settings.supernodes[0].fingerprint == FINGERPRINT


def test_a_flag_moves_the_supernode_of_an_invite() -> None:
    settings = load(INVITE, flags={"supernode": ["a.example:1"]})
    assert settings.supernodes == (SupernodeAddress((HostPort("a.example", 1),)),)


def test_a_key_beside_an_invite_that_has_one_is_refused() -> None:
    for flags in ({"key": "x"}, {"open": True}):
        assert "invite" in str(refusal(INVITE, flags=flags))


def test_an_invite_without_a_key_takes_one_from_elsewhere_but_never_makes_one() -> None:
    invite = INVITE.partition("#")[0]
    assert load(invite, environment={"MESH_KEY": "environment"}).key.secret == "environment"
    assert not load(invite).key.may_be_made


def test_an_open_community_has_no_secret() -> None:
    key = load(flags={"open": True}).key
    assert key.is_open
    assert key.secret is None
    key = load(f"mesh://h:1/lan?s={FINGERPRINT}&open=1").key
    assert key.is_open


def test_the_secret_is_in_no_repr() -> None:
    assert "s3cret" not in repr(load(INVITE))


def test_the_name_is_the_hosts_made_to_fit() -> None:
    assert default_name("desk") == "desk"
    assert default_name("x" * 80) == "x" * 64
    assert default_name("") == "edge"
    assert len(default_name("\u00fc" * 40).encode()) == 64


def test_the_runtime_directory_is_found_without_the_rest() -> None:
    assert runtime_dir({}, {}) is None
    assert runtime_dir({}, {"MESH_RUNTIME_DIR": "/e"}) == Path("/e")
    assert runtime_dir({"runtime-dir": "/f"}, {"MESH_RUNTIME_DIR": "/e"}) == Path("/f")


def test_an_invite_on_the_command_line_warns_and_a_piped_one_does_not() -> None:
    invite = f"mesh://192.0.2.1:7777/lan?s={'a' * 32}#secret"
    (warning,) = load_join_settings(invite, {}, {}, config_dir=Path("/nonexistent")).warnings
    assert "process list" in warning
    assert "secret" not in warning
    piped = load_join_settings(invite, {}, {}, config_dir=Path("/nonexistent"), is_visible=False)
    assert piped.warnings == ()


def test_a_key_of_the_wrong_type_is_not_repeated(tmp_path: Path) -> None:
    error = refusal(config=write(tmp_path / "lan.toml", "key = 48151623\n"))
    assert "48151623" not in str(error)


def test_the_proxy_of_the_environment_is_used_with_its_exceptions() -> None:
    environment = {"https_proxy": "http://proxy.example:3128", "no_proxy": "home.example"}
    settings = load(environment=environment)
    assert settings.streams.proxy == Proxy("proxy.example", 3128)
    assert settings.streams.no_proxy == "home.example"


def test_a_proxy_that_was_named_has_no_exceptions_and_none_is_none() -> None:
    environment = {"https_proxy": "http://proxy.example:3128", "no_proxy": "home.example"}
    named = load(flags={"proxy": "http://other.example:8080"}, environment=environment).streams
    assert (named.proxy, named.no_proxy) == (Proxy("other.example", 8080), "")
    assert load(flags={"proxy": "none"}, environment=environment).streams.proxy is None


def test_a_proxy_of_another_kind_is_warned_of_and_not_used() -> None:
    settings = load(environment={"all_proxy": "socks5://localhost:1080"})
    assert settings.streams.proxy is None
    [warning] = settings.warnings
    assert warning.startswith("all_proxy is not used")


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ({"transport": "sctp"}, "--transport: 'sctp' is not auto, udp, tcp or ws"),
        ({"proxy": "socks5://a:1"}, "--proxy: 'socks5://a:1' is not an HTTP proxy"),
        ({"supernode": ["quic://a"]}, "--supernode: 'quic://a' is not tcp://HOST:PORT"),
    ],
)
def test_what_is_no_transport_proxy_or_way_is_refused(
    flags: dict[str, object], complaint: str
) -> None:
    assert str(refusal(flags=flags)).startswith(complaint)
