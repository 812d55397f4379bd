"""Timers as data: what an edge waits for, and one table asked for the next deadline."""

import enum
import heapq
import math
from collections.abc import Hashable, Iterator
from typing import NamedTuple


class Timer(enum.Enum):
    """Each entry says when it fires."""

    REGISTER = "When to send the next datagram of a registration, or start it anew."
    SUPERNODE_HEARTBEAT = "When to ping the supernode, or count a ping as lost."
    STREAM = "When to ask for a stream to a supernode that does not answer by UDP."
    UDP_PROBE = "When to ping a supernode by UDP that a stream leads to."
    MEMBERSHIP = "When to ask the supernode for the members whose digest differs from ours."
    NAT_OBSERVATION = "When to ask an observation port of a supernode, or ask again."
    GUESS = "When to go on guessing at ports, or look whether there is a reason to."
    HANDSHAKE = "When to start (or start anew) the handshake with a peer."
    HELLO = "When to repeat a hello that has drawn no answer."
    PROBE = "When the next path or candidate of a peer is to be pinged."
    REKEY = "When the current session with a peer is due for a new handshake."
    PEER_EXPIRY = "When to look whether a peer that is no member any more may be forgotten."
    REASSEMBLY = "When incomplete frames of a peer are too old."
    MAC_AGING = "When to sweep addresses that have not been seen for long."


class TimerKey(NamedTuple):
    """A timer and whose it is: an edge id, the number of a supernode, or None."""

    timer: Timer
    owner: Hashable


class TimerTable:
    """All deadlines of an engine; setting and asking cost O(log n).

    A heap with lazy deletion: an entry counts only while the table still names its moment.
    """

    def __init__(self) -> None:
        self._deadlines: dict[TimerKey, float] = {}
        self._heap: list[tuple[float, int, TimerKey]] = []
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._deadlines)

    def set(self, timer: Timer, owner: Hashable, at: float) -> None:
        """Set (or move) a timer; ``math.inf`` cancels it."""
        key = TimerKey(timer, owner)
        if at == math.inf:
            self._deadlines.pop(key, None)
            return
        if self._deadlines.get(key) == at:
            return
        self._deadlines[key] = at
        self._sequence += 1
        heapq.heappush(self._heap, (at, self._sequence, key))
        if len(self._heap) > 64 + 4 * len(self._deadlines):
            self._compact()

    def set_no_later_than(self, timer: Timer, owner: Hashable, at: float) -> None:
        """Set a timer unless it is due earlier anyway."""
        if self.due_at(timer, owner) > at:
            self.set(timer, owner, at)

    def cancel(self, timer: Timer, owner: Hashable) -> None:
        """Forget a timer, set or not."""
        self._deadlines.pop(TimerKey(timer, owner), None)

    def cancel_owner(self, owner: Hashable) -> None:
        """Forget all timers of one owner."""
        for timer in Timer:
            self.cancel(timer, owner)

    def due_at(self, timer: Timer, owner: Hashable) -> float:
        """Return a timer's deadline, or ``math.inf``."""
        return self._deadlines.get(TimerKey(timer, owner), math.inf)

    def is_set(self, timer: Timer, owner: Hashable) -> bool:
        """Whether a timer is waiting."""
        return TimerKey(timer, owner) in self._deadlines

    def next_at(self) -> float:
        """Return the earliest deadline, or ``math.inf``."""
        heap = self._heap
        while heap:
            at, _, key = heap[0]
            if self._deadlines.get(key) == at:
                return at
            heapq.heappop(heap)
        return math.inf

    def pop_due(self, now: float) -> Iterator[TimerKey]:
        """Yield, and forget, the timers that are due, the earliest first."""
        while (at := self.next_at()) <= now and at != math.inf:
            key = heapq.heappop(self._heap)[2]
            del self._deadlines[key]
            yield key

    def _compact(self) -> None:
        self._heap = [entry for entry in self._heap if self._deadlines.get(entry[2]) == entry[0]]
        heapq.heapify(self._heap)
