"""What is known not to have arrived is sent again; what ICMP merely claims costs little."""

from collections.abc import Callable

import pytest

from mesh.addresses import BROADCAST_MAC, Endpoint
from mesh.constants import RELAY_HEADER_BYTES
from mesh.core.paths import REFUSAL_INTERVAL
from mesh.core.peer import Peer
from mesh.core.undelivered import (
    RESENT_BURST,
    SHORT_QUOTES_PER_SECOND,
    SUPERNODE_ERRORS_PER_SECOND,
)
from tests.core.edge_alone import HOME, SUPERNODE
from tests.core.joined import Joined
from tests.world import ethernet

ENETUNREACH, EAGAIN = 101, 11
FRAME = ethernet(BROADCAST_MAC, bytes(6), b"a frame")


def send_frame(joined: Joined, now: float) -> list[tuple[bytes, Endpoint]]:
    """Let the target send a frame; return its datagrams with frames in them."""
    joined.engine.receive_frames(bytearray(bytes(10) + FRAME), now)
    return joined.target.sent()


def ways_of(joined: Joined, now: float) -> set[Endpoint]:
    return {to for _, to in send_frame(joined, now)}


def refuse(joined: Joined, quoted: bytes, now: float, destination: Endpoint = HOME) -> None:
    joined.engine.receive_unreachable(0, destination, quoted, now)


def relayed(joined: Joined) -> list[bytes]:
    return [
        datagram[RELAY_HEADER_BYTES:] for datagram, to in joined.target.sent() if to == SUPERNODE
    ]


def test_what_icmp_quotes_goes_by_the_relay_and_frames_go_both_ways() -> None:
    joined = Joined()
    [(datagram, to)] = send_frame(joined, 1.1)
    assert to == HOME
    refuse(joined, datagram, 1.15)
    assert datagram in relayed(joined)
    assert ways_of(joined, 1.2) == {HOME, SUPERNODE}
    assert joined.path_kind() == "direct", "ICMP removes no path"


@pytest.mark.parametrize("spoil", [lambda d: d[:-1], lambda d: d[:-1] + bytes([d[-1] ^ 1])])
def test_a_quote_that_is_cut_or_changed_is_not_sent_again(
    spoil: Callable[[bytes], bytes],
) -> None:
    joined = Joined()
    [(datagram, _)] = send_frame(joined, 1.1)
    refuse(joined, spoil(datagram), 1.15)
    assert relayed(joined) == []
    assert ways_of(joined, 1.2) == {HOME, SUPERNODE}


def test_errors_about_places_that_are_no_path_are_ignored() -> None:
    joined = Joined()
    [(datagram, _)] = send_frame(joined, 1.1)
    for elsewhere in (Endpoint(HOME.host, 1), Endpoint("203.0.113.77", 9)):
        refuse(joined, datagram, 1.15, elsewhere)
        refuse(joined, b"", 1.15, elsewhere)
    for quoted in (b"\4", b"\4" + bytes(7), bytes(200), b"\x0d" * 64):
        refuse(joined, quoted, 1.15, elsewhere)
    assert joined.target.sent() == []
    assert ways_of(joined, 1.2) == {HOME}


def test_a_quote_too_short_to_say_whose_it_is_still_puts_the_path_in_doubt() -> None:
    joined = Joined()
    refuse(joined, b"\4\0\0\0", 1.15)
    assert ways_of(joined, 1.2) == {HOME, SUPERNODE}


def test_forged_errors_cause_few_pings_and_no_more_copies_than_frames() -> None:
    joined = Joined()
    [(datagram, _)] = send_frame(joined, 1.1)
    sent = 0
    for step in range(1000):
        now = 1.2 + step / 1000
        refuse(joined, datagram, now)
        refuse(joined, b"", now)
        joined.engine.handle_timers(now)
        sent += len(joined.target.sent())
    assert sent <= RESENT_BURST + SHORT_QUOTES_PER_SECOND + REFUSAL_INTERVAL * RESENT_BURST


def test_what_the_kernel_refuses_takes_another_way_at_once() -> None:
    joined = Joined()
    [(datagram, _)] = send_frame(joined, 1.1)
    joined.engine.receive_send_error(0, HOME, ENETUNREACH, 1.1)
    joined.engine.receive_unsent(0, HOME, [datagram], 1.1)
    assert datagram in relayed(joined)
    assert ways_of(joined, 1.2) == {SUPERNODE}


def test_what_a_full_buffer_refuses_is_lost_as_on_any_link() -> None:
    joined = Joined()
    [(datagram, _)] = send_frame(joined, 1.1)
    joined.engine.receive_send_error(0, HOME, EAGAIN, 1.1)
    joined.engine.receive_unsent(0, HOME, [datagram], 1.1)
    assert relayed(joined) == []


def test_without_a_relay_wanted_nothing_goes_there() -> None:
    joined = Joined(no_relay=True)
    [(datagram, _)] = send_frame(joined, 1.1)
    refuse(joined, datagram, 1.15)
    joined.engine.receive_send_error(0, HOME, ENETUNREACH, 1.2)
    joined.engine.receive_unsent(0, HOME, [datagram], 1.2)
    assert datagram not in relayed(joined)


def test_forged_errors_about_the_supernode_have_peers_looked_at_few_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = []
    monkeypatch.setattr(Peer, "relay_doubted", lambda *_arguments: looks.append(1))
    joined = Joined()
    for number in range(1000):
        refuse(joined, b"", 1.1 + number / 1000, SUPERNODE)
    assert 1 <= len(looks) <= 2 * SUPERNODE_ERRORS_PER_SECOND
