"""Commands that arrive on the control socket of a running edge, answered from its engine."""

import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import trio

import mesh
from mesh.addresses import EdgeId
from mesh.cli.arguments import MAX_PINGS
from mesh.cli.terminal import printable
from mesh.errors import LocalError, MeshError
from mesh.events import ProbeAnswered
from mesh.net.control import Request
from mesh.snapshots import EdgeView, FdbView, MappingView, PeerView

PING_INTERVAL = 1.0  # s; between the pings of one command, as ping(8)
PING_TIMEOUT = 2.0  # s; more than any path that is worth having takes
TOKEN_BYTES = 8  # docs/protocol.md section 9

_Result = TypeVar("_Result")


class EngineViews(Protocol):
    """What of an edge's engine commands need."""

    def edge_view(self, now: float) -> EdgeView:
        """Return what ``status`` shows."""
        ...

    def peer_views(self, now: float) -> list[PeerView]:
        """Return the rows of ``peers``."""
        ...

    def fdb_views(self, now: float) -> list[FdbView]:
        """Return the rows of ``fdb``."""
        ...

    def find_peer(self, text: str) -> list[EdgeId]:
        """Return the peers that a name, id prefix, address or MAC stands for."""
        ...

    def probe(self, peer: EdgeId, token: bytes, now: float) -> bool:
        """Ping a peer; whether there is a path to do so."""
        ...


class Stepper(Protocol):
    """What of the driver commands need."""

    def step(self, call: Callable[[float], _Result]) -> _Result:
        """Run one engine call with the current time, then drain the engine's outputs."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the engine does not know about the program around it.

    Attributes:
        tap: the interface's name.
        offload: whether the kernel hands over super-frames.
        is_realtime: whether the kernel runs us ahead of busy programs at the moment.
        started_at: by trio's clock.
        drops: what the driver lost, by reason.
        invite: returns an invite, or raises MeshError where there is nothing to invite to yet.
        supernodes: returns ours as ``--supernode`` takes them, with the keys that are known.
        mapped: returns the ports that routers forward to us.
        stop: ends the program, cleanly.
    """

    tap: str
    offload: bool
    is_realtime: Callable[[], bool]
    started_at: float
    drops: Callable[[], Mapping[str, int]]
    invite: Callable[[], str]
    supernodes: Callable[[], list[str]]
    mapped: Callable[[], list[MappingView]]
    stop: Callable[[], None]


class Dispatcher:
    """Answers the requests of `mesh.cli.commands`; `dispatch` is what `serve_control` calls."""

    def __init__(self, engine: EngineViews, driver: Stepper, surroundings: Surroundings) -> None:
        """Answer for ``engine``, which ``driver`` runs."""
        self._engine = engine
        self._driver = driver
        self._surroundings = surroundings
        self._waiting: dict[bytes, trio.MemorySendChannel[ProbeAnswered]] = {}

    async def dispatch(self, request: Request) -> AsyncIterator[Any]:
        """Yield the replies to one request.

        Raises:
            MeshError: the command is unknown or cannot be carried out.
        """
        now = trio.current_time()
        match request.get("command"):
            case "status":
                yield self._status(now)
            case "peers":
                yield self._engine.peer_views(now)
            case "fdb":
                yield self._engine.fdb_views(now)
            case "invite":
                yield {"invite": self._surroundings.invite()}
            case "supernodes":
                yield self._surroundings.supernodes()
            case "ping":
                async for reply in self._ping(request.get("peer"), request.get("count")):
                    yield reply
            case "leave":
                yield {"pid": os.getpid()}
                self._surroundings.stop()
            case other:
                raise LocalError(f"unknown command {other!r}; is this mesh-edge newer than ours?")

    def receive_answer(self, event: ProbeAnswered) -> None:
        """Hand an answer to the command that waits for it."""
        waiting = self._waiting.pop(event.token, None)
        if waiting is not None:
            waiting.send_nowait(event)

    def _status(self, now: float) -> dict[str, Any]:
        view: dict[str, Any] = dict(self._engine.edge_view(now))
        around = self._surroundings
        drops = dict(view["drops"])
        for reason, count in around.drops().items():
            # The engine counts the send errors that it was told; the driver knows of all.
            drops[reason] = max(count, drops.get(reason, 0))
        return {
            **view,
            "drops": drops,
            "mapped": around.mapped(),
            "tap": around.tap,
            "offload": around.offload,
            "realtime": around.is_realtime(),
            "uptime_s": round(now - around.started_at, 3),
            "version": mesh.__version__,
        }

    async def _ping(self, text: object, count: object) -> AsyncIterator[dict[str, Any]]:
        peer = self._find_peer(text)
        if count is not None and not (isinstance(count, int) and 0 < count <= MAX_PINGS):
            raise LocalError(f"a count is a number from 1 to {MAX_PINGS}")
        number, next_at = 0, trio.current_time()
        while count is None or number < count:
            await trio.sleep_until(next_at)
            next_at += PING_INTERVAL
            number += 1
            answer = await self._probe(peer)
            why = "" if answer["kind"] == "direct" else self._why(peer)
            yield {"number": number, "peer": peer.hex(), **answer, "why": why}

    def _why(self, peer: EdgeId) -> str:
        views = self._engine.peer_views(trio.current_time())
        return next((view["why"] for view in views if view["id"] == peer.hex()), "")

    def _find_peer(self, text: object) -> EdgeId:
        if not isinstance(text, str) or not text:
            raise LocalError("ping needs a peer: its name, address, MAC or id")
        found = self._engine.find_peer(text)
        shown = printable(text)
        if not found:
            raise MeshError(f"no peer is known as {shown}; mesh-edge peers lists them")
        if len(found) > 1:
            ids = ", ".join(peer.hex()[:12] for peer in found[:5])
            raise MeshError(f"{len(found)} peers are known as {shown}; say which id: {ids}")
        return found[0]

    async def _probe(self, peer: EdgeId) -> dict[str, Any]:
        """Ping once; the reply has ``rtt_ms`` None where no answer came in time."""
        token = os.urandom(TOKEN_BYTES)
        send, receive = trio.open_memory_channel[ProbeAnswered](1)
        self._waiting[token] = send
        try:
            if not self._driver.step(lambda now: self._engine.probe(peer, token, now)):
                return {"kind": "none", "endpoint": "", "rtt_ms": None}
            with trio.move_on_after(PING_TIMEOUT):
                answer = await receive.receive()
                return {
                    "kind": str(answer.kind),
                    "endpoint": str(answer.endpoint or ""),
                    "rtt_ms": round(1000 * answer.rtt, 3),
                }
            return {"kind": "lost", "endpoint": "", "rtt_ms": None}
        finally:
            self._waiting.pop(token, None)
