"""Reads values from the front of fuzzed bytes; past their end there are zeros, and no errors."""


class Cursor:
    """What a target makes its decisions from."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def __len__(self) -> int:
        """Return how many bytes are left."""
        return max(0, len(self._data) - self._position)

    def number(self, size: int = 1) -> int:
        """Return an unsigned big-endian number of ``size`` bytes."""
        return int.from_bytes(self.exactly(size), "big")

    def choice(self, count: int) -> int:
        """Return a number below ``count``, at most 256."""
        return self.number() % count

    def exactly(self, size: int) -> bytes:
        """Return so many bytes."""
        return self.some(size).ljust(size, b"\0")

    def some(self, size: int) -> bytes:
        """Return so many bytes, or what is left."""
        found = self._data[self._position : self._position + size]
        self._position += size
        return found

    def piece(self) -> bytes:
        """Return bytes whose number, up to 65535, stands in front of them."""
        return self.some(self.number(2))

    def rest(self) -> bytes:
        """Return what is left."""
        return self.some(len(self))
