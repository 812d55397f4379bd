"""How large a datagram one path carries: RFC 8899 (DPLPMTUD); docs/protocol.md section 12.7.

Theory of operation. A path starts with what every path carries (`BASE_DATAGRAM_BYTES`), and what is
larger is used once the peer has answered a *probe* of that size: a ping, padded, that nobody may
fragment. A size is *refused* when it has been probed `MTU_PROBES` times in vain while small pings
came back, or when our own interface does not take it.

    searching ──nothing left between proven and refused──▶ complete ──10 min──▶ searching again
        ▲                                                     │
        │                                            large frames, a ping is due
        │                                                     ▼
        └──base size── probes lost, pings answered ──── confirming ──answered──▶ complete

The search starts with what Ethernet has, since most paths are like that and need one probe, and
halves the list of sizes that links have otherwise: one of them it is.

No clock, no dice, no sockets: told the time, the owner sends what `probe_due` says.
"""

import math
from bisect import bisect_left

from mesh.constants import (
    BASE_DATAGRAM_BYTES,
    MAX_DATAGRAM_BYTES,
    MTU_PROBES,
    MTU_RAISE_INTERVAL,
)

IPV4_HEADERS_BYTES = 20 + 8  # IP and UDP
IPV6_HEADERS_BYTES = 40 + 8
_HEADERS_BYTES = (IPV4_HEADERS_BYTES, IPV6_HEADERS_BYTES)

# Bytes of IP packet. 1280: IPv6's least, WireGuard on LTE; 1400: many VPNs and clouds; 1420:
# WireGuard; 1454, 1492: PPPoE; 1600 and above: data centres.
LINK_MTUS = (
    *(1280, 1300, 1320, 1340, 1360, 1380, 1400, 1412, 1420, 1430, 1440, 1450, 1454, 1460, 1472),
    *(1480, 1492, 1500, 1600, 2000, 3000, 4000, 4470, 6000, 8000, 9000),
)
ETHERNET_MTU = 1500

RECHECK_INTERVAL = 60.0  # s; after a fall: a queue that was full may have looked like a black hole

_TOKENS_KEPT = 2 * MTU_PROBES


def sizes_up_to(largest_bytes: int) -> tuple[int, ...]:
    """Return the datagram sizes to tell apart, ascending, from the base size to the largest useful.

    With both families' headers taken off: a relay's second leg may have the other one.
    """
    largest = min(largest_bytes, MAX_DATAGRAM_BYTES)
    found = {mtu - headers for mtu in LINK_MTUS for headers in _HEADERS_BYTES}
    useful = {size for size in found if BASE_DATAGRAM_BYTES < size < largest}
    ends = {BASE_DATAGRAM_BYTES, max(largest, BASE_DATAGRAM_BYTES)}
    return tuple(sorted(useful | ends))


class PathMtu:
    """What is known of one path's size. Bounded: a few numbers and the tokens of a few probes.

    Args:
        sizes: what `sizes_up_to` returned.
        likely_bytes: what to try first.
        now: the time.

    Attributes:
        next_probe_at: when `probe_due` may have something to say, or ``math.inf``.
    """

    __slots__ = (
        "_last_sent_at",
        "_likely",
        "_proven",
        "_raise_at",
        "_refused",
        "_sizes",
        "_tokens",
        "_tries",
        "_wanted",
        "next_probe_at",
    )

    def __init__(self, sizes: tuple[int, ...], likely_bytes: int, now: float) -> None:
        self._sizes = sizes
        self._likely = bisect_left(sizes, likely_bytes)
        self._proven = 0  # the largest proven size, as an index; the base size needs no proof
        self._refused = len(sizes)  # the smallest refused size, as an index
        self._wanted: int | None = None  # the size to probe, as an index
        self._tries = 0
        self._last_sent_at = -math.inf
        self._raise_at = -math.inf
        self._tokens: dict[bytes, int] = {}
        self.next_probe_at = math.inf
        self._search(now)

    @property
    def datagram_bytes(self) -> int:
        """The largest datagram that the path is known to carry, envelope included."""
        return self._sizes[self._proven]

    @property
    def is_complete(self) -> bool:
        """Whether nothing is being found out or confirmed."""
        return self._wanted is None

    @property
    def wants_ping(self) -> bool:
        """Whether a small ping should leave beside the probe that is due: the last one of its size.

        If the ping is answered and the probe is not, it is the size.
        """
        return self._tries == MTU_PROBES

    def probe_due(self, now: float, last_pong_at: float, timeout: float) -> int:
        """Return the size of the probe to send now, or 0; `probe_sent` follows.

        Args:
            now: the time.
            last_pong_at: when the path last answered a small ping.
            timeout: how long to wait for the answer.
        """
        if now < self.next_probe_at:
            return 0
        if self._wanted is None:  # has the path grown?
            self._refused = len(self._sizes)
            self._search(now, first=self._proven)
        elif self._tries >= MTU_PROBES:
            if last_pong_at < self._last_sent_at:
                # It is silent altogether, which says nothing about sizes: see `path_answered`.
                self._tries = 0
                self.next_probe_at = math.inf
                return 0
            self._refuse(self._wanted, now)
        if self._wanted is None or now < self.next_probe_at:
            return 0
        self._tries += 1
        self._last_sent_at = now
        self.next_probe_at = now + timeout
        return self._sizes[self._wanted]

    def probe_sent(self, token: bytes, datagram_bytes: int) -> None:
        """Note the token of a probe."""
        self._tokens[token] = bisect_left(self._sizes, datagram_bytes)
        while len(self._tokens) > _TOKENS_KEPT:
            del self._tokens[next(iter(self._tokens))]

    def path_answered(self, now: float) -> None:
        """Learn that the path brought a pong: go on where it was silent."""
        if self._wanted is not None and self.next_probe_at == math.inf:
            self.next_probe_at = now

    def receive_pong(self, token: bytes, now: float) -> bool:
        """Take in a pong that may answer a probe, late ones included; return whether it does."""
        answered = self._tokens.pop(token, None)
        if answered is None:
            return False
        self._proven = max(self._proven, answered)
        if answered >= self._refused:  # it was wrongly refused, and those above for its sake
            self._refused = len(self._sizes)
        if self._wanted is None or answered >= self._wanted:
            self._search(now)
        return True

    def confirm(self, now: float) -> None:
        """Probe the size in use again: routes change without a word, and ICMP is not believed."""
        if self._wanted is None and self._proven:
            self._want(self._proven, now)

    def doubt(self, now: float) -> None:
        """Go back to the base size until a probe has proved again what was proven before.

        For a path that frames have not taken for a while, or that may lead elsewhere now.
        """
        before, self._proven = self._proven, 0
        self._refused = len(self._sizes)
        self._search(now, first=before)

    def receive_too_large(self, datagram_bytes: int, now: float) -> None:
        """Learn that our own interface does not take a datagram of this size."""
        refused = bisect_left(self._sizes, datagram_bytes)
        if refused < self._refused:
            self._refuse(max(refused, 1), now)

    def _refuse(self, index: int, now: float) -> None:
        """Exclude a size and all above; what was proven before may be wrong as well then."""
        self._refused = index
        if self._proven >= index:
            self._proven = 0
            self._raise_at = now + RECHECK_INTERVAL
        if self._wanted is None or self._wanted >= index:
            self._search(now)

    def _search(self, now: float, first: int = 0) -> None:
        """Choose the next size to probe, ``first`` if that is more than the base size."""
        low, high = self._proven + 1, self._refused
        if first:
            self._want(first, now)
        elif low >= high:
            self._wanted = None
            if self._raise_at <= now:
                self._raise_at = now + MTU_RAISE_INTERVAL
            self.next_probe_at = self._raise_at
        elif low <= self._likely < high:
            self._want(self._likely, now)
        elif high == len(self._sizes):  # Ethernet's is proven: as large as our frames get?
            self._want(high - 1, now)
        else:
            self._want((low + high) // 2, now)

    def _want(self, index: int, now: float) -> None:
        self._wanted = index
        self._tries = 0
        self.next_probe_at = now


def likely_bytes(*, is_ipv6: bool) -> int:
    """Return the datagram that fills Ethernet's 1500 bytes."""
    return ETHERNET_MTU - _HEADERS_BYTES[is_ipv6]
