"""An unbroken stream of pings in the virtual world: what was lost when a path moved."""

import math

from tests.virtual_edge import VirtualEdge
from tests.world import World

INTERVAL = 0.05  # s
LOOK_INTERVAL = 0.005  # s


class Pings:
    """Frames from one edge, each answered by the other one as soon as it arrives.

    Attributes:
        sent_at: when each left, in order.
        answered_at: when each came back, by number.
    """

    def __init__(self, world: World, source: VirtualEdge, destination: VirtualEdge) -> None:
        self.sent_at: list[float] = []
        self.answered_at: dict[int, float] = {}
        self._world = world
        self._source = source
        self._destination = destination
        self._numbers: dict[bytes, int] = {}
        self._answers: dict[bytes, int] = {}
        self._seen = len(destination.frames)
        self._seen_back = len(source.frames)
        self._is_running = True
        self._ends_at = math.inf
        self._send()
        self._look()

    def stop(self, grace: float = 1.0) -> list[int]:
        """Send no more, wait for answers under way, and return the numbers of those lost."""
        self._is_running = False
        self._ends_at = self._world.clock.now + grace
        self._world.run_for(grace)
        return [number for number in range(len(self.sent_at)) if number not in self.answered_at]

    def returned_after(self, moment: float) -> float:
        """Return the seconds after which no ping sent later than ``moment`` was lost any more."""
        lost = [
            at
            for number, at in enumerate(self.sent_at)
            if at > moment and number not in self.answered_at
        ]
        return max(lost) + INTERVAL - moment if lost else 0.0

    def _send(self) -> None:
        if not self._is_running:
            return
        frame = self._world.send_frame(self._source, self._destination)
        self._numbers[frame] = len(self.sent_at)
        self.sent_at.append(self._world.clock.now)
        self._world.clock.after(INTERVAL, self._send)

    def _look(self) -> None:
        """Answer what has arrived, and note the answers, every few milliseconds."""
        if not self._is_running and self._world.clock.now > self._ends_at:
            return
        frames = self._destination.frames
        for _, frame in frames[self._seen :]:
            number = self._numbers.pop(frame, None)
            if number is not None and self._destination.is_running:
                answer = self._world.send_frame(self._destination, self._source)
                self._answers[answer] = number
        self._seen = len(frames)
        answers = self._source.frames
        for at, frame in answers[self._seen_back :]:
            number = self._answers.pop(frame, None)
            if number is not None:
                self.answered_at[number] = at
        self._seen_back = len(answers)
        self._world.clock.after(LOOK_INTERVAL, self._look)
