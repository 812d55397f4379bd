"""A supernode that runs: engine, driver, lease store, LAN responder and control socket together.

Used by ``supernode run``, and by ``mesh-edge join`` where it hosts an embedded supernode.
"""

import base64
import contextlib
import dataclasses
import errno
import hmac
import ipaddress
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, TypeVar

import trio

import mesh
from mesh.addresses import Endpoint
from mesh.constants import DEFAULT_PORT
from mesh.crypto.identity import Identity
from mesh.engine import SocketId, WellKnownSocket
from mesh.errors import ConfigError, MeshError
from mesh.events import (
    EdgeGone,
    EdgeRegistered,
    Event,
    LeaseForgotten,
    LeaseGranted,
    SubnetChosen,
    SubnetForgotten,
)
from mesh.net.control import ControlError, Request, serve_control
from mesh.net.driver import Driver
from mesh.net.lan import LanResponder, serve_lan
from mesh.net.log_limit import LogLimit
from mesh.net.paths import control_path
from mesh.net.state import StateDir
from mesh.net.stream import StreamPort
from mesh.net.udp import UdpPort, open_udp, open_udp_pair
from mesh.wire.lan import lan_query_tag
from supernode.config import SupernodeConfig, parse_listen_address, parse_trusted_proxy
from supernode.engine import SupernodeEngine
from supernode.lease_keeper import LeaseKeeper
from supernode.probe_ports import ObservationPorts, open_observation_ports
from supernode.store.contract import Changes, LeaseStore
from supernode.store.urls import open_store
from supernode.streams import (
    StreamHost,
    StreamServer,
    StreamSettings,
    allow_descriptors,
    listen,
    listen_beside,
    server_tls_context,
)

CONTROL_NAME = "supernode"
FLUSH_INTERVAL = 60.0  # s; when leases are stored that nobody waits for
_STORE_FIRST = (LeaseGranted, LeaseForgotten, SubnetChosen, SubnetForgotten)
_NO_FAMILY = {errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL}

_ErrorT = TypeVar("_ErrorT", bound=BaseException)

_log = logging.getLogger(__name__)


class SupernodeServer:
    """One supernode.

    Attributes:
        endpoints: what it listens on, once `run` has started; ``0.0.0.0`` or ``::`` for any.
        stream_endpoints: where it takes streams.
        fingerprint: of its key, once `run` has started.
    """

    def __init__(self, config: SupernodeConfig) -> None:
        """Prepare; nothing is opened before `run`."""
        self.endpoints: list[Endpoint] = []
        self.stream_endpoints: list[Endpoint] = []
        self.fingerprint = ""
        self._config = config
        self._log_limit = LogLimit()
        self._engine: SupernodeEngine
        self._driver: Driver
        self._keeper: LeaseKeeper
        self._streams: StreamServer
        self._listening: list[socket.socket] = []
        self._started_at = 0.0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; then tell every edge and store what is left to store.

        Raises:
            ConfigError: an address or port cannot be used, or a supernode is already running.
            StateError: the key or the leases are corrupt, in use, or cannot be read.
        """
        config = self._config
        state = StateDir(config.state_dir)
        with _one_error(), contextlib.ExitStack() as stack:
            identity = Identity(state.identity())
            for warning in state.warnings:
                _log.warning("%s", warning)
            store = _open_store(config)
            stack.callback(store.close)
            ports = _open_ports(config)
            for port in ports.values():
                stack.callback(port.close)
            observation = open_observation_ports(ports.values(), config.probe_ports)
            if observation is None:
                _log.warning("no two free UDP ports: edges cannot find out what their NATs do")
            else:
                for port in observation.sockets.values():
                    stack.callback(port.close)
            self._prepare(identity, store, ports, observation)
            self._listen_for_streams(stack)
            await self._serve(identity, task_status)

    def _prepare(
        self,
        identity: Identity,
        store: LeaseStore,
        ports: dict[SocketId, UdpPort],
        observation: ObservationPorts | None,
    ) -> None:
        limits = self._config.limits
        if self._config.only_community is not None:
            limits = dataclasses.replace(limits, only_community=self._config.only_community)
        self._started_at = trio.current_time()
        self._engine = SupernodeEngine(
            identity, limits, os.urandom, self._started_at, store.load(int(time.time()))
        )
        self._keeper = LeaseKeeper(store, time.time)
        sockets = dict(ports)
        if observation is not None:
            sockets |= observation.sockets
            pairs = [(one.socket_id, other.socket_id) for one, other in observation.pairs]
            self._engine.open_observation_sockets(observation.numbers, pairs)
        self._driver = Driver(
            self._engine, sockets, on_event=self._handle_event, store_first=_STORE_FIRST
        )
        self.endpoints = [port.local for port in ports.values()]
        self.fingerprint = identity.fingerprint

    def _listen_for_streams(self, stack: contextlib.ExitStack) -> None:
        config, limits = self._config, self._config.limits
        if config.tls_key is not None and config.tls_cert is None:
            raise ConfigError("--tls-key", "", "needs --tls-cert")
        tls = None
        if config.tls_cert is not None:
            tls = server_tls_context(config.tls_cert, config.tls_key)
        settings = StreamSettings(
            max_streams=limits.max_streams,
            max_streams_per_source=limits.max_streams_per_source,
            tls=tls,
            trusted_proxies=tuple(map(parse_trusted_proxy, config.trust_proxy)),
        )
        allow_descriptors(limits.max_streams)
        self._streams = StreamServer(self._stream_host(), settings)
        if config.takes_tcp:
            self._listening += listen_beside(self.endpoints)
        for listening in self._listening:
            stack.callback(listening.close)
        for text in config.listen_ws:
            listening = listen(parse_listen_address(text), "--listen-ws")
            stack.callback(listening.close)
            self._listening.append(listening)
        self.stream_endpoints = [Endpoint(*each.getsockname()[:2]) for each in self._listening]

    def _stream_host(self) -> StreamHost:
        def add(port: StreamPort) -> None:
            self._engine.stream_opened(port.socket_id, port.transport)
            self._driver.add_port(port)

        def remove(socket_id: SocketId) -> None:
            self._driver.remove_port(socket_id)
            self._driver.step(lambda now: self._engine.socket_closed(socket_id, now))

        return StreamHost(
            new_socket_id=self._driver.new_socket_id,
            add=add,
            remove=remove,
            in_use=self._engine.sockets_in_use,
            counters=self._driver.counters,
        )

    async def _serve(self, identity: Identity, task_status: trio.TaskStatus[None]) -> None:
        try:
            async with trio.open_nursery() as nursery:
                if self._config.runtime_dir is not None:
                    path = control_path(self._config.runtime_dir, CONTROL_NAME)
                    await nursery.start(serve_control, path, self._dispatch)
                await nursery.start(self._driver.run)
                nursery.start_soon(self._store_now_and_then)
                nursery.start_soon(self._streams.close_guests)
                for listening in self._listening:
                    nursery.start_soon(self._streams.serve, listening)
                nursery.start_soon(self._answer_lan_queries, identity)
                task_status.started()
        finally:
            self._keeper.note(Changes(seen=set(self._engine.registered_edges())))
            await self._keeper.flush()

    # Leases.

    async def _handle_event(self, event: Event) -> None:
        # What is stored is what the engine holds now, not what the event says: events of several
        # steps may come at once, in any order.
        match event:
            case LeaseGranted(community, edge) | LeaseForgotten(community, edge):
                address = self._engine.lease_of(community, edge)
                self._keeper.note(Changes(leases={(community, edge): address or None}))
                await self._keeper.flush()
            case SubnetChosen(community) | SubnetForgotten(community):
                subnet = self._engine.subnet_of(community)
                self._keeper.note(Changes(subnets={community: subnet or None}))
                await self._keeper.flush()
            case EdgeRegistered(community, edge, endpoint, address):
                self._keeper.note(Changes(seen={(community, edge)}))
                who = f"{edge.hex()[:12]} in {community.hex()[:12]}"
                self._tell("registered", f"{who} registered from {endpoint}, {address or '-'}")
            case EdgeGone(community, edge, why):
                self._keeper.note(Changes(seen={(community, edge)}))
                self._tell("gone", f"{edge.hex()[:12]} in {community.hex()[:12]} is gone: {why}")
            case _:
                pass

    async def _store_now_and_then(self) -> None:
        """Keep "last seen" fresh, so that a crash makes no lease look unused."""
        while True:
            await trio.sleep(FLUSH_INTERVAL)
            self._keeper.note(Changes(seen=set(self._engine.registered_edges())))
            await self._keeper.flush()

    def _tell(self, reason: str, sentence: str) -> None:
        held_back = self._log_limit.ask(reason, trio.current_time())
        if held_back is not None:
            _log.info("%s%s", sentence, f" (and {held_back} more)" if held_back else "")

    # The LAN.

    async def _answer_lan_queries(self, identity: Identity) -> None:
        reachable = [each for each in self.endpoints if not _is_loopback(each)]
        if not reachable:
            return
        responder = LanResponder(
            fingerprint=base64.b32decode(identity.fingerprint.upper()),
            port=reachable[0].port,
            takes_any=self._config.only_community is None,
            community_of=self._community_of,
        )
        try:
            await serve_lan(responder)
        except* (MeshError, OSError) as group:
            # Worth no more than a line: edges that were told where we are need none of this.
            problem = _first_leaf(group)
            _log.warning("edges on the LAN will not find this supernode by themselves: %s", problem)

    def _community_of(self, nonce: bytes, tag: bytes) -> bytes | None:
        return self._engine.serves_community(
            lambda community: hmac.compare_digest(lan_query_tag(community, nonce), tag)
        )

    # The control socket.

    async def _dispatch(self, request: Request) -> AsyncIterator[Any]:
        now = trio.current_time()
        match request.get("command"):
            case "status":
                yield self._status(now)
            case "communities":
                yield self._engine.community_views(now)
            case "edges":
                yield self._engine.edge_views(now)
            case command:
                raise ControlError(f"a supernode has no command {command!r}")

    def _status(self, now: float) -> dict[str, Any]:
        view = self._engine.status_view(now)
        return {
            **view,
            "drops": {**view["drops"], **self._driver.counters.drops()},
            "listen": [str(endpoint) for endpoint in self.endpoints],
            "listen_streams": [str(endpoint) for endpoint in self.stream_endpoints],
            "fingerprint": self.fingerprint,
            "store": {"url": self._keeper.url, "problem": self._keeper.problem},
            "uptime_s": round(now - self._started_at, 3),
            "version": mesh.__version__,
        }


def _open_store(config: SupernodeConfig) -> LeaseStore:
    try:
        return open_store(config.store or f"sqlite://{config.state_dir.absolute()}/leases.sqlite3")
    except ValueError as error:
        raise ConfigError("--store", "", str(error)) from None


def _open_ports(config: SupernodeConfig) -> dict[SocketId, UdpPort]:
    try:
        return _open_wanted_ports(config.listen, DEFAULT_PORT)
    except ConfigError:
        if not config.may_change_port:
            raise
    listen = tuple(text.rpartition(":")[0] + ":0" for text in config.listen)
    return _open_wanted_ports(listen, 0)


def _open_wanted_ports(listen: Sequence[str], default_port: int) -> dict[SocketId, UdpPort]:
    """Open what is to be listened on.

    Raises:
        ConfigError: one of the addresses or ports cannot be used; none stays open.
    """
    if not listen:
        return open_udp_pair(default_port, where="--listen")
    ports: dict[SocketId, UdpPort] = {}
    with contextlib.ExitStack() as stack:
        for text in listen:
            port = _open_port(text, _next_socket_id(ports, is_ipv6=text.startswith("[")))
            if port is not None:
                stack.callback(port.close)
                ports[port.socket_id] = port
        if not ports:
            raise ConfigError("--listen", "", "this machine has none of the address families")
        stack.pop_all()
    return ports


def _open_port(text: str, socket_id: SocketId) -> UdpPort | None:
    """Open one port; None where it is "any address" of a family that the machine does not have."""
    try:
        endpoint = parse_listen_address(text)
    except ValueError as error:
        raise ConfigError("--listen", "", str(error)) from None
    family = socket.AF_INET6 if endpoint.is_ipv6 else socket.AF_INET
    try:
        return open_udp(family, endpoint.host, endpoint.port, socket_id=socket_id, where="--listen")
    except OSError as error:
        if error.errno not in _NO_FAMILY:
            raise
        if not ipaddress.ip_address(endpoint.host).is_unspecified:
            raise ConfigError("--listen", "", f"{text}: {error.strerror}") from error
        _log.warning("not listening on %s: %s", text, error.strerror)
        return None


def _next_socket_id(ports: dict[SocketId, UdpPort], *, is_ipv6: bool) -> SocketId:
    """Return the well-known number for the first port of a family, a free one for the others."""
    well_known = WellKnownSocket.UDP_IPV6 if is_ipv6 else WellKnownSocket.UDP_IPV4
    return well_known if well_known not in ports else max(WellKnownSocket) + 1 + len(ports)


def _is_loopback(endpoint: Endpoint) -> bool:
    return ipaddress.ip_address(endpoint.host.partition("%")[0]).is_loopback


@contextlib.contextmanager
def _one_error() -> Iterator[None]:
    """Raise the first `MeshError` of a nursery on its own: a person reads it."""
    try:
        yield
    except BaseExceptionGroup as group:
        ours, others = group.split(MeshError)
        if ours is None or others is not None:
            raise
        raise _first_leaf(ours) from None


def _first_leaf(group: BaseExceptionGroup[_ErrorT]) -> _ErrorT:
    first = group.exceptions[0]
    return _first_leaf(first) if isinstance(first, BaseExceptionGroup) else first
