"""Fuzz targets: whole engines, against strangers, members and supernodes that say anything.

Input is a list of deeds: who does what, and with which bytes. What the engine answers to bytes that
nobody authenticated is never more than three times as long; what it writes to the TAP, a kernel
can read.
"""

from collections.abc import Callable

from mesh.addresses import Endpoint
from mesh.constants import MAX_AMPLIFICATION
from mesh.crypto.session import Session
from mesh.datapath.vnet import decode_vnet
from mesh.engine import FrameIovec, ReceivedDatagrams, Transport
from mesh.wire.datagram import encode_relay_header
from mesh.wire.inner import wrap_control
from tests.core.edge_alone import HOME, SUPERNODE
from tests.core.joined import MEMBER_RELAY_ID, Joined
from tests.core.scripted_supernode import OUR_RELAY_ID
from tests.fuzz.bodies import fuzzed_body
from tests.fuzz.cursor import Cursor
from tests.supernode.bench import Bench, is_within_limit

_STRANGER = Endpoint("203.0.113.77", 9)
_OBSERVATION_SOCKETS = (10, 11)
_STREAM = 12
_MAX_DEEDS = 64
_TRANSPORT_OVERHEAD_BYTES = 32


def _plaintext(cursor: Cursor) -> bytes:
    """Return what somebody who has a session may seal."""
    return wrap_control(fuzzed_body(cursor)) if cursor.choice(2) else cursor.piece()


class _EdgeUnderFire:
    """A registered edge with one peer; every method is a deed."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._now = 1.0
        self._joined = Joined()
        self._engine = self._joined.engine
        self.deeds: list[Callable[[], None]] = [
            self.send_anything,
            self.seal_as_member,
            self.seal_run_as_member,
            self.seal_as_supernode,
            self.seal_behind_the_relay,
            self.read_from_tap,
            self.let_time_pass,
            self.refuse_a_send,
            self.hear_of_the_unreachable,
            self.take_back,
            self.change_sockets,
            self.wake_up_elsewhere,
        ]

    def _source(self) -> Endpoint:
        return (SUPERNODE, HOME, _STRANGER)[self._cursor.choice(3)]

    def _receive(self, data: bytes, segment_bytes: int, source: Endpoint) -> int:
        """Hand it in; return how many bytes came in answer."""
        batch = ReceivedDatagrams(memoryview(bytearray(data)), segment_bytes, source, 0)
        iovec = self._engine.deliver_datagram(batch, self._now)
        if iovec:
            self._check_write(iovec)
        elif iovec is None:
            self._engine.receive_datagrams(batch, self._now)
        return self._drain()

    def _drain(self) -> int:
        self._engine.events_to_report()
        sent = sum(len(b"".join(batch.buffers)) for batch in self._engine.datagrams_to_send())
        for iovec in self._engine.frames_to_write():
            self._check_write(iovec)
        return sent

    def _check_write(self, iovec: FrameIovec) -> None:
        write = b"".join(iovec)
        fields = decode_vnet(write)
        assert fields is not None
        assert fields[2] <= len(write)

    def send_anything(self) -> None:
        source, segment_bytes = self._source(), 1 + self._cursor.number(2)
        data = self._cursor.piece()
        if data:
            assert self._receive(data, segment_bytes, source) <= MAX_AMPLIFICATION * len(data)

    def _seal(self, session: Session | None) -> bytes:
        return session.seal(_plaintext(self._cursor)) if session is not None else b""

    def seal_as_member(self) -> None:
        datagram = self._seal(self._joined.member.session)
        self._receive(datagram, len(datagram), self._source())

    def seal_run_as_member(self) -> None:
        size = 1 + self._cursor.number(2) % 1500
        data = self._cursor.piece()
        session = self._joined.member.session
        pieces = [data[start : start + size] for start in range(0, min(len(data), 9000), size)]
        run = b"".join(session.seal(piece) for piece in pieces)
        if run:
            self._receive(run, size + _TRANSPORT_OVERHEAD_BYTES, HOME)

    def seal_as_supernode(self) -> None:
        datagram = self._seal(self._joined.supernode.session)
        self._receive(datagram, len(datagram), SUPERNODE)

    def seal_behind_the_relay(self) -> None:
        source = MEMBER_RELAY_ID if self._cursor.choice(4) else self._cursor.number(4)
        envelope = encode_relay_header(source, OUR_RELAY_ID)
        datagram = envelope + self._seal(self._joined.member.session)
        self._receive(datagram, len(datagram), SUPERNODE)

    def read_from_tap(self) -> None:
        read = bytearray(self._cursor.piece())
        if self._cursor.choice(2) and len(read) >= 22:
            read[10:16] = self._joined.member.identity.default_mac
        burst = [memoryview(bytearray(read)) for _ in range(3)]
        if self._engine.forward_frame(memoryview(read), self._now) is None:
            self._engine.receive_frames(memoryview(read), self._now)
        self._drain()
        self._engine.receive_burst(burst, self._now)
        self._drain()

    def let_time_pass(self) -> None:
        self._now += self._cursor.number(2) / 256
        self._engine.handle_timers(self._now)
        self._drain()

    def refuse_a_send(self) -> None:
        source, errno = self._source(), self._cursor.number()
        if self._cursor.choice(2):
            self._engine.receive_send_error(0, source, errno, self._now)
        else:
            self._engine.receive_too_large(0, source, self._cursor.number(2), self._now)
        self._drain()

    def hear_of_the_unreachable(self) -> None:
        self._engine.receive_unreachable(0, self._source(), self._cursor.piece(), self._now)
        self._drain()

    def take_back(self) -> None:
        datagrams = [self._cursor.piece() for _ in range(self._cursor.choice(3))]
        self._engine.receive_unsent(0, self._source(), datagrams, self._now)
        self._drain()

    def change_sockets(self) -> None:
        number = self._cursor.number(2)
        match self._cursor.choice(3):
            case 0:
                self._engine.sockets_opened([number, number + 1], self._now)
            case 1:
                self._engine.socket_closed(number, self._now)
            case _:
                self._engine.set_supernode_stream(0, number, SUPERNODE, Transport.TCP, self._now)
        self._drain()

    def wake_up_elsewhere(self) -> None:
        self._engine.resumed(self._cursor.number(2), self._now)
        self._drain()

    def look(self) -> None:
        """Everything that people can ask for can be told."""
        self._engine.edge_view(self._now)
        self._engine.peer_views(self._now)
        self._engine.fdb_views(self._now)


def _do(cursor: Cursor, deeds: list[Callable[[], None]]) -> None:
    for _ in range(_MAX_DEEDS):
        if not len(cursor):
            return
        deeds[cursor.choice(len(deeds))]()


def fuzz_edge(data: bytes) -> None:
    """A whole edge."""
    cursor = Cursor(data)
    fire = _EdgeUnderFire(cursor)
    _do(cursor, fire.deeds)
    fire.look()


class _SupernodeUnderFire:
    """A supernode with two registered edges of one community; every method is a deed."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._bench = Bench()
        self._bench.engine.open_observation_sockets((7779, 7780), [_OBSERVATION_SOCKETS])
        self._edges = [self._bench.registered(), self._bench.registered()]
        self._guest = self._bench.edge("other")
        self._guest.shake()
        self.deeds: list[Callable[[], None]] = [
            self.send_anything,
            self.seal_as_edge,
            self.seal_as_guest,
            self.relay_anything,
            self.handshake,
            self.let_time_pass,
            self.change_streams,
        ]

    def _endpoint(self) -> Endpoint:
        ends = (self._edges[0].endpoint, self._edges[1].endpoint, self._guest.endpoint, _STRANGER)
        return ends[self._cursor.choice(len(ends))]

    def send_anything(self) -> None:
        source, segment_bytes = self._endpoint(), 1 + self._cursor.number(2)
        data = self._cursor.piece()
        if data:
            socket = (0, *_OBSERVATION_SOCKETS, _STREAM)[self._cursor.choice(4)]
            sent = self._bench.receive(data, source, socket, segment_bytes)
            assert is_within_limit(sent, len(data))

    def seal_as_edge(self) -> None:
        edge = self._edges[self._cursor.choice(2)]
        self._bench.receive(edge.session.seal(_plaintext(self._cursor)), self._endpoint())

    def seal_as_guest(self) -> None:
        self._bench.receive(
            self._guest.session.seal(_plaintext(self._cursor)), self._guest.endpoint
        )

    def relay_anything(self) -> None:
        one, other = self._edges
        destination = other.relay_id if self._cursor.choice(4) else self._cursor.number(4)
        sent = one.send(encode_relay_header(one.relay_id, destination) + self._cursor.piece())
        assert all(each.destination in {one.endpoint, other.endpoint} for each in sent)

    def handshake(self) -> None:
        datagram = bytearray(self._guest.initiate().datagram)
        for _ in range(self._cursor.choice(3)):
            datagram[self._cursor.number(2) % len(datagram)] ^= self._cursor.number()
        sent = self._bench.receive(bytes(datagram), self._guest.endpoint)
        assert is_within_limit(sent, len(datagram))

    def change_streams(self) -> None:
        if self._cursor.choice(2):
            self._bench.engine.stream_opened(_STREAM, Transport.TCP)
        else:
            self._bench.engine.socket_closed(_STREAM, self._bench.now)
        self._bench.drain()

    def let_time_pass(self) -> None:
        self._bench.pass_time(self._cursor.number(2) / 256)

    def look(self) -> None:
        """Everything that people can ask for can be told."""
        engine, now = self._bench.engine, self._bench.now
        engine.status_view(now)
        engine.edge_views(now)
        engine.community_views(now)


def fuzz_supernode(data: bytes) -> None:
    """A whole supernode."""
    cursor = Cursor(data)
    fire = _SupernodeUnderFire(cursor)
    _do(cursor, fire.deeds)
    fire.look()
