"""Fuzz targets: frames at speed, against kernels and members that send anything.

The oracle is a slow kernel (tests/datapath/tcp_frames.py): whatever is split and joined, the far
kernel ends up with the frames that were sent, with the checksums that they should have.
"""

from mesh.datapath.coalesce import MAX_PACKET_BYTES, join
from mesh.datapath.segment import (
    reopened_layout,
    segment_payload_bytes,
    split,
    splittable_layout,
)
from mesh.datapath.tcp_layout import TCP_CHECKSUM_OFFSET, tcp_layout
from mesh.datapath.udp_layout import UDP_CHECKSUM_OFFSET, udp_layout
from mesh.datapath.udp_segment import join_udp, split_udp, udp_super_layout
from mesh.datapath.vnet import (
    GSO_UDP_L4,
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
        joined = None
        if csum_start:
            joined = join(plaintexts, number) or join_udp(plaintexts, number)
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


def given(write: bytes) -> list[bytes]:
    """Return the frames that the kernel behind the TAP has after a write."""
    fields = decode_vnet(write)
    assert fields is not None
    if fields[1] != GSO_UDP_L4:
        return frames_of(write)
    view = memoryview(bytearray(write))
    layout = udp_super_layout(view[VIRTIO_NET_HEADER_BYTES:], fields)
    assert layout is not None
    assert fields[2] == layout.payload
    return [completed(bytes(each)) for each in split_udp(view, layout, fields[3])]


def check_joined(plaintexts: list[memoryview]) -> None:
    """Assert that joining changes nothing for the far kernel."""
    expected = [_without_id(completed(bytes(each))) for each in plaintexts]
    found = [_without_id(frame) for write in written(plaintexts) for frame in given(write)]
    assert found == expected


def _without_id(frame: bytes) -> bytes:
    """Return a UDP frame without its IPv4 id, which means nothing where DF is set (RFC 6864).

    The header's checksum covers it, and is made anew where datagrams are joined.
    """
    layout = udp_layout(frame)
    if layout is None or not layout.is_ipv4:
        return frame
    at = layout.network
    return frame[: at + 4] + bytes(2) + frame[at + 6 : at + 10] + bytes(2) + frame[at + 12 :]


def split_read(read: bytes, frame_bytes_max: int) -> list[bytes]:
    """Split a TAP read where that can be done, between guards; return the plaintexts."""
    fields = decode_vnet(read)
    if fields is None:
        return []
    guarded = bytearray(_GUARD + read + _GUARD)
    view = memoryview(guarded)[len(_GUARD) : -len(_GUARD)]
    frame = view[VIRTIO_NET_HEADER_BYTES:]
    plaintexts: list[bytes] = []
    udp = udp_super_layout(frame, fields)
    tcp = splittable_layout(frame, fields) or reopened_layout(frame, fields)
    layout = udp or tcp
    if udp is not None and fields[3] >= _SMALLEST_SEGMENT:
        payload_bytes = fields[3]
        plaintexts = [bytes(each) for each in split_udp(view, udp, payload_bytes)]
    elif tcp is not None:
        payload_bytes = segment_payload_bytes(tcp, fields[3], frame_bytes_max)
        if payload_bytes >= _SMALLEST_SEGMENT:
            plaintexts = [bytes(each) for each in split(view, tcp, payload_bytes)]
    assert guarded.startswith(_GUARD)
    assert guarded.endswith(_GUARD)
    if layout is not None and plaintexts:
        sizes = [len(each) - 4 - layout.payload for each in plaintexts]
        assert sum(sizes) == len(read) - VIRTIO_NET_HEADER_BYTES - layout.payload
        assert set(sizes[:-1]) <= {payload_bytes}
        assert 0 < sizes[-1] <= payload_bytes
    return plaintexts


def fuzz_frame(data: bytes) -> None:
    """What is looked at in a frame: addresses, tags, headers."""
    ethertype(data)
    assert describe_frame(data).isprintable()
    for find in (tcp_layout, udp_layout):
        layout = find(data) if len(data) >= 14 else None
        if layout is None:
            continue
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
    tcp, udp = tcp_layout(frame), udp_layout(frame)
    layout = tcp or udp
    assert layout is not None
    blank = bytearray(frame)
    at = [layout.transport + (TCP_CHECKSUM_OFFSET if tcp else UDP_CHECKSUM_OFFSET)]
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
