"""TCP frames for the tests, and a software kernel: segmentation and checksums the slow way."""

import struct
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from mesh.datapath.segment import split, splittable_layout
from mesh.datapath.vnet import (
    GSO_NONE,
    VIRTIO_NET_HEADER_BYTES,
    complete_checksum,
    decode_vnet,
)
from mesh.wire.inner import decode_frame

ACK, PSH, FIN, CWR, ECE = 0x10, 0x08, 0x01, 0x80, 0x40


def ones_sum(data: bytes) -> int:
    """Add 16-bit words with end-around carry, one by one."""
    total = 0
    for high, low in zip(*[iter(data + b"\0" * (len(data) % 2))] * 2, strict=True):
        total += high << 8 | low
        total = (total & 0xFFFF) + (total >> 16)
    return total


@dataclass(frozen=True)
class TcpFrame:
    """What a frame of a TCP stream is made of."""

    payload: bytes
    sequence: int = 1000
    flags: int = ACK
    is_ipv4: bool = True
    vlan_tags: int = 0
    tcp_options: bytes = b""
    ip_options: bytes = b""
    extensions: tuple[tuple[int, bytes], ...] = ()
    ip_id: int = 7
    is_atomic: bool = True
    ports: tuple[int, int] = (40000, 5201)
    addresses: tuple[bytes, bytes] = field(default=(bytes(range(16)), bytes(range(16, 32))))

    @property
    def network(self) -> int:
        return 14 + 4 * self.vlan_tags

    @property
    def transport(self) -> int:
        if self.is_ipv4:
            return self.network + 20 + len(self.ip_options)
        return self.network + 40 + sum(2 + len(body) for _, body in self.extensions)

    def _pseudo_header(self, tcp_bytes: int) -> bytes:
        if self.is_ipv4:
            return self.addresses[0][:4] + self.addresses[1][:4] + struct.pack(">HH", 6, tcp_bytes)
        return b"".join(self.addresses) + struct.pack(">II", tcp_bytes, 6)

    def build(self, *, is_partial: bool = True) -> bytes:
        """Return the frame; its TCP checksum is partial or complete."""
        offset = (20 + len(self.tcp_options)) // 4 << 4
        tcp = struct.pack(
            ">HHIIBBHHH", *self.ports, self.sequence, 77, offset, self.flags, 500, 0, 0
        )
        tcp += self.tcp_options + self.payload
        pseudo = self._pseudo_header(len(tcp))
        checksum = ones_sum(pseudo) if is_partial else (0xFFFF - ones_sum(pseudo + tcp)) or 0xFFFF
        tcp = tcp[:16] + struct.pack(">H", checksum) + tcp[18:]
        ip = self._ipv4(len(tcp)) if self.is_ipv4 else self._ipv6(len(tcp))
        tags = b"".join(struct.pack(">HH", 0x8100, 5 + n) for n in range(self.vlan_tags))
        kind = struct.pack(">H", 0x0800 if self.is_ipv4 else 0x86DD)
        return bytes(range(12)) + tags + kind + ip + tcp

    def _ipv4(self, tcp_bytes: int) -> bytes:
        length = 20 + len(self.ip_options)
        header = struct.pack(
            ">BBHHHBBH",
            *(0x40 | length // 4, 0, length + tcp_bytes, self.ip_id & 0xFFFF),
            *(0x4000 if self.is_atomic else 0, 64, 6, 0),
        )
        header += self.addresses[0][:4] + self.addresses[1][:4] + self.ip_options
        return header[:10] + struct.pack(">H", 0xFFFF - ones_sum(header)) + header[12:]

    def _ipv6(self, tcp_bytes: int) -> bytes:
        kinds = [kind for kind, _ in self.extensions] + [6]
        body = b"".join(
            bytes([following, (len(content) - 6) // 8]) + content
            for following, (_, content) in zip(kinds[1:], self.extensions, strict=True)
        )
        start = struct.pack(">IHBB", 0x60000000, len(body) + tcp_bytes, kinds[0], 64)
        return start + b"".join(self.addresses) + body

    def read(self, gso_size: int, *, hdr_len: int = 0) -> bytearray:
        """Return what a TAP hands over: the frame behind a virtio-net header."""
        gso_type = (1 if self.is_ipv4 else 4) if gso_size else 0
        header = struct.pack("=BBHHHH", 1, gso_type, hdr_len, gso_size, self.transport, 16)
        assert len(header) == VIRTIO_NET_HEADER_BYTES
        return bytearray(header + self.build())


def segments_of(frame: TcpFrame, size: int) -> list[TcpFrame]:
    """Cut a frame as a kernel without offloads would, its way of counting ids included."""
    starts = range(0, len(frame.payload), size)
    segments = []
    for number, start in enumerate(starts):
        flags = frame.flags
        if number:
            flags &= ~CWR
        if number < len(starts) - 1:
            flags &= ~(FIN | PSH)
        segments.append(
            replace(
                frame,
                payload=frame.payload[start : start + size],
                sequence=(frame.sequence + start) % 2**32,
                flags=flags,
                ip_id=frame.ip_id + (0 if frame.is_atomic else number),
            )
        )
    return segments


def _words(data: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return data.map(lambda content: content[: len(content) // 4 * 4])


_EXTENSION = st.tuples(
    st.sampled_from([0, 43, 60]),
    st.sampled_from([6, 14, 22]).flatmap(lambda n: st.binary(min_size=n, max_size=n)),
)


_FLAGS = st.sampled_from([ACK, ACK | PSH, ACK | PSH | FIN, ACK | ECE])
_ATOMIC = st.just(True)


def tcp_frames(
    *,
    flags: st.SearchStrategy[int] = _FLAGS,
    is_atomic: st.SearchStrategy[bool] = _ATOMIC,
    max_payload: int = 5000,
) -> st.SearchStrategy[TcpFrame]:
    """Frames of TCP streams with a payload."""
    return st.builds(
        TcpFrame,
        payload=st.integers(1, max_payload).flatmap(
            lambda n: st.integers(0, 255).map(lambda b: bytes((b + i) % 251 for i in range(n)))
        ),
        sequence=st.integers(0, 2**32 - 1),
        flags=flags,
        is_ipv4=st.booleans(),
        vlan_tags=st.integers(0, 2),
        tcp_options=_words(st.binary(max_size=40)),
        ip_options=_words(st.binary(max_size=40)),
        extensions=st.lists(_EXTENSION, max_size=3).map(tuple),
        ip_id=st.integers(0, 65535),
        is_atomic=is_atomic,
        addresses=st.tuples(
            st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16)
        ),
    )


def frames_of(write: bytes) -> list[bytes]:
    """Be the kernel behind the TAP: cut super-frames, complete checksums."""
    fields = decode_vnet(write)
    assert fields is not None
    if fields[1] == GSO_NONE:
        frame = write[10:]
        return [complete_checksum(frame, *fields[4:6]) if fields[4] else frame]
    view = memoryview(bytearray(write))
    layout = splittable_layout(view[10:], fields)
    assert layout is not None
    assert fields[2] == layout.payload
    return [
        complete_checksum(*decode_frame(bytes(plaintext)))
        for plaintext in split(view, layout, fields[3])
    ]
