"""UDP frames for the tests, and a software kernel: super-frames cut the slow way."""

import struct
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from mesh.datapath.vnet import GSO_UDP_L4, VIRTIO_NET_HEADER_BYTES, complete_checksum, decode_vnet
from tests.datapath.tcp_frames import ones_sum


@dataclass(frozen=True)
class UdpFrame:
    """What a frame with a UDP datagram is made of."""

    payload: bytes
    is_ipv4: bool = True
    vlan_tags: int = 0
    ip_options: bytes = b""
    ip_id: int = 7
    is_atomic: bool = True
    ports: tuple[int, int] = (40000, 5201)
    addresses: tuple[bytes, bytes] = (bytes(range(16)), bytes(range(16, 32)))

    @property
    def network(self) -> int:
        return 14 + 4 * self.vlan_tags

    @property
    def transport(self) -> int:
        return self.network + (20 + len(self.ip_options) if self.is_ipv4 else 40)

    def build(self, *, is_partial: bool = True) -> bytes:
        """Return the frame; its UDP checksum is partial or complete."""
        length = 8 + len(self.payload)
        count = 4 if self.is_ipv4 else 16
        pseudo = b"".join(address[:count] for address in self.addresses)
        pseudo += struct.pack(">HH", 17, length)
        udp = struct.pack(">HHHH", *self.ports, length, 0) + self.payload
        checksum = ones_sum(pseudo) if is_partial else (0xFFFF - ones_sum(pseudo + udp)) or 0xFFFF
        udp = udp[:6] + struct.pack(">H", checksum) + udp[8:]
        tags = b"".join(struct.pack(">HH", 0x8100, 5 + n) for n in range(self.vlan_tags))
        kind = struct.pack(">H", 0x0800 if self.is_ipv4 else 0x86DD)
        return bytes(range(12)) + tags + kind + self._ip(length) + udp

    def _ip(self, udp_bytes: int) -> bytes:
        if not self.is_ipv4:
            return struct.pack(">IHBB", 0x60000000, udp_bytes, 17, 64) + b"".join(self.addresses)
        length = 20 + len(self.ip_options)
        header = struct.pack(
            ">BBHHHBBH",
            *(0x40 | length // 4, 0, length + udp_bytes, self.ip_id & 0xFFFF),
            *(0x4000 if self.is_atomic else 0, 64, 17, 0),
        )
        header += self.addresses[0][:4] + self.addresses[1][:4] + self.ip_options
        return header[:10] + struct.pack(">H", 0xFFFF - ones_sum(header)) + header[12:]

    def read(self, gso_size: int, *, hdr_len: int = 0) -> bytearray:
        """Return what a TAP hands over: the frame behind a virtio-net header."""
        gso_type = GSO_UDP_L4 if gso_size else 0
        header = struct.pack("=BBHHHH", 1, gso_type, hdr_len, gso_size, self.transport, 6)
        return bytearray(header + self.build())

    def plaintext(self) -> memoryview:
        """Return it as it comes out of a transport datagram."""
        return memoryview(struct.pack(">BBH", 1, 6, self.transport) + self.build())


def datagrams_of(frame: UdpFrame, size: int) -> list[UdpFrame]:
    """Cut a frame as a kernel without offloads would."""
    return [
        replace(
            frame,
            payload=frame.payload[start : start + size],
            ip_id=frame.ip_id + (0 if frame.is_atomic else number),
        )
        for number, start in enumerate(range(0, len(frame.payload), size))
    ]


_ATOMIC = st.just(True)


def udp_frames(
    *, is_atomic: st.SearchStrategy[bool] = _ATOMIC, max_payload: int = 4000
) -> st.SearchStrategy[UdpFrame]:
    """Frames with a payload."""
    return st.builds(
        UdpFrame,
        payload=st.integers(1, max_payload).flatmap(
            lambda n: st.integers(0, 250).map(lambda b: bytes((b + i) % 251 for i in range(n)))
        ),
        is_ipv4=st.booleans(),
        vlan_tags=st.integers(0, 2),
        ip_options=st.binary(max_size=40).map(lambda content: content[: len(content) // 4 * 4]),
        ip_id=st.integers(0, 65535),
        is_atomic=is_atomic,
        addresses=st.tuples(
            st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16)
        ),
    )


def written(write: bytes) -> list[bytes]:
    """Be the kernel behind the TAP: cut super-frames of UDP, complete checksums."""
    fields = decode_vnet(write)
    assert fields is not None
    _, gso_type, hdr_len, gso_size, transport, csum_offset = fields
    frame = write[VIRTIO_NET_HEADER_BYTES:]
    if gso_type != GSO_UDP_L4:
        return [complete_checksum(frame, transport, csum_offset) if transport else frame]
    assert csum_offset == 6
    assert hdr_len == transport + 8
    assert struct.unpack_from(">H", frame, transport + 4)[0] == len(frame) - transport
    network = 14
    while frame[network - 2 : network] == b"\x81\x00":
        network += 4
    is_ipv4 = frame[network] >> 4 == 4
    first, second = (network + 12, network + 16) if is_ipv4 else (network + 8, network + 24)
    count = 4 if is_ipv4 else 16
    whole = UdpFrame(
        frame[transport + 8 :],
        is_ipv4=is_ipv4,
        vlan_tags=(network - 14) // 4,
        ip_options=frame[network + 20 : transport] if is_ipv4 else b"",
        ip_id=struct.unpack_from(">H", frame, network + 4)[0],
        ports=struct.unpack_from(">HH", frame, transport),
        addresses=(frame[first : first + count], frame[second : second + count]),
    )
    assert whole.build()[12:] == frame[12:], "lengths or checksums are wrong"
    assert 1 < -(-len(whole.payload) // gso_size) <= 64
    cut = datagrams_of(whole, gso_size)
    return [frame[:12] + one.build(is_partial=False)[12:] for one in cut]
