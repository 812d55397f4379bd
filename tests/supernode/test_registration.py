"""Registration: who is in, who hears of it, who moved, who is gone; protocol section 10."""

from dataclasses import replace

import pytest

from mesh.addresses import Endpoint
from mesh.constants import REGISTRATION_LIFETIME, REJECT_AFTER_TIME
from mesh.errors import RefusalReason
from mesh.events import EdgeGone, EdgeRegistered, LeaseGranted, SubnetChosen
from mesh.wire.inner import wrap_control
from mesh.wire.messages import (
    AddressMode,
    Bye,
    Gone,
    Leave,
    Lookup,
    Members,
    Ping,
    Pong,
    Registered,
    ReplacedMessage,
    Shutdown,
)
from supernode.leases import StoredLeases
from supernode.limits import SupernodeLimits
from tests.supernode.bench import (
    Bench,
    ScriptedEdge,
    community_keys,
    digest_of,
    is_within_limit,
    named_in,
    refusal_of,
)

ROAMED = Endpoint("203.0.113.50", 5000)


def keys_of(*edges: ScriptedEdge) -> set[bytes]:
    return {edge.identity.public_key for edge in edges}


def test_the_first_edge_is_registered_with_a_lease_and_an_empty_list() -> None:
    bench = Bench()
    edge = bench.edge()
    edge.shake()
    registered, members = edge.register()
    assert isinstance(registered, Registered)
    assert registered.endpoint == edge.endpoint
    assert registered.relay_id > 0
    assert registered.members == 1
    assert registered.address.startswith("10.")
    assert members == Members((), registered.digest, 0, 1)


def test_a_lease_is_reported_before_the_answer_that_promises_it_can_leave() -> None:
    bench = Bench()
    edge = bench.registered()
    assert [type(event) for event in bench.events] == [SubnetChosen, LeaseGranted, EdgeRegistered]
    assert bench.events[1] == LeaseGranted(
        edge.community.community_id, edge.identity.edge_id, edge.address
    )


def test_a_newcomer_and_the_others_hear_of_each_other() -> None:
    bench = Bench()
    old = [bench.registered() for _ in range(3)]
    for edge in old:
        edge.read()
    new = bench.edge()
    new.shake()
    assert named_in(new.register()) == keys_of(*old)
    for edge in old:
        [news] = edge.read()
        assert isinstance(news, Members)
        assert named_in([news]) == keys_of(new)
        assert news.pages == 0


def test_members_of_other_communities_hear_nothing_and_are_not_named() -> None:
    bench = Bench()
    stranger = bench.registered("elsewhere")
    stranger.read()
    edge = bench.edge()
    edge.shake()
    assert named_in(edge.register()) == set()
    assert stranger.read() == []


def test_the_digest_is_that_of_everything_an_edge_was_told() -> None:
    bench = Bench()
    for _ in range(12):
        bench.registered()
    edge = bench.edge()
    edge.shake()
    messages = edge.register()
    registered = messages[0]
    assert isinstance(registered, Registered)
    assert registered.digest == digest_of(messages, edge, registered)
    assert edge.ping().digest == registered.digest


def test_a_community_of_many_comes_in_pages() -> None:
    bench = Bench()
    others = [bench.registered() for _ in range(23)]
    edge = bench.edge()
    edge.shake()
    pages = [each for each in edge.register() if isinstance(each, Members)]
    assert [(page.page, page.pages) for page in pages] == [(0, 3), (1, 3), (2, 3)]
    assert named_in(pages) == keys_of(*others)


def test_a_wrong_signature_is_no_membership() -> None:
    bench = Bench()
    edge = bench.edge()
    edge.shake()
    message = replace(edge.registration(), community=community_keys("other").community_id)
    assert refusal_of(edge.say(message)).reason is RefusalReason.NOT_A_MEMBER
    assert bench.engine.status_view(bench.now)["edges"] == 0


def test_a_signature_for_another_session_is_no_membership() -> None:
    bench = Bench()
    edge = bench.edge()
    edge.shake()
    stale = edge.registration()
    edge.shake()
    assert refusal_of(edge.say(stale)).reason is RefusalReason.NOT_A_MEMBER


def test_another_version_is_refused_as_that() -> None:
    edge = Bench().edge()
    edge.shake()
    refusal = refusal_of(edge.say(replace(edge.registration(), version=2)))
    assert refusal.reason is RefusalReason.VERSION


def test_a_guest_that_says_nonsense_hears_that_it_is_a_bad_request() -> None:
    edge = Bench().edge()
    edge.shake()
    edge.send(edge.session.seal(wrap_control(b"\xc1")))
    assert refusal_of(edge.read()).reason is RefusalReason.BAD_REQUEST


def test_a_refused_edge_may_ask_for_something_else() -> None:
    bench = Bench()
    other = bench.registered()
    edge = bench.edge()
    edge.shake()
    refusal = refusal_of(edge.register(AddressMode.FIXED, other.address))
    assert refusal.reason is RefusalReason.ADDRESS_TAKEN
    edge.register()
    assert edge.address not in {"", other.address}


def test_an_embedded_supernode_takes_its_own_community_only() -> None:
    ours = community_keys("home").community_id
    bench = Bench(SupernodeLimits(only_community=ours))
    stranger = bench.edge("elsewhere")
    stranger.shake()
    assert refusal_of(stranger.register()).reason is RefusalReason.NOT_A_MEMBER
    assert bench.registered("home").address
    assert bench.engine.serves_community(lambda community: community == ours) == ours


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (SupernodeLimits(max_edges_per_community=2), RefusalReason.COMMUNITY_FULL),
        (SupernodeLimits(max_edges=2), RefusalReason.SUPERNODE_FULL),
    ],
)
def test_caps_refuse_newcomers_and_let_members_renew(
    limits: SupernodeLimits, reason: RefusalReason
) -> None:
    bench = Bench(limits)
    first, _ = bench.registered(), bench.registered()
    first.read()
    newcomer = bench.edge()
    newcomer.shake()
    assert refusal_of(newcomer.register()).reason is reason
    first.shake()
    assert isinstance(first.register()[0], Registered)


def test_the_cap_on_communities_refuses_only_new_ones() -> None:
    bench = Bench(SupernodeLimits(max_communities=1))
    bench.registered()
    stranger = bench.edge("elsewhere")
    stranger.shake()
    assert refusal_of(stranger.register()).reason is RefusalReason.SUPERNODE_FULL
    assert bench.registered().address


def test_a_repeated_registration_is_answered_and_told_to_nobody() -> None:
    bench = Bench()
    edge, other = bench.registered(), bench.registered()
    other.read()
    edge.read()
    before = edge.relay_id, edge.address
    assert isinstance(edge.register()[0], Registered)
    assert (edge.relay_id, edge.address) == before
    assert other.read() == []


def test_a_renewed_session_keeps_everything_and_is_told_to_nobody() -> None:
    bench = Bench()
    edge, other = bench.registered(), bench.registered()
    other.read()
    before = edge.relay_id, edge.address
    edge.shake()
    edge.register()
    assert (edge.relay_id, edge.address) == before
    assert other.read() == []
    assert bench.engine.status_view(bench.now)["edges"] == 2


def test_a_renewed_handshake_loses_nothing() -> None:
    bench = Bench()
    edge = bench.registered()
    late = edge.seal(Ping(b"under-1."), edge.sessions[0])
    edge.shake()
    late_too = edge.seal(Ping(b"under-1!"), edge.sessions[0])
    edge.send(late_too)
    edge.register()
    edge.send(late)
    edge.read()
    tokens = {each.token for each in edge.heard if type(each).__name__ == "Pong"}
    assert tokens == {b"under-1.", b"under-1!"}


def test_only_the_session_before_the_current_one_is_kept() -> None:
    bench = Bench()
    edge = bench.registered()
    for _ in range(2):
        edge.shake()
        edge.register()
    answers = edge.send(edge.seal(Ping(b"12345678"), edge.sessions[0]))
    assert bench.drops == {"unknown_session": 1}
    assert len(answers) == 1  # the hint


def test_another_start_of_the_same_identity_replaces_the_first_and_tells_it() -> None:
    bench = Bench()
    other = bench.registered()
    first = bench.registered()
    other.read()
    second = bench.edge(identity=first.identity)
    second.shake()
    second.register()
    assert [type(each) for each in first.read()] == [ReplacedMessage]
    assert second.address == first.address
    assert second.relay_id != first.relay_id
    [news] = other.read()
    assert isinstance(news, Members)
    assert [member.relay_id for member in news.members] == [second.relay_id]
    assert other.ping().digest == second.ping().digest


def test_a_restarted_edge_gets_its_address_back_after_it_was_forgotten() -> None:
    bench = Bench()
    first = bench.registered()
    bench.pass_time(60.0)
    again = bench.registered(identity=first.identity)
    assert again.address == first.address


def test_a_ping_is_answered_with_where_it_came_from() -> None:
    edge = Bench().registered()
    assert edge.ping().endpoint == edge.endpoint


def test_an_edge_that_falls_silent_is_forgotten_and_the_others_are_told() -> None:
    bench = Bench()
    silent, alive = bench.registered(), bench.registered()
    for _ in range(6):
        bench.pass_time(4.0)
        alive.ping()
    gone = [each for each in alive.heard if isinstance(each, Gone)]
    assert [each.id for each in gone] == [silent.identity.edge_id]
    assert gone[0].digest == alive.ping().digest
    assert bench.events[-1] == EdgeGone(
        silent.community.community_id, silent.identity.edge_id, "silent"
    )


def test_an_edge_is_forgotten_within_a_second_of_its_time() -> None:
    bench = Bench()
    bench.registered()
    bench.pass_time(REGISTRATION_LIFETIME - 0.01)
    assert bench.engine.status_view(bench.now)["edges"] == 1
    bench.pass_time(1.01)
    assert bench.engine.status_view(bench.now)["edges"] == 0
    assert bench.engine.next_timer_at() == float("inf")


def test_edges_that_fall_silent_together_are_not_told_of_each_other() -> None:
    bench = Bench()
    edges = [bench.registered() for _ in range(10)]
    survivor = bench.registered()
    for _ in range(5):
        bench.pass_time(4.5)
        survivor.ping()
    for edge in edges:
        assert not any(isinstance(each, Gone) for each in edge.read())
    assert {each.id for each in survivor.heard if isinstance(each, Gone)} == {
        edge.identity.edge_id for edge in edges
    }


def test_an_edge_that_leaves_is_gone_at_once() -> None:
    bench = Bench()
    leaver, other = bench.registered(), bench.registered()
    other.read()
    leaver.say(Leave())
    [gone] = other.read()
    assert isinstance(gone, Gone)
    assert gone.id == leaver.identity.edge_id
    assert leaver.say(Ping(b"12345678")) == []


def test_a_lookup_is_answered_with_every_page() -> None:
    bench = Bench()
    edge, *others = [bench.registered() for _ in range(14)]
    edge.read()
    pages = edge.say(Lookup())
    assert named_in(pages) == keys_of(*others)
    assert [each.page for each in pages if isinstance(each, Members)] == [0, 1]


def test_lookups_and_repeated_registrations_have_a_bucket() -> None:
    bench = Bench()
    edge = bench.registered()
    answered = sum(bool(edge.say(Lookup())) for _ in range(20))
    assert answered == 5
    assert edge.register() == []
    bench.now += 1.0
    assert edge.say(Lookup())


def test_an_edge_that_moves_is_followed_and_announced() -> None:
    bench = Bench()
    edge, other = bench.registered(), bench.registered()
    other.read()
    edge.roam(ROAMED)
    pong = edge.ping()
    assert pong.endpoint == ROAMED
    [news] = other.read()
    assert isinstance(news, Members)
    assert [(each.endpoint, each.relay_id) for each in news.members] == [(ROAMED, edge.relay_id)]
    assert news.digest == pong.digest == other.ping().digest
    edge.inbox.clear()
    other.send(other.envelope(edge))
    assert edge.inbox


def test_a_list_of_members_never_goes_where_an_edge_only_claims_to_be() -> None:
    bench = Bench()
    edge, *others = [bench.registered() for _ in range(30)]
    bench.sent.clear()
    register = edge.registration()
    received = 0
    for message in (Lookup(), register, Lookup(), Ping(b"12345678"), register, Lookup()):
        datagram = edge.seal(message)
        received += len(datagram)
        bench.receive(datagram, ROAMED)
    others[0].move_to(Endpoint("203.0.113.51", 1))
    others[0].ping()
    bench.registered()
    there = [each for each in bench.sent if each.destination == ROAMED]
    assert is_within_limit(there, received)


def test_an_edge_that_answers_where_it_moved_to_gets_lists_again() -> None:
    bench = Bench()
    edge, other = bench.registered(), bench.registered()
    edge.read()
    edge.move_to(ROAMED)
    [proof] = edge.say(Lookup())
    assert isinstance(proof, Ping)
    again, pong = edge.say(Ping(b"12345678"))
    assert again == proof
    assert pong == Pong(b"12345678", ROAMED, b"")
    edge.say(Pong(bytes(8), None))
    assert edge.say(Lookup()) == []
    edge.say(Pong(proof.token, None))
    assert named_in(edge.say(Lookup())) == keys_of(other)


def test_until_it_is_proved_nobody_hears_of_a_move_and_nothing_goes_there() -> None:
    bench = Bench()
    edge, other = bench.registered(), bench.registered()
    before = other.ping().digest
    for _ in range(3):
        bench.receive(edge.seal(Ping(b"12345678")), ROAMED)
    assert other.read() == []
    assert other.ping().digest == before
    bench.sent.clear()
    other.send(other.envelope(edge))
    bench.registered()
    destinations = [each.destination for each in bench.sent]
    assert destinations.count(ROAMED) == 0
    assert destinations.count(edge.endpoint) == 2  # the envelope, and news of the third one
    assert edge.send(edge.envelope(other))[0].destination == other.endpoint


def test_a_proof_comes_too_late_once_the_edge_has_gone_on_from_where_it_was() -> None:
    bench = Bench()
    edge, other = bench.registered(), bench.registered()
    copies = bench.receive(edge.seal(Ping(b"12345678")), ROAMED)
    edge.inbox += [each.datagram for each in copies]
    [proof] = [each for each in edge.read() if isinstance(each, Ping)]
    edge.ping()
    bench.receive(edge.seal(Pong(proof.token, None)), ROAMED)
    views = bench.engine.edge_views(bench.now)
    assert str(edge.endpoint) in {view["endpoint"] for view in views}
    assert other.read() == []


def test_a_proof_from_a_third_place_moves_nothing() -> None:
    bench = Bench()
    edge = bench.registered()
    edge.move_to(ROAMED)
    [proof] = edge.say(Lookup())
    assert isinstance(proof, Ping)
    bench.receive(edge.seal(Pong(proof.token, None)), ROAMED._replace(port=5001))
    [view] = bench.engine.edge_views(bench.now)
    assert view["endpoint"] not in {str(ROAMED), str(ROAMED._replace(port=5001))}


def test_a_renewed_handshake_proves_a_new_endpoint_too() -> None:
    bench = Bench()
    edge, other = bench.registered(), bench.registered()
    edge.move_to(ROAMED)
    edge.ping()
    edge.shake()
    edge.register()
    edge.read()
    assert named_in(edge.say(Lookup())) == keys_of(other)


def test_a_replayed_or_late_datagram_from_elsewhere_moves_nothing() -> None:
    bench = Bench()
    edge = bench.registered()
    late = edge.seal(Ping(b"late...."))
    seen = edge.seal(Ping(b"seen...."))
    edge.send(seen)
    for datagram in (late, seen):
        bench.receive(datagram, ROAMED)
    [view] = bench.engine.edge_views(bench.now)
    assert view["endpoint"] == str(edge.endpoint)
    assert bench.drops == {"replayed": 1}


def test_a_datagram_under_the_previous_session_moves_nothing() -> None:
    bench = Bench()
    edge = bench.registered()
    old = edge.session
    edge.shake()
    edge.register()
    bench.receive(edge.seal(Ping(b"12345678"), old), ROAMED)
    [view] = bench.engine.edge_views(bench.now)
    assert view["endpoint"] == str(edge.endpoint)


def test_an_edge_that_moves_all_the_time_does_not_flood_the_others() -> None:
    bench = Bench()
    edge, other = bench.registered(), bench.registered()
    other.read()
    for port in range(5000, 5100):
        edge.roam(Endpoint("203.0.113.50", port))
    assert len(other.read()) == 5
    assert bench.drops["rate_limited"] == 95


def test_a_forged_datagram_changes_nothing() -> None:
    bench = Bench()
    edge = bench.registered()
    before = bench.engine.edge_views(bench.now)
    datagram = bytearray(edge.seal(Leave()))
    datagram[-1] ^= 1
    edge.send(bytes(datagram))
    assert bench.engine.edge_views(bench.now) == before
    assert bench.drops == {"not_authentic": 1}


def test_an_expired_session_opens_and_seals_nothing() -> None:
    bench = Bench()
    edge = bench.registered()
    while bench.now - edge.session.created_at < REJECT_AFTER_TIME - 5.0:
        bench.pass_time(5.0)
        edge.ping()
    bench.pass_time(5.0)
    assert edge.say(Ping(b"12345678")) == []
    assert bench.drops == {"expired_session": 1}


def test_one_identity_may_be_in_two_communities() -> None:
    bench = Bench()
    here = bench.registered()
    there = bench.registered("elsewhere", identity=here.identity)
    assert here.ping()
    assert there.ping()
    assert bench.engine.status_view(bench.now)["communities"] == 2


def test_one_session_is_for_one_community() -> None:
    bench = Bench()
    edge = bench.registered()
    other = community_keys("elsewhere")
    message = replace(
        edge.registration(),
        community=other.community_id,
        signature=other.sign_registration(edge.session.handshake_hash),
    )
    assert refusal_of(edge.say(message)).reason is RefusalReason.BAD_REQUEST
    assert edge.ping()


def test_a_message_that_is_not_for_a_supernode_is_counted() -> None:
    bench = Bench()
    assert bench.registered().say(Bye()) == []
    assert bench.drops == {"unknown_message": 1}


def test_a_supernode_that_stops_tells_every_edge() -> None:
    bench = Bench()
    edges = [bench.registered(), bench.registered("elsewhere")]
    for edge in edges:
        edge.read()
    bench.engine.stop(bench.now)
    bench.drain()
    assert [edge.read() for edge in edges] == [[Shutdown()], [Shutdown()]]


def test_communities_with_leases_are_served_and_shown_without_edges() -> None:
    bench = Bench()
    edge = bench.registered()
    edge.say(Leave())
    community = edge.community.community_id
    assert bench.engine.serves_community(lambda each: each == community) == community
    assert bench.engine.serves_community(lambda _: False) is None
    [view] = bench.engine.community_views(bench.now)
    assert (view["edges"], view["leases"]) == (0, 1)
    assert view["subnet"] == str(edge.community.subnet_proposals()[0])


def test_a_supernode_with_nothing_stored_starts_empty() -> None:
    bench = Bench(stored=StoredLeases())
    assert bench.engine.status_view(bench.now)["edges"] == 0
    assert bench.engine.next_timer_at() == float("inf")


def test_200_edges_in_20_communities_do_not_hear_of_each_other() -> None:
    bench = Bench()
    communities: list[list[ScriptedEdge]] = [[] for _ in range(20)]
    for number in range(200):
        communities[number % 20].append(bench.registered(f"c{number % 20}"))
        bench.pass_time(0.02)
    for members in communities:
        for edge in members:
            edge.read()
            assert named_in(edge.heard) == keys_of(*members) - keys_of(edge)
        assert len({edge.ping().digest for edge in members}) == 1
        assert len({edge.address for edge in members}) == 10
    assert bench.engine.status_view(bench.now)["edges"] == 200
