"""Short ways do what the long ones do, whatever happens between two frames."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.addresses import BROADCAST_MAC, Endpoint
from mesh.constants import MAC_LIFETIME, REJECT_AFTER_TIME
from mesh.core.shortcuts import MAX_NOTES
from mesh.datapath.vnet import encode_vnet_partial
from mesh.engine import ReceivedDatagrams, WellKnownSocket
from mesh.wire.datagram import DatagramType
from mesh.wire.inner import PLAIN_FRAME_HEADER, encode_frame_header
from mesh.wire.messages import Bye, Ping, Pong
from tests.core.edge_alone import HOME, SUPERNODE, of_type, split
from tests.core.joined import Joined
from tests.world import ethernet

PLAIN = bytes(10)
PARTIAL = encode_vnet_partial(34, 6)
GUEST = bytes.fromhex("020000000077")  # a MAC behind the member
ELSEWHERE = Endpoint("203.0.113.77", 4444)


class Edge:
    """A joined edge that takes short ways, or never does.

    Attributes:
        short: how many were taken.
        sent: datagrams and where they went.
        written: frames that the TAP got, virtio-net header and frame.
    """

    def __init__(self, *, is_quick: bool = True) -> None:
        self.joined = Joined()
        self.engine = self.joined.engine
        self.member = self.joined.member
        self.now = 2.0
        self.short = 0
        self.sent: list[tuple[bytes, Endpoint]] = []
        self.written: list[bytes] = []
        self._is_quick = is_quick
        self._initiations = 1

    def send(self, header: bytes, to: bytes, source: bytes | None = None, size: int = 60) -> None:
        """Read a frame from the TAP."""
        mac = source or self.joined.target.config.mac
        read = memoryview(bytearray((header + ethernet(to, mac, b"frame"))[:size].ljust(size)))
        batch = self.engine.forward_frame(read, self.now) if self._is_quick else None
        if batch is None:
            self.engine.receive_frames(read, self.now)
        else:
            self.short += 1
            assert self.engine.datagrams_to_send() == []
            self.sent += split([batch])
        self._drain()

    def receive(self, datagram: bytes, source: Endpoint = HOME) -> None:
        """Take in a datagram."""
        view = memoryview(bytearray(datagram))
        batch = ReceivedDatagrams(view, len(view), source, WellKnownSocket.UDP_IPV4)
        iovec = self.engine.deliver_datagram(batch, self.now) if self._is_quick else None
        if iovec is None:
            self.engine.receive_datagrams(batch, self.now)
        else:
            self.short += 1
        if iovec:
            assert self.engine.frames_to_write() == []
            self.written.append(b"".join(iovec))
        self._drain()

    def frame_from(self, source: bytes, inner: bytes = PLAIN_FRAME_HEADER, size: int = 60) -> bytes:
        """Return a datagram of the member with a frame from a MAC."""
        frame = ethernet(self.joined.target.config.mac, source, b"back").ljust(size)
        return self.member.session.seal(inner + frame)

    def wait(self, seconds: float) -> None:
        """Let time pass in which nobody answers."""
        until = self.now + seconds
        while (at := self.engine.next_timer_at()) <= until:
            self.now = max(self.now, at)
            self.engine.handle_timers(self.now)
            self._drain()
        self.now = until

    def rekey(self) -> None:
        """Have the member start another session."""
        self._initiations += 1
        initiator = self.member.initiation(self._initiations)
        before = len(self.sent)
        self.receive(initiator.datagram)
        answers = of_type(DatagramType.PEER_RESPONSE, self.sent[before:])
        if answers:
            self.member.session = initiator.receive_response_untrusted(answers[0], self.now)

    def _drain(self) -> None:
        self.sent += self.joined.target.sent()
        self.written += [b"".join(each) for each in self.engine.frames_to_write()]

    def state(self) -> tuple[object, ...]:
        """Return all that can be seen of it."""
        return (
            self.sent,
            self.written,
            self.engine.edge_view(self.now),
            self.engine.peer_views(self.now),
            self.engine.fdb_views(self.now),
            self.engine.next_timer_at(),
            [type(event) for event in self.engine.events_to_report()],
        )


@pytest.fixture
def edge() -> Edge:
    return Edge()


Step = Callable[[Edge], object]


def sending(header: bytes, to: int, source: bytes | None, size: int) -> Step:
    def step(edge: Edge) -> None:
        edge.send(
            header, [edge.member.identity.default_mac, GUEST, BROADCAST_MAC][to], source, size
        )

    return step


def receiving(source: bytes, inner: bytes, size: int) -> Step:
    return lambda edge: edge.receive(edge.frame_from(source, inner, size))


def out_of_order(edge: Edge) -> None:
    first, second = edge.frame_from(GUEST), edge.frame_from(GUEST)
    for datagram in (second, first, second):
        edge.receive(datagram)


def spoilt(edge: Edge) -> None:
    datagram = edge.frame_from(GUEST)
    edge.receive(datagram[:-1] + bytes([datagram[-1] ^ 1]))
    edge.receive(datagram[:40])
    edge.receive(datagram)


steps = st.one_of(
    st.builds(
        sending,
        st.sampled_from([PLAIN, PLAIN, PARTIAL, bytes([1] * 10)]),
        st.sampled_from([0, 0, 0, 1, 2]),
        st.sampled_from([None, None, None, GUEST]),
        st.sampled_from([60, 60, 24, 23, 22, 9, 1300, 1514]),
    ),
    st.builds(
        receiving,
        st.sampled_from([GUEST, bytes.fromhex("020000000078")]),
        st.sampled_from([PLAIN_FRAME_HEADER, encode_frame_header(34, 6), b"\2\0\0\0", b"\1"]),
        st.sampled_from([60, 60, 14, 1300, 1514]),
    ),
    st.sampled_from([out_of_order, spoilt]),
    st.just(lambda edge: edge.receive(edge.member.seal(Ping(bytes(8))))),
    st.just(lambda edge: edge.receive(edge.member.seal(Ping(bytes(8))), ELSEWHERE)),
    st.just(lambda edge: edge.receive(edge.frame_from(GUEST), ELSEWHERE)),
    st.just(Edge.rekey),
    st.sampled_from([0.001] * 10 + [0.5, 4.0, MAC_LIFETIME, REJECT_AFTER_TIME]).map(
        lambda seconds: lambda edge: edge.wait(seconds)
    ),
    st.sampled_from([lambda _: None] * 5 + [lambda edge: edge.receive(edge.member.seal(Bye()))]),
)


@given(st.lists(steps, max_size=30))
def test_short_ways_lead_to_the_same_place(chosen: list[Step]) -> None:
    quick, thorough = Edge(), Edge(is_quick=False)
    for step in (receiving(quick.member.identity.default_mac, PLAIN_FRAME_HEADER, 60), *chosen):
        step(quick)
        step(thorough)
        assert quick.state() == thorough.state()
    assert thorough.short == 0


def test_frames_take_them_in_both_directions(edge: Edge) -> None:
    to = edge.member.identity.default_mac
    edge.receive(edge.frame_from(to))
    edge.send(PLAIN, to)
    before = edge.short
    for _ in range(10):
        edge.send(PARTIAL, to)
        edge.receive(edge.frame_from(to))
    assert edge.short - before == 20


def test_a_message_that_comes_by_one_is_answered(edge: Edge) -> None:
    edge.receive(edge.frame_from(GUEST))
    before = edge.short
    edge.sent.clear()
    edge.receive(edge.member.seal(Ping(b"question")))
    assert edge.short == before + 1
    [answer] = edge.member.read(edge.sent)
    assert isinstance(answer, Pong)


def test_while_the_path_is_in_doubt_copies_take_the_relay(edge: Edge) -> None:
    to = edge.member.identity.default_mac
    edge.receive(edge.frame_from(to))
    edge.send(PLAIN, to)
    edge.wait(4.0)
    before = edge.short
    edge.sent.clear()
    edge.send(PLAIN, to)
    assert edge.short == before
    assert {where for _, where in edge.sent} == {HOME, SUPERNODE}


def test_nothing_goes_to_a_member_that_left(edge: Edge) -> None:
    to = edge.member.identity.default_mac
    edge.receive(edge.frame_from(to))
    edge.send(PLAIN, to)
    edge.receive(edge.member.seal(Bye()))
    edge.sent.clear()
    edge.send(PLAIN, to)
    assert edge.sent == []


def test_a_replayed_datagram_is_refused(edge: Edge) -> None:
    edge.receive(edge.frame_from(GUEST))
    datagram = edge.frame_from(GUEST)
    for _ in range(3):
        edge.receive(datagram)
    assert len(edge.written) == 2
    assert edge.engine.edge_view(edge.now)["drops"]["replayed"] == 2


def test_inventing_addresses_fills_no_table(edge: Edge) -> None:
    to = edge.member.identity.default_mac
    edge.receive(edge.frame_from(to))
    for number in range(3 * MAX_NOTES):
        edge.send(PLAIN, to, b"\x02" + number.to_bytes(5, "big"))
    assert len(edge.engine._shortcuts._out) <= MAX_NOTES
