"""What a hostile member, supernode, observer or outsider must not get out of an edge."""

import random

import pytest

from mesh.addresses import Endpoint, MacAddress
from mesh.core.leased import is_acceptable
from mesh.core.membership import Membership
from mesh.crypto.cookie import MAC1_KEY_SUPERNODE, CookieSecret
from mesh.errors import LocalError
from mesh.events import PeerDown, Refused, SupernodeLost
from mesh.wire.datagram import DatagramType, encode_unknown_session
from mesh.wire.inner import wrap_control
from mesh.wire.messages import Bye, Hello, Member, Members, Ping, encode_message
from supernode.limits import SupernodeLimits
from tests.review.hostile_member import HOME, HostileMember, Target
from tests.virtual_network import LinkConditions, Packet, Segment
from tests.virtual_topology import Attacker
from tests.world import World

PING = Ping(token=b"12345678")
BYSTANDER = "198.51.100.7"


def test_a_ping_from_port_zero_is_survived() -> None:
    target = Target()
    member = HostileMember(target)
    target.receive(member.seal(PING), Endpoint(HOME.host, 0), 1.1)
    assert target.sent() == []


def test_changing_cookies_draw_no_more_than_a_few_initiations() -> None:
    target = Target()
    supernode = Endpoint("203.0.113.1", 7777)
    secret = CookieSecret(random.Random(3).randbytes)
    target.engine.set_supernode_endpoints(0, [supernode], 0.0)
    initiations = 0
    for port in range(1, 200):
        for datagram, _ in target.sent():
            initiations += 1
            claimed = Endpoint("203.0.113.50", port)
            reply = secret.reply(datagram, claimed, MAC1_KEY_SUPERNODE, 0.0)
            target.receive(reply, supernode, 0.0)
    assert initiations <= 3


def test_a_list_that_never_ends_is_remembered_in_part_only() -> None:
    dice = random.Random(4)
    membership = Membership(Target().identity.edge_id)
    for _ in range(2000):
        members = tuple(
            Member(dice.randbytes(32), Endpoint(BYSTANDER, 9), 1, "", aes=True) for _ in range(10)
        )
        membership.receive_members(Members(members, bytes(8), page=0, pages=2))
    assert len(membership._listed) <= 4096 + 10


@pytest.mark.parametrize(
    "address", ["8.8.8.9/1", "8.1.2.3/8", "192.168.1.77/24", "192.168.0.1/16", "10.0.0.5/16"]
)
def test_a_lease_outside_the_communitys_own_proposals_is_not_configured(address: str) -> None:
    assert not is_acceptable(address, Target().config)


def test_candidates_of_a_hello_make_no_reflector_of_us() -> None:
    target = Target()
    member = HostileMember(target)
    target.receive(member.seal(PING), HOME, 1.0)
    target.sent()
    invented = tuple(Endpoint(BYSTANDER, port) for port in range(1000, 1032))
    hello = Hello(
        name="m", mac=MacAddress(b"\x02" * 6), addresses=(), candidates=invented, mtu=1500,
        answer=False,
    )  # fmt: skip
    received = reflected = 0
    for step in range(200):
        now = 1.0 + step / 10
        if step % 21 == 0:
            datagram = member.seal(hello)
            received += len(datagram)
            target.receive(datagram, HOME, now)
        target.engine.handle_timers(now)
        reflected += sum(len(d) for d, to in target.sent() if to.host == BYSTANDER)
    assert reflected <= 6 * received


def test_one_raced_pong_does_not_take_the_supernode_away() -> None:
    world = World(6)
    supernode = world.add_supernode()
    a, b = world.add_edges("ab", relay_only=True)
    world.run_until_all_are_joined()
    world.run_for(4)
    ours = Endpoint(a.host.addresses()[0], a.udp_port)
    raced: list[Packet] = []

    def race(_now: float, _segment: Segment, packet: Packet) -> None:
        is_transport = packet.payload[0] == DatagramType.TRANSPORT
        if not raced and (packet.source, packet.destination) == (supernode.endpoint, ours):
            if not is_transport:
                return
            raced.append(packet)
            a.driver.receive_packet(Packet(Endpoint("5.0.77.77", 99), ours, packet.payload))

    world.taps.append(race)
    world.run_for(6)
    assert raced
    frames = []
    for _ in range(20):
        frames.append(world.send_frame(b, a))
        world.run_for(0.25)
    assert all(world.count_received(a, frame) for frame in frames)


def test_forged_hints_do_not_turn_a_little_loss_into_outages() -> None:
    world = World(5)
    supernode = world.add_supernode()
    lossy = LinkConditions(latency=0.01, loss=0.03)
    a, _ = world.add_edges("ab", conditions=lossy)
    world.run_until_all_are_joined(60)
    attacker = Attacker(world)
    hint = encode_unknown_session(DatagramType.TRANSPORT, bytes(12))
    for _ in range(1500):
        ours = Endpoint(a.host.addresses()[0], a.udp_port)
        attacker.send(ours, hint, spoofed_source=supernode.endpoint)
        world.run_for(0.02)
    assert not a.reported(SupernodeLost)


def test_a_goodbye_of_an_earlier_life_says_nothing_about_this_one() -> None:
    world = World(6)
    world.add_supernode()
    a, b = world.add_edges("ab")
    world.run_until_all_are_joined()
    world.run_for(4)
    session = b.engine._peers.get(a.edge_id).sessions.current
    goodbye = session.seal(wrap_control(encode_message(Bye())))
    b.crash()
    world.run_for(0.2)
    b.restart(udp_port=b.udp_port)
    world.run_for(8)
    ours = Endpoint(a.host.addresses()[0], a.udp_port)
    downs = len(a.reported(PeerDown))
    a.driver.receive_packet(Packet(Endpoint("5.0.9.9", 1), ours, goodbye))
    world.run_for(1)
    assert len(a.reported(PeerDown)) == downs


def test_a_goodbye_counts_at_once_when_both_sides_have_initiated() -> None:
    world = World(1)
    world.add_supernode()
    a, b = world.add_edges("ab")
    world.run_until_all_are_joined()
    world.run_for(4)
    for edge, other in ((a, b), (b, a)):
        peer = edge.engine._peers.get(other.edge_id)
        edge.driver.step(peer._start_handshake)
    world.run_for(1)
    b.stop()
    world.run_for(1)
    assert a.reported(PeerDown)


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


def test_a_restart_is_noticed_though_the_first_answer_to_it_was_lost() -> None:
    target = Target()
    member = HostileMember(target)
    target.receive(member.seal(PING), HOME, 1.0)
    for attempt in (1, 2):
        member.initiate(target, 2.0 + attempt, number=(1 << 32) + attempt)
    peer = target.engine._peers.get(member.identity.edge_id)
    assert peer._handshake.has_restarted


def test_no_member_has_the_relay_id_zero() -> None:
    member = Member(bytes(32), HOME, 0, "", aes=True)
    with pytest.raises(LocalError):
        encode_message(Members((member,), bytes(8), page=0, pages=0))
