"""How large a packet may be on one way: sizes to try, from what came of those tried before.

A first round tries the sizes that links usually have, all of them at once; a second one what lies
between the largest that passed and the next one. Both ends of the way need not agree on anything.
"""

from typing import Final

LARGEST_TRIED: Final = 1500
"""Bytes of IP packet: an Ethernet's. What is larger is of use in few networks."""

USUAL_SIZES: Final = (1280, 1340, 1400, 1420, 1440, 1460, 1480, 1492, LARGEST_TRIED)
"""IPv6's least, tunnels, WireGuard's, PPPoE's, Ethernet's."""

_PIECES: Final = 8


class SizeSearch:
    """The search on one way; sizes are bytes of IP packet.

    Attributes:
        largest: the largest that has passed, 0 while none has.
    """

    def __init__(self) -> None:
        self.largest = 0
        self._rounds = 0

    def passed(self, size: int) -> None:
        """Learn that a packet of this size has arrived."""
        self.largest = max(self.largest, size)

    def next_round(self) -> tuple[int, ...]:
        """Return the sizes to try now, with all of the round before answered or given up."""
        self._rounds += 1
        if self._rounds == 1:
            return USUAL_SIZES
        if self._rounds > 2 or self.largest in {0, LARGEST_TRIED}:
            return ()
        ceiling = min(size for size in USUAL_SIZES if size > self.largest)
        step = max(1, -(-(ceiling - self.largest) // _PIECES))
        return tuple(range(self.largest + step, ceiling, step))
