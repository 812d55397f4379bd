"""The ways to a supernode: their order, and when a stream is asked for."""

import itertools

from mesh.addresses import Endpoint
from mesh.core.context import Context
from mesh.core.outbox import Via
from mesh.core.timers import Timer
from mesh.core.ways import (
    MAX_PROBES,
    STREAM_PATIENCE,
    UDP_PROBE_INTERVAL_MAX,
    UDP_PROBE_INTERVAL_MIN,
    Ways,
)
from mesh.engine import Transport
from mesh.events import StreamUnwanted, StreamWanted
from tests.core.edge_alone import edge_context

FOUR = [Endpoint("203.0.113.1", 7777), Endpoint("203.0.113.2", 7777)]
SIX = [Endpoint(f"2001:db8::{number}", 7777) for number in (1, 2, 3)]
STREAM = Via(1000, Endpoint("203.0.113.1", 443))


def ways_to(*endpoints: Endpoint) -> tuple[Ways, Context]:
    context = edge_context()
    ways = Ways(0, context)
    ways.set_endpoints(list(endpoints))
    return ways, context


def events_of(context: Context) -> list[object]:
    reported, context.events = list(context.events), []
    return reported


def test_the_families_take_turns_and_ipv6_begins() -> None:
    ways, _ = ways_to(*FOUR, *SIX)
    assert [way.endpoint for way in ways.udp()] == [SIX[0], FOUR[0], SIX[1], FOUR[1], SIX[2]]
    assert [way.socket for way in ways.udp()] == [1, 0, 1, 0, 1]


def test_the_way_in_use_is_tried_first_then_a_stream_and_each_attempt_begins_elsewhere() -> None:
    ways, _ = ways_to(*FOUR)
    one, two = ways.udp()
    assert ways.in_order(None, 0) == [one, two]
    assert ways.in_order(None, 1) == [two, one]
    assert ways.in_order(two, 0) == [two, one]
    ways.set_stream(STREAM, Transport.WEBSOCKET)
    assert ways.in_order(None, 0) == [STREAM, one, two]
    assert ways.in_order(two, 0) == [two, STREAM, one]
    assert ways.in_order(None, 5)[1:] == [two, one]


def test_a_way_is_carried_by_what_it_is() -> None:
    ways, _ = ways_to(*FOUR)
    ways.set_stream(STREAM, Transport.WEBSOCKET)
    assert ways.transport(STREAM) is Transport.WEBSOCKET
    assert ways.transport(ways.udp()[0]) is Transport.UDP
    assert ways.transport(None) is Transport.UDP


def test_a_stream_is_wanted_once_and_not_wanted_once() -> None:
    ways, context = ways_to(*FOUR)
    ways.asked(1.0)
    assert context.timers.due_at(Timer.STREAM, 0) == 1.0 + STREAM_PATIENCE
    ways.want_stream(2.5)
    ways.want_stream(3.0)
    assert events_of(context) == [StreamWanted(0)]
    ways.asked(4.0)
    assert not context.timers.is_set(Timer.STREAM, 0)
    ways.use(ways.udp()[0], 5.0)
    ways.use(ways.udp()[0], 6.0)
    assert events_of(context) == [StreamUnwanted(0)]


def test_an_answer_by_udp_ends_the_wait_for_a_stream_and_one_by_stream_does_not() -> None:
    ways, context = ways_to(*FOUR)
    ways.set_stream(STREAM, Transport.TCP)
    ways.asked(1.0)
    ways.answered(STREAM)
    assert context.timers.is_set(Timer.STREAM, 0)
    ways.answered(ways.udp()[0])
    assert not context.timers.is_set(Timer.STREAM, 0)


def test_only_the_socket_of_the_stream_ends_it() -> None:
    ways, _ = ways_to(*FOUR)
    ways.set_stream(STREAM, Transport.TCP)
    assert ways.stream_ended(7) is None
    assert ways.stream == STREAM
    assert ways.stream_ended(STREAM.socket) == STREAM
    assert ways.stream is None


def test_udp_is_probed_more_and_more_rarely_and_soon_after_a_change() -> None:
    ways, context = ways_to(*FOUR)
    ways.set_stream(STREAM, Transport.TCP)
    ways.use(STREAM, 0.0)
    times = [context.timers.due_at(Timer.UDP_PROBE, 0)]
    assert times == [UDP_PROBE_INTERVAL_MIN]
    for _ in range(12):
        ways.probe_due(times[-1])
        times.append(context.timers.due_at(Timer.UDP_PROBE, 0))
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[0] < 2 * UDP_PROBE_INTERVAL_MIN
    assert UDP_PROBE_INTERVAL_MAX <= gaps[-1] <= 1.2 * UDP_PROBE_INTERVAL_MAX
    ways.probe_soon(times[-2])
    assert context.timers.due_at(Timer.UDP_PROBE, 0) == times[-2]


def test_a_probe_is_answered_once_by_the_way_it_took_and_old_ones_are_forgotten() -> None:
    ways, _ = ways_to(*FOUR)
    one, two = ways.udp()
    ways.probed(b"first", one)
    assert ways.take_probe(b"first", two) is None
    probe = ways.take_probe(b"first", one)
    assert probe is not None
    assert probe.via == one
    assert ways.take_probe(b"first", one) is None
    for number in range(MAX_PROBES + 1):
        ways.probed(bytes([number]), one)
    assert ways.take_probe(b"\0", one) is None
    assert ways.take_probe(b"\1", one) is not None
