"""An edge that runs: the engine and its driver, the TAP's addresses, and what the user is told."""

import dataclasses
import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path
from typing import TextIO

import trio

from mesh import events
from mesh.addresses import EdgeId, Endpoint
from mesh.cli.announce import joined_line, print_invite_code, print_line
from mesh.cli.dispatch import Dispatcher, Surroundings
from mesh.cli.embedded import embedded_host_ports, is_told_to_others
from mesh.cli.extra_sockets import ExtraSockets
from mesh.cli.known_supernodes import KnownSupernodes
from mesh.cli.membership import Membership
from mesh.cli.overlay import Overlay, clash_warning, networks_of
from mesh.cli.progress import JoinFailed, JoinProgress
from mesh.cli.reports import describe
from mesh.cli.settings import JoinSettings
from mesh.cli.streams import Need, has_udp, stream_keepers
from mesh.cli.supernodes import SupernodeTarget, SupernodeWatch
from mesh.cli.values import HostPort
from mesh.core.config import EdgeConfig
from mesh.core.edge import EdgeEngine
from mesh.datapath.vnet import encode_vnet_plain
from mesh.engine import SocketId, WellKnownSocket
from mesh.errors import MeshError, StateError
from mesh.events import Event
from mesh.net import link
from mesh.net.control import serve_control
from mesh.net.driver import Driver
from mesh.net.garbage import settle_garbage
from mesh.net.lan_peers import LanPeers, LanPeersConfig, ports_by_family
from mesh.net.log_limit import LogLimit
from mesh.net.portmap import MappedPorts, PortMapper
from mesh.net.router import PortMapping
from mesh.net.scheduling import RealtimeScheduling
from mesh.net.state import StateDir
from mesh.net.suspension import watch_suspensions
from mesh.net.tap import Tap
from mesh.net.udp import UdpPort
from mesh.net.watch import (
    AddressesChanged,
    LinkChange,
    LinkDown,
    LinkGone,
    LinkUp,
    OverlayChanged,
    watch_links,
)
from mesh.snapshots import MappingView
from mesh.wire.ethernet import arp_announcement
from mesh.wire.messages import AddressMode

SETTLING_TIME = 0.2  # s; a roaming laptop changes several addresses at once

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What `mesh.cli.join` has found out and decided.

    Attributes:
        settings: what the user asked for.
        membership: the community's keys.
        config: for the engine; its supernodes are those of ``targets``, in order.
        targets: the supernodes.
        hosted_port: of the embedded supernode, which is the only target then; else 0.
    """

    settings: JoinSettings
    membership: Membership
    config: EdgeConfig
    targets: tuple[SupernodeTarget, ...]
    hosted_port: int = 0


class RunningEdge:
    """One edge from its first datagram to its last; `run` is its life."""

    def __init__(
        self,
        plan: Plan,
        state: StateDir,
        tap: Tap,
        sockets: Mapping[SocketId, UdpPort],
        out: TextIO,
    ) -> None:
        """Make the engine; nothing is sent before `run`."""
        self._plan = plan
        self._state = state
        self._tap = tap
        self._ports = {number: port.local.port for number, port in sockets.items()}
        self._out = out
        self._stop = trio.CancelScope()
        self._is_announced = False
        self._known = KnownSupernodes(plan.targets, plan.membership)
        self._names = [f"supernode {target}" for target in plan.targets]
        self._log_limit = LogLimit()
        self._mapper = self._make_mapper()
        self._lan_peers = self._make_lan_peers()
        self._scheduling = RealtimeScheduling()
        self._links_in, self._links_out = trio.open_memory_channel[LinkChange](64)
        self._addresses_changed = trio.Event()
        self._is_elsewhere = False
        self._progress = JoinProgress(plan.targets)
        config = plan.config
        ula = config.community.ipv6_address(config.identity.interface_id)
        self._overlay = Overlay(plan.settings, tap.index, ula)
        self._engine = EdgeEngine(config, os.urandom, trio.current_time())
        self._driver = Driver(
            self._engine,
            sockets,
            tap,
            on_event=self._handle,
            store_first=(events.SupernodeSeen,),
        )
        self._extra_sockets = ExtraSockets(self._engine, self._driver)
        self._watches = [
            SupernodeWatch(number, target, self._set_supernode_endpoints)
            for number, target in enumerate(plan.targets)
            if has_udp(target, plan.settings.streams)
        ]
        self._keepers = stream_keepers(
            plan.targets, self._names, plan.settings.streams, self._driver, self._engine
        )
        surroundings = Surroundings(
            tap=tap.name,
            offload=tap.has_offload,
            is_realtime=lambda: self._scheduling.is_on,
            started_at=trio.current_time(),
            drops=self._driver.counters.drops,
            invite=self.invite,
            supernodes=self._known.named,
            mapped=self._mapped_views,
            stop=self._stop.cancel,
        )
        self._dispatcher = Dispatcher(self._engine, self._driver, surroundings)

    async def run(self, control: Path) -> None:
        """Run until cancelled or told to leave; then peers and supernode have been told.

        Args:
            control: where to serve the control socket.

        Raises:
            MeshError: in a group: another edge of this community runs already, every supernode
                refused, or the TAP was deleted.
        """
        with self._stop:
            async with trio.open_nursery() as nursery:
                await nursery.start(serve_control, control, self._dispatcher.dispatch)
                await nursery.start(self._driver.run)
                if self._plan.settings.realtime:
                    nursery.start_soon(self._scheduling.run)
                await self._refresh_addresses()
                for watch in self._watches:
                    nursery.start_soon(watch.run)
                for keeper in self._keepers:
                    nursery.start_soon(keeper.run)
                nursery.start_soon(self._mapper.run)
                if self._lan_peers is not None:
                    nursery.start_soon(self._lan_peers.run)
                nursery.start_soon(self._follow_link)
                nursery.start_soon(self._follow_addresses)
                nursery.start_soon(watch_suspensions, self._resumed)
                await watch_links(self._notice, tap_index=self._tap.index)

    def invite(self) -> str:
        """Return the invite to this community: the primary supernode first, then the others.

        Raises:
            MeshError: the supernode's key is not known yet, or it is of no use to others.
        """
        return self._known.invite(self._engine.primary_supernode, self._mapped_places())

    # Events

    async def _handle(self, event: Event) -> None:
        self._progress.handle(event)
        self._log_event(event)
        for watch in self._watches:
            watch.handle(event)
        match event:
            case events.Registered():
                await self._handle_registered(event)
            case events.SupernodeSeen():
                self._known.fingerprints[event.supernode] = event.fingerprint
                self._keep_pin(event.supernode)
            case events.SocketsWanted():
                await self._extra_sockets.open(event)
            case events.SocketsUnwanted():
                self._extra_sockets.close(event)
            case events.StreamWanted():
                self._keepers[event.supernode].want(Need.NO_UDP_ANSWER)
            case events.StreamUnwanted():
                self._keepers[event.supernode].unwant(Need.NO_UDP_ANSWER)
            case events.ProbeAnswered():
                self._dispatcher.receive_answer(event)
            case _:
                pass

    def _log_event(self, event: Event) -> None:
        if isinstance(event, events.SupernodeKeyMismatch) and not self._progress.has_joined:
            return  # `JoinProgress` ends the program with one line about it
        line = describe(event, self._names)
        if line is None:
            return
        held_back = self._log_limit.ask(line.reason, trio.current_time())
        if held_back is not None:
            more = f" ({held_back} more like this)" if held_back else ""
            _log.log(line.level, "%s%s", line.text, more)

    def _keep_pin(self, supernode: int) -> None:
        target, fingerprint = self._plan.targets[supernode], self._known.fingerprints[supernode]
        if target.is_kept and self._state.pinned(str(target)) != fingerprint:
            self._state.pin(str(target), fingerprint)

    async def _handle_registered(self, event: events.Registered) -> None:
        config = self._plan.config
        is_fixed = config.address_mode is AddressMode.FIXED
        address = event.address or (config.address if is_fixed else "")
        await self._warn_of_clash(address)
        await self._overlay.apply(address)
        await self._refresh_addresses()
        if address:
            self._tell_neighbours(address)
        if not self._is_announced:
            self._is_announced = True
            self._announce(event)
            settle_garbage()
        try:
            self._keep_pin(event.supernode)
            if event.address and not is_fixed:
                self._state.save_last_address(config.community.name, event.address)
        except StateError as error:
            _log.warning("%s", error)

    def _tell_neighbours(self, address: str) -> None:
        """Announce our address: who has been asking for it waits for the second ARP otherwise."""
        announcement = arp_announcement(self._plan.config.mac, IPv4Interface(address).ip.packed)
        read = encode_vnet_plain() + announcement
        self._driver.step(lambda now: self._engine.receive_frames(read, now))

    async def _warn_of_clash(self, address: str) -> None:
        local = await link.local_networks((self._tap.index,))
        warning = clash_warning(address, networks_of(local))
        if warning is not None:
            _log.warning("%s", warning)

    def _announce(self, event: events.Registered) -> None:
        config = self._plan.config
        place = str(self._plan.targets[event.supernode])
        address = self._overlay.shown_address()
        line = joined_line(config.community.name, config.name, self._tap.name, address, place)
        print_line(line, self._out)
        if self._plan.hosted_port or self._plan.membership.was_made:
            try:
                url = self.invite()
            except MeshError as error:
                _log.warning("%s", error)
            else:
                print_line(f"invite: {url}", self._out)
                print_invite_code(url)

    # The machine's networks

    def _notice(self, change: LinkChange) -> None:
        match change:
            case AddressesChanged():
                self._is_elsewhere = True
                self._addresses_changed.set()
            case OverlayChanged():
                self._addresses_changed.set()
            case _:
                try:
                    self._links_in.send_nowait(change)
                except trio.WouldBlock:  # 64 changes behind: the state that counts comes last
                    _log.debug("too many link changes at once: %s", change)

    def _resumed(self, slept: float) -> None:
        _log.info("the machine was suspended for %.0f s", slept)
        self._driver.step(lambda now: self._engine.resumed(slept, now))

    async def _follow_link(self) -> None:
        async for change in self._links_out:
            match change:
                case LinkGone():
                    raise JoinFailed(f"the interface {self._tap.name} was deleted; join again")
                case LinkDown():
                    name = self._tap.name
                    _log.warning("%s was set down; bring it back: ip link set %s up", name, name)
                case LinkUp() if self._progress.has_joined:
                    _log.info("%s is up again", self._tap.name)
                    await self._overlay.restore()
                case _:
                    pass

    async def _follow_addresses(self) -> None:
        while True:
            await self._addresses_changed.wait()
            await trio.sleep(SETTLING_TIME)
            self._addresses_changed = trio.Event()
            await self._refresh_addresses()
            if self._is_elsewhere:  # maybe in another home that has given us the same address
                self._is_elsewhere = False
                self._driver.step(self._engine.network_changed)
            if self._overlay.was_stripped(await link.local_networks()):
                await self._overlay.restore()
            for watch in self._watches:
                watch.wake()
            hosts = {str(one.address.ip) for one in await link.local_networks()}
            for keeper in self._keepers:
                keeper.addresses_changed(hosts)
            self._mapper.wake()
            if self._lan_peers is not None:
                self._lan_peers.wake()

    async def _refresh_addresses(self) -> None:
        """Tell the engine which addresses are candidates, and which networks never are."""
        local = await link.local_networks()
        # What the TAP has by DHCP, and the bridge that it is a port of, lead into the overlay too.
        inside = await self._overlay_indexes()
        candidates = [
            str(one.address.ip)
            for one in local
            if is_told_to_others(one) and one.index not in inside
        ]
        overlays = [
            f"{one.address.network}%{one.index}"
            if one.address.is_link_local and one.address.version == 6
            else str(one.address.network)
            for one in local
            if one.is_overlay or one.index in inside
        ]
        self._driver.step(lambda now: self._tell_networks(candidates, overlays, now))
        if self._plan.hosted_port:
            host_ports = embedded_host_ports(local, self._plan.hosted_port)
            self._known.host_ports[0] = host_ports
            self._watches[0].target = dataclasses.replace(
                self._plan.targets[0], host_ports=host_ports
            )

    async def _overlay_indexes(self) -> set[int]:
        return {self._tap.index, await link.bridge_of(self._tap.index)}

    def _tell_networks(self, candidates: list[str], overlays: list[str], now: float) -> None:
        ours = self._overlay.networks()
        self._engine.set_overlay_networks([*ours, *overlays])
        self._engine.set_local_addresses(
            candidates,
            self._ports.get(WellKnownSocket.UDP_IPV4, 0),
            self._ports.get(WellKnownSocket.UDP_IPV6, 0),
            now,
        )

    def _set_supernode_endpoints(self, number: int, endpoints: list[Endpoint]) -> None:
        """Tell where a supernode is; nowhere if its name does not resolve."""
        if not endpoints:
            self._keepers[number].want(Need.NO_ADDRESS)
            return
        self._keepers[number].unwant(Need.NO_ADDRESS)
        self._driver.step(lambda now: self._engine.set_supernode_endpoints(number, endpoints, now))

    def _make_lan_peers(self) -> LanPeers | None:
        plan = self._plan
        if plan.settings.relay_only or not plan.settings.lan_peers:
            return None
        ports = ports_by_family(
            self._ports.get(WellKnownSocket.UDP_IPV4, 0),
            self._ports.get(WellKnownSocket.UDP_IPV6, 0),
        )
        keys, edge_id = plan.config.community, plan.config.identity.edge_id
        config = LanPeersConfig(keys.lan_key, edge_id, ports, self._overlay_indexes)
        return LanPeers(config, self._take_sighting)

    def _take_sighting(self, edge_id: EdgeId, endpoint: Endpoint) -> None:
        self._driver.step(lambda now: self._engine.receive_lan_sighting(edge_id, endpoint, now))

    # Ports mapped by the router

    def _make_mapper(self) -> PortMapper:
        """Return what maps our ports, and those of the embedded supernode."""
        plan, wanted = self._plan, []
        for socket in (WellKnownSocket.UDP_IPV4, WellKnownSocket.UDP_IPV6):
            ports = (
                0 if plan.settings.relay_only else self._ports.get(socket, 0),
                plan.hosted_port,
            )
            wanted.append(tuple(p for p in ports if p and plan.settings.port_mapping))
        key = hashlib.blake2s(b"mesh port mapping nonces", key=plan.config.identity.private_bytes)
        return PortMapper(
            MappedPorts(*wanted), key.digest(), self._take_mappings, self._overlay_indexes
        )

    def _take_mappings(self, mappings: tuple[PortMapping, ...]) -> None:
        ours = [one.external for one in mappings if one.inside.port != self._plan.hosted_port]
        self._driver.step(lambda now: self._engine.set_mapped_endpoints(ours, now))

    def _mapped_places(self) -> tuple[HostPort, ...]:
        """Return where the router forwards to the embedded supernode."""
        return tuple(
            HostPort(*one.external)
            for one in self._mapper.mappings
            if one.inside.port == self._plan.hosted_port
        )

    def _mapped_views(self) -> list[MappingView]:
        now = trio.current_time()
        return [
            MappingView(
                protocol=one.protocol,
                external=str(one.external),
                expires_s=round(one.expires_at - now, 3),
            )
            for one in self._mapper.mappings
        ]
