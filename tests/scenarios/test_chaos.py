"""Everything at once: machines crash, NATs forget, links fail; after a rest all is well again."""

import random
from collections.abc import Callable

import pytest

from tests.virtual_edge import VirtualEdge
from tests.virtual_nat import (
    ADDRESS_RESTRICTED,
    FULL_CONE,
    HOME_ROUTER,
    PORT_RESTRICTED,
    REJECTING_ROUTER,
    SYMMETRIC,
    NatRouter,
)
from tests.virtual_network import INTERNET, UNPLUGGED, LinkConditions, Port
from tests.virtual_topology import Wiretap
from tests.world import World

KINDS = [FULL_CONE, ADDRESS_RESTRICTED, HOME_ROUTER, PORT_RESTRICTED, REJECTING_ROUTER, SYMMETRIC]
ROUGH = LinkConditions(latency=0.03, jitter=0.02, loss=0.1, duplication=0.05, reordering=0.1)
REST = 40.0  # s; a supernode takes 20 s to forget, a refused or failed attempt 5 s to be repeated


class Chaos:
    """Six edges behind NATs of any kind, and what can go wrong with them."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.world = World(seed)
        self.supernode = self.world.add_supernode()
        self.nats: list[NatRouter] = []
        self.links: list[Port] = [self.supernode.host.ports[0]]
        self.edges = [self._add_edge(f"edge {number}") for number in range(6)]

    def _add_edge(self, name: str) -> VirtualEdge:
        choice = self.dice.random()
        if choice < 0.2:
            edge = self.world.add_edge(name)
            self.links.append(edge.host.ports[0])
            return edge
        if choice > 0.4 or not self.nats:
            self.nats.append(self.world.add_nat(self.dice.choice(KINDS)))
            self.links.append(self.nats[-1].outside_port)
        return self.world.add_edge(name, self.dice.choice(self.nats))

    def do_something(self) -> None:
        """Let one thing happen."""
        happenings: list[Callable[[], None]] = [
            self._restart_an_edge,
            self._stop_or_start_an_edge,
            self._restart_the_supernode,
            self._trouble_a_nat,
            self._trouble_a_link,
            self._talk,
        ]
        self.dice.choice(happenings)()
        self.world.run_for(self.dice.choice([0.0, 0.05, 0.5, 3.0, 10.0, 40.0]))

    def calm_down(self) -> None:
        """Repair everything and rest."""
        for link in self.links:
            link.conditions = INTERNET
        for edge in self.edges:
            if not edge.is_running:
                edge.restart()
        self.world.run_for(REST)

    def _restart_an_edge(self) -> None:
        edge = self.dice.choice(self.edges)
        edge.restart(udp_port=self.dice.choice([0, edge.udp_port]))

    def _stop_or_start_an_edge(self) -> None:
        edge = self.dice.choice(self.edges)
        if edge.is_running:
            edge.stop()
        else:
            edge.restart()

    def _restart_the_supernode(self) -> None:
        if self.dice.random() < 0.5:
            self.supernode.crash()
        else:
            self.supernode.stop()
        self.world.run_for(self.dice.choice([0.0, 1.0, 30.0]))
        self.supernode.start()

    def _trouble_a_nat(self) -> None:
        if self.nats:
            nat = self.dice.choice(self.nats)
            if self.dice.random() < 0.7:
                nat.flush()
            else:
                nat.change_address(self.world.public_address())

    def _trouble_a_link(self) -> None:
        link = self.dice.choice(self.links)
        link.conditions = self.dice.choice([UNPLUGGED, ROUGH, INTERNET])

    def _talk(self) -> None:
        for edge in self.edges:
            if edge.is_running:
                self.world.send_frame(edge)
                self.world.send_frame(edge, self.dice.choice(self.edges))


@pytest.mark.parametrize("seed", range(12))
def test_after_any_trouble_all_edges_reach_each_other_again(seed: int) -> None:
    chaos = Chaos(seed)
    wire = Wiretap(chaos.world)
    for _ in range(30):
        chaos.do_something()
    chaos.calm_down()
    assert chaos.supernode.edge_count() == len(chaos.edges)
    addresses = {edge.address for edge in chaos.edges}
    assert len(addresses) == len(chaos.edges)
    for a in chaos.edges:
        for b in chaos.edges:
            if a is not b:
                chaos.world.ping(a, b, timeout=1)
    chaos.world.check_frames()
    wire.packets.clear()
    chaos.world.run_for(60)
    assert len(wire.packets) < 60 * 50, "calm edges are quiet"
