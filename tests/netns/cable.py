"""Moves frames between pairs of interfaces as a bad network does: this kernel has no netem.

Run with nothing but the standard library: ``python -I -S cable.py``. JSON lines in, JSON lines out:
a request names one of the functions of `_Bench`. Each direction of a cable has dice of its own,
thrown from a seed, so that the same frames meet the same fate in every run.

```
   interface ─▶ loss ─▶ rate and queue ─▶ duplication ─▶ delay, jitter, being held back ─▶ interface
```
"""

import contextlib
import heapq
import itertools
import json
import random
import select
import socket
import sys
import time
from dataclasses import dataclass

_ETH_P_ALL = 3
_SOL_PACKET = 263
_PACKET_VNET_HDR = 15
_PACKET_IGNORE_OUTGOING = 23
_SO_RCVBUFFORCE = 33
_BUFFER_BYTES = 8 << 20
_VNET_HEADER_BYTES = 10  # carries the state of the checksum, which the sender may have left to us
_ETHERNET_OVERHEAD = 24  # preamble, frame check sequence, gap: what a frame costs on the wire
_FRAMES_AT_ONCE = 64


@dataclass(frozen=True)
class Conditions:
    """What one direction of a cable does to frames; by default nothing.

    Attributes:
        delay: seconds that every frame takes.
        jitter: up to so many seconds more, by chance; frames stay in order.
        loss: share of frames that are lost.
        duplication: share of frames that arrive twice.
        reordering: share of frames that are held back by up to twice the jitter (at least 2 ms),
            and overtaken by the next ones.
        rate: bits per second, or 0 for no limit.
        queue_bytes: how much may wait for the rate; what comes on top is lost.
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    rate: float = 0.0
    queue_bytes: int = 20_000


@dataclass
class Counts:
    """What one direction has done so far."""

    frames: int = 0
    lost: int = 0
    refused_by_queue: int = 0
    duplicated: int = 0
    held_back: int = 0


class Direction:
    """Decides when a frame arrives, and whether; keeps no clock.

    Attributes:
        conditions: may be changed at any moment.
        counts: what has happened.
    """

    def __init__(self, conditions: Conditions, seed: str) -> None:
        self.conditions = conditions
        self.counts = Counts()
        self._dice = random.Random(seed)
        self._free_at = 0.0
        self._last_arrival = 0.0

    def arrivals(self, size: int, now: float) -> list[float]:
        """Return the moments at which a frame of ``size`` bytes arrives: none, one or two."""
        conditions, dice, counts = self.conditions, self._dice, self.counts
        counts.frames += 1
        # Every frame throws the same dice, whatever becomes of it: so one loss more or less does
        # not change what happens to all later frames.
        luck_lost, luck_twice, luck_held = dice.random(), dice.random(), dice.random()
        jitters, held_back = (dice.random(), dice.random()), dice.random()
        if luck_lost < conditions.loss:
            counts.lost += 1
            return []
        departure = self._departure(size, now)
        if departure is None:
            counts.refused_by_queue += 1
            return []
        arrivals = []
        for jitter in jitters[: 2 if luck_twice < conditions.duplication else 1]:
            arrival = departure + conditions.delay + jitter * conditions.jitter
            if luck_held < conditions.reordering:
                arrival += 0.001 + held_back * max(0.002, 2 * conditions.jitter)
            else:
                arrival = self._last_arrival = max(arrival, self._last_arrival)
            arrivals.append(arrival)
        counts.duplicated += len(arrivals) - 1
        counts.held_back += luck_held < conditions.reordering
        return arrivals

    def _departure(self, size: int, now: float) -> float | None:
        """Return when the last bit of a frame has left, or None if the queue is full."""
        rate = self.conditions.rate
        if not rate:
            return now
        waiting = max(0.0, self._free_at - now)
        if waiting * rate / 8 > self.conditions.queue_bytes:
            return None
        self._free_at = now + waiting + (size + _ETHERNET_OVERHEAD) * 8 / rate
        return self._free_at


class _Bench:
    """All cables of one machine, and the frames on their way."""

    def __init__(self) -> None:
        self._ways: dict[int, tuple[Direction, socket.socket]] = {}
        self._sockets: dict[int, socket.socket] = {}
        self._cables: dict[str, tuple[Direction, Direction]] = {}
        self._underway: list[tuple[float, int, socket.socket, bytes]] = []
        self._numbers = itertools.count()

    # Requests

    def lay(self, name: str, ends: list[str], conditions: dict[str, float], seed: str) -> None:
        """Connect two interfaces."""
        left, right = map(_open, ends)
        there = Direction(Conditions(**conditions), f"{seed} {name} there")  # type: ignore[arg-type]
        back = Direction(Conditions(**conditions), f"{seed} {name} back")  # type: ignore[arg-type]
        self._cables[name] = there, back
        self._ways[left.fileno()] = there, right
        self._ways[right.fileno()] = back, left
        self._sockets.update({left.fileno(): left, right.fileno(): right})

    def change(self, name: str, conditions: dict[str, float]) -> None:
        """Have a cable do something else from now on."""
        for direction in self._cables[name]:
            direction.conditions = Conditions(**conditions)  # type: ignore[arg-type]

    def count(self, name: str) -> list[dict[str, int]]:
        """Return what both directions have done."""
        return [vars(direction.counts) for direction in self._cables[name]]

    # Frames

    def serve(self) -> None:
        """Move frames and answer requests until stdin ends."""
        stdin = sys.stdin.fileno()
        while True:
            ready, _, _ = select.select([stdin, *self._sockets], [], [], self._until_next())
            for number in ready:
                if number != stdin:
                    self._take_in(number)
            self._give_out()
            if stdin in ready and not self._answer():
                return

    def _until_next(self) -> float | None:
        return max(0.0, self._underway[0][0] - time.monotonic()) if self._underway else None

    def _take_in(self, number: int) -> None:
        direction, out = self._ways[number]
        for _ in range(_FRAMES_AT_ONCE):
            try:
                frame = self._sockets[number].recv(70_000)
            except OSError:  # there is no more, or the interface is down
                return
            size = len(frame) - _VNET_HEADER_BYTES
            for arrival in direction.arrivals(size, time.monotonic()):
                entry = arrival, next(self._numbers), out, frame
                heapq.heappush(self._underway, entry)

    def _give_out(self) -> None:
        now = time.monotonic()
        while self._underway and self._underway[0][0] <= now:
            _, _, out, frame = heapq.heappop(self._underway)
            with contextlib.suppress(OSError):  # down, or full: a cable does not complain
                out.send(frame)

    def _answer(self) -> bool:
        line = sys.stdin.readline()
        if not line:
            return False
        request = json.loads(line)
        operation = {"lay": self.lay, "change": self.change, "count": self.count}[request.pop("do")]
        try:
            answer = {"ok": operation(**request)}
        except OSError as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
        return True


def _open(interface: str) -> socket.socket:
    """Open a packet socket on one interface."""
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # 0: deaf until it is bound
    opened.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    with contextlib.suppress(OSError):  # without privilege over the machine's limits
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    opened.setblocking(False)
    opened.bind((interface, _ETH_P_ALL))
    return opened


if __name__ == "__main__":
    _Bench().serve()
