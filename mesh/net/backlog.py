"""Super-frames that were read from the TAP and wait their turn, so that small frames need not.

The TAP's queue is first in, first out: a ping that is written behind 50 super-frames of a bulk
transfer would wait until these 3 MB have been sealed and sent. So all that the TAP holds is read at
once, which costs little; small frames are handled on the spot, super-frames wait here and are
handled one by one, and between any two of them the TAP is read again. That is what fq_codel does
with sparse flows (RFC 8290 section 4.2). A small frame whose own flow waits here waits behind it:
frames of one flow never change places.

Flows take turns, so that two bulk transfers share what there is.
"""

import collections
from typing import Final

from mesh.net.tap import TAP_READ_BYTES

LONG_READ_BYTES: Final = 4096
"""A TAP read of more is a super-frame, a send of its own."""

MAX_WAITING: Final = 128
"""Reads that wait at most, 8 MiB; what comes then stays in the TAP's own queue, and is dropped by
the kernel when that is full. TCP's usual largest window (6 MiB) fits."""

_SPARE_BUFFERS: Final = 4

# Counted from the first byte of a read: 10 bytes of virtio-net header, 14 of Ethernet.
_MACS: Final = slice(10, 22)
_ETHERTYPE: Final = slice(22, 24)
_IPV4_ADDRESSES_PORTS: Final = slice(36, 48)  # of a header without options
_IPV6_ADDRESSES_PORTS: Final = slice(32, 68)  # of a header without extensions


def flow_of(read: memoryview) -> bytes:
    """Return what tells the flow of a frame from others: addresses and ports, or MACs.

    Args:
        read: a virtio-net header and a frame, both of any content.
    """
    match bytes(read[_ETHERTYPE]):
        case b"\x08\x00":
            return bytes(read[_IPV4_ADDRESSES_PORTS])
        case b"\x86\xdd":
            return bytes(read[_IPV6_ADDRESSES_PORTS])
        case _:
            return bytes(read[_MACS])


class Backlog:
    """Reads by flow; falsy while nothing waits."""

    def __init__(self) -> None:
        self._flows: dict[bytes, collections.deque[tuple[memoryview, int]]] = {}
        self._waiting = 0
        self._spare: list[memoryview] = []

    def __len__(self) -> int:
        return self._waiting

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be read."""
        return self._waiting >= MAX_WAITING

    def must_wait(self, buffer: memoryview, length: int) -> bool:
        """Whether ``length`` bytes that were read have to wait: a super-frame, or behind one."""
        # Hot path.
        if length > LONG_READ_BYTES:
            return True
        return self._waiting > 0 and flow_of(buffer) in self._flows

    def add(self, buffer: memoryview, length: int) -> memoryview:
        """Let ``length`` bytes that were read wait, behind their own flow.

        Returns:
            Another buffer for the next read, `TAP_READ_BYTES` long.
        """
        flow = flow_of(buffer)
        queue = self._flows.get(flow)
        if queue is None:
            queue = self._flows[flow] = collections.deque()
        queue.append((buffer, length))
        self._waiting += 1
        return self._spare.pop() if self._spare else memoryview(bytearray(TAP_READ_BYTES))

    def take(self) -> memoryview:
        """Return the read whose turn it is; hand it back with `give_back`.

        Raises:
            StopIteration: nothing waits.
        """
        flow = next(iter(self._flows))
        queue = self._flows.pop(flow)
        buffer, length = queue.popleft()
        if queue:
            self._flows[flow] = queue  # behind all others
        self._waiting -= 1
        return buffer[:length]

    def give_back(self, read: memoryview) -> None:
        """Use the room of what `take` returned for later reads."""
        self._spare.append(memoryview(read.obj))
        if not self._waiting:
            del self._spare[_SPARE_BUFFERS:]
