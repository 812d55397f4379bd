"""Who may make a supernode work before having proved anything; docs/protocol.md sections 7 and 17.

Three questions, cheapest first: is the source within its token bucket, is the supernode under load,
and does what is answered stay below three times what was received. All memory here is bounded: an
attacker with many sources makes the oldest ones forgotten, which gains nobody more than the burst
that a new source has anyway.
"""

import enum
import math
from collections import OrderedDict
from collections.abc import Callable

from mesh.addresses import Endpoint
from mesh.constants import (
    MAX_AMPLIFICATION,
    SOURCE_HANDSHAKE_BURST,
    SOURCE_HANDSHAKE_RATE,
    SUPERNODE_LOAD_INITIATIONS_PER_SECOND,
)
from supernode.origin import source_key
from supernode.token_bucket import TokenBucket

MAX_SOURCES = 4096  # token buckets kept per kind
HINT_BURST = 4  # hints (section 6.5) and version refusals at once, per source
HINT_RATE = 2.0  # 1/s; an edge acts on the first one that reaches it
_LOAD_WINDOW = 1.0  # s


class Verdict(enum.Enum):
    """What becomes of an initiation whose mac1 is right."""

    ADMIT = "answer it"
    ASK_COOKIE = "answer with a cookie and forget it"
    DROP = "its source has had enough answers"


def may_answer(answer_bytes: int, received_bytes: int) -> bool:
    """Whether an unauthenticated answer keeps to the amplification limit of section 17."""
    return answer_bytes <= MAX_AMPLIFICATION * received_bytes


class SourceBuckets:
    """A token bucket per source address, for at most ``MAX_SOURCES`` of them."""

    def __init__(self, burst: float, rate: float) -> None:
        self._burst = burst
        self._rate = rate
        self._buckets: OrderedDict[bytes, TokenBucket] = OrderedDict()

    def take(self, source: Endpoint, now: float) -> bool:
        """Charge ``source`` for one; False if its bucket is empty."""
        key = source_key(source)
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= MAX_SOURCES:
                self._buckets.popitem(last=False)
            bucket = self._buckets[key] = TokenBucket(self._burst, self._rate, now)
        else:
            self._buckets.move_to_end(key)
        return bucket.take(1, now)

    def __len__(self) -> int:
        return len(self._buckets)


class LoadMeter:
    """Counts initiations per second: the window before this one decides, or this one if higher."""

    def __init__(self) -> None:
        self._window_at = -math.inf
        self._count = 0
        self._previous = 0

    def count(self, now: float) -> None:
        """Note one initiation with a right mac1."""
        self._roll(now)
        self._count += 1

    def is_high(self, now: float) -> bool:
        """Whether more than 100 initiations came within a second."""
        self._roll(now)
        return max(self._count, self._previous) > SUPERNODE_LOAD_INITIATIONS_PER_SECOND

    def _roll(self, now: float) -> None:
        elapsed = now - self._window_at
        if elapsed >= _LOAD_WINDOW:
            self._previous = self._count if elapsed < 2 * _LOAD_WINDOW else 0
            self._count = 0
            self._window_at = now


class Admission:
    """Decides about initiations and hints.

    A source whose bucket is empty is asked for a cookie rather than ignored, and initiations with a
    right mac2 have buckets of their own: else five forged initiations per second in somebody's name
    would lock that somebody out.
    """

    def __init__(self) -> None:
        self._claimed = SourceBuckets(SOURCE_HANDSHAKE_BURST, SOURCE_HANDSHAKE_RATE)
        self._proved = SourceBuckets(SOURCE_HANDSHAKE_BURST, SOURCE_HANDSHAKE_RATE)
        self._hints = SourceBuckets(HINT_BURST, HINT_RATE)
        self._load = LoadMeter()

    def judge(
        self,
        source: Endpoint,
        now: float,
        *,
        is_table_filling: bool,
        has_valid_mac2: Callable[[], bool],
    ) -> Verdict:
        """Decide about an initiation with a right mac1.

        Args:
            source: where it claims to come from.
            now: the present moment.
            is_table_filling: whether half of the table of pending handshakes is full.
            has_valid_mac2: asked only where the answer matters.
        """
        self._load.count(now)
        is_loaded = is_table_filling or self._load.is_high(now)
        if not is_loaded and self._claimed.take(source, now):
            return Verdict.ADMIT
        if not has_valid_mac2():
            return Verdict.ASK_COOKIE
        return Verdict.ADMIT if self._proved.take(source, now) else Verdict.DROP

    def may_hint(self, source: Endpoint, now: float) -> bool:
        """Whether ``source`` may be sent one more hint or version refusal."""
        return self._hints.take(source, now)
