"""Fuzz targets: frames at speed, against kernels and members that send anything.

The oracle is a slow kernel (tests/datapath/tcp_frames.py): whatever is split and joined, the far
kernel ends up with the frames that were sent, with the checksums that they should have.
"""

from mesh.datapath.coalesce import MAX_PACKET_BYTES, join
from mesh.datapath.segment import segment_payload_bytes, split, splittable_layout
from mesh.datapath.tcp_layout import TCP_CHECKSUM_OFFSET, tcp_layout
from mesh.datapath.vnet import (
    VIRTIO_NET_HEADER_BYTES,
    complete_checksum,
    decode_vnet,
    encode_vnet_partial,
    encode_vnet_plain,
)
from mesh.errors import MalformedMessage
from mesh.wire.ethernet import describe_frame, ethertype
from mesh.wire.inner import decode_frame
from tests.datapath.tcp_frames import frames_of
from tests.fuzz.cursor import Cursor

_GUARD = b"\x5a" * 64
_SMALLEST_SEGMENT = 8  # bytes of payload: less makes the fuzzer slow and shows nothing else


def completed(plaintext: bytes | memoryview) -> bytes:
    """Return the frame of a plaintext as the far kernel will have it."""
    frame, csum_start, csum_offset = decode_frame(plaintext)
    return complete_checksum(frame, csum_start, csum_offset) if csum_start else bytes(frame)


def written(plaintexts: list[memoryview]) -> list[bytes]:
    """Return what is written to the TAP for opened datagrams, as mesh.core.tap_port does it."""
    writes, number = [], 0
    while number < len(plaintexts):
        frame, csum_start, csum_offset = decode_frame(plaintexts[number])
        joined = join(plaintexts, number) if csum_start else None
        if joined is not None:
            writes.append(b"".join(joined.iovec))
            assert len(writes[-1]) <= VIRTIO_NET_HEADER_BYTES + 14 + 16 + MAX_PACKET_BYTES
            number += joined.segments
            continue
        is_partial = bool(csum_start)
        header = encode_vnet_partial(csum_start, csum_offset) if is_partial else encode_vnet_plain()
        writes.append(header + bytes(frame))
        number += 1
    return writes


def check_joined(plaintexts: list[memoryview]) -> None:
    """Assert that joining changes nothing for the far kernel."""
    expected = [completed(bytes(each)) for each in plaintexts]
    assert [frame for write in written(plaintexts) for frame in frames_of(write)] == expected


def split_read(read: bytes, frame_bytes_max: int) -> list[bytes]:
    """Split a TAP read where that can be done, between guards; return the plaintexts."""
    fields = decode_vnet(read)
    if fields is None:
        return []
    guarded = bytearray(_GUARD + read + _GUARD)
    view = memoryview(guarded)[len(_GUARD) : -len(_GUARD)]
    layout = splittable_layout(view[VIRTIO_NET_HEADER_BYTES:], fields)
    if layout is None:
        return []
    payload_bytes = segment_payload_bytes(layout, fields[3], frame_bytes_max)
    if payload_bytes < _SMALLEST_SEGMENT:
        return []
    plaintexts = [bytes(each) for each in split(view, layout, payload_bytes)]
    assert guarded.startswith(_GUARD)
    assert guarded.endswith(_GUARD)
    sizes = [len(each) - 4 - layout.payload for each in plaintexts]
    assert sum(sizes) == len(read) - VIRTIO_NET_HEADER_BYTES - layout.payload
    assert set(sizes[:-1]) <= {payload_bytes}
    assert 0 < sizes[-1] <= payload_bytes
    return plaintexts


def fuzz_frame(data: bytes) -> None:
    """What is looked at in a frame: addresses, tags, headers."""
    ethertype(data)
    assert describe_frame(data).isprintable()
    layout = tcp_layout(data) if len(data) >= 14 else None
    if layout is not None:
        assert 14 <= layout.network < layout.transport < layout.payload <= len(data)


def fuzz_split(data: bytes) -> None:
    """A read of the TAP with any header, and what the other edge makes of its segments."""
    cursor = Cursor(data)
    frame_bytes_max = 60 + cursor.number(2) % 1500
    read = cursor.rest()
    plaintexts = split_read(read, frame_bytes_max)
    check_joined([memoryview(each) for each in plaintexts])
    if len(plaintexts) == 1:
        frame = read[VIRTIO_NET_HEADER_BYTES:]
        assert _without_checksums(plaintexts[0][4:]) == _without_checksums(frame)


def _without_checksums(frame: bytes) -> bytes:
    """Return the frame less what splitting makes anew even if one piece is all there is."""
    layout = tcp_layout(frame)
    assert layout is not None
    blank = bytearray(frame)
    at = [layout.transport + TCP_CHECKSUM_OFFSET]
    if layout.is_ipv4:
        at.append(layout.network + 10)
    for start in at:
        blank[start : start + 2] = b"\0\0"
    return bytes(blank)


def fuzz_join(data: bytes) -> None:
    """What a member may send: segments of a stream, lost, doubled, shuffled, changed, or any."""
    cursor = Cursor(data)
    edits = cursor.choice(32)
    recipe = [(cursor.choice(4), cursor.number(), cursor.number()) for _ in range(edits)]
    batch = [bytearray(each) for each in split_read(cursor.rest(), 1500)] or [bytearray(data)]
    for kind, at, value in recipe:
        number = at % len(batch)
        match kind:
            case 0 if len(batch) > 1:
                del batch[number]
            case 1:
                batch.insert(value % len(batch), bytearray(batch[number]))
            case 2:
                batch.insert(value % len(batch), batch.pop(number))
            case _:
                changed = batch[number]
                if changed:
                    changed[(at * 7 + value) % min(len(changed), 120)] ^= value
    survivors = []
    for each in batch:
        try:
            decode_frame(each)
        except MalformedMessage:
            continue
        survivors.append(memoryview(bytes(each)))
    check_joined(survivors)
