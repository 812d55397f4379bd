"""Whatever the size of a path, what is sent fits it, and the other side gets it back unchanged."""

from hypothesis import given
from hypothesis import strategies as st

from mesh.addresses import Endpoint
from mesh.constants import BASE_DATAGRAM_BYTES, MAX_DATAGRAM_BYTES, RELAY_HEADER_BYTES
from mesh.core.frame_sender import OVERHEAD_BYTES, FrameSender
from mesh.core.outbox import Via
from mesh.crypto.session import Session
from mesh.datapath.fragment import Reassembler
from mesh.datapath.vnet import complete_checksum, decode_vnet
from mesh.wire.datagram import DatagramType
from mesh.wire.inner import InnerKind, decode_fragment, decode_frame, inner_kind
from tests.core.edge_alone import edge_context, split
from tests.crypto.actors import peer_sessions
from tests.datapath.tcp_frames import TcpFrame, segments_of, tcp_frames

DIRECT = Via(0, Endpoint("198.51.100.7", 4000))
RELAYED = Via(0, Endpoint("203.0.113.1", 7777), 42)

ways = st.sampled_from([(DIRECT,), (RELAYED,), (DIRECT, RELAYED)])
path_sizes = st.one_of(
    st.integers(BASE_DATAGRAM_BYTES, 2000), st.integers(BASE_DATAGRAM_BYTES, MAX_DATAGRAM_BYTES)
)


class Line:
    """A sender, and whoever opens what it sends."""

    def __init__(self, vias: tuple[Via, ...], datagram_bytes: int) -> None:
        self.context = edge_context(mtu=9000)
        self.sender = FrameSender(self.context)
        is_relayed = any(via.relay_id for via in vias)
        envelope_bytes = RELAY_HEADER_BYTES if is_relayed else 0
        self.sender.frame_bytes_max = datagram_bytes - OVERHEAD_BYTES - envelope_bytes
        self._sealing: Session
        self._opening: Session
        self._sealing, self._opening = peer_sessions()
        self._vias = vias
        self._datagram_bytes = datagram_bytes

    def cross(self, read: bytearray) -> list[bytes]:
        """Send what a TAP hands over; return the frames that come out, checksums complete."""
        fields = decode_vnet(read)
        assert fields is not None
        self.sender.send(self._sealing, memoryview(read), fields, self._vias)
        sent = split(self.context.outbox.take())
        by_way = {
            via: [
                datagram[RELAY_HEADER_BYTES:] if via.relay_id else datagram
                for datagram, destination in sent
                if destination == via.endpoint
            ]
            for via in self._vias
        }
        assert all(len(datagram) <= self._datagram_bytes for datagram, _ in sent)
        first, *others = by_way.values()
        assert all(other == first for other in others)
        return self._open(first)

    def _open(self, datagrams: list[bytes]) -> list[bytes]:
        frames, pieces = [], Reassembler()
        for datagram in datagrams:
            assert datagram[0] == DatagramType.TRANSPORT
            plaintext = self._opening.open_untrusted(datagram)
            if inner_kind(plaintext) == InnerKind.FRAME:
                frames.append(finished(*decode_frame(plaintext)))
                continue
            number, index, count, piece, *csum = decode_fragment(plaintext)
            whole = pieces.add(number, index, count, (csum[0], csum[1]), piece, 0.0)
            if whole is not None:
                frames.append(finished(whole[0], *whole[1]))
        assert not len(pieces)
        return frames


def finished(frame: bytes | bytearray | memoryview, csum_start: int, csum_offset: int) -> bytes:
    return complete_checksum(frame, csum_start, csum_offset) if csum_start else bytes(frame)


@given(vias=ways, size=path_sizes, length=st.integers(14, 9018))
def test_anything_but_tcp_comes_out_whole(vias: tuple[Via, ...], size: int, length: int) -> None:
    line = Line(vias, size)
    frame = (bytes(range(251)) * 36)[:length]
    assert line.cross(bytearray(bytes(10) + frame)) == [frame]
    assert line.sender.sent_frames == 1


@given(vias=ways, size=path_sizes, frame=tcp_frames(max_payload=3000), gso=st.integers(500, 9000))
def test_a_super_frame_comes_out_as_segments_of_at_most_the_size_that_was_asked_for(
    vias: tuple[Via, ...], size: int, frame: TcpFrame, gso: int
) -> None:
    line = Line(vias, size)
    headers = frame.transport + 20 + len(frame.tcp_options)
    payload_bytes = min(gso, line.sender.frame_bytes_max - headers)
    expected = [one.build(is_partial=False) for one in segments_of(frame, payload_bytes)]
    assert line.cross(frame.read(gso)) == expected
    assert line.sender.sent_frames == len(expected)


@given(vias=ways, size=path_sizes, frame=tcp_frames(max_payload=3000), partial=st.booleans())
def test_a_segment_that_does_not_fit_is_cut_into_segments(
    vias: tuple[Via, ...], size: int, frame: TcpFrame, *, partial: bool
) -> None:
    line = Line(vias, size)
    whole = frame.build(is_partial=False)
    read = frame.read(0) if partial else bytearray(bytes(10) + whole)
    found = line.cross(read)
    if len(whole) <= line.sender.frame_bytes_max:
        assert found == [whole]
    else:
        headers = frame.transport + 20 + len(frame.tcp_options)
        payload_bytes = line.sender.frame_bytes_max - headers
        assert found == [one.build(is_partial=False) for one in segments_of(frame, payload_bytes)]
