"""What the engine is told, from what the user asked for."""

from pathlib import Path

import pytest

from mesh.cli.announce import joined_line
from mesh.cli.join import edge_config
from mesh.cli.membership import Membership
from mesh.cli.settings import load_join_settings
from mesh.cli.supernodes import SupernodeTarget, kept_targets
from mesh.cli.values import HostPort, SupernodeAddress, format_kept_supernode
from mesh.core.config import EdgeConfig, SupernodeConfig
from mesh.crypto.community import CommunityKeys
from mesh.crypto.identity import Identity
from mesh.errors import StateError
from mesh.net.state import StateDir
from mesh.wire.messages import AddressMode

IDENTITY = Identity(bytes(range(32)))


def config_for(**flags: object) -> EdgeConfig:
    named = {name.replace("_", "-"): value for name, value in flags.items()}
    settings = load_join_settings("lan", named, {}, config_dir=Path("/nonexistent"))
    return edge_config(
        settings,
        IDENTITY,
        Membership(CommunityKeys.from_root("lan", bytes(32)), None),
        [SupernodeTarget((HostPort("vpn.example", 7777),), "f" * 32, "")],
        subnets=["10.20.0.0/22"],
        last_address="10.20.0.9/22",
        epoch=7,
        has_uso=True,
    )


@pytest.mark.parametrize(
    ("asked", "mode", "address"),
    [
        ("auto", AddressMode.AUTO, "10.20.0.9/22"),
        ("none", AddressMode.NONE, ""),
        ("10.1.2.3/24", AddressMode.FIXED, "10.1.2.3/24"),
    ],
)
def test_the_address_mode_follows_the_option(asked: str, mode: AddressMode, address: str) -> None:
    config = config_for(address=asked)
    assert config.address_mode is mode
    assert config.address == address


def test_the_mac_is_the_identitys_unless_one_was_given() -> None:
    assert config_for().mac == IDENTITY.default_mac
    assert config_for(mac="02:00:5e:10:00:01").mac == bytes.fromhex("02005e100001")


def test_everything_else_arrives_unchanged() -> None:
    config = config_for(mtu="1400", relay_only=True, no_hard_punch=True, name="desk")
    assert config.mtu == 1400
    assert config.relay_only
    assert not config.no_relay
    assert not config.hard_punch
    assert config_for().hard_punch
    assert config.name == "desk"
    assert config.epoch == 7
    assert config.subnets == ("10.20.0.0/22",)
    assert config.supernodes == (SupernodeConfig("vpn.example:7777", "f" * 32),)


def test_the_line_that_scripts_wait_for_has_its_form() -> None:
    line = joined_line("lan", "desk", "mesh0", "10.1.2.3/22", "vpn.example:7777")
    assert line == "joined lan as desk: mesh0 10.1.2.3/22, supernode vpn.example:7777"


def test_supernodes_of_an_invite_are_found_again(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    kept = SupernodeAddress((HostPort("vpn.example", 7777), HostPort("192.0.2.7", 7777)), "f" * 32)
    state.save_supernodes("lan", [format_kept_supernode(kept)])
    (target,) = kept_targets(state, "lan")
    assert target.host_ports == kept.host_ports
    assert target.fingerprint == kept.fingerprint
    assert kept_targets(state, "other") == ()


def test_a_corrupt_line_of_kept_supernodes_says_what_to_do(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.save_supernodes("lan", ["nonsense"])
    with pytest.raises(StateError, match="join by invite again"):
        kept_targets(state, "lan")
