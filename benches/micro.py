"""What the pieces of the data path cost without a kernel: scripts/bench micro.

Every piece handles what it handles in life: a super-frame of 44 segments (what one UDP_SEGMENT
send takes), a lone small frame, a batch of envelopes at a supernode. Preparing input is not timed.
"""

import argparse
import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from benches.timing import Case, Work, as_table, time_all, write_json
from mesh.addresses import EdgeId, Endpoint
from mesh.constants import TAG_BYTES, TRANSPORT_HEADER_BYTES
from mesh.core.switch import Switch
from mesh.crypto.session import Session
from mesh.crypto.suite import Suite
from mesh.datapath.coalesce import join
from mesh.datapath.segment import split, splittable_layout
from mesh.datapath.vnet import VIRTIO_NET_HEADER_BYTES, decode_vnet
from mesh.engine import OutgoingDatagrams, ReceivedDatagrams
from mesh.wire.datagram import encode_relay_header
from mesh.wire.inner import PLAIN_FRAME_HEADER
from supernode.relay import Relay
from supernode.token_bucket import TokenBucket
from tests.crypto.actors import peer_sessions
from tests.datapath.tcp_frames import TcpFrame
from tests.virtual_edge import VirtualEdge
from tests.world import World

SEGMENTS = 44
SEGMENT_FRAME_BYTES = 1436  # the frame of a datagram that fits 1500 bytes with IPv4 and UDP
SMALL_FRAME_BYTES = 106  # UDP of 64 bytes over IPv4 and Ethernet
_OVERHEAD_BYTES = TRANSPORT_HEADER_BYTES + TAG_BYTES
_HEADERS_BYTES = 14 + 20 + 32  # Ethernet, IPv4, TCP with timestamps
_SEGMENT_BYTES = SEGMENT_FRAME_BYTES - _HEADERS_BYTES


def _repeat(count: int, step: Callable[[], object]) -> Work:
    def work() -> None:
        for _ in itertools.repeat(None, count):
            step()

    return work


def _for_each(inputs: Sequence[bytes], step: Callable[[bytes], object]) -> Work:
    def work() -> None:
        for one in inputs:
            step(one)

    return work


def _super_frame() -> bytearray:
    return TcpFrame(bytes(SEGMENTS * _SEGMENT_BYTES), tcp_options=bytes(12)).read(_SEGMENT_BYTES)


def _segments() -> list[memoryview]:
    """Return the plaintexts that a super-frame is split into."""
    view = memoryview(_super_frame())
    fields = decode_vnet(view)
    layout = fields and splittable_layout(view[VIRTIO_NET_HEADER_BYTES:], fields)
    if not layout:
        raise SystemExit("the super-frame of this bench cannot be split")
    return [memoryview(bytes(one)) for one in split(view, layout, _SEGMENT_BYTES)]


# Seal and open


def sealing(suite: Suite, plaintexts: list[memoryview]) -> Callable[[int], Work]:
    """Seal a run."""

    def prepare(count: int) -> Work:
        ours, _ = peer_sessions(suite)
        total = sum(len(each) + _OVERHEAD_BYTES for each in plaintexts)
        out = memoryview(bytearray(total))
        return _repeat(count, lambda: ours.seal_run(out, plaintexts))

    return prepare


def opening(suite: Suite, plaintexts: list[memoryview]) -> Callable[[int], Work]:
    """Open a run; each datagram once, since copies are refused by the replay window."""
    stride = len(plaintexts[0]) + _OVERHEAD_BYTES
    total = stride * len(plaintexts)

    def prepare(count: int) -> Work:
        ours, theirs = peer_sessions(suite)
        batches = [_sealed(ours, plaintexts, total) for _ in range(count)]
        out = memoryview(bytearray(total))
        return _for_each(
            batches, lambda batch: theirs.open_run_untrusted(memoryview(batch), 0, stride, out)
        )

    return prepare


def _sealed(session: Session, plaintexts: list[memoryview], total: int) -> bytes:
    out = bytearray(total)
    session.seal_run(memoryview(out), plaintexts)
    return bytes(out)


# Split, join, switch, relay


def splitting(count: int) -> Work:
    """Split a super-frame, from the read's header to the last segment."""
    pristine = bytes(_super_frame())
    headers = pristine[: VIRTIO_NET_HEADER_BYTES + _HEADERS_BYTES]
    view = memoryview(bytearray(pristine))

    def step() -> None:
        view[: len(headers)] = headers  # splitting writes over them
        fields = decode_vnet(view)
        layout = fields and splittable_layout(view[VIRTIO_NET_HEADER_BYTES:], fields)
        if layout:
            for _ in split(view, layout, _SEGMENT_BYTES):
                pass

    return _repeat(count, step)


def joining(count: int) -> Work:
    """Join the segments of a super-frame."""
    plaintexts = _segments()
    return _repeat(count, lambda: join(plaintexts, 0))


def _filled_switch(ports: int, per_port: int) -> tuple[Switch, list[bytes]]:
    switch, dice, macs = Switch(), random.Random(1), []
    for number in range(ports):
        for _ in range(per_port):
            mac = b"\x02" + dice.randbytes(5)
            switch.learn(mac, EdgeId(number.to_bytes(16, "big")), 0.0)
            macs.append(mac)
    return switch, macs


def looking_up(count: int) -> Work:
    """Ask who owns an address, of 1,000 that 50 peers own."""
    switch, macs = _filled_switch(50, 20)
    asked = list(itertools.islice(itertools.cycle(macs), count))
    return _for_each(asked, lambda mac: switch.port_of(mac, 1.0))


def learning(count: int) -> Work:
    """Learn an address that is known, as every received frame has it."""
    switch, macs = _filled_switch(50, 20)
    port = EdgeId(bytes(16))
    return _repeat(count, lambda: switch.learn(macs[0], port, 0.5))


class _End:
    """A registered edge as the relay sees it."""

    def __init__(self, endpoint: Endpoint, community: object) -> None:
        self.endpoint = endpoint
        self.socket = 0
        self.relay_bucket = TokenBucket(1e15, 1e15, 0.0)
        self.relayed_bytes = self.relayed_datagrams = 0
        self.community = community


class _Community:
    relayed_bytes = 0


def relaying(datagrams: int, inner_bytes: int) -> Callable[[int], Work]:
    """Forward a batch of envelopes from one edge to another."""

    def prepare(count: int) -> Work:
        community, source = _Community(), Endpoint("192.0.2.1", 7000)
        ends = {1: _End(source, community), 2: _End(Endpoint("192.0.2.2", 7000), community)}
        sent: list[OutgoingDatagrams] = []
        relay = Relay(ends, sent.append, lambda _reason, _count: None)  # type: ignore[arg-type]
        envelope = encode_relay_header(1, 2) + b"\x04" + bytes(inner_bytes - 1)
        batch = ReceivedDatagrams(envelope * datagrams, len(envelope), source, 0)

        def step() -> None:
            relay.forward(batch, 1.0)
            sent.clear()

        return _repeat(count, step)

    return prepare


# Whole edges


def _pair() -> tuple[VirtualEdge, VirtualEdge, float]:
    """Return two edges with a direct path that know each other's address, and the time of both."""
    world = World(seed=1)
    world.add_supernode()
    a, b = (world.add_edge(name, clock_offset=0.0) for name in "ab")
    world.run_until_direct(a, b)
    world.ping(a, b)
    world.run_for(1.0)
    return a, b, world.clock.now


def _drain(edge: VirtualEdge) -> list[OutgoingDatagrams]:
    edge.engine.events_to_report()
    batches = edge.engine.datagrams_to_send()
    edge.engine.frames_to_write()
    return batches


def _addressed(read: bytes, a: VirtualEdge, b: VirtualEdge) -> bytes:
    return read[:10] + b.mac + a.mac + read[22:]


def sending(read: bytes) -> Callable[[int], Work]:
    """From a TAP read to the batches for sendmsg, through all of the edge engine."""

    def prepare(count: int) -> Work:
        a, b, now = _pair()
        addressed = _addressed(read, a, b)
        headers = addressed[:100]
        view = memoryview(bytearray(addressed))

        def step() -> None:
            view[: len(headers)] = headers  # sending writes over them
            a.engine.receive_frames(view, now)
            _drain(a)

        return _repeat(count, step)

    return prepare


def receiving(read: bytes) -> Callable[[int], Work]:
    """From a received batch to the iovecs for writev, through all of the edge engine."""

    def prepare(count: int) -> Work:
        a, b, now = _pair()
        addressed = _addressed(read, a, b)
        source = Endpoint(a.host.addresses()[0], a.udp_port)
        received = []
        for _ in range(count):
            a.engine.receive_frames(bytearray(addressed), now)
            for batch in _drain(a):
                content = b"".join(batch.buffers)
                received.append(ReceivedDatagrams(content, batch.segment_bytes, source, 0))

        def work() -> None:
            for batch in received:
                b.engine.receive_datagrams(batch, now)
                _drain(b)

        return work

    return prepare


def cases() -> list[Case]:
    """Return everything that is timed."""
    segments = _segments()
    small = [memoryview(PLAIN_FRAME_HEADER + bytes(SMALL_FRAME_BYTES))]
    many_small = small * 32
    run_bytes = SEGMENTS * SEGMENT_FRAME_BYTES
    super_frame = bytes(_super_frame())
    small_read = bytes(VIRTIO_NET_HEADER_BYTES + SMALL_FRAME_BYTES)
    aes, chacha = Suite.AESGCM_SHA256, Suite.CHACHAPOLY_SHA256
    return [
        Case("seal 44 x 1,436 B, AES-256-GCM", SEGMENTS, run_bytes, sealing(aes, segments)),
        Case("open 44 x 1,436 B, AES-256-GCM", SEGMENTS, run_bytes, opening(aes, segments)),
        Case("seal 44 x 1,436 B, ChaCha20", SEGMENTS, run_bytes, sealing(chacha, segments)),
        Case("open 44 x 1,436 B, ChaCha20", SEGMENTS, run_bytes, opening(chacha, segments)),
        Case("seal 32 x 106 B, AES-256-GCM", 32, 32 * SMALL_FRAME_BYTES, sealing(aes, many_small)),
        Case("open 32 x 106 B, AES-256-GCM", 32, 32 * SMALL_FRAME_BYTES, opening(aes, many_small)),
        Case("seal one of 106 B, AES-256-GCM", 1, SMALL_FRAME_BYTES, sealing(aes, small)),
        Case("open one of 106 B, AES-256-GCM", 1, SMALL_FRAME_BYTES, opening(aes, small)),
        Case("split into 44 segments", SEGMENTS, run_bytes, splitting),
        Case("join 44 segments", SEGMENTS, run_bytes, joining),
        Case("switch: look up 1 of 1,000", 1, 0, looking_up),
        Case("switch: learn a known address", 1, 0, learning),
        Case("relay 44 x 1,484 B", 44, 44 * 1484, relaying(44, 1472)),
        Case("relay one of 150 B", 1, 150, relaying(1, 138)),
        Case("edge: send a super-frame", SEGMENTS, run_bytes, sending(super_frame)),
        Case("edge: receive a super-frame", SEGMENTS, run_bytes, receiving(super_frame)),
        Case("edge: send one frame of 106 B", 1, SMALL_FRAME_BYTES, sending(small_read)),
        Case("edge: receive one frame of 106 B", 1, SMALL_FRAME_BYTES, receiving(small_read)),
    ]


def main() -> None:
    """Time everything and print the table."""
    parser = argparse.ArgumentParser(prog="micro", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2, help="per case and round")
    parser.add_argument("--only", default="", help="cases whose names contain this")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    chosen = parser.parse_args()
    wanted = [case for case in cases() if chosen.only in case.name]
    timings = time_all(wanted, chosen.rounds, chosen.seconds)
    print(as_table(timings))
    if chosen.json:
        write_json(chosen.json, timings)


if __name__ == "__main__":
    main()
