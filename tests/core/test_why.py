"""What ``mesh-edge peers`` says about ways that are not direct, and about all that were tried."""

import re

from mesh.constants import PATH_TIMEOUT
from mesh.core.nat_kind import Hopeless
from mesh.snapshots import PeerView
from tests.core.edge_alone import HOME, SUPERNODE
from tests.core.joined import Joined
from tests.virtual_nat import PORT_RESTRICTED, SYMMETRIC, NatBehaviour
from tests.world import World

ENETUNREACH = 101


def view_of(joined: Joined, now: float) -> PeerView:
    [view] = joined.engine.peer_views(now)
    return view


def test_a_direct_path_that_is_well_needs_no_reason() -> None:
    view = view_of(Joined(), 1.5)
    assert view["why"] == ""
    states = [(way["kind"], way["endpoint"], way["state"]) for way in view["paths"]]
    assert states[0] == ("direct", str(HOME), "in use")
    assert ("relay", str(SUPERNODE), "tried") in states


def run_in_silence(joined: Joined, until: float) -> None:
    """Let frames be sent every 0.1 s, and nothing come back."""
    for step in range(11, int(until * 10) + 1):
        joined.engine.handle_timers(step / 10)
        joined.engine.receive_frames(bytes(10) + b"\xff" * 6 + bytes(60), step / 10)
        joined.target.sent()


def test_a_path_in_doubt_says_since_when_it_is_silent() -> None:
    joined = Joined()
    run_in_silence(joined, 3.5)
    view = view_of(joined, 3.5)
    assert view["why"] == "the path has been silent for 2.5 s: frames go two ways"
    assert view["paths"][0]["state"] == "in doubt"


def test_a_path_that_icmp_calls_closed_says_so_then_and_later() -> None:
    joined = Joined()
    joined.engine.receive_unreachable(0, HOME, b"", 3.0)
    view = view_of(joined, 3.5)
    assert view["why"] == "a router or firewall refuses the path: frames go two ways"
    assert view["paths"][0]["state"] == "in doubt"
    run_in_silence(joined, 1.0 + PATH_TIMEOUT + 5.0)
    assert "refused on its way" in view_of(joined, 30.0)["why"]


def test_a_refused_path_says_who_refused_and_when() -> None:
    joined = Joined()
    joined.engine.receive_send_error(0, HOME, ENETUNREACH, 3.0)
    view = view_of(joined, 8.0)
    assert view["why"] == "this machine refused to send by the direct path 5 s ago"
    assert view["paths"][0]["kind"] == "relay"


def test_a_path_that_fell_silent_is_told_until_there_is_another_one() -> None:
    joined = Joined()
    run_in_silence(joined, 1.0 + PATH_TIMEOUT + 5.0)
    assert view_of(joined, 27.0)["why"].startswith("the direct path fell silent ")


def relayed_pair(
    ours: NatBehaviour, theirs: NatBehaviour, *, has_probe_ports: bool = True, **settings: object
) -> PeerView:
    world = World(seed=3)
    world.add_supernode(has_probe_ports=has_probe_ports)
    a = world.add_edge("a", world.add_nat(ours), **settings)  # type: ignore[arg-type]
    b = world.add_edge("b", world.add_nat(theirs), **settings)  # type: ignore[arg-type]
    world.run_until_all_are_joined()
    world.run_for(10)
    assert not a.is_direct_to(b)
    return a.peer_view(b)


def test_a_relayed_peer_that_was_never_reached_says_what_was_tried() -> None:
    view = relayed_pair(SYMMETRIC, SYMMETRIC, has_probe_ports=False)
    assert view["why"].startswith("none of its ")
    assert {way["state"] for way in view["paths"]} == {"in use", "tried"}
    assert {way["source"] for way in view["paths"]} >= {"relay", "introduced", "told"}


def test_nats_that_leave_no_hope_are_named_as_the_reason() -> None:
    assert relayed_pair(SYMMETRIC, SYMMETRIC)["why"] == Hopeless.BOTH_HARD
    refused = relayed_pair(PORT_RESTRICTED, SYMMETRIC, hard_punch=False)
    assert refused["why"] == Hopeless.REFUSED_HERE


def test_guesses_that_failed_are_told_with_when_the_next_is_due() -> None:
    world = World(seed=3)
    world.add_supernode()
    deaf = world.add_nat(PORT_RESTRICTED)
    supernode = world.supernodes[0].endpoint.host
    deaf._may_enter = lambda _mapping, packet: packet.source.host == supernode  # type: ignore[method-assign]
    a = world.add_edge("a", world.add_nat(SYMMETRIC))
    b = world.add_edge("b", deaf)
    world.run_for(20)
    pattern = (
        r"none of its \d+ addresses has answered; guessing at the ports of our NAT failed once, "
    )
    assert re.fullmatch(pattern + r"next time in \d\d s", a.peer_view(b)["why"])


def test_orders_are_named_as_the_reason() -> None:
    view = relayed_pair(PORT_RESTRICTED, PORT_RESTRICTED, relay_only=True)
    assert view["why"] == "we are told to use the relay only (--relay-only)"
    view = relayed_pair(SYMMETRIC, SYMMETRIC, no_relay=True)
    assert view["why"].endswith("; no relay, as we are told (--no-relay)")
