"""Datagrams waiting for the driver, joined into runs that one system call can send."""

from typing import NamedTuple

from mesh.addresses import Endpoint
from mesh.constants import RELAY_HEADER_BYTES
from mesh.datapath.arena import Arena
from mesh.engine import Buffer, OutgoingDatagrams, SocketId
from mesh.wire.datagram import encode_relay_header

MAX_RUN_DATAGRAMS = 64  # UDP_MAX_SEGMENTS of kernels before 6.9
MAX_RUN_BYTES = 65_000  # below the 65,507 bytes that one UDP send takes


class Via(NamedTuple):
    """A way to a peer: a socket, an endpoint and, through a supernode, a relay id.

    ``relay_id`` is 0 for a direct way. A relayed way names the supernode's endpoint, so that
    every way is a place to send to and nothing else has to know the difference.
    """

    socket: SocketId
    endpoint: Endpoint
    relay_id: int = 0

    @property
    def supernode(self) -> "Via":
        """The way to the supernode that carries this one; a direct way is its own."""
        return Via(self.socket, self.endpoint)


class _Run:
    __slots__ = ("buffers", "is_closed", "is_whole", "segment_bytes", "total_bytes", "ttl", "via")

    def __init__(self, via: Via, segment_bytes: int, ttl: int) -> None:
        self.via = via
        self.segment_bytes = segment_bytes
        self.ttl = ttl
        self.buffers: list[Buffer] = []
        self.total_bytes = 0
        self.is_closed = False
        self.is_whole = False


class Outbox:
    """Collects datagrams; equal-sized ones for the same way leave together."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._open_runs: dict[Via, _Run] = {}
        self._relay_headers: dict[Via, bytes] = {}
        self._our_relay_ids: dict[Via, int] = {}
        self._arena = Arena()

    def set_our_relay_id(self, supernode: Via, relay_id: int) -> None:
        """Set the source field of relay envelopes for the supernode at ``supernode`` (section 11).

        0 forgets it.
        """
        if relay_id != self._our_relay_ids.get(supernode, 0):
            self._our_relay_ids.pop(supernode, None)
            if relay_id:
                self._our_relay_ids[supernode] = relay_id
            self._relay_headers.clear()

    def room(self, size: int) -> memoryview:
        """Return room for sealed datagrams, valid until what `take` returns has been sent."""
        return self._arena.take(size)

    def envelope(self, via: Via) -> bytes:
        """Return what stands in front of every datagram that takes this way, mostly nothing."""
        return self._relay_header(via) if via.relay_id else b""

    def send(self, via: Via, datagram: Buffer, ttl: int = 0) -> None:
        """Queue one datagram; it is wrapped in an envelope if the way is relayed."""
        if via.relay_id:
            size = RELAY_HEADER_BYTES + len(datagram)
            self._queue(via, (self._relay_header(via), datagram), size, size, ttl)
        else:
            self._queue(via, (datagram,), len(datagram), len(datagram), ttl)

    def send_whole(self, via: Via, datagram: Buffer) -> None:
        """Queue one datagram that nobody may fragment; it is never sent with others."""
        header = self._make_relay_header(via, dont_fragment=True) if via.relay_id else b""
        run = _Run(via, len(header) + len(datagram), 0)
        run.buffers += (header, datagram) if header else (datagram,)
        run.is_whole = True
        self._runs.append(run)
        self._open_runs.pop(via, None)  # what is sent after it leaves after it

    def send_run(self, via: Via, run: memoryview, segment_bytes: int) -> None:  # Hot path.
        """Queue datagrams that lie one behind the other, envelopes included.

        Args:
            via: the way.
            run: the datagrams, in any number.
            segment_bytes: the length of each; the last may be shorter.
        """
        limit = min(MAX_RUN_BYTES // segment_bytes, MAX_RUN_DATAGRAMS) * segment_bytes
        if len(run) <= limit:
            self._queue(via, (run,), len(run), segment_bytes, 0)
            return
        for start in range(0, len(run), limit):
            piece = run[start : start + limit]
            self._queue(via, (piece,), len(piece), segment_bytes, 0)

    def _queue(
        self, via: Via, buffers: tuple[Buffer, ...], size: int, segment_bytes: int, ttl: int
    ) -> None:  # Hot path.
        run = self._open_runs.get(via)
        if (
            run is None
            or run.is_closed
            or segment_bytes > run.segment_bytes
            or (size > segment_bytes and segment_bytes != run.segment_bytes)
            or ttl != run.ttl
            or run.total_bytes + size > MAX_RUN_BYTES
            or run.total_bytes + size > run.segment_bytes * MAX_RUN_DATAGRAMS
        ):
            run = self._open_runs[via] = _Run(via, segment_bytes, ttl)
            self._runs.append(run)
        run.buffers += buffers
        run.total_bytes += size
        # Only the last datagram of a run may be shorter than the others.
        run.is_closed = run.total_bytes % run.segment_bytes != 0

    def take(self) -> list[OutgoingDatagrams]:
        """Return, and forget, everything queued."""
        if not self._runs:
            return []
        self._arena.rewind()
        batches = [
            OutgoingDatagrams(
                run.buffers, run.segment_bytes, run.via[1], run.via[0], run.ttl, run.is_whole
            )
            for run in self._runs
        ]
        self._runs = []
        self._open_runs = {}
        return batches

    def _relay_header(self, via: Via) -> bytes:
        header = self._relay_headers.get(via)
        if header is None:
            if len(self._relay_headers) > 4096:  # relay ids change when supernodes restart
                self._relay_headers.clear()
            header = self._relay_headers[via] = self._make_relay_header(via)
        return header

    def _make_relay_header(self, via: Via, *, dont_fragment: bool = False) -> bytes:
        ours = self._our_relay_ids.get(via.supernode, 0)
        return encode_relay_header(ours, via.relay_id, dont_fragment=dont_fragment)
