"""Our own port of the switch: frames between the TAP and the peers; docs/protocol.md section 13."""

import struct
from collections.abc import Sequence

from mesh.core.context import Context
from mesh.core.outbox import Via
from mesh.core.peer import Peer
from mesh.core.peers import PeerTable
from mesh.core.recent import RecentFrames
from mesh.core.switch import Switch
from mesh.datapath.arena import Arena
from mesh.datapath.coalesce import join
from mesh.datapath.fragment import Csum
from mesh.datapath.tcp_layout import TCP_CHECKSUM_OFFSET
from mesh.datapath.udp_segment import join_udp
from mesh.datapath.vnet import (
    GSO_NONE,
    VIRTIO_NET_HEADER_BYTES,
    decode_vnet,
    encode_vnet_partial,
    encode_vnet_plain,
)
from mesh.engine import Buffer, FrameIovec
from mesh.errors import MalformedMessage
from mesh.events import DropReason
from mesh.wire.ethernet import addresses
from mesh.wire.inner import decode_frame

HEAD_BYTES = VIRTIO_NET_HEADER_BYTES + 12
head_of = struct.Struct(f"{HEAD_BYTES}s").unpack_from
"""The virtio-net header and both MACs, in a tuple."""


class TapPort:
    """Forwards frames from the TAP and collects frames for it."""

    def __init__(self, context: Context, switch: Switch, peers: PeerTable) -> None:
        self._context = context
        self._switch = switch
        self._peers = peers
        self._mac = context.config.mac
        self._no_relay = context.config.no_relay
        self._has_uso = context.config.has_uso
        self._max_frame_bytes = context.config.max_frame_bytes
        self._max_read_bytes = VIRTIO_NET_HEADER_BYTES + self._max_frame_bytes
        self._arena = Arena()
        self._frames: list[FrameIovec] = []
        self._recent = RecentFrames()
        peers.on_new_peer = self._catch_up

    def take(self) -> list[FrameIovec]:
        """Return, and forget, what is to be written to the TAP."""
        frames, self._frames = self._frames, []
        self._arena.rewind()
        return frames

    def receive_frames(self, read: Buffer, now: float) -> None:  # Hot path.
        """Take in one TAP read: forward it to the peer that owns its destination, or flood it."""
        fields = decode_vnet(read)
        if fields is None:
            self._context.drop(DropReason.MALFORMED)
            return
        view = memoryview(read)
        if fields[1] == GSO_NONE and len(view) > self._max_read_bytes:
            self._context.drop(DropReason.FRAME_SIZE)
            return
        if view.readonly:
            view = memoryview(bytearray(view))
        destination, source = addresses(view, VIRTIO_NET_HEADER_BYTES)
        if self._switch.knows(source):
            self._switch.forget(source)  # it has moved to our side
        port = None if destination[0] & 1 else self._switch.port_of(destination, now)
        if port is not None:
            peer = self._peers.get(port)
            if peer is not None:
                peer.send_frame(view, fields, now)
            return
        reachable = [peer for peer in self._peers if peer.sessions.current is not None]
        self._recent.note(view, [peer.edge_id for peer in reachable], now)
        for peer in reachable:
            # A copy each: sending writes over it.
            peer.send_frame(memoryview(bytearray(view)), fields, now)

    def receive_burst(self, reads: Sequence[memoryview], now: float) -> None:  # Hot path.
        """Take in TAP reads that came together; neighbours that are alike are forwarded at once.

        Alike are frames of one size with equal virtio-net headers and MACs: what a game or a
        stream of voice sends, or a flood of small frames.
        """
        first, count = 0, len(reads)
        while first < count:
            read = reads[first]
            last = first + 1
            size = len(read)
            if size >= HEAD_BYTES:
                head = head_of(read)
                while last < count and len(reads[last]) == size and head_of(reads[last]) == head:
                    last += 1
            if last - first == 1 or not self._send_alike(reads[first:last], now):
                for each in reads[first:last]:
                    self.receive_frames(each, now)
            first = last

    def _send_alike(self, reads: Sequence[memoryview], now: float) -> bool:  # Hot path.
        """Send frames that are alike to the peer that owns their destination, if that is one."""
        fields = decode_vnet(reads[0])
        if fields is None or fields[1] != GSO_NONE or len(reads[0]) > self._max_read_bytes:
            return False
        peer = self.owner_of(reads[0], now)
        return peer is not None and peer.send_alike(reads, fields, now)

    def owner_of(self, read: memoryview, now: float) -> Peer | None:  # Hot path.
        """Return the one peer that a frame goes to; None where it is flooded, or teaches us a move.

        Args:
            read: one TAP read that `decode_vnet` can use.
            now: the time.
        """
        destination, source = addresses(read, VIRTIO_NET_HEADER_BYTES)
        if destination[0] & 1 or self._switch.knows(source):
            return None
        port = self._switch.port_of(destination, now)
        return self._peers.get(port) if port is not None else None

    def _catch_up(self, peer: Peer, now: float) -> None:
        """Send a new peer what was flooded just before it could hear it."""
        for read in self._recent.missed_by(peer.edge_id, now):
            fields = decode_vnet(read)
            if fields is not None:
                peer.send_frame(memoryview(bytearray(read)), fields, now)

    def room(self, size: int) -> memoryview:
        """Return room for opened datagrams, valid until what `take` returns has been written."""
        return self._arena.take(size)

    def deliver_run(
        self, peer: Peer, plaintexts: Sequence[memoryview], via: Via, now: float
    ) -> None:  # Hot path.
        """Hand opened datagrams of kind FRAME to the TAP, TCP segments joined to super-frames."""
        if via.relay_id and self._no_relay:
            self._context.drop(DropReason.NO_PATH, len(plaintexts))
            return
        number = 0
        while number < len(plaintexts):
            try:
                frame, csum_start, csum_offset = decode_frame(plaintexts[number])
            except MalformedMessage:
                self._context.drop(DropReason.MALFORMED)
                number += 1
                continue
            joined = None
            if csum_start and len(frame) <= self._max_frame_bytes:
                if csum_offset == TCP_CHECKSUM_OFFSET:
                    joined = join(plaintexts, number)
                elif self._has_uso:
                    joined = join_udp(plaintexts, number)
            if joined is None:
                self.deliver(peer, frame, (csum_start, csum_offset), now)
                number += 1
                continue
            self._learn(peer, frame, now)
            peer.rx_frames += joined.segments
            peer.rx_bytes += joined.frame_bytes
            self._frames.append(joined.iovec)
            number += joined.segments

    def deliver_whole(self, peer: Peer, frame: Buffer, csum: Csum, via: Via, now: float) -> None:
        """Hand a frame that was put together from fragments to the TAP."""
        if via.relay_id and self._no_relay:
            self._context.drop(DropReason.NO_PATH)
            return
        self.deliver(peer, frame, csum, now)

    def deliver_lone(self, peer: Peer, plaintext: memoryview, now: float) -> FrameIovec:
        """Return what is to be written of one opened datagram of kind FRAME; maybe nothing."""
        # Hot path.
        try:
            frame, csum_start, csum_offset = decode_frame(plaintext)
        except MalformedMessage:
            self._context.drop(DropReason.MALFORMED)
            return ()
        return self._iovec(peer, frame, (csum_start, csum_offset), now)

    def deliver(self, peer: Peer, frame: Buffer, csum: Csum, now: float) -> None:  # Hot path.
        """Hand a frame of a peer to the TAP, never to another peer; learn its source address."""
        iovec = self._iovec(peer, frame, csum, now)
        if iovec:
            self._frames.append(iovec)

    def _iovec(self, peer: Peer, frame: Buffer, csum: Csum, now: float) -> FrameIovec:  # Hot path.
        if len(frame) > self._max_frame_bytes:
            self._context.drop(DropReason.FRAME_SIZE)
            return ()
        peer.rx_frames += 1
        peer.rx_bytes += len(frame)
        self._learn(peer, frame, now)
        header = encode_vnet_partial(*csum) if csum[0] else encode_vnet_plain()
        return header, frame

    def _learn(self, peer: Peer, frame: Buffer, now: float) -> None:
        _, source = addresses(frame)
        if source != self._mac:
            self._switch.learn(source, peer.edge_id, now)
