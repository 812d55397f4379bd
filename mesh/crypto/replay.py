"""Which counters of a session have been seen; docs/protocol.md section 6.3, RFC 6479.

Like RFC 6479 the window is a ring that is never shifted: moving it forward only clears the marks
that fall out of it. Unlike there a mark is a byte instead of a bit, because in Python one indexed
store is three times cheaper than finding a word, shifting and or-ing; it costs 4 KiB per session.
"""

from mesh.constants import REPLAY_WINDOW_DATAGRAMS


class ReplayWindow:
    """A sliding window of `REPLAY_WINDOW_DATAGRAMS` counters, ending at the highest one seen.

    Attributes:
        highest: the highest counter committed, or -1 before the first.
    """

    __slots__ = ("_seen", "highest")

    def __init__(self) -> None:
        self.highest = -1
        self._seen = bytearray(REPLAY_WINDOW_DATAGRAMS)

    # Hot path.
    def check(self, counter: int) -> bool:
        """Return whether ``counter`` is neither seen nor below the window; changes nothing."""
        if counter > self.highest:
            return True
        if counter <= self.highest - REPLAY_WINDOW_DATAGRAMS:
            return False
        return not self._seen[counter % REPLAY_WINDOW_DATAGRAMS]

    # Hot path.
    def commit(self, counter: int) -> None:
        """Mark ``counter``, which `check` has just allowed and whose datagram has verified."""
        highest = self.highest
        if counter > highest:
            if counter != highest + 1:
                self._clear(highest + 1, counter)
            self.highest = counter
        self._seen[counter % REPLAY_WINDOW_DATAGRAMS] = 1

    # Hot path.
    def commit_run(self, end: int) -> None:
        """Mark the counters above `highest` and below ``end``, whose datagrams all verified."""
        start = self.highest + 1
        if end <= start:
            return
        self.highest = end - 1
        first = start % REPLAY_WINDOW_DATAGRAMS
        last = end % REPLAY_WINDOW_DATAGRAMS
        if last - first == end - start:
            self._seen[first:last] = b"\1" * (last - first)
        else:  # around the ring's end, or a run of a whole window at least
            for counter in range(max(start, end - REPLAY_WINDOW_DATAGRAMS), end):
                self._seen[counter % REPLAY_WINDOW_DATAGRAMS] = 1

    def _clear(self, first: int, end: int) -> None:
        """Forget the marks in the slots of the counters from ``first`` to ``end`` (exclusive)."""
        count = end - first
        if count >= REPLAY_WINDOW_DATAGRAMS:
            self._seen = bytearray(REPLAY_WINDOW_DATAGRAMS)
            return
        start = first % REPLAY_WINDOW_DATAGRAMS
        straight = min(count, REPLAY_WINDOW_DATAGRAMS - start)
        wrapped = count - straight
        self._seen[start : start + straight] = bytes(straight)
        self._seen[:wrapped] = bytes(wrapped)
