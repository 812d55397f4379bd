"""The supernodes of one edge: which, under which key, and where their names lead to just now."""

import logging
import math
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import trio

from mesh import events
from mesh.addresses import Endpoint
from mesh.cli.values import HostPort, SupernodeAddress, read_kept_supernode
from mesh.errors import StateError
from mesh.events import Event
from mesh.net.lan import FoundSupernode
from mesh.net.state import StateDir
from mesh.net.stream_way import StreamWay

WEB_PORT = 443  # where a supernode may listen too, for those who have nothing else
RESOLVE_INTERVAL = 3.0  # s; between attempts while a supernode is out of reach
PATIENCE = 2.5  # s; without an answer before the user is told
REMINDER_INTERVAL = 30.0  # s; between lines about one supernode that stays out of reach
SPARE_REMINDER_INTERVAL = 600.0  # s; the same while another supernode serves us

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SupernodeTarget:
    """A supernode to register with.

    Attributes:
        host_ports: where it may answer, at least one; the first names it.
        fingerprint: what its key has to be, or "" for whatever it shows on first contact.
        how_to_accept: what to do if the key changed on purpose.
        is_kept: whether its key belongs in the file of known supernodes.
        ways: streams that lead to it, as the user or an invite names them.
        has_udp: whether it is worth asking at ``host_ports``, or only known by its ``ways``.
    """

    host_ports: tuple[HostPort, ...]
    fingerprint: str
    how_to_accept: str
    is_kept: bool = True
    ways: tuple[StreamWay, ...] = ()
    has_udp: bool = True

    def __str__(self) -> str:
        return str(self.host_ports[0])


def configured_target(
    supernode: SupernodeAddress, state: StateDir, *, is_invited: bool
) -> SupernodeTarget:
    """Return the target for a supernode that the user named; a key that was named too wins.

    Raises:
        StateError: the file of known supernodes is corrupt.
    """
    if supernode.fingerprint:
        how = (
            "ask for a new invite" if is_invited else "correct the #FINGERPRINT behind its address"
        )
        return _target(supernode, supernode.fingerprint, how)
    name = str(supernode.host_ports[0])
    how = f"remove the line of {name} from {state.path / 'known_supernodes'}"
    return _target(supernode, state.pinned(name) or "", how)


def _target(supernode: SupernodeAddress, fingerprint: str, how_to_accept: str) -> SupernodeTarget:
    return SupernodeTarget(
        supernode.host_ports,
        fingerprint,
        how_to_accept,
        ways=supernode.ways,
        has_udp=supernode.has_udp,
    )


def kept_targets(state: StateDir, community: str) -> tuple[SupernodeTarget, ...]:
    """Return the supernodes of the invite by which this machine joined ``community`` before.

    Raises:
        StateError: the file that keeps them is corrupt.
    """
    try:
        kept = [read_kept_supernode(line) for line in state.supernodes(community)]
    except ValueError as error:
        raise StateError(
            f"the supernodes kept for {community} are corrupt ({error}); join by invite again"
        ) from error
    return tuple(configured_target(supernode, state, is_invited=True) for supernode in kept)


def found_target(found: Iterable[FoundSupernode]) -> SupernodeTarget | None:
    """Return the best supernode of those that answered on the LAN, or None.

    LAN addresses change hands, so the key is not kept beyond this run.
    """
    usable = [one for one in found if one.serves_us] or [one for one in found if one.takes_any]
    if not usable:
        return None
    # A link-local address has a zone: good for us, but in an invite it would mean nothing.
    best = min(usable, key=lambda one: "%" in one.endpoint.host)
    place = HostPort(best.endpoint.host, best.endpoint.port)
    return SupernodeTarget((place,), best.fingerprint, "join again", is_kept=False)


class SupernodeWatch:
    """Keeps one supernode's name resolved while it is out of reach, and tells the user.

    Attributes:
        target: what to resolve; may be replaced when an embedded supernode's addresses change.
    """

    def __init__(
        self,
        number: int,
        target: SupernodeTarget,
        set_endpoints: Callable[[int, list[Endpoint]], None],
    ) -> None:
        """Watch supernode ``number``; ``set_endpoints`` is told where it is, nowhere included."""
        self._number = number
        self.target = target
        self._set_endpoints = set_endpoints
        self._is_served = False
        self._unreached_since = 0.0
        self._told: list[Endpoint] | None = None
        self._told_at = -math.inf
        self._others: set[int] = set()
        self._wake = trio.Event()

    def handle(self, event: Event) -> None:
        """Learn whether we are registered with this one, and with which others."""
        match event:
            case events.Registered(number) if number == self._number:
                self._is_served = True
            case events.SupernodeLost(number) if number == self._number:
                self._is_served = False
                self._unreached_since = trio.current_time()
                self.wake()
            case events.Registered(number):
                self._others.add(number)
            case events.SupernodeLost(number):
                self._others.discard(number)
            case _:
                pass

    def wake(self) -> None:
        """Look again at once, as after a change of networks."""
        self._wake.set()

    async def run(self) -> None:
        """Run until cancelled."""
        self._unreached_since = trio.current_time()
        while True:
            if not (self._is_served and self._told):
                found = await self._resolve_or_complain()
                if found != self._told:
                    self._report(found)
                elif found and self._is_out_of_reach():
                    self._tell(f"supernode {self.target} does not answer")
            self._wake = trio.Event()
            with trio.move_on_after(RESOLVE_INTERVAL):
                await self._wake.wait()

    def _is_out_of_reach(self) -> bool:
        return not self._is_served and trio.current_time() - self._unreached_since > PATIENCE

    def _report(self, found: list[Endpoint]) -> None:
        self._told = found
        self._set_endpoints(self._number, found)

    async def _resolve_or_complain(self) -> list[Endpoint]:
        """Resolve; a resolver that says nothing for long leads nowhere meanwhile.

        Where nothing but a proxy passes, it may ask servers for 30 s that it does not reach.
        """
        async with trio.open_nursery() as nursery:

            async def complain() -> None:
                await trio.sleep(PATIENCE)
                if self._told is None:
                    self._report([])

            nursery.start_soon(complain)
            found = await self._resolve()
            nursery.cancel_scope.cancel()
        return found

    async def _resolve(self) -> list[Endpoint]:
        """Return the endpoints; those on the port of the web, which is often open, come last."""
        found: dict[Endpoint, None] = {}
        for place in self.target.host_ports:
            try:
                found.update(dict.fromkeys(await resolve(place)))
            except OSError as error:
                self._tell(f"cannot resolve {place.host}: {error.strerror}")
        if self.target.is_kept:
            found.update(dict.fromkeys(Endpoint(one.host, WEB_PORT) for one in tuple(found)))
        return list(found)

    def _tell(self, what: str) -> None:
        interval = SPARE_REMINDER_INTERVAL if self._others else REMINDER_INTERVAL
        if trio.current_time() >= self._told_at + interval:
            self._told_at = trio.current_time()
            _log.warning("%s; trying on", what)


async def resolve(place: HostPort) -> list[Endpoint]:
    """Return the endpoints of a name or numeric address, the resolver's favourite first.

    Raises:
        OSError: the resolver's `socket.gaierror`, whose ``strerror`` is a sentence.
    """
    answers = await trio.socket.getaddrinfo(place.host, place.port, type=socket.SOCK_DGRAM)
    endpoints = [_endpoint(address) for _, _, _, _, address in answers]
    return list(dict.fromkeys(endpoints))


def _endpoint(address: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]) -> Endpoint:
    host = str(address[0]).partition("%")[0]
    scope = address[3] if len(address) == 4 else 0
    return Endpoint(f"{host}%{scope}" if scope else host, int(address[1]))
