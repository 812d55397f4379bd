"""The program ``supernode``: exit codes, one clear line, and a clean end."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

import mesh
from mesh.addresses import parse_endpoint
from mesh.crypto.identity import Identity
from mesh.wire.messages import Registered
from supernode import tables
from supernode.cli import build_parser, config_of, main
from tests.supernode.bench import community_keys
from tests.supernode.socket_edge import SocketEdge

ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def running(tmp_path: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run a supernode in a process; yield it and its lines so far."""
    with subprocess.Popen(
        [
            *(sys.executable, "-W", "error", "-m", "supernode.cli", "run"),
            *("--state-dir", str(tmp_path / "s"), "--runtime-dir", str(tmp_path / "r")),
            *("--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", *options),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, [process.stdout.readline() for _ in range(2)]
        finally:
            process.kill()


def test_it_says_where_it_listens_answers_and_ends_cleanly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = ("--runtime-dir", str(tmp_path / "r"))
    with running(tmp_path) as (process, lines):
        for line in lines:
            assert re.fullmatch(r"listening on 127\.0\.0\.1:\d+, key [a-z2-7]{32}\n", line)
        assert main(["status", "--json", *runtime]) == 0
        status = json.loads(capsys.readouterr().out)
        assert status["edges"] == 0
        assert status["version"] == mesh.__version__
        for command in ("status", "communities", "edges"):
            assert main([command, *runtime]) == 0
            assert capsys.readouterr().out
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert list((tmp_path / "r").iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == [
        ".lock",
        "identity.key",
        "leases.sqlite3",
    ]


def test_an_interrupt_ends_it_cleanly_too(tmp_path: Path) -> None:
    with running(tmp_path, "--store", "memory:") as (process, _):
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == [".lock", "identity.key"]


def register(line: str, identity: Identity) -> str:
    """Register at the supernode that printed ``line``; return the lease."""
    place, _, fingerprint = line.strip().removeprefix("listening on ").partition(", key ")

    async def main() -> str:
        edge = SocketEdge(parse_endpoint(place), fingerprint, identity)
        with trio.fail_after(20):
            answer = await edge.register(community_keys())
        edge.socket.close()
        assert isinstance(answer, Registered)
        return answer.address

    return trio.run(main)


def test_key_and_leases_survive_kill_9_and_its_socket_is_no_obstacle(tmp_path: Path) -> None:
    first, second = (Identity.generate(os.urandom) for _ in range(2))
    with running(tmp_path) as (process, lines):
        leases = [register(lines[0], first), register(lines[0], second)]
        process.send_signal(signal.SIGKILL)
    with running(tmp_path) as (_, lines_after):
        assert lines_after[0].partition("key")[2] == lines[0].partition("key")[2]
        assert [register(lines_after[1], each) for each in (first, second)] == leases


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "required: COMMAND"),
        (["dance"], "invalid choice"),
        (["run", "--listen", "localhost:1"], "'localhost' is not a numeric address"),
        (["run", "--listen", "7777"], "is not ADDR:PORT"),
        (["run", "--store", "redis://x"], "is not a store"),
        (["edges", "--listen", "x"], "unrecognized arguments"),
    ],
)
def test_a_wrong_command_line_is_code_2(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("command", ["status", "communities", "edges"])
def test_nobody_running_is_one_line_and_code_1(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--runtime-dir", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("supernode: no supernode is running on ")
    assert error.count("\n") == 1


def complaint_of(tmp_path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    directories = ["--state-dir", str(tmp_path / "s"), "--runtime-dir", str(tmp_path / "r")]
    assert main(["run", *directories, *options]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("supernode: ")
    return captured.err


def test_an_unreadable_config_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "cannot be read" in complaint_of(tmp_path, capsys, "--config", str(tmp_path / "no"))


def test_an_unknown_key_in_the_config_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.toml").write_text("liste = 1")
    assert "did you mean listen?" in complaint_of(
        tmp_path, capsys, "--config", str(tmp_path / "c.toml")
    )


def test_a_store_in_the_config_that_is_none_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.toml").write_text('store = "redis://x"\nlisten = ["127.0.0.1:0"]')
    assert "is not a store" in complaint_of(tmp_path, capsys, "--config", str(tmp_path / "c.toml"))


def test_an_address_that_is_not_ours_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "not an address of this machine" in complaint_of(
        tmp_path, capsys, "--listen", "192.0.2.77:7000"
    )


def test_a_corrupt_key_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "identity.key").write_text("nonsense")
    assert "identity.key is corrupt" in complaint_of(tmp_path, capsys, "--listen", "127.0.0.1:0")


def test_a_state_directory_that_is_a_file_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s").write_text("")
    assert "cannot be made" in complaint_of(tmp_path, capsys, "--listen", "127.0.0.1:0")


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('listen = ["127.0.0.1:1"]\nstore = "memory:"\nstate-dir = "x"')
    arguments = build_parser().parse_args(
        ["run", "--config", str(file), "--listen", "127.0.0.1:2", "--listen", "127.0.0.1:3"]
    )
    config = config_of(arguments)
    assert config.listen == ("127.0.0.1:2", "127.0.0.1:3")
    assert config.store == "memory:"
    assert config.state_dir == tmp_path / "x"


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"supernode {mesh.__version__}\n"


def test_tables_are_aligned_and_uncoloured_in_a_pipe() -> None:
    out = io.StringIO()
    row = {
        "id": "ab" * 16,
        "community": "cd" * 32,
        "endpoint": "192.0.2.1:4000",
        "transport": "tcp",
        "address": "10.0.0.1/22",
        "age_s": 3700.0,
        "last_seen_s": 1.5,
        "relayed_bytes": 5 * 1024 * 1024,
    }
    tables.print_edges([row, {**row, "address": "", "age_s": 5.0}], out)
    heading, first, second = out.getvalue().splitlines()
    assert heading.index("endpoint") == first.index("192.0.2.1") == second.index("192.0.2.1")
    assert "1h 1m" in first
    assert "5.0 MiB" in first
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (61, "1m 1s"), (7200, "2h 0m"), (90000, "1d 1h")]
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert tables.duration(seconds) == text
