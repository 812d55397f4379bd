"""Token buckets, one for all and one per source, in bounded memory."""

from typing import Final

_MAX_SOURCES: Final = 4096


class RateLimit:
    """Lets through ``at_once`` and then ``per_second``, of all sources and of each one.

    Args:
        at_once: how many a full bucket holds.
        per_second: how fast it fills.
        at_once_per_source: as above, for each source.
        per_second_per_source: as above, for each source.
    """

    def __init__(
        self,
        at_once: float,
        per_second: float,
        at_once_per_source: float,
        per_second_per_source: float,
    ) -> None:
        self._all = _Bucket(at_once, per_second)
        self._of_source: dict[str, _Bucket] = {}
        self._at_once_per_source = at_once_per_source
        self._per_second_per_source = per_second_per_source

    def allows(self, source: str, now: float) -> bool:
        """Take one token of ``source`` and one of all, if both are there.

        Where sources are too many to remember they are all forgotten: the bucket of all still
        holds.
        """
        bucket = self._of_source.get(source)
        if bucket is None:
            if len(self._of_source) >= _MAX_SOURCES:
                self._of_source.clear()
            bucket = _Bucket(self._at_once_per_source, self._per_second_per_source)
            self._of_source[source] = bucket
        return bucket.take(now) and self._all.take(now)


class _Bucket:
    __slots__ = ("_at_once", "_filled_at", "_per_second", "_tokens")

    def __init__(self, at_once: float, per_second: float) -> None:
        self._at_once = at_once
        self._per_second = per_second
        self._tokens = at_once
        self._filled_at: float | None = None

    def take(self, now: float) -> bool:
        if self._filled_at is not None:
            gained = (now - self._filled_at) * self._per_second
            self._tokens = min(self._at_once, self._tokens + gained)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
