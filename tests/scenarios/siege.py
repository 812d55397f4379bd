"""Two edges that talk, and a third machine that heard all of it and now attacks."""

import random

from mesh.events import PathChanged, PeerDown
from tests.virtual_network import Packet
from tests.virtual_topology import Attacker, Wiretap
from tests.world import World

COUNT = 200  # datagrams per attack


class Siege:
    """Two edges that talk, directly or relayed, and a third machine that heard all of it."""

    def __init__(self, *, is_direct: bool, seed: int = 1) -> None:
        self.world = World(seed)
        self.supernode = self.world.add_supernode()
        self.wire = Wiretap(self.world)
        self.a, self.b = self.world.add_edges("ab", relay_only=not is_direct)
        self.world.run_until_all_are_joined()
        self.world.run_for(4)
        for _ in range(COUNT):
            self.world.send_frame(self.a, self.b)
            self.world.send_frame(self.b, self.a)
            self.world.run_for(0.01)
        self.world.run_for(0.1)
        self.attacker = Attacker(self.world)
        self.recorded = [packet for _, packet in self.wire.packets]
        self.dice = random.Random(seed)
        self._frames = self._deliveries()
        self._paths = self._path_events()

    def frames_on_the_wire(self) -> list[Packet]:
        """Return the last datagrams that carried frames, one from a, one from b and so on."""
        return [packet for packet in self.recorded if len(packet.payload) > 130][-2 * COUNT :]

    def strike(self, packet: Packet, payload: bytes, *, spoofed: bool) -> None:
        """Send ``payload`` where ``packet`` went, from its source or from our own."""
        source = packet.source if spoofed else None
        self.attacker.send(packet.destination, payload, spoofed_source=source)
        self.world.run_for(0.003)

    def check_unharmed(self) -> None:
        """Assert that nothing came of it, now and a while later."""
        self.world.run_for(1)
        assert self._deliveries() == self._frames
        for _ in range(20):
            self.world.ping(self.a, self.b)
            self.world.run_for(1)
        assert self._path_events() == self._paths
        assert not self.a.reported(PeerDown)
        assert not self.b.reported(PeerDown)
        self.world.check_frames()

    def dropped(self) -> int:
        """Return how many datagrams the three engines have dropped."""
        counts = (self.a.drops(), self.b.drops(), self.supernode.drops())
        return sum(sum(drops.values()) for drops in counts)

    def _deliveries(self) -> list[int]:
        return [len(self.a.frames), len(self.b.frames)]

    def _path_events(self) -> list[int]:
        return [len(edge.reported(PathChanged)) for edge in (self.a, self.b)]
