"""What a member gains by forging the source of what it says to the supernode: nothing."""

from mesh.addresses import Endpoint
from mesh.wire.inner import wrap_control
from mesh.wire.messages import Ping, encode_message
from tests.virtual_network import Packet, Segment
from tests.world import World

BYSTANDER = Endpoint("5.0.200.200", 4444)


def test_a_forged_move_makes_no_member_send_to_a_bystander() -> None:
    world = World(3)
    supernode = world.add_supernode()
    edges = world.add_edges([f"e{number}" for number in range(6)])
    world.run_until_all_are_joined(30)
    world.run_for(5)
    hit: list[Packet] = []

    def note(_now: float, _segment: Segment, packet: Packet) -> None:
        if packet.destination == BYSTANDER:
            hit.append(packet)

    world.taps.append(note)
    session = edges[0].engine._supernodes.primary.contact.session
    ping = session.seal(wrap_control(encode_message(Ping(b"12345678"))))
    world.add_host("mallory").ports[0].send(Packet(BYSTANDER, supernode.endpoint, ping))
    world.run_for(20)
    assert {packet.source for packet in hit} == {supernode.endpoint}
    assert sum(len(packet.payload) for packet in hit) <= 3 * len(ping)
