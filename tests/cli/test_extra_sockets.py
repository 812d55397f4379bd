"""Extra sockets: opened, told to the engine, closed."""

import resource
from pathlib import Path
from typing import cast

import trio
from trio.testing import wait_all_tasks_blocked

from mesh.cli.extra_sockets import ExtraSockets
from mesh.core.edge import EdgeEngine
from mesh.engine import SocketId
from mesh.events import SocketsUnwanted, SocketsWanted
from mesh.net.driver import Driver
from tests.net.test_driver import ScriptedEngine, running


class AskingEngine(ScriptedEngine):
    """Notes which sockets it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[SocketId] = []

    def sockets_opened(self, sockets: list[SocketId], _now: float) -> None:
        self.given += sockets


def extra_sockets(engine: AskingEngine, driver: Driver) -> ExtraSockets:
    return ExtraSockets(cast("EdgeEngine", engine), driver)


def test_they_are_opened_under_numbers_of_their_own_and_closed_again() -> None:
    async def main() -> None:
        engine = AskingEngine()
        async with running(engine) as (driver, _):
            sockets = extra_sockets(engine, driver)
            await sockets.open(SocketsWanted(100))
            assert len(set(engine.given)) == 100
            before = len(open_files())
            sockets.close(SocketsUnwanted(tuple(engine.given[1:])))
            await wait_all_tasks_blocked()
            assert before - len(open_files()) == 99
            sockets.close(SocketsUnwanted(tuple(engine.given)))

    trio.run(main)


def test_what_cannot_be_had_is_left_out() -> None:
    async def main() -> None:
        engine = AskingEngine()
        async with running(engine) as (driver, _):
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_files()) + 20, hard))
            try:
                await extra_sockets(engine, driver).open(SocketsWanted(256))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert 1 <= len(engine.given) < 256

    trio.run(main)


def open_files() -> list[int]:
    """Return the numbers of our open files."""
    return [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
