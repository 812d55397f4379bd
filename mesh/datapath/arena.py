"""Room for what a step of an engine puts out: taken piece by piece, given back all at once."""

from mesh.errors import LocalError

CHUNK_BYTES = 256 * 1024
"""What one piece can have at most: four times the largest super-frame."""


class Arena:
    """A buffer that is used again and again, so that a batch costs no allocation.

    Bounded by what one step takes: room beyond the first chunk is forgotten with its last view.
    """

    def __init__(self, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._chunk = memoryview(bytearray(chunk_bytes))
        self._position = 0

    def take(self, size: int) -> memoryview:
        """Return ``size`` bytes with anything in them, valid until `rewind`.

        Raises:
            LocalError: more than a chunk.
        """
        # Hot path.
        start = self._position
        end = start + size
        if end > len(self._chunk):
            if size > len(self._chunk):
                raise LocalError(f"{size} bytes of an arena with chunks of {len(self._chunk)}")
            self._chunk = memoryview(bytearray(len(self._chunk)))
            start, end = 0, size
        self._position = end
        return self._chunk[start:end]

    def rewind(self) -> None:
        """Take everything back."""
        self._position = 0
