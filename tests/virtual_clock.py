"""Virtual time: a clock that jumps from event to event, so that hours pass in milliseconds."""

import heapq
import itertools
from collections.abc import Callable

Callback = Callable[[], None]


class VirtualClock:
    """A clock and the heap of what is still to happen.

    Events of one moment run in the order in which they were asked for, so that a run depends on
    nothing but its seed.

    Attributes:
        now: seconds since the world began.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callback]] = []
        self._order = itertools.count()

    def at(self, moment: float, callback: Callback) -> None:
        """Run ``callback`` at ``moment``, or at once if that has passed."""
        heapq.heappush(self._events, (max(moment, self.now), next(self._order), callback))

    def after(self, delay: float, callback: Callback) -> None:
        """Run ``callback`` in ``delay`` seconds."""
        self.at(self.now + delay, callback)

    def run_to(self, moment: float) -> None:
        """Let everything happen that is due up to ``moment``, which then is now."""
        events = self._events
        while events and events[0][0] <= moment:
            self.now, _, callback = heapq.heappop(events)
            callback()
        self.now = max(self.now, moment)
