"""Datagrams waiting for the driver, joined into runs that one system call can send."""

from typing import NamedTuple

from mesh.addresses import Endpoint
from mesh.constants import RELAY_HEADER_BYTES
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


class _Run:
    __slots__ = ("buffers", "is_closed", "segment_bytes", "total_bytes", "ttl", "via")

    def __init__(self, via: Via, segment_bytes: int, ttl: int) -> None:
        self.via = via
        self.segment_bytes = segment_bytes
        self.ttl = ttl
        self.buffers: list[Buffer] = []
        self.total_bytes = 0
        self.is_closed = False


class Outbox:
    """Collects datagrams; equal-sized ones for the same way leave together."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._open_runs: dict[Via, _Run] = {}
        self._relay_headers: dict[int, bytes] = {}
        self._our_relay_id = 0

    def set_our_relay_id(self, relay_id: int) -> None:
        """Set the source field of relay envelopes (section 11)."""
        if relay_id != self._our_relay_id:
            self._our_relay_id = relay_id
            self._relay_headers.clear()

    def send(self, via: Via, datagram: Buffer, ttl: int = 0) -> None:  # Hot path.
        """Queue one datagram; it is wrapped in an envelope if the way is relayed."""
        size = len(datagram)
        if via.relay_id:
            size += RELAY_HEADER_BYTES
        run = self._open_runs.get(via)
        if (
            run is None
            or run.is_closed
            or size > run.segment_bytes
            or ttl != run.ttl
            or run.total_bytes + size > MAX_RUN_BYTES
            or run.total_bytes >= run.segment_bytes * MAX_RUN_DATAGRAMS
        ):
            run = self._open_runs[via] = _Run(via, size, ttl)
            self._runs.append(run)
        if via.relay_id:
            run.buffers.append(self._relay_header(via.relay_id))
        run.buffers.append(datagram)
        run.total_bytes += size
        # Only the last datagram of a run may be shorter than the others.
        run.is_closed = size < run.segment_bytes

    def take(self) -> list[OutgoingDatagrams]:
        """Return, and forget, everything queued."""
        if not self._runs:
            return []
        batches = [
            OutgoingDatagrams(run.buffers, run.segment_bytes, run.via[1], run.via[0], run.ttl)
            for run in self._runs
        ]
        self._runs = []
        self._open_runs = {}
        return batches

    def _relay_header(self, destination: int) -> bytes:
        header = self._relay_headers.get(destination)
        if header is None:
            if len(self._relay_headers) > 4096:  # relay ids change when supernodes restart
                self._relay_headers.clear()
            header = encode_relay_header(self._our_relay_id, destination)
            self._relay_headers[destination] = header
        return header
