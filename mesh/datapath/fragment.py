"""Cut frames that do not fit a path, and put them together; docs/protocol.md section 8.2."""

from mesh.constants import (
    MAX_FRAGMENTS,
    MAX_FRAME_BYTES,
    MAX_INCOMPLETE_FRAMES,
    MIN_FRAME_BYTES,
    REASSEMBLY_TIMEOUT,
)
from mesh.errors import LocalError
from mesh.wire.datagram import Buffer
from mesh.wire.inner import is_checksum_inside

Csum = tuple[int, int]
"""csum_start and csum_offset of section 8.1."""

# Copies of pieces may come after their frame has been delivered, by the other of two paths. Frame
# numbers this many fragmented frames back are remembered, far fewer than the 65536 there are.
_MAX_DELIVERED = 256


def cut(frame: Buffer, piece_bytes_max: int) -> list[memoryview]:
    """Return the pieces of a frame: as few as will do, all but the last equally long.

    They are as even as that allows, and views of ``frame``, not copies.

    Args:
        frame: at least one byte.
        piece_bytes_max: what a datagram of the path can carry behind the fragment header.

    Raises:
        LocalError: it would take more than MAX_FRAGMENTS pieces.
    """
    # Hot path.
    length = len(frame)
    if piece_bytes_max < 1 or length > piece_bytes_max * MAX_FRAGMENTS or not length:
        raise LocalError(f"{length} bytes do not fit {MAX_FRAGMENTS} x {piece_bytes_max} bytes")
    count = -(-length // piece_bytes_max)
    piece_bytes = -(-length // count)
    view = memoryview(frame)
    return [view[start : start + piece_bytes] for start in range(0, length, piece_bytes)]


class _Incomplete:
    """A frame some of whose pieces are here."""

    __slots__ = ("byte_count", "csum", "expires_at", "missing", "pieces")

    def __init__(self, count: int, csum: Csum, expires_at: float) -> None:
        self.pieces: list[bytes | None] = [None] * count
        self.missing = count
        self.csum = csum
        self.byte_count = 0
        self.expires_at = expires_at


class Reassembler:
    """Puts the frames of one peer together; one per peer, for all its sessions and paths.

    A peer that was started anew counts its frames from the start again: give it a new one.

    Bounded: MAX_INCOMPLETE_FRAMES frames of at most MAX_FRAME_BYTES bytes, each for at most
    REASSEMBLY_TIMEOUT, the oldest giving way.

    Attributes:
        dropped: frames given up and pieces that fit no frame, since the start. Copies are not
            counted.
    """

    def __init__(self) -> None:
        self.dropped = 0
        # Both in the order in which the frames started, which is the order of their expiry.
        self._incomplete: dict[int, _Incomplete] = {}
        self._delivered: dict[int, float] = {}

    def __len__(self) -> int:
        """Return how many frames are incomplete."""
        return len(self._incomplete)

    def add(  # noqa: PLR0917 - hot path: positional, and no object made for a piece
        self, frame_number: int, index: int, count: int, csum: Csum, piece: Buffer, now: float
    ) -> tuple[bytes, Csum] | None:
        """Take in a piece, which is copied; return the frame if this was its last missing one.

        A frame that is returned has 14 to 9018 bytes; its partial checksum lies inside, or its csum
        is (0, 0) where it has none. Nothing that a peer can send raises.

        Args:
            frame_number: which frame, of the latest 65536.
            index: which piece, from 0.
            count: of how many.
            csum: the frame's csum fields as the piece came with them.
            piece: its bytes.
            now: the time, monotonic.
        """
        # Hot path.
        self.expire(now)
        if frame_number in self._delivered:
            return None
        if not 0 <= index < count <= MAX_FRAGMENTS or not piece:
            self.dropped += 1
            return None
        incomplete = self._incomplete.get(frame_number)
        if incomplete is None:
            incomplete = self._start(frame_number, count, csum, now)
        elif len(incomplete.pieces) != count or incomplete.csum != csum:
            self.dropped += 1
            return None
        if incomplete.pieces[index] is not None:
            return None
        incomplete.byte_count += len(piece)
        if incomplete.byte_count > MAX_FRAME_BYTES:
            self._give_up(frame_number)
            return None
        incomplete.pieces[index] = bytes(piece)
        incomplete.missing -= 1
        return None if incomplete.missing else self._deliver(frame_number, now)

    def expire(self, now: float) -> None:
        """Give up frames that are incomplete for too long; `add` does this as well."""
        # Hot path: looks at the oldest only.
        while self._incomplete:
            oldest = next(iter(self._incomplete))
            if self._incomplete[oldest].expires_at > now:
                break
            self._give_up(oldest)
        while self._delivered:
            oldest = next(iter(self._delivered))
            if self._delivered[oldest] > now:
                break
            del self._delivered[oldest]

    def _start(self, frame_number: int, count: int, csum: Csum, now: float) -> _Incomplete:
        if len(self._incomplete) >= MAX_INCOMPLETE_FRAMES:
            self._give_up(next(iter(self._incomplete)))
        incomplete = _Incomplete(count, csum, now + REASSEMBLY_TIMEOUT)
        self._incomplete[frame_number] = incomplete
        return incomplete

    def _give_up(self, frame_number: int) -> None:
        del self._incomplete[frame_number]
        self.dropped += 1

    def _deliver(self, frame_number: int, now: float) -> tuple[bytes, Csum] | None:
        incomplete = self._incomplete.pop(frame_number)
        if len(self._delivered) >= _MAX_DELIVERED:
            del self._delivered[next(iter(self._delivered))]
        self._delivered[frame_number] = now + REASSEMBLY_TIMEOUT
        frame = b"".join(piece for piece in incomplete.pieces if piece is not None)
        csum = incomplete.csum if incomplete.csum[0] else (0, 0)
        if len(frame) < MIN_FRAME_BYTES or (
            csum[0] and not is_checksum_inside(len(frame), csum[0], csum[1])
        ):
            self.dropped += 1
            return None
        return frame, csum
