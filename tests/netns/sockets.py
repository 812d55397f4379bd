"""Sockets on machines of the lab, held by an `agent` there and used from the tests."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests.netns.namespaces import Host

_AGENT = Path(__file__).with_name("agent.py")

Address = tuple[str, int]


class Datagram(NamedTuple):
    """A received datagram."""

    data: bytes
    source: Address


class Agent:
    """A program on one machine that does what the tests ask for: by default, with sockets."""

    def __init__(self, host: Host, program: Path = _AGENT) -> None:
        self._process = host.popen(
            sys.executable,
            "-I",
            "-S",
            str(program),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None,  # type: ignore[arg-type]
        )

    def ask(self, operation: str, **arguments: object) -> Any:  # noqa: ANN401 - JSON
        """Have one operation done and return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": operation, **arguments}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise OSError(answer["error"])
        return answer["ok"]

    def udp(self, host: str = "0.0.0.0", port: int = 0) -> "UdpSocket":  # noqa: S104 - in the lab
        """Open a UDP socket."""
        return UdpSocket(self, self.ask("udp_open", host=host, port=port))

    def wire(self, interface: str | None, *, outgoing: bool = False) -> "Wire":
        """Listen to an interface (None: to all); ``outgoing`` adds what the machine sends."""
        return Wire(self, self.ask("wire_open", interface=interface, outgoing=outgoing))

    def spoof(self, source: Address, to: Address, datagrams: list[bytes]) -> None:
        """Send datagrams that claim to come from ``source``."""
        texts = [datagram.hex() for datagram in datagrams]
        self.ask("spoof", source=list(source), to=list(to), datagrams=texts)


class UdpSocket:
    """A UDP socket on a machine of the lab."""

    def __init__(self, agent: Agent, opened: dict[str, int]) -> None:
        self._agent = agent
        self._number = opened["socket"]
        self.port = opened["port"]

    def send(self, data: bytes, to: Address) -> None:
        """Send one datagram."""
        self._agent.ask("udp_send", number=self._number, to=list(to), data=data.hex())

    def receive(self, timeout: float = 1.0) -> Datagram | None:
        """Return the next datagram, or None after ``timeout`` seconds."""
        got = self._agent.ask("udp_receive", number=self._number, timeout=timeout)
        if got is None:
            return None
        return Datagram(bytes.fromhex(got["data"]), (got["source"][0], got["source"][1]))

    def another(self) -> "UdpSocket":
        """Open one more on the same machine."""
        return self._agent.udp()

    def close(self) -> None:
        """Close it."""
        self._agent.ask("close", number=self._number)


class Wire:
    """A packet socket: frames as they pass an interface."""

    def __init__(self, agent: Agent, number: int) -> None:
        self._agent = agent
        self._number = number

    def send(self, *frames: bytes) -> None:
        """Send frames as they are."""
        self._agent.ask("wire_send", number=self._number, frames=[f.hex() for f in frames])

    def receive(self, count: int = 1, timeout: float = 1.0, containing: bytes = b"") -> list[bytes]:
        """Return the next ``count`` frames with some bytes in them, fewer after ``timeout`` s."""
        frames = self._agent.ask(
            "wire_receive",
            number=self._number,
            count=count,
            timeout=timeout,
            containing=containing.hex(),
        )
        return [bytes.fromhex(frame) for frame in frames]

    def drain(self) -> list[bytes]:
        """Return everything that has arrived."""
        return self.receive(count=1_000_000, timeout=0.0)

    def close(self) -> None:
        """Close it."""
        self._agent.ask("close", number=self._number)
