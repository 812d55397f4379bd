"""Asking a router by PCP (RFC 6887) or NAT-PMP (RFC 6886): one datagram each way."""

import hashlib
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

import trio

from mesh.addresses import Endpoint
from mesh.errors import MalformedMessage
from mesh.net.router import LEASE_LIFETIME, PortMapping, usable_mapping
from mesh.wire.portmap import (
    MAX_ANSWER_BYTES,
    PCP_NONCE_BYTES,
    PORT_MAP_PORT,
    EpochWatch,
    PcpMap,
    PcpRequest,
    PcpResponse,
    PmpAddress,
    PmpMapped,
    PmpMapRequest,
    encode_pmp_address_request,
)

T = TypeVar("T")

TRIES: Final = (0.25, 0.5, 1.0)
"""Seconds to wait for an answer; the first of RFC 6886 section 3.1, which goes on for a minute."""

ONE_TRY: Final = (0.1, 0.15)
"""Seconds in all that nat.md gives a search; a lost datagram is sent again."""


class _Dialogue:
    """A socket towards one router; the kernel drops what comes from anywhere else."""

    def __init__(self, our_host: str, router: str) -> None:
        """Open it.

        Raises:
            OSError: the address is no longer ours, or there is no way to the router.
        """
        host, _, zone = router.partition("%")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        opened = socket.socket(family, socket.SOCK_DGRAM)
        try:
            opened.bind((our_host, 0))
            if family == socket.AF_INET6:
                opened.connect((host, PORT_MAP_PORT, 0, int(zone or 0)))
            else:
                opened.connect((host, PORT_MAP_PORT))
            opened.setblocking(False)
            self._socket = trio.socket.from_stdlib_socket(opened)
        except BaseException:
            opened.close()
            raise

    def close(self) -> None:
        self._socket.close()

    async def ask(
        self, request: bytes, read: Callable[[bytes], T | None], tries: tuple[float, ...] = TRIES
    ) -> T | None:
        """Send until ``read`` makes something of an answer; None if it never does.

        What does not parse, and what ``read`` returns None for, is passed over.
        """
        for patience in tries:
            try:
                await self._socket.send(request)
                with trio.move_on_after(patience):
                    return await self._receive(read)
            except OSError:  # nobody listens, or the network is gone
                return None
        return None

    async def _receive(self, read: Callable[[bytes], T | None]) -> T:
        while True:
            answer = await self._socket.recv(MAX_ANSWER_BYTES + 1)
            try:
                found = read(answer)
            except MalformedMessage:
                continue
            if found is not None:
                return found


class PmpRouter:
    """A router that speaks NAT-PMP; IPv4 only."""

    protocol = "nat-pmp"

    def __init__(self, our_host: str, router: str) -> None:
        """Open a socket towards it.

        Raises:
            OSError: there is no way to the router.
        """
        self._dialogue = _Dialogue(our_host, router)
        self._epoch = EpochWatch()

    async def is_there(self) -> bool:
        """Whether it answers at once, and maps ports at all."""
        answer = await self._ask_address(ONE_TRY)
        return answer is not None and answer.result == 0

    async def map(self, inside: Endpoint, wanted_port: int) -> PortMapping | None:
        """See `Router.map`: two questions, since the answer to one has no address."""
        mapped = await self._ask_map(inside.port, wanted_port, LEASE_LIFETIME)
        address = await self._ask_address(TRIES) if mapped is not None else None
        if mapped is None or address is None or address.result or mapped.result:
            return None
        external = Endpoint(address.host, mapped.outside)
        now = trio.current_time()
        self._epoch.has_restarted(address.epoch, now)  # from here on its clock counts
        return usable_mapping(self.protocol, inside, external, mapped.lifetime, now)

    async def unmap(self, mapping: PortMapping) -> None:
        """See `Router.unmap`."""
        await self._ask_map(mapping.inside.port, 0, 0)

    async def still_knows(self, mappings: Iterable[PortMapping]) -> bool | None:
        """See `Router.still_knows`: its clock tells, and its external address."""
        answer = await self._ask_address(TRIES)
        if answer is None:
            return None
        is_same = all(one.external.host == answer.host for one in mappings)
        return not self._epoch.has_restarted(answer.epoch, trio.current_time()) and is_same

    def close(self) -> None:
        """Close the socket."""
        self._dialogue.close()

    async def _ask_address(self, tries: tuple[float, ...]) -> PmpAddress | None:
        return await self._dialogue.ask(encode_pmp_address_request(), PmpAddress.decode, tries)

    async def _ask_map(self, inside: int, outside: int, lifetime: int) -> PmpMapped | None:
        def read(answer: bytes) -> PmpMapped | None:
            mapped = PmpMapped.decode(answer)
            # Late answers are about other ports, or still grant what we now give back.
            is_ours = mapped.inside == inside and (mapped.lifetime > 0) == (lifetime > 0)
            return mapped if mapped.result or is_ours else None

        request = PmpMapRequest(inside, outside, lifetime)
        return await self._dialogue.ask(request.encode(), read)


class PcpRouter:
    """A router that speaks PCP: mappings of IPv4, pinholes of IPv6."""

    protocol = "pcp"

    def __init__(self, our_hosts: Sequence[str], router: str, nonce_key: bytes) -> None:
        """Open a socket towards it for each address, since a router maps the one that asks.

        Args:
            our_hosts: the addresses to be mapped, at least one.
            router: its address.
            nonce_key: a secret of this machine that survives restarts. Only who repeats the nonce
                of a mapping may have it again, so after a crash we have to know it still
                (RFC 6887 section 11.2); a thief of it could close our ports, no more.

        Raises:
            OSError: there is no way to the router.
        """
        self._dialogues: dict[str, _Dialogue] = {}
        try:
            for host in our_hosts:
                self._dialogues[host] = _Dialogue(host, router)
        except OSError:
            self.close()
            raise
        self._router = router
        self._nonce_key = nonce_key
        self._epoch = EpochWatch()

    async def is_there(self) -> bool:
        """Whether it answers at once."""
        return await self._announce(ONE_TRY) is not None

    async def map(self, inside: Endpoint, wanted_port: int) -> PortMapping | None:
        """See `Router.map`."""
        answer = await self._ask_map(inside, wanted_port, LEASE_LIFETIME)
        if answer is None or answer.map is None:
            return None
        now = trio.current_time()
        self._epoch.has_restarted(answer.epoch, now)  # from here on its clock counts
        return usable_mapping(self.protocol, inside, answer.map.outside, answer.lifetime, now)

    async def unmap(self, mapping: PortMapping) -> None:
        """See `Router.unmap`."""
        await self._ask_map(mapping.inside, 0, 0)

    async def still_knows(self, mappings: Iterable[PortMapping]) -> bool | None:  # noqa: ARG002 - the clock tells
        """See `Router.still_knows`."""
        answer = await self._announce(TRIES)
        if answer is None:
            return None
        return not self._epoch.has_restarted(answer.epoch, trio.current_time())

    def close(self) -> None:
        """Close the sockets."""
        for dialogue in self._dialogues.values():
            dialogue.close()

    async def _announce(self, tries: tuple[float, ...]) -> PcpResponse | None:
        host, dialogue = next(iter(self._dialogues.items()))
        request = PcpRequest(host)
        return await dialogue.ask(
            request.encode(), lambda answer: PcpResponse.decode(answer, request.opcode), tries
        )

    async def _ask_map(self, inside: Endpoint, wanted: int, lifetime: int) -> PcpResponse | None:
        nonce = self._nonce(inside)
        any_host = "::" if inside.is_ipv6 else "0.0.0.0"  # noqa: S104 - nothing is bound to it
        wish = PcpMap(nonce, inside.port, Endpoint(any_host, wanted))
        request = PcpRequest(inside.host, lifetime, wish)

        def read(answer: bytes) -> PcpResponse | None:
            response = PcpResponse.decode(answer, request.opcode)
            said = response.map
            if said is None:
                return response
            is_ours = (said.nonce, said.inside) == (nonce, inside.port)
            return response if is_ours and (response.lifetime > 0) == (lifetime > 0) else None

        return await self._dialogues[inside.host].ask(request.encode(), read)

    def _nonce(self, inside: Endpoint) -> bytes:
        """Return the same 12 bytes for the same port, and others for another router."""
        asked = f"{self._router} {inside}".encode()
        return hashlib.blake2s(asked, key=self._nonce_key, digest_size=PCP_NONCE_BYTES).digest()
