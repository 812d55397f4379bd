"""What a check makes of a supernode's observation ports, through NATs that a test makes up."""

import itertools
import math
import random

import pytest

from mesh.addresses import Endpoint
from mesh.core.check import CheckEngine, Target
from mesh.core.conversation import Conversation
from mesh.crypto.identity import Identity
from mesh.engine import ReceivedDatagrams
from supernode.engine import SupernodeEngine
from supernode.limits import SupernodeLimits

SUPERNODE = Endpoint("5.0.0.1", 7777)
PORTS = {7777: 0, 7779: 501, 7780: 502}
PUBLIC = "6.0.0.1"


class Nat:
    """Gives out ports, and lets in whoever it should."""

    def __init__(self, *, is_symmetric: bool, filters: bool, rejects: bool = False) -> None:
        self.is_symmetric, self.filters, self.rejects = is_symmetric, filters, rejects
        self.sent_to: set[int] = set()
        self.claimed: set[int] = set()
        self._fresh = itertools.count(20001)
        self._ports: dict[int, int] = {}

    def mapped(self, port: int) -> int:
        self.sent_to.add(port)
        key = port if self.is_symmetric or port in self.claimed else 0
        if key not in self._ports:
            self._ports[key] = next(self._fresh)
        return self._ports[key]

    def lets_in(self, port: int) -> bool:
        if not self.filters or port in self.sent_to:
            return True
        if self.rejects:
            self.claimed.add(port)
        return False


def run(nat: Nat, *, has_ports: bool = True) -> Conversation:
    """Let a check talk with a supernode that is no way away."""
    dice = random.Random(1).randbytes
    supernode = SupernodeEngine(Identity.generate(dice), SupernodeLimits(), dice, 0.0)
    if has_ports:
        supernode.open_observation_sockets((7779, 7780), [(501, 502)])
    check = CheckEngine([Target(SUPERNODE)], dice, 0.0, bytes(32))
    now = 0.0
    while True:
        for sent in check.datagrams_to_send():
            port = sent.destination.port
            source = Endpoint(PUBLIC, nat.mapped(port))
            data = b"".join(sent.buffers)
            supernode.receive_datagrams(
                ReceivedDatagrams(data, len(data), source, PORTS[port]), now
            )
        for answer in supernode.datagrams_to_send():
            [port] = [port for port, socket in PORTS.items() if socket == answer.socket]
            if nat.lets_in(port):
                data = b"".join(answer.buffers)
                source = Endpoint(SUPERNODE.host, port)
                check.receive_datagrams(ReceivedDatagrams(data, len(data), source, 0), now)
        if check.next_timer_at() == math.inf:
            assert check.is_done
            return check.conversations[0]
        now = max(now, check.next_timer_at())
        check.handle_timers(now)


@pytest.mark.parametrize("filters", [True, False])
def test_a_nat_that_maps_alike_is_seen_to_by_two_ports(filters: bool) -> None:  # noqa: FBT001
    nat = Nat(is_symmetric=False, filters=filters)
    found = run(nat)
    assert found.observed == [found.seen_as]
    assert found.lets_in_strangers is not filters
    assert 7780 not in nat.sent_to


@pytest.mark.parametrize("filters", [True, False])
def test_a_symmetric_nat_shows_a_third_port(filters: bool) -> None:  # noqa: FBT001
    found = run(Nat(is_symmetric=True, filters=filters))
    assert found.seen_as == Endpoint(PUBLIC, 20001)
    assert [endpoint.port for endpoint in found.observed] == [20002, 20003]
    assert found.lets_in_strangers is not filters


def test_a_router_that_rejects_is_not_taken_for_a_symmetric_nat() -> None:
    found = run(Nat(is_symmetric=False, filters=True, rejects=True))
    assert found.observed == [found.seen_as]


def test_a_supernode_without_observation_ports_says_nothing_of_filtering() -> None:
    found = run(Nat(is_symmetric=True, filters=True), has_ports=False)
    assert found.seen_as is not None
    assert found.observed == []
    assert found.lets_in_strangers is None
