"""Observation ports: answered with what was seen, and good for nothing else."""

from mesh.addresses import Endpoint
from mesh.wire.datagram import DatagramType
from mesh.wire.messages import Leave, Lookup, Ping, Pong, Registered
from supernode.reception import MAX_GUEST_MESSAGES
from tests.supernode.bench import Bench, ScriptedEdge, Sent, is_within_limit

PORTS = (7779, 7780)
LISTENER, ONE, OTHER = 0, 501, 502
MAPPED = Endpoint("198.51.100.1", 61000)


def observed_bench() -> Bench:
    bench = Bench()
    bench.engine.open_observation_sockets(PORTS, [(ONE, OTHER)])
    return bench


def pong_in(edge: ScriptedEdge, sent: list[Sent]) -> Pong:
    [answer] = sent
    edge.inbox.append(answer.datagram)
    [pong] = edge.read()
    assert isinstance(pong, Pong)
    return pong


def test_edges_are_told_of_the_ports() -> None:
    edge = observed_bench().registered()
    [registered] = [each for each in edge.heard if isinstance(each, Registered)]
    assert registered.probes == PORTS


def test_a_supernode_without_them_tells_of_none() -> None:
    edge = Bench().registered()
    [registered] = [each for each in edge.heard if isinstance(each, Registered)]
    assert registered.probes == ()


def test_a_ping_is_answered_from_there_with_the_endpoint_that_was_seen() -> None:
    bench = observed_bench()
    edge = bench.registered()
    ping = edge.seal(Ping(b"12345678"))
    sent = bench.receive(ping, MAPPED, OTHER)
    assert [(each.destination, each.socket) for each in sent] == [(MAPPED, OTHER)]
    assert is_within_limit(sent, len(ping))
    assert pong_in(edge, sent) == Pong(b"12345678", MAPPED, b"")


def test_a_ping_may_ask_for_an_answer_from_the_other_port() -> None:
    bench = observed_bench()
    edge = bench.registered()
    for asked, answers in ((ONE, OTHER), (OTHER, ONE)):
        ping = edge.seal(Ping(b"12345678", other=True))
        sent = bench.receive(ping, MAPPED, asked)
        assert [(each.destination, each.socket) for each in sent] == [(MAPPED, answers)]
        assert is_within_limit(sent, len(ping))
        assert pong_in(edge, sent).endpoint == MAPPED


def test_no_ping_there_moves_an_edge() -> None:
    bench = observed_bench()
    edge, peer = bench.registered(), bench.registered()
    peer.read()
    for token in (b"00000001", b"00000002"):
        [answer] = bench.receive(edge.seal(Ping(token)), MAPPED, ONE)
        assert answer.destination == MAPPED
    assert edge.ping().endpoint == edge.endpoint
    assert not peer.read()


def test_nothing_else_is_done_there() -> None:
    bench = observed_bench()
    edge, peer = bench.registered(), bench.registered()
    before = bench.drops
    assert not bench.receive(edge.seal(Lookup()), edge.endpoint, ONE)
    assert not bench.receive(edge.seal(Leave()), edge.endpoint, ONE)
    assert not bench.receive(edge.initiate().datagram, edge.endpoint, ONE)
    assert not bench.receive(b"\x04" + bytes(60), edge.endpoint, ONE)
    assert not [
        each
        for each in bench.receive(edge.envelope(peer), edge.endpoint, ONE)
        if each.type == DatagramType.RELAY
    ]
    assert edge.ping().endpoint == edge.endpoint
    assert bench.drops["unknown_message"] - before.get("unknown_message", 0) == 2
    assert bench.drops["unknown_session"] - before.get("unknown_session", 0) == 2


def test_a_replayed_ping_is_not_answered() -> None:
    bench = observed_bench()
    edge = bench.registered()
    ping = edge.seal(Ping(b"12345678", other=True))
    assert bench.receive(ping, MAPPED, ONE)
    assert not bench.receive(ping, Endpoint("203.0.113.9", 9), ONE)
    assert bench.drops["replayed"] == 1


def test_a_guest_is_told_of_the_ports_and_may_ask_there_from_its_address() -> None:
    bench = observed_bench()
    edge = bench.edge()
    edge.shake()
    assert edge.ping().probes == PORTS
    elsewhere = Endpoint(edge.endpoint.host, 61000)
    ping = edge.seal(Ping(b"12345678", other=True))
    sent = bench.receive(ping, elsewhere, ONE)
    assert [(each.destination, each.socket) for each in sent] == [(elsewhere, OTHER)]
    assert is_within_limit(sent, len(ping))
    assert pong_in(edge, sent) == Pong(b"12345678", elsewhere)


def test_a_guest_cannot_turn_answers_on_another_address() -> None:
    bench = observed_bench()
    edge = bench.edge()
    edge.shake()
    assert not bench.receive(edge.seal(Ping(b"12345678")), Endpoint("203.0.113.7", 61000), ONE)
    assert bench.drops == {"unknown_session": 1}


def test_a_guest_may_ask_there_no_more_often_than_elsewhere() -> None:
    bench = observed_bench()
    edge = bench.edge()
    edge.shake()
    forged = b"\x04\0\0\0" + edge.seal(Ping(b"12345678"))[4:8] + bytes(60)
    for _ in range(MAX_GUEST_MESSAGES):
        bench.receive(forged, edge.endpoint, ONE)  # costs the guest nothing
        assert bench.receive(edge.seal(Ping(b"12345678")), edge.endpoint, ONE)
    assert not bench.receive(edge.seal(Ping(b"12345678")), edge.endpoint, ONE)
    assert edge.say(Ping(b"12345678")) == []


def test_a_registered_edge_is_told_of_the_ports_once() -> None:
    edge = observed_bench().registered()
    assert edge.ping().probes == ()
