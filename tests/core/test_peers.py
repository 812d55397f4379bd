"""Who joins the table of peers, and who is forgotten."""

import pytest

from mesh.addresses import Endpoint
from mesh.constants import (
    INITIATE_FALLBACK,
    PEER_SILENCE_TIMEOUT,
    SHOWN_ADDRESS_BURST,
    SHOWN_ADDRESS_RATE,
)
from mesh.core import peers as peers_module
from mesh.core.config import SupernodeConfig
from mesh.core.handshakes import STUCK_AFTER
from mesh.crypto.handshake import PeerInitiator
from mesh.crypto.identity import Identity
from mesh.crypto.suite import Suite
from mesh.events import PeerDown
from mesh.wire.datagram import PUNCH, DatagramType
from mesh.wire.messages import Gone, Hello, Member, Members, Ping
from tests.core.edge_alone import COMMUNITY, HOME, SUPERNODE, Target, dice, of_type
from tests.core.hostile_member import HostileMember
from tests.core.joined import LEASE, Joined
from tests.core.scripted_supernode import ScriptedSupernode, member_of

PING = Ping(b"12345678")
ALICE = Identity.generate(dice(80))
AT_ALICE = Endpoint("203.0.113.50", 5000)
ELSEWHERE = Endpoint("203.0.113.51", 5000)


def registered() -> tuple[Target, ScriptedSupernode]:
    target = Target()
    supernode = ScriptedSupernode(target)
    supernode.take_in(0.0)
    supernode.others.clear()
    return target, supernode


def tell(supernode: ScriptedSupernode, members: tuple[Member, ...], now: float, pages: int) -> None:
    supernode.members = members
    supernode.say(Members(members, supernode.digest(), page=0, pages=pages), now)


def ids(target: Target) -> list[str]:
    return [view["id"] for view in target.engine.peer_views(1.0)]


def first_initiation_at(target: Target, supernode: ScriptedSupernode, until: float) -> float:
    """Let time pass; return when the first initiation for a peer left."""
    while (now := target.engine.next_timer_at()) <= until:
        target.engine.handle_timers(now)
        supernode.collect(now)
        if any(each[12:13] == b"\x01" or each[:1] == b"\x01" for each, _ in supernode.others):
            return now
    return float("inf")


@pytest.mark.parametrize(("pages", "expected"), [(1, 1.0), (0, 1.0 + INITIATE_FALLBACK)])
def test_both_sides_punch_and_the_newcomer_initiates_first(pages: int, expected: float) -> None:
    target, supernode = registered()
    target.engine.handle_timers(1.0)
    tell(supernode, (member_of(ALICE, 9, AT_ALICE),), 1.0, pages)
    assert (PUNCH, AT_ALICE) in supernode.others
    assert first_initiation_at(target, supernode, 5.0) == expected


def destinations_of_next_initiation(target: Target, supernode: ScriptedSupernode) -> set[Endpoint]:
    supernode.others.clear()
    first_initiation_at(target, supernode, 20.0)
    return {to for datagram, to in supernode.others if len(datagram) >= 144}


def test_initiations_go_by_the_relay_alone_until_the_peer_is_more_than_slow() -> None:
    target, supernode = registered()
    tell(supernode, (member_of(ALICE, 9, AT_ALICE),), 1.0, 1)
    for _ in range(STUCK_AFTER):
        assert destinations_of_next_initiation(target, supernode) == {SUPERNODE}
    assert destinations_of_next_initiation(target, supernode) == {SUPERNODE, AT_ALICE}


def test_a_member_that_initiates_before_the_fallback_is_answered_and_not_called() -> None:
    target, supernode = registered()
    member = HostileMember(target)
    tell(supernode, (member_of(member.identity, 9, HOME),), 1.0, 0)
    member.say_hello(1.1)
    assert first_initiation_at(target, supernode, 5.0) == float("inf")


def test_a_key_that_no_handshake_can_be_made_with_is_not_introduced() -> None:
    target, supernode = registered()
    tell(supernode, (Member(bytes(32), AT_ALICE, 9, "", aes=True),), 1.0, 1)
    assert ids(target) == []
    assert target.drops() == {"table_full": 1}


def test_we_are_no_peer_of_ourselves() -> None:
    target, supernode = registered()
    tell(supernode, (supernode.ourselves(), member_of(ALICE, 9, AT_ALICE)), 1.0, 1)
    assert ids(target) == [ALICE.edge_id.hex()]


def test_an_initiation_with_our_own_key_is_not_answered() -> None:
    target = Target()
    twin = PeerInitiator(
        target.identity, COMMUNITY, target.identity.public_key, Suite.AESGCM_SHA256, 1, 1, dice(3)
    )
    target.receive(twin.datagram, HOME, 1.0)
    assert target.sent() == []
    assert ids(target) == []


def test_the_table_has_a_cap_for_introductions_and_initiations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers_module, "MAX_PEERS", 3)
    target, supernode = registered()
    everybody = [Identity.generate(dice(seed)) for seed in range(200, 205)]
    tell(supernode, tuple(member_of(one, 9, AT_ALICE) for one in everybody), 1.0, 1)
    assert len(ids(target)) == 3
    assert target.drops() == {"table_full": 2}
    newcomer = PeerInitiator(
        ALICE, COMMUNITY, target.identity.public_key, Suite.AESGCM_SHA256, 1, 1, dice(3)
    )
    target.receive(newcomer.datagram, HOME, 1.0)
    assert len(ids(target)) == 3
    assert ALICE.edge_id.hex() in ids(target), (
        "who has proved itself comes before who is only named"
    )
    assert len(of_type(DatagramType.PEER_RESPONSE, target.sent())) == 1


def test_who_has_proved_itself_does_not_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_module, "MAX_PEERS", 3)
    target = Target()
    for seed in range(300, 308, 2):
        one = Identity.generate(dice(seed))
        initiator = PeerInitiator(
            one, COMMUNITY, target.identity.public_key, Suite.AESGCM_SHA256, 1, 1, dice(3)
        )
        target.receive(initiator.datagram, HOME, 1.0)
    assert len(ids(target)) == 3
    assert target.drops() == {"table_full": 1}


def test_a_member_that_moved_is_tried_at_its_new_endpoint() -> None:
    target, supernode = registered()
    tell(supernode, (member_of(ALICE, 9, AT_ALICE),), 1.0, 0)
    supernode.others.clear()
    tell(supernode, (member_of(ALICE, 9, ELSEWHERE),), 1.5, 0)
    assert (PUNCH, ELSEWHERE) in supernode.others
    assert len(ids(target)) == 1


def test_a_member_that_is_gone_and_silent_is_forgotten_after_ten_seconds() -> None:
    joined = Joined()
    joined.supernode.members = ()
    gone = Gone(joined.member.identity.edge_id, joined.supernode.digest())
    joined.supernode.say(gone, 2.0)
    _run(joined, 2.0 + PEER_SILENCE_TIMEOUT - 0.01)
    assert len(ids(joined.target)) == 1
    _run(joined, 2.0 + PEER_SILENCE_TIMEOUT)
    assert ids(joined.target) == []
    down = [e for e in joined.engine.events_to_report() if isinstance(e, PeerDown)]
    assert down == [PeerDown(joined.member.identity.edge_id, "member")]
    assert all(
        owner is not joined.member for _, owner in joined.engine._context.indexes.sessions.values()
    )


def test_a_member_that_only_lost_its_supernode_stays_while_it_is_heard() -> None:
    joined = Joined()
    joined.supernode.members = ()
    joined.supernode.say(Gone(joined.member.identity.edge_id, joined.supernode.digest()), 2.0)
    for second in range(3, 40):
        joined.member.say(PING, float(second))
        _run(joined, float(second))
    assert len(ids(joined.target)) == 1
    _run(joined, 39.0 + 2 * PEER_SILENCE_TIMEOUT)
    assert ids(joined.target) == []


def test_a_member_that_comes_back_in_time_is_not_forgotten() -> None:
    joined = Joined()
    members = joined.supernode.members
    joined.supernode.members = ()
    joined.supernode.say(Gone(joined.member.identity.edge_id, joined.supernode.digest()), 2.0)
    tell(joined.supernode, members, 5.0, 0)
    _run(joined, 30.0)
    assert len(ids(joined.target)) == 1


def test_somebody_whom_no_supernode_introduced_is_forgotten_when_silent() -> None:
    target = Target()
    HostileMember(target)
    while (now := target.engine.next_timer_at()) <= 1.0 + PEER_SILENCE_TIMEOUT:
        target.engine.handle_timers(now)
        target.sent()
    assert ids(target) == []
    assert len(target.engine._context.indexes) == 0


def _run(joined: Joined, until: float) -> None:
    while (now := joined.engine.next_timer_at()) <= until:
        joined.engine.handle_timers(now)
        joined.supernode.collect(now)
        joined.supernode.answer_pings(now)


def test_our_hello_tells_lease_and_ula_and_candidates() -> None:
    joined = Joined(LEASE)
    joined.engine.set_local_addresses(["192.0.2.9"], 4000, 0, 2.0)
    [hello] = [message for message in joined.said() if isinstance(message, Hello)]
    ula = COMMUNITY.ipv6_address(joined.target.identity.interface_id)
    assert hello.addresses == (LEASE, str(ula))
    assert Endpoint("192.0.2.9", 4000) in hello.candidates
    assert (hello.name, hello.mtu) == ("target", 1500)


def test_an_edge_that_wants_the_relay_only_tells_no_candidates() -> None:
    target = Target(relay_only=True, advertise=(AT_ALICE,))
    target.engine.set_local_addresses(["192.0.2.9"], 4000, 0, 1.0)
    assert target.engine._peers.hello(answer=True).candidates == ()


def made_up(count: int, seed: int) -> tuple[Member, ...]:
    """Members of whom nobody has the secret."""
    return tuple(member_of(Identity.generate(dice(seed + n)), 500 + n, HOME) for n in range(count))


def two_registrations() -> tuple[Target, ScriptedSupernode, ScriptedSupernode]:
    second_at = Endpoint("203.0.113.2", 7777)
    target = Target(supernodes=(SupernodeConfig("one:7777"), SupernodeConfig("two:7777")))
    first = ScriptedSupernode(target)
    second = ScriptedSupernode(target, seed=50, endpoint=second_at)
    first.take_in(0.0)
    target.engine.set_supernode_endpoints(1, [second_at], 0.0)
    target.engine.handle_timers(0.3)
    second.collect(0.3)
    second.respond(0.3)
    second.say(second.registered(), 0.3)
    return target, first, second


def test_members_that_one_supernode_makes_up_do_not_keep_out_those_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers_module, "MAX_PEERS", 20)
    target, honest, liar = two_registrations()
    for start in range(0, 36, 9):
        liar.say(Members(made_up(9, 1000 + start), liar.digest(), page=0, pages=0), 1.0)
    assert len(ids(target)) == 20
    met = HostileMember(target, 1.0)  # has the secret, whoever may have told of it
    alice = member_of(ALICE, 9, AT_ALICE)
    tell(honest, (alice,), 1.1, 0)
    assert {ALICE.edge_id.hex(), met.identity.edge_id.hex()} <= {*ids(target)}
    for start in range(0, 36, 9):
        liar.say(Members(made_up(9, 2000 + start), liar.digest(), page=0, pages=0), 1.2)
    assert {ALICE.edge_id.hex(), met.identity.edge_id.hex()} <= {*ids(target)}
    assert len(ids(target)) == 20


def test_made_up_members_get_an_address_few_initiations() -> None:
    target, supernode = registered()
    for start in range(0, 630, 9):
        supernode.say(Members(made_up(9, 3000 + start), supernode.digest(), page=0, pages=0), 1.0)
    sent, now = 0, 1.0
    while (now := target.engine.next_timer_at()) <= 31.0:
        target.engine.handle_timers(now)
        supernode.collect(now)
        supernode.answer_pings(now)
        sent += sum(to == HOME and datagram[0] == 1 for datagram, to in supernode.others)
        supernode.others.clear()
    assert 1000 < sent <= SHOWN_ADDRESS_BURST + 30 * SHOWN_ADDRESS_RATE
