"""What fuzzing starts from: honest examples of everything, written into the corpus when run."""

import hashlib
from collections.abc import Iterator

from mesh.addresses import Endpoint
from mesh.datapath.fragment import cut
from mesh.net.stream_layers import WebSocketLayer
from mesh.wire.inner import (
    PLAIN_FRAME_HEADER,
    encode_fragment_header,
    encode_frame_header,
    wrap_control,
)
from mesh.wire.lan import LanAnswer, LanQuery, lan_answer_tag
from mesh.wire.portmap import PcpMap, PcpOpcode, PcpRequest, PcpResponse, PmpAddress, PmpMapped
from mesh.wire.stream import frame_datagrams
from tests.core.edge_alone import COMMUNITY
from tests.datapath.tcp_frames import ACK, PSH, TcpFrame
from tests.datapath.udp_frames import UdpFrame
from tests.fuzz.bodies import HONEST_BODIES
from tests.fuzz.targets import CORPUS


def _frames() -> Iterator[TcpFrame]:
    yield TcpFrame(bytes(range(256)) * 12, flags=ACK | PSH, tcp_options=bytes(12))
    yield TcpFrame(bytes(900), is_ipv4=False, extensions=((0, bytes(6)), (60, bytes(14))))
    yield TcpFrame(bytes(700), vlan_tags=2, ip_options=bytes(8), is_atomic=False)
    yield TcpFrame(bytes(40))


def _udp_frames() -> Iterator[UdpFrame]:
    yield UdpFrame(bytes(range(200)) * 5)
    yield UdpFrame(bytes(750), is_ipv4=False, vlan_tags=1)
    yield UdpFrame(bytes(750), ip_options=bytes(4), is_atomic=False)


def _datagrams() -> Iterator[bytes]:
    for kind, size in ((1, 148), (2, 92), (3, 64), (4, 60), (5, 80), (6, 120), (7, 160)):
        yield bytes([kind]) + bytes(size - 1)
    yield _query().encode()
    yield _answer().encode()


def _answer() -> LanAnswer:
    nonce, fingerprint = bytes(16), bytes(20)
    tag = lan_answer_tag(COMMUNITY.community_id, nonce, fingerprint, 7777)
    return LanAnswer(7777, nonce, tag, fingerprint, takes_any=True)


def _query() -> LanQuery:
    return LanQuery.for_community(COMMUNITY.community_id, bytes(16))


def _deed(number: int, *parts: bytes) -> bytes:
    return bytes([number]) + b"".join(parts)


def _piece(content: bytes) -> bytes:
    return len(content).to_bytes(2, "big") + content


def _edge_deeds() -> Iterator[bytes]:
    plaintexts = [wrap_control(body) for body in HONEST_BODIES]
    reads = [bytes(frame.read(500)) for frame in (*_frames(), *_udp_frames())]
    segment = encode_frame_header(34, 16) + TcpFrame(bytes(200)).build()
    yield b"".join(_deed(1, b"\0", _piece(each), b"\x01") for each in plaintexts)
    yield b"".join(_deed(3, b"\0", _piece(each)) for each in plaintexts)
    yield b"".join(_deed(4, b"\x01\0", _piece(each)) for each in plaintexts)
    for deed in (1, 3, 4):
        yield b"".join(bytes([deed, 1, kind, 0, 1]) for kind in range(len(plaintexts)))
    yield b"".join(_deed(5, _piece(each), b"\x01") for each in reads)
    yield _deed(2, (len(segment) - 1).to_bytes(2, "big"), _piece(segment * 5))
    for datagram in _datagrams():
        yield _deed(0, b"\x02", len(datagram).to_bytes(2, "big"), _piece(datagram * 2))
    yield _deed(6, b"\x10\x00") * 20 + _deed(7, b"\x01\x65\x00")
    yield _deed(8, b"\x01", _piece(bytes([4]) + bytes(30))) + _deed(8, b"\x01", _piece(bytes(4)))
    yield _deed(9, b"\x02", _piece(bytes([4]) + bytes(30)), _piece(b""), b"\x01")
    yield _deed(10, b"\x01\x00\x02") + _deed(10, b"\x01\x00\x01") + _deed(10, b"\x00\x07\x00")
    yield _deed(11, b"\x00\x05") + _deed(6, b"\x10\x00") * 3 + _deed(11, b"\x10\x05")


def _supernode_deeds() -> Iterator[bytes]:
    plaintexts = [wrap_control(body) for body in HONEST_BODIES]
    yield b"".join(_deed(1, b"\0\0", _piece(each), b"\0") for each in plaintexts)
    yield b"".join(_deed(2, b"\0", _piece(each)) for each in plaintexts)
    yield b"".join(bytes([1, 0, 1, kind, 0, 0]) for kind in range(len(plaintexts)))
    yield _deed(3, b"\x01", _piece(bytes([4]) + bytes(50))) * 3
    yield _deed(4, b"\x02\x00\x09\x01\x00\x40\x02") + _deed(5, b"\x40\x00") * 3
    for datagram in _datagrams():
        yield _deed(0, b"\x03", len(datagram).to_bytes(2, "big"), _piece(datagram * 2))


def _websockets() -> Iterator[bytes]:
    """What each side says first, and frames behind it: binary, ping, fragments, close."""
    frames = b"\x82\x03abc\x89\x01x\x02\x02de\x80\x01f\x88\x02\x03\xe8"
    masked = b"\x82\x83\0\0\0\0abc\x89\x81\0\0\0\0x\x88\x82\0\0\0\0\x03\xe8"
    client, server = WebSocketLayer("supernode.example"), WebSocketLayer()
    asked = client.owed()
    server.receive(asked)
    answered = server.owed()
    for content in (asked + masked, answered + frames, asked[:90]):
        yield (len(content) - 1).to_bytes(2, "big") + content
    yield len(asked).to_bytes(2, "big") + asked + b"x"


def _portmap() -> Iterator[bytes]:
    mapping = PcpMap(bytes(12), 7777, Endpoint("203.0.113.4", 1))
    yield PmpAddress(0, 5, "203.0.113.4").encode()
    yield PmpMapped(0, 5, 7777, 7777, 7200).encode()
    yield PcpRequest("192.0.2.2", 7200, mapping).encode()
    yield PcpResponse(0, 5, 7200, mapping).encode(PcpOpcode.MAP)
    yield PcpResponse(0, 5).encode(PcpOpcode.ANNOUNCE)
    yield (
        b"HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n"
        b"LOCATION: http://192.0.2.1:5000/root.xml\r\n\r\n"
    )


def seeds() -> dict[str, list[bytes]]:
    """Return what to start from, by target."""
    bodies = HONEST_BODIES
    reads = [bytes(frame.read(size)) for frame in _frames() for size in (0, 200)]
    reads += [bytes(frame.read(100)) for frame in _udp_frames()]
    complete = TcpFrame(bytes(2000)).build(is_partial=False)
    reads.append(bytes(10) + complete)
    pieces = cut(bytes(3000), 1200)
    fragments = [
        encode_fragment_header(5, index, len(pieces), 0, 0) + piece
        for index, piece in enumerate(pieces)
    ]
    frames = [frame.build() for frame in (*_frames(), *_udp_frames())]
    invite = f"mesh://203.0.113.1:7777/home?s={'ab' * 32}#secret"
    return {
        "datagram": list(_datagrams()),
        "message": [b"\0" + body for body in bodies]
        + [bytes([1, kind, 2, 0, 2, 9, 9, 1, 3, 5, 4]) for kind in range(len(bodies))],
        "inner": [
            *(PLAIN_FRAME_HEADER + frame for frame in frames),
            *(encode_frame_header(34, 16) + frame for frame in frames),
            *fragments,
            *map(wrap_control, bodies),
        ],
        "fragment": [bytes([10, 0, 4, 0]) + bytes([1, 1, n, 0, 0, 0]) * 9 for n in range(3)],
        "stream": [b"".join(frame_datagrams([bytes(400)], 150)), b"\0\1a\0\2bc\0\0"],
        "websocket": list(_websockets()),
        "lan": [_query().encode(), _answer().encode()],
        "portmap": list(_portmap()),
        "invite": [invite.encode(), invite.replace("#secret", "&open=1").encode()],
        "frame": frames,
        "split": [bytes([1, 0]) + read for read in reads],
        "join": [bytes([4, 0, 1, 0, 1, 2, 0, 2, 0, 3, 1, 3, 3]) + read for read in reads],
        "handshake": [
            bytes([step]) + edits
            for step in range(6)
            for edits in (b"\0\3", b"\1\0\x30\1\3", b"\1\0\5\1\3", b"\0\0\0\x40", b"\0\1\4abcd")
        ],
        "edge": list(_edge_deeds()),
        "supernode": list(_supernode_deeds()),
    }


def write_seeds() -> None:
    """Write them into the corpus, named by what they hold."""
    for name, contents in seeds().items():
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for content in contents:
            (folder / hashlib.sha1(content).hexdigest()).write_bytes(content)  # noqa: S324 - a name


if __name__ == "__main__":
    write_seeds()
