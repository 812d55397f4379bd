"""Opens sockets on a machine of the lab for the tests: JSON lines in, JSON lines out.

Run with nothing but the standard library: ``python -I -S agent.py``. Each request is an object
whose ``do`` names one of the functions of `OPERATIONS` and whose other members are its arguments.
"""

import contextlib
import json
import select
import socket
import struct
import sys
import time

_ETH_P_ALL = 3
_SOL_PACKET = 263
_PACKET_AUXDATA = 8
_PACKET_IGNORE_OUTGOING = 23
_SO_RCVBUFFORCE = 33
_TPACKET_AUXDATA = struct.Struct("@IIIHHHH")  # status len snaplen mac net vlan_tci vlan_tpid
_TP_STATUS_VLAN_VALID = 1 << 4
_BUFFER_BYTES = 64 << 20

_sockets: dict[int, socket.socket] = {}


def _keep(opened: socket.socket) -> int:
    # Without privilege over the machine's limits (a user namespace) the usual buffer has to do.
    with contextlib.suppress(OSError):
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    _sockets[opened.fileno()] = opened
    return opened.fileno()


def udp_open(host: str, port: int) -> dict[str, int]:
    """Open a UDP socket; return its number and port."""
    opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    opened.bind((host, port))
    return {"socket": _keep(opened), "port": opened.getsockname()[1]}


def udp_send(number: int, to: list[object], data: str) -> None:
    """Send one datagram, given in hex."""
    _sockets[number].sendto(bytes.fromhex(data), (str(to[0]), to[1]))


def udp_receive(number: int, timeout: float) -> dict[str, object] | None:
    """Return one datagram and its source, or nothing after ``timeout`` seconds."""
    if not select.select([number], [], [], timeout)[0]:
        return None
    data, source = _sockets[number].recvfrom(65536)
    return {"data": data.hex(), "source": source[:2]}


def wire_open(interface: str | None, outgoing: bool) -> int:  # noqa: FBT001 - JSON has no keywords
    """Open a packet socket on one interface, or on all of them."""
    protocol = 0 if interface else socket.htons(_ETH_P_ALL)  # 0: deaf until it is bound
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, protocol)
    opened.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
    opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, int(not outgoing))
    number = _keep(opened)
    if interface:
        opened.bind((interface, _ETH_P_ALL))
    return number


def wire_send(number: int, frames: list[str]) -> None:
    """Send Ethernet frames as they are."""
    for frame in frames:
        _sockets[number].send(bytes.fromhex(frame))


def wire_receive(number: int, count: int, timeout: float, containing: str) -> list[str]:
    """Return up to ``count`` frames that contain some bytes, after ``timeout`` s at most."""
    wanted = bytes.fromhex(containing)
    deadline = time.monotonic() + timeout
    frames: list[str] = []
    while len(frames) < count:
        if not select.select([number], [], [], max(0.0, deadline - time.monotonic()))[0]:
            break
        frame = _receive_frame(_sockets[number])
        if wanted in frame:
            frames.append(frame.hex())
    return frames


def _receive_frame(opened: socket.socket) -> bytes:
    """Return a frame with the VLAN tag that the kernel moved into the ancillary data."""
    try:
        frame, ancillary, _, _ = opened.recvmsg(65600, socket.CMSG_SPACE(_TPACKET_AUXDATA.size))
    except OSError:  # the interface went down: what is queued can still be read
        return b""
    for level, kind, data in ancillary:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
            status, _, _, _, _, tag, protocol = _TPACKET_AUXDATA.unpack(data)
            if status & _TP_STATUS_VLAN_VALID:
                return frame[:12] + struct.pack("!HH", protocol or 0x8100, tag) + frame[12:]
    return frame


def spoof(source: list[object], to: list[object], datagrams: list[str]) -> None:
    """Send UDP datagrams over IPv4 under a source address that is not ours."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for datagram in datagrams:
            raw.sendto(_udp_packet(source, to, bytes.fromhex(datagram)), (str(to[0]), 0))


def _udp_packet(source: list[object], to: list[object], payload: bytes) -> bytes:
    """Return an IPv4 packet; the kernel fills in its checksum, UDP's is optional and left out."""
    udp = struct.pack("!HHHH", source[1], to[1], 8 + len(payload), 0) + payload
    addresses = socket.inet_aton(str(source[0])) + socket.inet_aton(str(to[0]))
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0)
    return header + addresses + udp


def close(number: int) -> None:
    """Close a socket."""
    _sockets.pop(number).close()


OPERATIONS = {
    operation.__name__: operation
    for operation in (
        udp_open,
        udp_send,
        udp_receive,
        wire_open,
        wire_send,
        wire_receive,
        spoof,
        close,
    )
}


def main() -> None:
    """Serve requests until stdin ends."""
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"ok": OPERATIONS[request.pop("do")](**request)}
        except OSError as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
