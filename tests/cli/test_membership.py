# ruff: noqa: S105 - made-up secrets
"""Where the community's secret comes from, and that a new one is stored before it is used."""

from pathlib import Path

import pytest
import trio

from mesh.cli.membership import Membership, find_membership
from mesh.cli.settings import JoinSettings, load_join_settings
from mesh.errors import ConfigError, StateError
from mesh.net.state import StateDir

FINGERPRINT = "a" * 32


def settings(argument: str = "lan", **flags: object) -> JoinSettings:
    named = {name.replace("_", "-"): value for name, value in flags.items()}
    return load_join_settings(argument, named, {}, config_dir=Path("/nonexistent"))


def find(asked: JoinSettings, path: Path) -> Membership:
    async def scene() -> Membership:
        return await find_membership(asked, StateDir(path), entropy=lambda size: b"\x07" * size)

    return trio.run(scene)


def test_a_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    first = find(settings(), tmp_path)
    again = find(settings(), tmp_path)
    assert first.was_made
    assert not again.was_made
    assert first.secret == again.secret == StateDir(tmp_path).secret("lan")
    assert first.keys.community_id == again.keys.community_id


def test_a_secret_that_was_given_is_used_and_not_kept(tmp_path: Path) -> None:
    membership = find(settings(key="s3cret"), tmp_path)
    assert membership.secret == "s3cret"
    assert StateDir(tmp_path).secret("lan") is None


def test_the_secret_of_an_invite_is_kept(tmp_path: Path) -> None:
    find(settings(f"mesh://h:1/lan?s={FINGERPRINT}#s3cret"), tmp_path)
    assert StateDir(tmp_path).secret("lan") == "s3cret"
    assert find(settings(), tmp_path).secret == "s3cret"


def test_an_open_community_has_other_keys_than_a_closed_one(tmp_path: Path) -> None:
    membership = find(settings(open=True), tmp_path)
    assert membership.secret is None
    assert membership.keys.community_id != find(settings(), tmp_path).keys.community_id


def test_an_invite_without_a_key_makes_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no key"):
        find(settings(f"mesh://h:1/lan?s={FINGERPRINT}"), tmp_path)
    assert StateDir(tmp_path).secret("lan") is None


def test_a_corrupt_secret_is_told_and_not_replaced(tmp_path: Path) -> None:
    find(settings(), tmp_path)
    (path,) = tmp_path.rglob("secret")
    path.write_bytes(b"\xff\x00")
    with pytest.raises(StateError, match=str(path)):
        find(settings(), tmp_path)
    assert path.read_bytes() == b"\xff\x00"


def test_the_secret_is_in_no_repr(tmp_path: Path) -> None:
    assert "s3cret" not in repr(find(settings(key="s3cret"), tmp_path))
