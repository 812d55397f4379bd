"""What lists and news cost: encoded once per change, and rationed per community."""

from mesh.addresses import Endpoint
from mesh.wire.inner import open_control_untrusted
from mesh.wire.messages import Lookup, Members
from supernode.registry import COMMUNITY_LOOKUP_BURST, COMMUNITY_PUSH_BURST
from tests.supernode.bench import Bench, ScriptedEdge


def bodies_of_a_list_for(edge: ScriptedEdge) -> list[bytes]:
    edge.read()
    edge.send(edge.seal(Lookup()))
    bodies = [bytes(open_control_untrusted(edge.session.open_untrusted(d))) for d in edge.inbox]
    edge.inbox.clear()
    return bodies


def test_a_list_is_the_same_for_everybody() -> None:
    bench = Bench()
    edges = [bench.registered() for _ in range(12)]
    lists = [bodies_of_a_list_for(edge) for edge in edges]
    assert len(lists[0]) == 2
    assert all(each == lists[0] for each in lists)


def test_a_list_follows_every_change() -> None:
    bench = Bench()
    edge, other = bench.registered(), bench.registered()
    first = bodies_of_a_list_for(edge)
    other.roam(Endpoint("203.0.113.50", 5000))
    second = bodies_of_a_list_for(edge)
    bench.registered()
    third = bodies_of_a_list_for(edge)
    assert len({*first, *second, *third}) == 3


def test_the_lookups_of_a_community_have_a_bucket_of_their_own() -> None:
    bench = Bench()
    stranger = bench.registered("elsewhere")
    edges = [bench.registered() for _ in range(20)]
    for edge in edges:
        edge.read()
    answered = sum(bool(edge.say(Lookup())) for edge in edges for _ in range(5))
    assert answered == COMMUNITY_LOOKUP_BURST
    assert stranger.say(Lookup())
    bench.now += 1.0
    answered = sum(bool(edge.say(Lookup())) for edge in edges for _ in range(5))
    assert answered == 20


def test_news_that_a_community_has_too_much_of_are_left_to_the_digest() -> None:
    bench = Bench()
    edges = [bench.registered() for _ in range(95)]
    for edge in edges:
        edge.read()
        edge.heard.clear()
    bench.now += 2.0
    for number, edge in enumerate(edges):
        edge.roam(Endpoint("203.0.113.50", 5000 + number))
        assert edge.ping().endpoint == edge.endpoint
    for edge in edges:
        edge.read()
    told = sum(isinstance(each, Members) for edge in edges for each in edge.heard)
    assert told == COMMUNITY_PUSH_BURST
    assert bench.drops == {"rate_limited": 95 * 94 - COMMUNITY_PUSH_BURST}
    unaware, last = edges[-2:]
    pages = [each for each in unaware.say(Lookup()) if isinstance(each, Members)]
    assert pages[0].digest == unaware.ping().digest
    endpoints = {member.key: member.endpoint for page in pages for member in page.members}
    assert endpoints[last.identity.public_key] == last.endpoint
