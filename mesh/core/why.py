"""Why a peer is reached as it is, and what else has been tried: for ``mesh-edge peers``."""

from collections.abc import Callable
from typing import TypeAlias

from mesh.core.config import EdgeConfig
from mesh.core.outbox import Via
from mesh.core.path import Path, PathLoss
from mesh.core.peer import Peer
from mesh.engine import Transport
from mesh.snapshots import WayView

TransportOf: TypeAlias = Callable[[Via], Transport]
"""What carries datagrams to the endpoint of a way."""

_LOSSES = {
    PathLoss.SILENT: "the direct path fell silent {ago:.0f} s ago",
    PathLoss.REJECTED: "the direct path has been refused on its way, and was left {ago:.0f} s ago",
    PathLoss.REFUSED: "this machine refused to send by the direct path {ago:.0f} s ago",
}


def why(peer: Peer, config: EdgeConfig, our_nat: str, now: float) -> str:
    """Return in words why there is no direct path, or why it is not relied on; else nothing.

    Args:
        peer: whom it is about.
        config: ours.
        our_nat: the verdict, as in ``mesh-edge status``.
        now: the time.
    """
    active = peer.paths.active
    if active is not None and not active.is_relay:
        return _why_in_doubt(active, now)
    return _why_not_direct(peer, config, our_nat, now) + _without_relay(active, config)


def _why_in_doubt(path: Path, now: float) -> str:
    if not path.is_in_doubt:
        return ""
    if path.rejected_at >= path.doubted_at:
        return "a router or firewall refuses the path: frames go two ways"
    return f"the path has been silent for {now - path.last_heard_at:.1f} s: frames go two ways"


def _why_not_direct(peer: Peer, config: EdgeConfig, our_nat: str, now: float) -> str:
    loss = peer.paths.loss
    if config.relay_only:
        return "we are told to use the relay only (--relay-only)"
    if peer.sessions.current is None:
        return "there is no session yet"
    if peer.direct_hopeless is not None:
        return str(peer.direct_hopeless)
    if loss is not None:
        kind, at = loss
        return _LOSSES[kind].format(ago=now - at)
    if not len(peer.paths):
        return "the peer has told no address that may be tried"
    tried = f"none of its {len(peer.paths)} addresses has answered"
    return tried + _what_of_guesses(peer, our_nat, now)


def _what_of_guesses(peer: Peer, our_nat: str, now: float) -> str:
    failures = peer.guess.failures
    if not failures:
        return "; our NAT is a hard one" if our_nat == "hard" else ""
    times = "once" if failures == 1 else f"{failures} times"
    again = f"next time in {max(peer.guess.due_at - now, 0.0):.0f} s"
    return f"; guessing at the ports of our NAT failed {times}, {again}"


def _without_relay(active: Path | None, config: EdgeConfig) -> str:
    return "; no relay, as we are told (--no-relay)" if active is None and config.no_relay else ""


def way_views(peer: Peer, transport_of: TransportOf, now: float) -> list[WayView]:
    """Return all ways to a peer, the one in use first, then the others by what is known of them."""
    ways = sorted(peer.paths.paths(), key=lambda path: _order(peer, path, now))
    return [
        WayView(
            kind=str(path.kind),
            transport=str(transport_of(path.via)),
            endpoint=str(path.via.endpoint),
            source=path.source.name.lower(),
            state=_state(peer, path, now),
            rtt_ms=None if path.rtt is None else round(path.rtt * 1000, 3),
        )
        for path in ways
    ]


_STATES = ("in use", "in doubt", "answers", "tried")


def _order(peer: Peer, path: Path, now: float) -> tuple[int, float]:
    return _STATES.index(_state(peer, path, now)), path.rtt or 0.0


def _state(peer: Peer, path: Path, now: float) -> str:
    is_used = path is peer.paths.active
    if is_used and (path.is_relay or path.is_trusted(now) or not path.is_in_doubt):
        return "in use"
    if path.is_in_doubt:
        return "in doubt"
    return "answers" if path.is_validated else "tried"
