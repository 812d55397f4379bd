import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from mesh.errors import ConfigError, MeshError
from mesh.net.control import (
    MAX_REQUEST_BYTES,
    ControlError,
    NotRunning,
    Request,
    call,
    serve_control,
)
from mesh.net.paths import control_path


async def count(request: Request) -> AsyncIterator[Any]:
    """Answer with as many numbers as asked for; refuse negative ones."""
    if request["command"] != "count":
        raise MeshError(f"there is no command {request['command']!r}")
    if request["n"] < 0:
        raise MeshError("cannot count backwards")
    for number in range(request["n"]):
        yield {"number": number}


async def ask(path: Path, request: Request) -> list[Any]:
    return await trio.to_thread.run_sync(lambda: list(call(path, request, timeout=5)))


async def send_raw(path: Path, data: bytes) -> list[Any]:
    """Send bytes, close our half, return the answer's lines."""
    stream = await trio.open_unix_socket(path)
    async with stream:
        try:
            await stream.send_all(data)
            await stream.send_eof()
        except trio.BrokenResourceError:
            pass
        answer = b""
        try:
            async for chunk in stream:
                answer += chunk
        except trio.BrokenResourceError:
            pass
        return [json.loads(line) for line in answer.splitlines()]


class Served:
    """A control socket that serves `count` while the block runs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def __aenter__(self) -> Path:
        self._manager = trio.open_nursery()
        self._nursery = await self._manager.__aenter__()
        await self._nursery.start(serve_control, self.path, count)
        return self.path

    async def __aexit__(self, *details: object) -> None:
        self._nursery.cancel_scope.cancel()
        await self._manager.__aexit__(*details)


def test_a_command_is_answered_reply_by_reply(tmp_path: Path) -> None:
    async def main() -> None:
        async with Served(tmp_path / "a.sock") as path:
            replies = await ask(path, {"command": "count", "n": 3})
            assert replies == [{"number": number} for number in range(3)]
            assert await ask(path, {"command": "count", "n": 0}) == []

    trio.run(main)


def test_a_refusal_reaches_the_client_in_its_own_words(tmp_path: Path) -> None:
    async def main() -> None:
        async with Served(tmp_path / "a.sock") as path:
            with pytest.raises(ControlError, match=r"^cannot count backwards$"):
                await ask(path, {"command": "count", "n": -1})

    trio.run(main)


def test_clients_are_served_side_by_side(tmp_path: Path) -> None:
    async def main() -> None:
        async with Served(tmp_path / "a.sock") as path:
            idle = await trio.open_unix_socket(path)
            async with idle, trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(ask, path, {"command": "count", "n": 100})

    trio.run(main)


def test_the_socket_is_for_its_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    async def main() -> None:
        old = os.umask(0)
        try:
            async with Served(tmp_path / "run" / "a.sock") as path:
                assert path.stat().st_mode & 0o777 == 0o600
                assert path.parent.stat().st_mode & 0o777 == 0o700
        finally:
            os.umask(old)

    trio.run(main)


def test_the_socket_is_gone_after_the_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with Served(tmp_path / "a.sock"):
            pass

    trio.run(main)
    assert list(tmp_path.iterdir()) == []


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))

    async def main() -> None:
        async with Served(path):
            assert await ask(path, {"command": "count", "n": 1}) == [{"number": 0}]

    trio.run(main)


def test_a_second_server_on_one_socket_is_refused_and_does_no_harm(tmp_path: Path) -> None:
    async def main() -> None:
        async with Served(tmp_path / "a.sock") as path:
            with pytest.raises(ConfigError, match="already running"):
                await serve_control(path, count)
            assert await ask(path, {"command": "count", "n": 1}) == [{"number": 0}]

    trio.run(main)


def test_a_file_that_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="in the way"):
        trio.run(serve_control, path, count)
    assert path.read_text() == "precious"


def test_a_directory_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be made"):
        trio.run(serve_control, tmp_path / "file" / "a.sock", count)


@pytest.mark.parametrize("directory_length", [1, 150])
def test_the_longest_community_name_has_a_socket_too(tmp_path: Path, directory_length: int) -> None:
    async def main() -> None:
        path = control_path(tmp_path / ("d" * directory_length), "日" * 21)
        async with Served(path):
            assert path.is_socket()
            assert await ask(path, {"command": "count", "n": 1}) == [{"number": 0}]
        assert list(path.parent.iterdir()) == []

    trio.run(main)


def test_nobody_listening_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with pytest.raises(NotRunning):
        list(call(path, {"command": "count"}))
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    with pytest.raises(NotRunning):
        list(call(path, {"command": "count"}))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"[]\n",
        b"{\n",
        b"\xff\xff\n",
        b'{"command": "count"',
        b"[" * 50_000 + b"\n",
        b"x" * (MAX_REQUEST_BYTES + 1) + b"\n",
    ],
)
def test_a_broken_request_draws_one_error_and_the_server_goes_on(
    tmp_path: Path, data: bytes
) -> None:
    async def main() -> None:
        async with Served(tmp_path / "a.sock") as path:
            answers = await send_raw(path, data)
            assert [set(answer) for answer in answers] in ([{"error"}], [])
            assert await ask(path, {"command": "count", "n": 1}) == [{"number": 0}]

    trio.run(main)


def test_a_client_that_hangs_up_in_the_middle_does_not_disturb_the_server(tmp_path: Path) -> None:
    async def main() -> None:
        async with Served(tmp_path / "a.sock") as path:
            stream = await trio.open_unix_socket(path)
            await stream.send_all(b'{"command": "count", "n": 100000}\n')
            await stream.receive_some(10)
            await stream.aclose()
            assert await ask(path, {"command": "count", "n": 1}) == [{"number": 0}]

    trio.run(main)


def test_a_request_may_arrive_in_pieces(tmp_path: Path) -> None:
    async def main() -> None:
        async with Served(tmp_path / "a.sock") as path:
            stream = await trio.open_unix_socket(path)
            async with stream:
                for byte in b'{"command": "count", "n": 1}\n':
                    await stream.send_all(bytes([byte]))
                assert await stream.receive_some(100)

    trio.run(main)


def test_a_server_that_stops_while_it_answers_is_told_from_the_end_of_the_answer(
    tmp_path: Path,
) -> None:
    async def stall(_: Request) -> AsyncIterator[Any]:
        yield 1
        await trio.sleep_forever()

    async def main() -> None:
        path = tmp_path / "a.sock"
        replies = []

        def ask_until_cut() -> None:
            answer = call(path, {"command": "stall"})
            replies.append(next(answer))
            trio.from_thread.run_sync(serving.cancel)
            with pytest.raises(ControlError, match="stopped while"):
                next(answer)

        async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
            serving = nursery.cancel_scope
            await nursery.start(serve_control, path, stall)
            outer.start_soon(trio.to_thread.run_sync, ask_until_cut)
        assert replies == [1]

    trio.run(main)
