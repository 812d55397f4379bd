"""A path's size is found by few probes, never taken for more than it is, and noticed to shrink."""

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.constants import (
    BASE_DATAGRAM_BYTES,
    MAX_DATAGRAM_BYTES,
    MTU_PROBES,
    MTU_RAISE_INTERVAL,
)
from mesh.core.pmtu import (
    IPV4_HEADERS_BYTES,
    IPV6_HEADERS_BYTES,
    LINK_MTUS,
    RECHECK_INTERVAL,
    PathMtu,
    likely_bytes,
    sizes_up_to,
)

SIZES = sizes_up_to(MAX_DATAGRAM_BYTES)
FULL_FRAME = 1500 + 18 + 36
RTT = 0.02
TIMEOUT = 0.3


class Line:
    """One path in virtual time: carries datagrams up to a limit, and loses some.

    Attributes:
        limit: the largest datagram that crosses.
        probes: what was sent, with the times.
    """

    def __init__(
        self, limit: int, *, largest: int = FULL_FRAME, ipv6: bool = False, loss: float = 0.0
    ) -> None:
        self.limit = limit
        self.loss = loss
        self.interface = MAX_DATAGRAM_BYTES
        self.is_silent = False
        self.now = 0.0
        self.probes: list[tuple[float, int]] = []
        self.mtu = PathMtu(sizes_up_to(largest), likely_bytes(is_ipv6=ipv6), 0.0)
        self._last_pong_at = 0.0
        self._dice = random.Random(7)
        self._tokens = itertools.count()
        self._on_the_way: list[tuple[float, bytes]] = []

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while True:
            answered_at = min((at for at, _ in self._on_the_way), default=math.inf)
            at = min(answered_at, max(self.mtu.next_probe_at, self.now))
            if at > end:
                break
            self.now = at
            if answered_at <= at:
                self._answer()
            else:
                self._probe()
        self.now = end

    def _answer(self) -> None:
        arrived = min(self._on_the_way)
        self._on_the_way.remove(arrived)
        if arrived[1]:
            assert self.mtu.receive_pong(arrived[1], self.now)
        else:
            self._last_pong_at = self.now
            self.mtu.path_answered(self.now)

    def _probe(self) -> None:
        size = self.mtu.probe_due(self.now, self._last_pong_at, TIMEOUT)
        if not size:
            return
        token = next(self._tokens).to_bytes(8, "big")
        self.probes.append((self.now, size))
        self.mtu.probe_sent(token, size)
        if size > self.interface:
            self.mtu.receive_too_large(size, self.now)
        elif size <= self.limit:
            self._send(token)
        if self.mtu.wants_ping:
            self._send(b"")

    def _send(self, token: bytes) -> None:
        if not self.is_silent and self._dice.random() >= self.loss:
            self._on_the_way.append((self.now + RTT, token))

    def ping(self) -> None:
        """Send a small ping."""
        self._send(b"")


def expected(limit: int, largest: int = FULL_FRAME) -> int:
    return max(size for size in sizes_up_to(largest) if size <= limit)


def test_every_size_but_the_last_fills_some_link() -> None:
    assert SIZES[0] == BASE_DATAGRAM_BYTES
    assert SIZES[-1] == MAX_DATAGRAM_BYTES
    for mtu in LINK_MTUS:
        assert mtu - IPV4_HEADERS_BYTES in SIZES
        assert mtu - IPV6_HEADERS_BYTES in SIZES
    assert sizes_up_to(1300)[-1] == 1300
    assert sizes_up_to(600) == (BASE_DATAGRAM_BYTES,)


def test_a_path_starts_with_what_needs_no_proof() -> None:
    assert Line(1472).mtu.datagram_bytes == BASE_DATAGRAM_BYTES


@pytest.mark.parametrize("family", [4, 6])
def test_an_ethernet_path_is_measured_in_one_round_trip(family: int) -> None:
    ipv6 = family == 6
    line = Line(likely_bytes(is_ipv6=ipv6), ipv6=ipv6)
    line.interface = line.limit
    line.run(RTT + 0.001)
    assert line.mtu.datagram_bytes == line.limit
    crossed = [size for _, size in line.probes if size <= line.limit]
    assert crossed == [line.limit]


@pytest.mark.parametrize("mtu", [1280, 1400, 1420, 1492])
def test_common_paths_are_measured_exactly_and_soon(mtu: int) -> None:
    line = Line(mtu - IPV4_HEADERS_BYTES)
    line.run(6.0)
    assert line.mtu.datagram_bytes == line.limit
    assert line.mtu.is_complete
    assert len(line.probes) <= 8 * MTU_PROBES


def test_a_path_on_which_every_frame_fits_whole_is_found() -> None:
    line = Line(9000 - IPV4_HEADERS_BYTES)
    line.run(1.0)
    assert line.mtu.datagram_bytes == FULL_FRAME
    assert len(line.probes) == 2


@given(limit=st.integers(BASE_DATAGRAM_BYTES, 9100), largest=st.integers(600, 9100))
def test_any_path_is_measured_by_few_probes(limit: int, largest: int) -> None:
    line = Line(limit, largest=largest)
    line.run(30.0)
    assert line.mtu.is_complete
    assert line.mtu.datagram_bytes == expected(limit, largest)
    assert len(line.probes) <= 8 * MTU_PROBES


@given(limit=st.integers(BASE_DATAGRAM_BYTES, 9100), loss=st.floats(0, 0.5))
def test_loss_makes_a_path_seem_smaller_never_larger(limit: int, loss: float) -> None:
    line = Line(limit, largest=MAX_DATAGRAM_BYTES, loss=loss)
    for _ in range(40):
        line.run(1.0)
        line.ping()
        assert line.mtu.datagram_bytes <= max(limit, BASE_DATAGRAM_BYTES)
    assert line.mtu.is_complete or loss > 0.05


def test_what_the_interface_refuses_is_known_at_once() -> None:
    line = Line(MAX_DATAGRAM_BYTES)
    line.interface = 1400 - IPV4_HEADERS_BYTES
    line.run(6 * RTT)
    assert line.mtu.datagram_bytes == line.interface
    sent = [size for _, size in line.probes]
    assert len(sent) == len(set(sent))


def test_the_search_starts_again_after_ten_minutes() -> None:
    line = Line(1372)
    line.run(10.0)
    line.limit = 1472
    line.run(MTU_RAISE_INTERVAL - 10.0)
    assert line.mtu.datagram_bytes == 1372
    line.run(10.0)
    assert line.mtu.datagram_bytes == 1472


def test_confirmations_do_not_put_off_the_next_search() -> None:
    line = Line(1372)
    line.run(5.0)
    for _ in range(int(MTU_RAISE_INTERVAL)):
        line.mtu.confirm(line.now)
        line.run(1.0)
        line.limit = 1472
    line.run(10.0)
    assert line.mtu.datagram_bytes == 1472


def test_a_path_that_shrinks_is_noticed_when_it_is_confirmed() -> None:
    line = Line(1472)
    line.run(2.0)
    line.limit = 1372
    line.mtu.confirm(line.now)
    line.run(MTU_PROBES * TIMEOUT + 0.01)
    assert line.mtu.datagram_bytes <= line.limit
    line.run(6.0)
    assert line.mtu.datagram_bytes == line.limit


def test_in_doubt_the_base_size_is_used_until_one_probe_has_proved_the_old_one_again() -> None:
    line = Line(1400)
    line.run(5.0)
    line.probes.clear()
    line.mtu.doubt(line.now)
    assert line.mtu.datagram_bytes == BASE_DATAGRAM_BYTES
    line.run(RTT + 0.001)
    assert line.mtu.datagram_bytes == line.probes[0][1] == expected(1400)
    line.limit = 1280
    line.mtu.doubt(line.now)
    line.run(5.0)
    assert line.mtu.datagram_bytes == expected(1280)


def test_a_confirmed_size_is_probed_once() -> None:
    line = Line(1472)
    line.run(2.0)
    line.probes.clear()
    line.mtu.confirm(line.now)
    line.run(2.0)
    assert [size for _, size in line.probes] == [1472]


def test_the_base_size_needs_no_confirmation() -> None:
    line = Line(BASE_DATAGRAM_BYTES)
    line.run(10.0)
    line.probes.clear()
    line.mtu.confirm(line.now)
    line.run(2.0)
    assert not line.probes


def test_a_full_queue_that_looked_like_a_black_hole_is_forgotten_within_a_minute() -> None:
    line = Line(1472)
    line.run(2.0)
    line.limit = BASE_DATAGRAM_BYTES
    line.mtu.confirm(line.now)
    line.run(10.0)
    assert line.mtu.datagram_bytes == BASE_DATAGRAM_BYTES
    line.limit = 1472
    line.run(RECHECK_INTERVAL)
    assert line.mtu.datagram_bytes == 1472


def test_a_path_that_stays_narrow_is_searched_once_a_minute_later_and_then_seldom() -> None:
    line = Line(1472)
    line.run(2.0)
    line.limit = 1372
    line.mtu.confirm(line.now)
    line.run(RECHECK_INTERVAL + 10.0)
    assert line.mtu.datagram_bytes == 1372
    line.probes.clear()
    line.run(MTU_RAISE_INTERVAL - 20.0)
    assert not line.probes


def test_a_silent_path_says_nothing_about_sizes() -> None:
    line = Line(1472)
    line.run(2.0)
    line.is_silent = True
    line.probes.clear()
    line.mtu.confirm(line.now)
    line.run(60.0)
    assert line.mtu.datagram_bytes == 1472
    assert len(line.probes) == MTU_PROBES
    line.is_silent = False
    line.ping()
    line.run(1.0)
    assert line.mtu.datagram_bytes == 1472
    assert line.mtu.is_complete


def test_an_answer_that_comes_late_still_proves_its_size() -> None:
    mtu = PathMtu(sizes_up_to(FULL_FRAME), 1472, 0.0)
    for at in (0.0, 0.3, 0.6):
        assert mtu.probe_due(at, 0.0, TIMEOUT) == 1472
        mtu.probe_sent(str(at).encode(), 1472)
    assert mtu.probe_due(0.9, 0.8, TIMEOUT) < 1472
    assert mtu.receive_pong(b"0.6", 1.0)
    assert mtu.datagram_bytes == 1472
    assert mtu.probe_due(1.0, 0.8, TIMEOUT) == FULL_FRAME


def test_a_token_proves_its_size_once() -> None:
    mtu = PathMtu(sizes_up_to(FULL_FRAME), 1472, 0.0)
    mtu.probe_sent(b"12345678", mtu.probe_due(0.0, 0.0, TIMEOUT))
    assert not mtu.receive_pong(b"87654321", 0.1)
    assert mtu.receive_pong(b"12345678", 0.1)
    assert not mtu.receive_pong(b"12345678", 0.1)
