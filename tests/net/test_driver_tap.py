"""The driver with a real TAP, in a namespace of its own.

engine ── driver ── mesh0 ── kernel
"""

import platform
import socket
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio

from mesh.engine import Buffer, FrameIovec, OutgoingDatagrams, ReceivedDatagrams
from mesh.errors import DeviceUnavailable
from mesh.events import Event
from mesh.net import link
from mesh.net.data_loop import DataLoop
from mesh.net.driver import Driver
from mesh.net.tap import TAP_READ_BYTES, open_tap
from mesh.net.udp import open_udp

MAC = bytes.fromhex("020000000001")
FRAME = MAC + bytes.fromhex("020000000002 88b5") + bytes(46)

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("needs_tap")]


class TapEngine:
    """Answers every ARP request for 10.20.0.9 and keeps notes."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.outbox: list[FrameIovec] = []
        self.stopped = False

    def receive_frames(self, read: Buffer, _: float) -> None:
        frame = bytes(read)[10:]
        self.frames.append(frame)
        if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\x00\x01":
            asked, asker = frame[38:42], frame[22:32]
            answer = asker[:6] + MAC[::-1] + frame[12:20] + b"\x00\x02" + MAC[::-1] + asked + asker
            self.outbox.append([bytes(10), answer])

    def forward_frame(self, read: Buffer, now: float) -> None:
        """Know no short way."""

    def deliver_datagram(self, batch: ReceivedDatagrams, now: float) -> None:
        """Know none either."""

    def receive_burst(self, reads: Sequence[Buffer], now: float) -> None:
        for read in reads:
            self.receive_frames(read, now)

    def frames_to_write(self) -> list[FrameIovec]:
        taken, self.outbox = self.outbox, []
        return taken

    def receive_datagrams(self, batch: ReceivedDatagrams, now: float) -> None:
        raise NotImplementedError

    def handle_timers(self, now: float) -> None:
        raise NotImplementedError

    def next_timer_at(self) -> float:
        return float("inf")

    def datagrams_to_send(self) -> list[OutgoingDatagrams]:
        return []

    def events_to_report(self) -> list[Event]:
        return []

    def receive_send_error(self, *_: object) -> None:
        raise NotImplementedError

    def socket_closed(self, *_: object) -> None:
        raise NotImplementedError

    def stop(self, _: float) -> None:
        self.stopped = True


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


async def wait_until(claim: Callable[[], object]) -> None:
    with trio.fail_after(10):
        while not claim():  # noqa: ASYNC110 - the kernel sets no trio.Event
            await trio.sleep(0.01)


def go_down_and_up() -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        engine = TapEngine()
        tap = open_tap()
        await link.configure_link(tap.index, mtu=1500, mac=MAC)
        await link.add_address(tap.index, "10.20.0.2/22")
        port = open_udp(socket.AF_INET, "")
        driver = Driver(engine, {0: port}, tap)
        async with trio.open_nursery() as nursery:
            await nursery.start(driver.run)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"x", ("10.20.0.9", 9))
            await wait_until(lambda: any(frame[12:14] == b"\x08\x00" for frame in engine.frames))
            neighbours = ip("neigh", "show", "10.20.0.9")

            ip("link", "set", "mesh0", "down")
            for _ in range(3):
                driver.step(lambda _: engine.outbox.append([bytes(10), FRAME]))
            while_down = dict(driver.counters.tap_errors)
            ip("link", "set", "mesh0", "up")
            written = driver.counters.frames_written
            driver.step(lambda _: engine.outbox.append([bytes(10), FRAME]))
            written_after = driver.counters.frames_written - written
            nursery.cancel_scope.cancel()
        return {
            "neighbours": neighbours,
            "while_down": while_down,
            "drops": driver.counters.drops(),
            "written_after": written_after,
            "stopped": engine.stopped,
            "links": ip("-o", "link"),
        }

    return DataLoop().run(main)


def test_frames_flow_both_ways_and_a_tap_set_down_is_survived(
    in_namespace: Callable[..., Any],
) -> None:
    found = in_namespace(go_down_and_up)
    assert MAC[::-1].hex(":") in found["neighbours"]
    assert found["while_down"] == {"EIO": 3}
    assert found["drops"] == {"tap_error": 3}
    assert found["written_after"] == 1
    assert found["stopped"]
    assert "mesh0" not in found["links"]


def delete_the_tap(*, is_writing: bool) -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        engine = TapEngine()
        tap = open_tap()
        await link.configure_link(tap.index, mtu=1500, mac=MAC)
        port = open_udp(socket.AF_INET, "")
        driver = Driver(engine, {0: port}, tap)
        error = ""

        async def run(task_status: trio.TaskStatus[None]) -> None:
            nonlocal error
            try:
                await driver.run(task_status=task_status)
            except DeviceUnavailable as caught:
                error = str(caught)

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                await nursery.start(run)
                ip("link", "del", "mesh0")
                if is_writing:  # the write finds out before the reader is woken
                    driver.step(lambda _: engine.outbox.append([bytes(10), FRAME]))
        return {"error": error, "stopped": engine.stopped, "closed": port.fileno() == -1}

    return DataLoop().run(main)


def delete_while_reading() -> dict[str, Any]:
    return delete_the_tap(is_writing=False)


def delete_while_writing() -> dict[str, Any]:
    return delete_the_tap(is_writing=True)


@pytest.mark.parametrize("deletion", [delete_while_reading, delete_while_writing])
def test_a_deleted_tap_ends_the_run_with_a_sentence_after_the_goodbyes(
    in_namespace: Callable[..., Any], deletion: Callable[[], dict[str, Any]]
) -> None:
    found = in_namespace(deletion)
    assert found["error"].startswith("the interface mesh0 was deleted while in use")
    assert found["stopped"]
    assert found["closed"]


def read_a_datagram(offload: bool) -> dict[str, Any]:  # noqa: FBT001 - crosses as JSON
    """A UDP datagram that the kernel sends through a TAP: look at what a read returns."""

    async def main() -> dict[str, Any]:
        with open_tap(offload=offload) as tap:
            await link.configure_link(tap.index, mtu=1500, mac=MAC)
            await link.add_address(tap.index, "10.20.0.2/22")
            ip("neigh", "add", "10.20.0.9", "lladdr", MAC[::-1].hex(":"), "dev", tap.name)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"x" * 100, ("10.20.0.9", 9))
            buffer = memoryview(bytearray(TAP_READ_BYTES))
            with trio.fail_after(5):
                while True:
                    await tap.wait_readable()
                    length = tap.read_into(buffer)
                    if bytes(buffer[22:24]) == b"\x08\x00":
                        break
            found = {"has_offload": tap.has_offload, "has_uso": tap.has_uso}
            return found | {"flags": buffer[0], "length": length}

    return DataLoop().run(main)


@pytest.mark.parametrize("offload", [True, False])
def test_partial_checksums_come_with_offloads_only(
    in_namespace: Callable[..., Any],
    offload: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    found = in_namespace(read_a_datagram, offload)
    assert found["has_offload"] is offload
    kernel = tuple(map(int, platform.release().split(".")[:2]))
    assert found["has_uso"] is (offload and kernel >= (6, 2))
    assert found["flags"] == (1 if offload else 0)
    assert found["length"] == 10 + 14 + 20 + 8 + 100
