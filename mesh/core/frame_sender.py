"""Frames for one peer on their way out: cut to the path, sealed, queued; protocol section 8."""

from collections.abc import Iterable, Sequence

from mesh.constants import (
    BASE_DATAGRAM_BYTES,
    FRAGMENT_HEADER_BYTES,
    INNER_HEADER_BYTES,
    MAX_FRAME_BYTES,
    RELAY_HEADER_BYTES,
    TAG_BYTES,
    TRANSPORT_HEADER_BYTES,
)
from mesh.core.context import Context
from mesh.core.outbox import Via
from mesh.crypto.session import Session
from mesh.datapath.arena import CHUNK_BYTES
from mesh.datapath.fragment import Csum, cut
from mesh.datapath.segment import reopened_layout, segment_payload_bytes, split, splittable_layout
from mesh.datapath.udp_segment import split_udp, udp_super_layout
from mesh.datapath.vnet import GSO_NONE, GSO_UDP_L4, VIRTIO_NET_HEADER_BYTES, VnetFields
from mesh.engine import Buffer
from mesh.events import DropReason
from mesh.wire.inner import PLAIN_FRAME_HEADER, encode_fragment_header, encode_frame_header

OVERHEAD_BYTES = TRANSPORT_HEADER_BYTES + INNER_HEADER_BYTES + TAG_BYTES
BASE_FRAME_BYTES = BASE_DATAGRAM_BYTES - OVERHEAD_BYTES - RELAY_HEADER_BYTES
"""The largest frame that fits every path whole."""

_ROOM_BYTES = OVERHEAD_BYTES + RELAY_HEADER_BYTES
_FRAGMENT_OVERHEAD_BYTES = FRAGMENT_HEADER_BYTES - INNER_HEADER_BYTES
PLAINTEXT_START = VIRTIO_NET_HEADER_BYTES - INNER_HEADER_BYTES
"""Where the inner header is written in a TAP read: in front of the frame, without a copy of it."""


def inner_header(fields: VnetFields) -> bytes:  # Hot path.
    """Return the 4 bytes before a frame that `decode_vnet` says this of."""
    csum_start = fields[4]
    return encode_frame_header(csum_start, fields[5]) if csum_start else PLAIN_FRAME_HEADER


class FrameSender:
    """Turns frames and super-frames into runs of datagrams.

    Attributes:
        sent_frames: how many, the segments of a super-frame counted one by one.
        sent_bytes: of these frames.
        frame_bytes_max: the largest frame that fits the ways in use whole; its owner keeps it so.
        has_sent_large: whether some datagram since this was set to false was more than the base
            size, so that it may have vanished on a path that has changed.
    """

    def __init__(self, context: Context) -> None:
        self.sent_frames = self.sent_bytes = 0
        self.frame_bytes_max = BASE_FRAME_BYTES
        self.has_sent_large = False
        self._context = context
        self._outbox = context.outbox
        # Random, so that the peer does not take pieces after our restart for copies of old ones.
        self._frame_number = int.from_bytes(context.entropy(2), "big")

    def send(
        self, session: Session, read: memoryview, fields: VnetFields, vias: tuple[Via, ...]
    ) -> None:  # Hot path.
        """Seal one frame or super-frame and queue it, cut where it does not fit.

        Args:
            session: may seal.
            read: one TAP read, virtio-net header and frame; it is written over.
            fields: of that header, as `decode_vnet` returns them.
            vias: the ways to take, one or two.
        """
        size = len(read) - VIRTIO_NET_HEADER_BYTES
        if size > BASE_FRAME_BYTES:
            self.has_sent_large = True
            if size > self.frame_bytes_max or fields[1] != GSO_NONE:
                self._send_cut(session, read, fields, vias)
                return
        elif fields[1] != GSO_NONE:
            self._send_cut(session, read, fields, vias)
            return
        self.sent_frames += 1
        self.sent_bytes += size
        header = inner_header(fields)
        # In front of the frame, over the virtio-net header: no copy of the frame.
        read[PLAINTEXT_START:VIRTIO_NET_HEADER_BYTES] = header
        self._seal_run(session, (read[PLAINTEXT_START:],), size, size, vias)

    def send_alike(
        self,
        session: Session,
        reads: Sequence[memoryview],
        fields: VnetFields,
        vias: tuple[Via, ...],
    ) -> bool:  # Hot path.
        """Seal frames of one size with equal virtio-net headers into one run, if they fit whole.

        Args:
            session: may seal.
            reads: no super-frames; they are written over.
            fields: of their header.
            vias: the one way to take.

        Returns:
            Whether they were queued; else nothing was done.
        """
        count, size = len(reads), len(reads[0]) - VIRTIO_NET_HEADER_BYTES
        if size > self.frame_bytes_max or count * (size + _ROOM_BYTES) > CHUNK_BYTES:
            return False
        if size > BASE_FRAME_BYTES:
            self.has_sent_large = True
        self.sent_frames += count
        self.sent_bytes += count * size
        header = inner_header(fields)
        plaintexts = []
        for read in reads:
            read[PLAINTEXT_START:VIRTIO_NET_HEADER_BYTES] = header
            plaintexts.append(read[PLAINTEXT_START:])
        self._seal_run(session, plaintexts, count * size, size, vias)
        return True

    def _send_cut(
        self,
        session: Session,
        read: memoryview,
        fields: VnetFields,
        vias: tuple[Via, ...],
    ) -> None:  # Hot path: once per super-frame.
        """Split TCP into segments that fit, anything else into fragments."""
        frame = read[VIRTIO_NET_HEADER_BYTES:]
        if fields[1] == GSO_UDP_L4:
            self._send_datagrams(session, read, fields, vias)
            return
        layout = splittable_layout(frame, fields) or reopened_layout(frame, fields)
        if layout is None:
            if fields[1] == GSO_NONE:
                self._send_pieces(session, frame, fields[4:6], vias)
            else:
                self._context.drop(DropReason.MALFORMED)
            return
        payload_bytes = segment_payload_bytes(layout, fields[3], self.frame_bytes_max)
        if not payload_bytes:
            self._context.drop(DropReason.FRAME_SIZE)
            return
        sum_bytes = len(frame) - layout.payload
        count = -(-sum_bytes // payload_bytes)
        frames_bytes = count * layout.payload + sum_bytes
        if frames_bytes + count * _ROOM_BYTES > CHUNK_BYTES:
            self._context.drop(DropReason.FRAME_SIZE)  # segments of a few bytes: nobody's TCP
            return
        self.sent_frames += count
        self.sent_bytes += frames_bytes
        plaintexts = split(read, layout, payload_bytes)
        self._seal_run(session, plaintexts, frames_bytes, layout.payload + payload_bytes, vias)

    def _send_datagrams(
        self, session: Session, read: memoryview, fields: VnetFields, vias: tuple[Via, ...]
    ) -> None:  # Hot path: once per super-frame.
        """Split a super-frame of UDP; its datagrams are what they are, and may need pieces."""
        payload_bytes = fields[3]
        layout = udp_super_layout(read[VIRTIO_NET_HEADER_BYTES:], fields)
        if layout is None:
            self._context.drop(DropReason.MALFORMED)
            return
        frame_bytes = layout.payload + payload_bytes
        sum_bytes = len(read) - VIRTIO_NET_HEADER_BYTES - layout.payload
        count = -(-sum_bytes // payload_bytes)
        frames_bytes = count * layout.payload + sum_bytes
        overhead_bytes = count * _ROOM_BYTES
        if frame_bytes > MAX_FRAME_BYTES or frames_bytes + overhead_bytes > CHUNK_BYTES:
            self._context.drop(DropReason.FRAME_SIZE)
            return
        plaintexts = split_udp(read, layout, payload_bytes)
        if frame_bytes <= self.frame_bytes_max:
            self.sent_frames += count
            self.sent_bytes += frames_bytes
            self._seal_run(session, plaintexts, frames_bytes, frame_bytes, vias)
            return
        for plaintext in plaintexts:
            self._send_pieces(session, plaintext[INNER_HEADER_BYTES:], fields[4:6], vias)

    def _seal_run(
        self,
        session: Session,
        plaintexts: Iterable[memoryview],
        frames_bytes: int,
        frame_bytes: int,
        vias: tuple[Via, ...],
    ) -> None:  # Hot path.
        """Seal frames of ``frame_bytes`` each (the last may be shorter) into one run and queue it.

        A second way gets copies of the same datagrams: a counter is never used twice.
        """
        outbox = self._outbox
        envelope = outbox.envelope(vias[0]) if len(vias) == 1 else b""
        overhead = OVERHEAD_BYTES + len(envelope)
        count = -(-frames_bytes // frame_bytes)
        run = outbox.room(frames_bytes + count * overhead)
        session.seal_run(run, plaintexts, envelope)
        segment_bytes = frame_bytes + overhead
        if len(vias) == 1:
            outbox.send_run(vias[0], run, segment_bytes)
            return
        for start in range(0, len(run), segment_bytes):
            for via in vias:
                outbox.send(via, run[start : start + segment_bytes])

    def _send_pieces(
        self, session: Session, frame: Buffer, csum: Csum, vias: tuple[Via, ...]
    ) -> None:
        self.sent_frames += 1
        self.sent_bytes += len(frame)
        pieces = cut(frame, self.frame_bytes_max - _FRAGMENT_OVERHEAD_BYTES)
        self._frame_number = (self._frame_number + 1) & 0xFFFF
        for index, piece in enumerate(pieces):
            inner = encode_fragment_header(self._frame_number, index, len(pieces), *csum)
            datagram = session.seal(b"".join((inner, piece)))
            for via in vias:
                self._outbox.send(via, datagram)
