"""Which of several supernodes an edge turns to."""

import dataclasses
import itertools

import pytest

from mesh.addresses import Endpoint
from mesh.core.config import SupernodeConfig
from mesh.crypto.identity import Identity
from mesh.engine import ReceivedDatagrams, Transport
from mesh.errors import RefusalReason
from mesh.events import Refused
from mesh.wire.datagram import decode_relay_header
from mesh.wire.messages import Members, RefusedMessage
from supernode.limits import SupernodeLimits
from tests.core.edge_alone import SUPERNODE, Target, dice
from tests.core.scripted_supernode import OUR_RELAY_ID, ScriptedSupernode, member_of
from tests.world import World

SECOND = Endpoint("203.0.113.2", 7777)
TWO = (SupernodeConfig("one.example:7777"), SupernodeConfig("two.example:7777"))


def run_timers(target: Target, until: float) -> list[tuple[float, Endpoint]]:
    """Let time pass with no answers; return when and where something was sent."""
    sent = []
    while (now := target.engine.next_timer_at()) <= until:
        target.engine.handle_timers(now)
        sent += [(now, destination) for _, destination in target.sent()]
    return sent


def two_supernodes() -> Target:
    target = Target(supernodes=TWO)
    target.engine.set_supernode_endpoints(1, [SECOND], 0.0)
    target.engine.set_supernode_endpoints(0, [SUPERNODE], 0.0)
    target.sent()
    return target


def test_the_first_supernode_is_tried_first_whichever_name_resolves_first() -> None:
    target = Target(supernodes=TWO)
    target.engine.set_supernode_endpoints(1, [SECOND], 0.0)
    assert target.sent() == []
    target.engine.set_supernode_endpoints(0, [SUPERNODE], 0.1)
    assert [destination for _, destination in target.sent()] == [SUPERNODE]


def test_all_supernodes_are_tried_at_once_and_none_waits_for_another() -> None:
    order = run_timers(two_supernodes(), 20.0)
    for supernode in (SUPERNODE, SECOND):
        times = [at for at, destination in order if destination == supernode]
        assert times[0] < 1.0
        assert max(b - a for a, b in itertools.pairwise(times)) <= 3.0 * 1.2


def test_the_only_supernode_is_tried_for_ever() -> None:
    target = Target()
    target.engine.set_supernode_endpoints(0, [SUPERNODE], 0.0)
    times = [at for at, _ in run_timers(target, 3600.0)]
    assert len(times) > 3600 / 3.6
    assert max(b - a for a, b in itertools.pairwise(times)) <= 3.0 * 1.2


def test_all_endpoints_of_a_name_are_tried_in_turn() -> None:
    target = Target()
    target.engine.set_supernode_endpoints(0, [SUPERNODE, SECOND], 0.0)
    order = [destination for _, destination in target.sent()]
    order += [destination for _, destination in run_timers(target, 5.0)]
    assert order[:4] == [SUPERNODE, SECOND, SECOND, SUPERNODE]  # the next attempt begins with it


def test_of_two_supernodes_the_one_that_does_not_refuse_is_asked_soon() -> None:
    target = Target(supernodes=TWO)
    target.engine.set_supernode_endpoints(1, [SECOND], 0.0)
    first = ScriptedSupernode(target)
    target.engine.set_supernode_endpoints(0, [SUPERNODE], 0.0)
    first.collect()
    first.respond(0.1)
    first.say(RefusedMessage(RefusalReason.SUPERNODE_FULL), 0.2)
    [(at, where), *_] = run_timers(target, 60.0)
    assert where == SECOND
    assert at <= 20.0


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", True), ("::1", True), ("203.0.113.1", False)]
)
def test_only_a_supernode_that_we_reach_on_loopback_makes_loopback_a_candidate(
    host: str, *, expected: bool
) -> None:
    target = Target()
    supernode = ScriptedSupernode(target, endpoint=Endpoint(host, 7777))
    supernode.take_in(0.0)
    assert target.engine._supernodes.is_on_loopback == expected


def test_an_edge_that_is_refused_tries_its_other_supernode() -> None:
    world = World(4)
    full = world.add_supernode(limits=SupernodeLimits(max_edges=1))
    free = world.add_supernode()
    world.add_edge("first", supernodes=[full])
    world.run_for(3)
    second = world.add_edge("second", supernodes=[full, free])
    world.run_for(120)
    assert second.reported(Refused)
    assert second.address


def stream_to_proxy(target: Target, supernode: ScriptedSupernode, proxy: Endpoint) -> None:
    """Have the target register by a stream that leads through a proxy."""
    target.engine.set_supernode_stream(0, 1000, proxy, Transport.TCP, 0.0)
    target.engine.set_supernode_endpoints(0, [], 0.0)
    supernode.endpoint = proxy
    supernode.collect()

    def deliver(datagram: bytes, now: float, source: Endpoint | None = None) -> None:
        batch = ReceivedDatagrams(datagram, len(datagram), source or proxy, 1000)
        target.engine.receive_datagrams(batch, now)

    supernode.deliver = deliver  # type: ignore[method-assign]
    supernode.respond(0.0)
    supernode.say(supernode.registered(), 0.0)


def test_a_proxy_on_this_machine_does_not_make_loopback_a_candidate() -> None:
    target = Target()
    supernode = ScriptedSupernode(target)
    stream_to_proxy(target, supernode, Endpoint("127.0.0.1", 3128))
    [registration] = target.engine._supernodes
    assert registration.is_connected
    assert not target.engine._supernodes.is_on_loopback
    member = member_of(Identity.generate(dice(9)), 7, Endpoint("127.0.0.1", 53))
    supernode.members = (member,)
    target.engine.handle_timers(0.1)
    supernode.collect()
    supernode.others.clear()
    supernode.say(Members((member,), supernode.digest(), page=0, pages=1), 0.2)
    for now in (0.2, 1.5, 3.0):
        target.engine.handle_timers(now)
        supernode.collect(now)
    assert [to for _, to in supernode.others if to == member.endpoint] == []


def test_no_observation_ports_are_looked_for_at_a_proxy() -> None:
    target = Target()
    supernode = ScriptedSupernode(target)
    stream_to_proxy(target, supernode, Endpoint("198.51.100.7", 3128))
    [registration] = target.engine._supernodes
    registration.nat_observer.registered(registration.contact.via, (40000, 40001), SUPERNODE, 0.0)
    assert not registration.nat_observer.has_ports


def test_a_name_that_leads_to_another_supernode_too_takes_nothing_from_that_one() -> None:
    target = Target(supernodes=TWO)
    honest = ScriptedSupernode(target)
    liar = ScriptedSupernode(target, seed=50, endpoint=SECOND)
    honest.take_in(0.0)
    target.engine.set_supernode_endpoints(1, [SECOND, SUPERNODE], 1.0)
    liar.collect(1.0)
    liar.respond(1.0)
    liar.say(dataclasses.replace(liar.registered(), relay_id=0xBAD), 1.0)
    first, second = target.engine._supernodes
    assert first.is_connected
    assert second.is_connected
    via = first.contact.via
    assert via is not None
    assert target.engine._supernodes.at(via) is first
    header = target.engine._context.outbox.envelope(via._replace(relay_id=9))
    assert decode_relay_header(header + b"\4" + bytes(40)) == (OUR_RELAY_ID, 9)
