"""Which supernodes, under which key, and what the user is told while they are out of reach."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from mesh import events
from mesh.addresses import Endpoint
from mesh.cli.supernodes import (
    PATIENCE,
    REMINDER_INTERVAL,
    SupernodeTarget,
    SupernodeWatch,
    configured_target,
    found_target,
)
from mesh.cli.values import HostPort, SupernodeAddress
from mesh.net.lan import FoundSupernode
from mesh.net.state import StateDir

PLACE = HostPort("192.0.2.1", 7777)
KEY, OTHER_KEY = "a" * 32, "b" * 32
REGISTERED = events.Registered(0, "", Endpoint("192.0.2.9", 1), is_first=True)


def found(
    host: str, *, serves_us: bool = False, takes_any: bool = False, key: str = KEY
) -> FoundSupernode:
    return FoundSupernode(Endpoint(host, 7777), key, serves_us, takes_any)


def test_a_key_that_was_named_wins_over_the_one_on_file(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.pin(str(PLACE), OTHER_KEY)
    target = configured_target(SupernodeAddress((PLACE,), KEY), state, is_invited=True)
    assert target.fingerprint == KEY
    assert "new invite" in target.how_to_accept


def test_without_a_key_the_one_on_file_is_expected_and_the_file_named(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.pin(str(PLACE), OTHER_KEY)
    target = configured_target(SupernodeAddress((PLACE,)), state, is_invited=False)
    assert target.fingerprint == OTHER_KEY
    assert str(tmp_path / "known_supernodes") in target.how_to_accept
    assert str(PLACE) in target.how_to_accept
    assert (tmp_path / "known_supernodes").exists()


def test_on_first_contact_any_key_will_do(tmp_path: Path) -> None:
    target = configured_target(SupernodeAddress((PLACE,)), StateDir(tmp_path), is_invited=False)
    assert target.fingerprint == ""


def test_a_supernode_on_the_lan_that_serves_us_is_preferred() -> None:
    target = found_target(
        [found("192.0.2.1", takes_any=True), found("192.0.2.2", serves_us=True, key=OTHER_KEY)]
    )
    assert target is not None
    assert target.fingerprint == OTHER_KEY
    assert str(target) == "192.0.2.2:7777"
    assert not target.is_kept


def test_one_that_takes_anybody_will_do_and_no_other() -> None:
    assert found_target([found("192.0.2.1", takes_any=True)]) is not None
    assert found_target([found("192.0.2.1")]) is None
    assert found_target([]) is None


def test_an_address_that_others_can_use_is_preferred_to_a_link_local_one() -> None:
    target = found_target([found("fe80::1%2", serves_us=True), found("192.0.2.1", serves_us=True)])
    assert str(target) == "192.0.2.1:7777"


def lines_after(
    seconds: float,
    caplog: pytest.LogCaptureFixture,
    script: Callable[[SupernodeWatch], None] = lambda _: None,
    place: HostPort = PLACE,
) -> tuple[list[str], list[Endpoint]]:
    told: list[Endpoint] = []

    async def scene() -> None:
        target = SupernodeTarget((place,), "", "")
        watch = SupernodeWatch(0, target, lambda _number, endpoints: told.extend(endpoints))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.run)
            script(watch)
            await trio.sleep(seconds)
            nursery.cancel_scope.cancel()

    with caplog.at_level(logging.WARNING, "mesh"):
        trio.run(scene, clock=trio.testing.MockClock(autojump_threshold=0.02))
    return [record.getMessage() for record in caplog.records], told


def test_a_numeric_supernode_is_told_to_the_engine_once(caplog: pytest.LogCaptureFixture) -> None:
    lines, told = lines_after(2.0, caplog)
    assert told == [Endpoint("192.0.2.1", 7777), Endpoint("192.0.2.1", 443)]
    assert lines == []


def test_silence_is_told_soon_and_then_rarely(caplog: pytest.LogCaptureFixture) -> None:
    lines, told = lines_after(5.0, caplog)
    assert lines == ["supernode 192.0.2.1:7777 does not answer; trying on"]
    assert len(told) == 2
    caplog.clear()
    lines, _ = lines_after(2 * REMINDER_INTERVAL + 8, caplog)
    assert len(lines) == 3


def test_the_silence_of_a_spare_is_told_once_while_another_supernode_serves_us(
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = dataclasses.replace(REGISTERED, supernode=1)
    lines, _ = lines_after(300.0, caplog, lambda watch: watch.handle(other))
    assert lines == ["supernode 192.0.2.1:7777 does not answer; trying on"]


def test_once_registered_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    lines, _ = lines_after(100.0, caplog, lambda watch: watch.handle(REGISTERED))
    assert lines == []


def test_a_name_that_does_not_resolve_is_told_at_once_and_tried_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve(_place: HostPort) -> list[Endpoint]:
        await trio.lowlevel.checkpoint()
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("mesh.cli.supernodes.resolve", resolve)
    lines, told = lines_after(10.0, caplog, place=HostPort("nowhere.invalid", 1))
    assert lines == ["cannot resolve nowhere.invalid: Name or service not known; trying on"]
    assert told == []


@pytest.mark.parametrize("delay", [0.0, 4.0])  # at once, or in vain: both are no answer
def test_that_a_name_leads_nowhere_is_told_once_and_so_is_where_it_leads_then(
    monkeypatch: pytest.MonkeyPatch, delay: float
) -> None:
    told: list[tuple[float, list[Endpoint]]] = []

    async def resolve(place: HostPort) -> list[Endpoint]:
        await trio.sleep(delay)
        if trio.current_time() - started_at < 10.0:
            raise OSError(-2, "Name or service not known")
        return [Endpoint("192.0.2.1", place.port)]

    def tell(_number: int, endpoints: list[Endpoint]) -> None:
        told.append((trio.current_time() - started_at, endpoints))

    async def scene() -> None:
        nonlocal started_at
        started_at = trio.current_time()
        target = SupernodeTarget((HostPort("late.example", 1),), "", "", is_kept=False)
        with trio.move_on_after(30.0):
            await SupernodeWatch(0, target, tell).run()

    started_at = 0.0
    monkeypatch.setattr("mesh.cli.supernodes.resolve", resolve)
    trio.run(scene, clock=trio.testing.MockClock(autojump_threshold=0.02))
    [(first_at, first), (then_at, then)] = told
    assert (first, then) == ([], [Endpoint("192.0.2.1", 1)])
    assert first_at <= PATIENCE + 0.1
    assert 10.0 <= then_at < 20.0
