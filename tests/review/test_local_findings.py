"""What other users of the machine must not learn or cause."""

from pathlib import Path

import pytest

from mesh.cli.settings import load_join_settings
from mesh.errors import ConfigError
from mesh.net.log_limit import LogLimit

INVITE = f"mesh://192.0.2.1:7777/home?s={'a' * 32}#very-secret"


def test_an_invite_with_a_key_on_the_command_line_draws_a_warning(tmp_path: Path) -> None:
    warnings = load_join_settings(INVITE, {}, {}, config_dir=tmp_path).warnings
    assert any("process list" in warning for warning in warnings)


def test_a_key_of_the_wrong_type_is_not_repeated(tmp_path: Path) -> None:
    config = tmp_path / "home.toml"
    config.write_text("key = 48151623\n")
    with pytest.raises(ConfigError) as caught:
        load_join_settings("home", {}, {}, config=str(config))
    assert "48151623" not in str(caught.value)


def test_many_reasons_do_not_switch_the_limit_on_log_lines_off() -> None:
    limit = LogLimit()
    passed = [limit.ask(f"PeerUp {n % 300}", n / 100) for n in range(30_000)]
    assert sum(held_back is not None for held_back in passed) < 10_000
