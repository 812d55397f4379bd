"""Cables between machines of the lab that delay, lose, shuffle and double frames.

```
   left ── veth ── [ a machine of its own: cable.py ] ── veth ── right
```
"""

import itertools
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tests.netns.cable import Conditions, Counts
from tests.netns.namespaces import Host
from tests.netns.sockets import Agent

_PROGRAM = Path(__file__).with_name("cable.py")


class Cable:
    """One of them.

    Attributes:
        ends: the machines that it connects, as they were named.
    """

    def __init__(self, agent: Agent, name: str, ends: tuple[str, str]) -> None:
        self._agent = agent
        self._name = name
        self.ends = ends

    def change(self, conditions: Conditions) -> None:
        """Treat frames otherwise from now on, in both directions."""
        self._agent.ask("change", name=self._name, conditions=asdict(conditions))

    def counts(self) -> tuple[Counts, Counts]:
        """Return what has been done to frames from the first end, and to those from the other."""
        there, back = self._agent.ask("count", name=self._name)
        return Counts(**there), Counts(**back)


class Cables:
    """All of them in one lab: a machine in the middle of every link, where one process runs.

    Attributes:
        conditions: of the next cable.
        laid: all cables.
    """

    def __init__(self, machine: Host, conditions: Conditions, seed: str) -> None:
        self.conditions = conditions
        self.laid: list[Cable] = []
        self._machine = machine
        self._seed = seed
        self._agent = Agent(machine, _PROGRAM)
        self._numbers = itertools.count()
        # Nothing of the machine's own may get into the cables.
        machine.sysctl({f"net/ipv6/conf/{name}/disable_ipv6": "1" for name in ("all", "default")})

    def lay(self, left: Host, left_interface: str, right: Host, right_interface: str) -> None:
        """Connect two machines; the ends are up."""
        number = next(self._numbers)
        ends = (f"left{number}", f"right{number}")
        for (host, interface), end in zip(
            ((left, left_interface), (right, right_interface)), ends, strict=True
        ):
            self._machine.ip(
                f"link add {end} type veth peer name {interface} netns {host.pid}",
                f"link set {end} up",
            )
            # A frame is one frame: a run of segments would be lost, or kept, as one.
            host.ip(f"link set {interface} gso_max_segs 1", f"link set {interface} up")
        name = f"{number}"
        conditions = asdict(self.conditions)
        self._agent.ask("lay", name=name, ends=ends, conditions=conditions, seed=self._seed)
        self.laid.append(Cable(self._agent, name, (left.name, right.name)))

    def of(self, host: Host) -> Iterator[Cable]:
        """Yield the cables of a machine."""
        return (cable for cable in self.laid if host.name in cable.ends)
