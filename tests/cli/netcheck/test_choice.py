"""Which supernodes a check talks to."""

from pathlib import Path

import pytest
import trio

from mesh.addresses import Endpoint
from mesh.cli.netcheck import choice
from mesh.cli.netcheck.choice import Choice, choose
from mesh.cli.sources import UsageError
from mesh.cli.values import HostPort
from mesh.errors import ConfigError, MeshError
from mesh.net.lan import FoundSupernode
from mesh.net.state import StateDir

KEY = "a" * 32
INVITE = f"mesh://5.0.0.1:7777/lan?s={KEY}#secret"


@pytest.fixture(autouse=True)
def nobody_on_the_lan(monkeypatch: pytest.MonkeyPatch) -> list[FoundSupernode]:
    found: list[FoundSupernode] = []

    async def find(community_id: bytes) -> list[FoundSupernode]:
        assert len(community_id) == 32
        await trio.lowlevel.checkpoint()
        return found

    monkeypatch.setattr(choice, "find_supernodes", find)
    return found


def chosen(
    tmp_path: Path, argument: str | None = None, config: str | None = None, **flags: object
) -> Choice:
    environment = {
        "MESH_STATE_DIR": str(tmp_path / "state"),
        "MESH_RUNTIME_DIR": str(tmp_path / "run"),
    }
    return trio.run(choose, argument, flags, environment, config)


def test_one_that_is_named_wins(tmp_path: Path) -> None:
    found = chosen(tmp_path, INVITE, supernode=[f"sn.example:7777#{KEY}", "5.0.0.2:1"])
    assert found.source == "--supernode"
    assert [(str(one), one.fingerprint) for one in found.targets] == [
        ("sn.example:7777", KEY),
        ("5.0.0.2:1", ""),
    ]
    assert not (tmp_path / "state").exists()


def test_the_key_on_file_is_expected_and_nothing_is_written(tmp_path: Path) -> None:
    StateDir(tmp_path / "state").pin("5.0.0.2:1", KEY)
    before = sorted((tmp_path / "state").iterdir())
    [target] = chosen(tmp_path, supernode=["5.0.0.2:1"]).targets
    assert target.fingerprint == KEY
    assert sorted((tmp_path / "state").iterdir()) == before


def test_an_invite_names_its_own(tmp_path: Path) -> None:
    found = chosen(tmp_path, INVITE)
    assert found.source == "the invite"
    [target] = found.targets
    assert (target.host_ports, target.fingerprint) == ((HostPort("5.0.0.1", 7777),), KEY)


def test_a_configuration_does(tmp_path: Path) -> None:
    config = tmp_path / "lan.toml"
    config.write_text('supernode = "5.0.0.3:7777"\n')
    found = chosen(tmp_path, "lan", str(config))
    assert (found.source, str(found.targets[0])) == ("the configuration", "5.0.0.3:7777")


def test_an_earlier_invite_is_remembered(tmp_path: Path) -> None:
    StateDir(tmp_path / "state").save_supernodes("lan", [f"5.0.0.4:7777#{KEY}"])
    found = chosen(tmp_path, "lan")
    assert (found.source, str(found.targets[0])) == ("an earlier invite", "5.0.0.4:7777")


def test_else_one_of_the_lan_is_taken(
    tmp_path: Path, nobody_on_the_lan: list[FoundSupernode]
) -> None:
    nobody_on_the_lan.append(FoundSupernode(Endpoint("192.168.1.9", 7777), KEY, False, True))
    found = chosen(tmp_path)
    assert (found.source, str(found.targets[0])) == ("the LAN", "192.168.1.9:7777")


def test_where_there_is_none_it_says_what_to_do(tmp_path: Path) -> None:
    for argument in (None, "lan"):
        with pytest.raises(MeshError, match="--supernode HOST:PORT"):
            chosen(tmp_path, argument)
    assert not (tmp_path / "state").exists()


def test_a_community_without_a_kept_secret_gets_none_made(tmp_path: Path) -> None:
    StateDir(tmp_path / "state")
    with pytest.raises(MeshError, match="no supernode is known"):
        chosen(tmp_path, "lan")
    assert StateDir(tmp_path / "state").secret("lan") is None


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        chosen(tmp_path, supernode=["nowhere"])
    with pytest.raises(ConfigError):
        chosen(tmp_path, "mesh://nonsense")
