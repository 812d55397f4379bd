"""Coming and going leaves a machine as it was; what happens to the TAP meanwhile is survived.

```
   supernode ── internet ─┬─ anna ═══ mesh0
                          └─ bert ═══ mesh0     stays
```
"""

import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.netns.lab import Lab, address_of
from tests.netns.product import Edge, Supernode, join_all, wait_until

BROADCAST_ROUTES = ("255.255.255.255 dev mesh0", "224.0.0.0/4 dev mesh0")


@dataclass
class Pair:
    """The topology; each test joins with anna and has her leave."""

    supernode: Supernode
    anna: Edge
    bert: Edge


@pytest.fixture(scope="module")
def pair(lab: Lab) -> Pair:
    internet = lab.internet()
    host = lab.public_host("supernode", internet)
    supernode = Supernode(host, address_of(host))
    supernode.serve()
    anna, bert = (
        Edge(lab.public_host(name, internet), "leaving", "--supernode", supernode.endpoint)
        for name in ("anna", "bert")
    )
    join_all(bert)
    return Pair(supernode, anna, bert)


@pytest.fixture(autouse=True)
def anna_leaves(pair: Pair) -> object:
    """Whatever a test does, the next one finds anna gone."""
    yield
    if pair.anna.is_running:
        pair.anna.kill()


def _machine(edge: Edge) -> tuple[set[str], list[str], list[Path]]:
    """Return what an edge may change on its machine, apart from its state."""
    routes = [line for line in edge.host.routes().splitlines() if "mesh" in line]
    return edge.host.interfaces(), routes, sorted(edge.runtime.rglob("*"))


def _has_broadcast_routes(edge: Edge) -> bool:
    routes = edge.host.routes()
    return all(route in routes for route in BROADCAST_ROUTES)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(pair: Pair, number: signal.Signals) -> None:
    before = _machine(pair.anna)
    pair.anna.join()
    interfaces, routes, files = _machine(pair.anna)
    assert "mesh0" in interfaces
    assert routes
    assert files
    assert pair.anna.stop(number) == 0
    assert _machine(pair.anna) == before
    assert "Traceback" not in pair.anna.stderr
    wait_until(lambda: pair.bert.peer(pair.anna) is None, 3.0, "bert was told")
    assert len(pair.supernode.edges()) == 1


def test_a_signal_during_the_join_ends_it_cleanly(pair: Pair) -> None:
    before = _machine(pair.anna)
    pair.anna.begin()
    wait_until(lambda: "mesh0" in pair.anna.host.interfaces(), 10.0, "the TAP is there")
    assert pair.anna.stop(signal.SIGINT) == 0
    assert _machine(pair.anna) == before
    assert "Traceback" not in pair.anna.stderr


def test_the_leave_command_ends_it_cleanly(pair: Pair) -> None:
    before = _machine(pair.anna)
    pair.anna.join()
    pair.anna.command("leave", "leaving")
    assert pair.anna.wait() == 0
    assert _machine(pair.anna) == before
    done = pair.anna.command("status", check=False)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_supernode_that_is_told_to_stop_leaves_no_socket(pair: Pair) -> None:
    assert pair.supernode.stop(signal.SIGTERM) == 0
    assert list(pair.supernode.runtime.rglob("*.sock")) == []
    assert "Traceback" not in pair.supernode.stderr
    pair.supernode.serve()
    wait_until(lambda: len(pair.supernode.edges()) == 1, 15.0, "bert came back")


def test_broadcast_routes_lead_to_the_tap_while_it_runs(pair: Pair) -> None:
    pair.anna.join()
    assert _has_broadcast_routes(pair.anna), pair.anna.host.routes()
    assert pair.anna.stop() == 0
    routes = pair.anna.host.routes()
    assert not any(route in routes for route in BROADCAST_ROUTES)


def test_broadcast_routes_can_be_refused(pair: Pair) -> None:
    pair.anna.join("--no-broadcast-routes")
    routes = pair.anna.host.routes()
    assert not any(route in routes for route in BROADCAST_ROUTES)
    assert pair.anna.stop() == 0


def test_a_tap_that_is_set_down_and_up_again_works_as_before(pair: Pair) -> None:
    pair.anna.join()
    pair.anna.wait_ping(pair.bert, 5.0)
    pair.anna.host.ip("link set mesh0 down")
    assert not pair.anna.can_ping(pair.bert, 0.2)
    assert pair.anna.is_running
    pair.anna.host.ip("link set mesh0 up")
    pair.anna.wait_ping(pair.bert, 5.0)
    wait_until(lambda: _has_broadcast_routes(pair.anna), 3.0, "the broadcast routes are back")
    ula = ("ip", "-6", "address", "show", "mesh0", "scope", "global")
    wait_until(lambda: "inet6 fd" in pair.anna.host.run(*ula).stdout, 3.0, "the ULA is back")
    assert pair.anna.stop() == 0


def test_a_tap_that_is_deleted_ends_it_with_one_clear_line(pair: Pair) -> None:
    pair.anna.join()
    pair.anna.host.ip("link delete mesh0")
    assert pair.anna.wait() == 1
    assert "mesh0" in pair.anna.stderr.strip().splitlines()[-1]
    assert "Traceback" not in pair.anna.stderr
    assert list(pair.anna.runtime.rglob("*.sock")) == []
