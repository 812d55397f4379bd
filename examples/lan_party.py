"""Plays a LAN party of four; run it with ``sudo .venv/bin/python examples/lan_party.py``.

```
   host ─┐ hosts the embedded supernode and a "game server" on UDP port 27960
   ann  ─┤
   ben  ─┼─ a switch: no internet, no router, nothing configured
   cat  ─┘
```

The host's ``mesh-edge join`` prints an invite; the others join with it. Then each guest looks for
servers as LAN games do, by a broadcast to 255.255.255.255, which finds the host through the
overlay. The four machines are network namespaces named party-..., removed at the end.
"""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

GUESTS = ("ann", "ben", "cat")
PLAYERS = ("host", *GUESTS)
PORT = 27960
MESH_EDGE = Path(sys.executable).with_name("mesh-edge")

SERVER = f"""
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("", {PORT}))
while True:
    question, client = server.recvfrom(1500)
    print("the server is asked", question, "by", client, flush=True)
    server.sendto(b"the server of host: 1 of 4 players, map q3dm17", client)
"""

CLIENT = f"""
import socket
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
client.settimeout(3)
client.sendto(b"getinfo", ("255.255.255.255", {PORT}))
print("found", *client.recvfrom(1500))
"""


def ip(*lines: str) -> None:
    """Run lines of ``ip -batch``."""
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)


def on(player: str, *command: str) -> list[str]:
    """Return the command that runs ``command`` on a player's machine."""
    return ["ip", "netns", "exec", f"party-{player}", *command]


@contextlib.contextmanager
def machines() -> Iterator[None]:
    """Build the switch and the four machines on it, and remove them at the end."""
    names = [f"party-{name}" for name in ("switch", *PLAYERS)]
    try:
        ip(*(f"netns add {name}" for name in names))
        ip("link add lan0 netns party-switch type bridge")
        subprocess.run(on("switch", "ip", "link", "set", "lan0", "up"), check=True)
        for number, player in enumerate(PLAYERS, 1):
            _plug_in(player, number)
        yield
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False)


def _plug_in(player: str, number: int) -> None:
    ip(f"link add eth0 netns party-{player} type veth peer name port{number} netns party-switch")
    switch = f"link set port{number} up master lan0"
    machine = f"address add 192.168.7.{number}/24 dev eth0\nlink set eth0 up\nlink set lo up"
    subprocess.run(on("switch", "ip", "-batch", "-"), input=switch, text=True, check=True)
    subprocess.run(on(player, "ip", "-batch", "-"), input=machine, text=True, check=True)


class Player:
    """One machine's ``mesh-edge join``."""

    def __init__(self, name: str, files: Path, community: str) -> None:
        self.name = name
        folder = files / name
        folder.mkdir()
        self._output = folder / "output"
        environment = {
            **os.environ,
            "MESH_STATE_DIR": str(folder / "state"),
            "MESH_RUNTIME_DIR": str(folder / "run"),
        }
        join = on(name, str(MESH_EDGE), "join", community, "--name", name)
        with self._output.open("w") as output:
            self.process = subprocess.Popen(join, stdout=output, env=environment)

    def wait_for(self, pattern: str) -> str:
        """Print and return what it prints and we wait for.

        Raises:
            TimeoutError: it did not within 20 s.
        """
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if found := re.search(pattern, self._output.read_text()):
                print(f"{self.name}: {found[0]}")
                return found[1]
            time.sleep(0.1)
        raise TimeoutError(f"{self.name} did not print {pattern}")


def party(files: Path, running: contextlib.ExitStack) -> None:
    """Have everybody join, then every guest look for a server."""

    def join(name: str, community: str) -> Player:
        player = Player(name, files, community)
        running.callback(player.process.wait)
        running.callback(player.process.terminate)
        return player

    host = join("host", "lan-party")
    invite = host.wait_for(r"invite: (mesh://\S+)")
    for guest in [join(name, invite) for name in GUESTS]:
        guest.wait_for(r"joined lan-party as \S+: \S+ (\S+)/\d+, supernode \S+")
    server = subprocess.Popen(on("host", sys.executable, "-c", SERVER))
    running.callback(server.wait)
    running.callback(server.terminate)
    time.sleep(1)  # for the sessions between everybody
    for name in GUESTS:
        print(f"{name}: looks for servers", flush=True)
        subprocess.run(on(name, sys.executable, "-c", CLIENT), check=True)


def main() -> None:
    """Build, play, clean up."""
    if os.geteuid() != 0:
        sys.exit("this makes network namespaces: run it with sudo")
    if not MESH_EDGE.exists():
        sys.exit(
            f"there is no {MESH_EDGE}: run scripts/mesh-edge --version once, then .venv/bin/python"
        )
    with (
        tempfile.TemporaryDirectory() as files,
        machines(),
        contextlib.ExitStack() as running,
    ):
        party(Path(files), running)


if __name__ == "__main__":
    main()
