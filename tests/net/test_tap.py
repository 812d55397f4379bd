import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from mesh.errors import ConfigError, DeviceUnavailable
from mesh.net.tap import TAP_READ_BYTES, Tap, open_tap

FRAME = bytes.fromhex("ffffffffffff 020000000001 88b5") + bytes(range(50))
VNET = bytes(10)

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("needs_tap")]


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def links() -> list[str]:
    return [line.split(":")[1].strip() for line in ip("-o", "link").splitlines()]


def set_up(tap: Tap) -> None:
    ip("link", "set", tap.name, "addrgenmode", "none", "up")


def frames_cross() -> dict[str, Any]:
    """Two TAPs joined by a bridge: what is written to one is read from the other."""
    with open_tap() as one, open_tap() as other:
        ip("link", "add", "bridge", "type", "bridge", "mcast_snooping", "0")
        for tap in (one, other):
            set_up(tap)
            ip("link", "set", tap.name, "master", "bridge")
        ip("link", "set", "bridge", "addrgenmode", "none", "up")
        buffer = memoryview(bytearray(TAP_READ_BYTES))

        async def read() -> int:
            with trio.fail_after(10):
                while True:
                    await other.wait_readable()
                    length = other.read_into(buffer)
                    if bytes(buffer[10:length]) == FRAME:
                        return length

        one.write([VNET, FRAME[:14], memoryview(FRAME)[14:]])
        length = trio.run(read)
        return {"names": [one.name, other.name], "length": length}


def test_a_frame_written_in_pieces_is_read_whole_with_its_header(
    in_namespace: Callable[..., Any],
) -> None:
    found = in_namespace(frames_cross)
    assert found == {"names": ["mesh0", "mesh1"], "length": 10 + len(FRAME)}


def errors_while_used() -> dict[str, Any]:
    with open_tap("tap7") as tap:
        buffer = memoryview(bytearray(TAP_READ_BYTES))
        found: dict[str, Any] = {"down_read": tap.read_into(buffer)}

        def attempt(name: str, call: Callable[[], object]) -> None:
            try:
                call()
            except OSError as error:
                found[name] = errno.errorcode[error.errno or 0]
            except DeviceUnavailable as error:
                found[name] = str(error)

        attempt("down", lambda: tap.write([VNET, FRAME]))
        set_up(tap)
        attempt("up", lambda: tap.write([VNET, FRAME]))
        attempt("bad_header", lambda: tap.write([b"\x01" * 10, FRAME]))
        attempt("too_short", lambda: tap.write([VNET, b"x"]))
        ip("link", "set", "tap7", "down")
        attempt("down_again", lambda: tap.write([VNET, FRAME]))
        ip("link", "del", "tap7")

        async def wait() -> None:
            with trio.fail_after(5):
                await tap.wait_readable()

        trio.run(wait)
        attempt("deleted_write", lambda: tap.write([VNET, FRAME]))
        attempt("deleted_read", lambda: tap.read_into(buffer))
        return found


def test_down_is_an_error_to_live_with_and_deleted_is_the_end(
    in_namespace: Callable[..., Any],
) -> None:
    found = in_namespace(errors_while_used)
    deleted = "the interface tap7 was deleted while in use; join again to have a new one"
    assert found == {
        "down_read": 0,
        "down": "EIO",
        "bad_header": "EINVAL",
        "too_short": "EINVAL",
        "down_again": "EIO",
        "deleted_write": deleted,
        "deleted_read": deleted,
    }


def take_names() -> dict[str, Any]:
    ip("link", "add", "mesh0", "type", "veth", "peer", "name", "mesh2")
    ip("tuntap", "add", "dev", "mesh1", "mode", "tap")  # persistent, somebody else's
    found: dict[str, Any] = {}
    for name in ("mesh0", "mesh1"):
        try:
            open_tap(name).close()
        except DeviceUnavailable as error:
            found[name] = str(error)
    with open_tap() as tap:
        found["first_free"] = tap.name
        try:
            open_tap(tap.name).close()
        except DeviceUnavailable as error:
            found["ours"] = str(error)
    found["after"] = links()
    return found


def test_a_taken_name_is_refused_and_the_first_free_one_found(
    in_namespace: Callable[..., Any],
) -> None:
    found = in_namespace(take_names)
    for key, name in (("mesh0", "mesh0"), ("mesh1", "mesh1"), ("ours", "mesh3")):
        expected = f"the interface name {name} is taken; choose another with --tap NAME"
        assert found[key] == expected
    assert found["first_free"] == "mesh3"
    assert "mesh3" not in found["after"]
    assert "mesh1" in found["after"]


@pytest.mark.parametrize("name", ["", "a" * 16, "é" * 8, "a/b", "a b", "..", "mesh%d", "a:b"])
def test_what_is_no_name_for_an_interface_is_one_clear_error(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^--tap: "):
        open_tap(name)


def open_without_privilege() -> list[str]:
    errors = []
    Path("/dev/net/tun").stat()
    os.setresuid(65534, 65534, 65534)
    try:
        open_tap().close()
    except DeviceUnavailable as error:
        errors.append(str(error))
    return errors


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user, which only root can become")
def test_without_privilege_the_error_says_what_to_do(in_namespace: Callable[..., Any]) -> None:
    [error] = in_namespace(open_without_privilege)
    assert "run as root or with CAP_NET_ADMIN" in error


def open_without_device() -> str:
    subprocess.run(["mount", "-t", "tmpfs", "none", "/dev/net"], check=True)
    try:
        open_tap().close()
    except DeviceUnavailable as error:
        return str(error)
    return ""


def test_without_the_device_the_error_says_what_to_do(in_namespace: Callable[..., Any]) -> None:
    error = in_namespace(open_without_device)
    assert "/dev/net/tun cannot be opened" in error
    assert "modprobe tun" in error


_HOLDER = """
import trio
from mesh.net import link
from mesh.net.tap import open_tap

async def main():
    tap = open_tap()
    await link.configure_link(tap.index, mtu=1500, mac=bytes.fromhex("020000000001"))
    await link.add_address(tap.index, "10.20.0.2/22", advmss=1300)
    await link.add_ipv6(tap.index, "fd11:22:33::2/64", advmss=1280)
    await link.add_broadcast_routes(tap.index)
    print("ready", flush=True)
    await trio.sleep_forever()

trio.run(main)
"""


def kill_the_holder() -> dict[str, Any]:
    ip("link", "set", "lo", "up")

    def state() -> list[str]:
        routes = (ip(family, "route", "show", "table", "all") for family in ("-4", "-6"))
        return [*links(), *(line for text in routes for line in text.splitlines())]

    before = state()
    with subprocess.Popen([sys.executable, "-c", _HOLDER], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        during = state()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    return {"before": before, "during": during, "after": state()}


def test_kill_minus_nine_leaves_no_interface_and_no_route(in_namespace: Callable[..., Any]) -> None:
    found = in_namespace(kill_the_holder)
    assert "mesh0" in found["during"]
    assert any("255.255.255.255" in line for line in found["during"])
    assert found["after"] == found["before"]
