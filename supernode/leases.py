"""Which member of a community holds which IPv4 address; docs/protocol.md section 15.1.

A lease is keyed by community and EdgeId and outlives the registration: its edge gets the same
address back. While the edge is registered the lease is *held*; after that it is *idle*. Only an
idle lease is ever taken away: when its address is wanted after 30 days, or when the table is full,
and then from the community that holds the most leases (`supernode.idle`).

The 30 days have a price: a member who registers with one new key after another takes every address
of the subnet, 1022 of a /22, and nobody new gets one in this community until they are 30 days old.
Members are who the secret was given to; anybody is one in an open community. Giving leases away
earlier would let the same member have the addresses of others as soon as they are switched off.

A community's subnet is remembered as long as it has a lease. Nothing here reads a wall clock: how
long a stored lease has been idle is told at the start.
"""

import hashlib
import ipaddress
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from mesh.addresses import EdgeId
from mesh.constants import LEASE_LIFETIME_DAYS
from mesh.errors import RefusalReason, RegistrationRefused
from mesh.events import Event, LeaseForgotten, LeaseGranted, SubnetChosen, SubnetForgotten
from mesh.wire.messages import AddressMode
from supernode.idle import IdleLeases

LEASE_LIFETIME = LEASE_LIFETIME_DAYS * 86400.0  # s
MIN_SUBNET_PREFIX = 16  # edges route it into the overlay: a mistake must not take half a network
MAX_SUBNET_PREFIX = 30  # two hosts; a network of fewer is none
PRIVATE_NETWORKS = (  # RFC 1918 and RFC 6598: no member can draw others' traffic to the Internet
    ipaddress.IPv4Network("10.0.0.0/8"),
    ipaddress.IPv4Network("172.16.0.0/12"),
    ipaddress.IPv4Network("192.168.0.0/16"),
    ipaddress.IPv4Network("100.64.0.0/10"),
)


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """A lease as it was stored.

    Attributes:
        community: 32 bytes.
        edge: who holds it.
        address: IPv4 CIDR.
        unseen_for: seconds since its edge was last registered.
    """

    community: bytes
    edge: EdgeId
    address: str
    unseen_for: float


@dataclass(frozen=True, slots=True)
class SubnetRecord:
    """The subnet of a community as it was stored (CIDR)."""

    community: bytes
    subnet: str


@dataclass(frozen=True, slots=True)
class StoredLeases:
    """What a store remembers at the start of a supernode."""

    subnets: tuple[SubnetRecord, ...] = ()
    leases: tuple[LeaseRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class AddressRequest:
    """What an edge asks for in ``register``; the texts are not validated.

    Attributes:
        mode: leased, none, or fixed.
        address: wanted address (CIDR) or empty; must be given where the mode is fixed.
        subnets: proposals for the community's subnet (CIDR), the preferred one first.
    """

    mode: AddressMode
    address: str = ""
    subnets: tuple[str, ...] = ()


class _Book:
    """The leases of one community."""

    __slots__ = ("addresses", "holders", "id", "subnet")

    def __init__(self, community: bytes) -> None:
        self.id = community
        self.subnet: ipaddress.IPv4Network | None = None
        self.addresses: dict[EdgeId, ipaddress.IPv4Interface] = {}
        self.holders: dict[ipaddress.IPv4Address, EdgeId] = {}


class Leases:
    """Every lease of a supernode.

    Args:
        stored: what was remembered; records that do not parse or do not fit are left out.
        max_leases: the cap on leases in all.
        report: told every change, in an order in which a store may apply it.
        now: the present moment.
    """

    def __init__(
        self, stored: StoredLeases, max_leases: int, report: Callable[[Event], None], now: float
    ) -> None:
        self._max_leases = max_leases
        self._report = report
        self._books: dict[bytes, _Book] = {}
        self._idle = IdleLeases()
        self._total = 0
        self._restore(stored, now)

    def grant(self, community: bytes, edge: EdgeId, request: AddressRequest, now: float) -> str:
        """Return the address (CIDR) that ``edge`` holds from now on, empty in mode none.

        Raises:
            RegistrationRefused: bad request, address taken, no free address or no room; nothing
                has changed then.
        """
        book = self._books.get(community) or _Book(community)
        subnet = book.subnet or _first_usable(request.subnets)
        interface = self._choose(book, subnet, edge, request, now)
        if self._is_full(edge, book, interface):
            raise RegistrationRefused(RefusalReason.SUPERNODE_FULL, "no room for another lease")
        if interface is None:
            return ""
        self._books[community] = book
        if subnet is not None and book.subnet is None:
            book.subnet = subnet
            self._report(SubnetChosen(community, str(subnet)))
        self._hold(book, edge, interface)
        return str(interface)

    def release(self, community: bytes, edge: EdgeId, now: float) -> None:
        """Keep the lease of an edge that is no longer registered, if it has one, as idle."""
        book = self._books.get(community)
        if book is not None and edge in book.addresses:
            self._idle.add(community, edge, len(book.addresses), now)

    def communities(self) -> Iterable[bytes]:
        """Return the communities that have leases."""
        return self._books.keys()

    def subnet_of(self, community: bytes) -> str:
        """Return the subnet (CIDR), or an empty string while none is chosen."""
        book = self._books.get(community)
        return str(book.subnet) if book is not None and book.subnet is not None else ""

    def address_of(self, community: bytes, edge: EdgeId) -> str:
        """Return the address (CIDR) that an edge holds or held last, or an empty string."""
        book = self._books.get(community)
        interface = book.addresses.get(edge) if book is not None else None
        return "" if interface is None else str(interface)

    def count(self, community: bytes) -> int:
        """Return the number of leases of a community, idle ones included."""
        book = self._books.get(community)
        return len(book.addresses) if book is not None else 0

    @property
    def total(self) -> int:
        """The number of leases in all."""
        return self._total

    # What is granted.

    def _choose(
        self,
        book: _Book,
        subnet: ipaddress.IPv4Network | None,
        edge: EdgeId,
        request: AddressRequest,
        now: float,
    ) -> ipaddress.IPv4Interface | None:
        if request.mode is AddressMode.NONE:
            return None
        wanted = _parse_interface(request.address)
        if request.mode is AddressMode.FIXED:
            if wanted is None:
                raise RegistrationRefused(
                    RefusalReason.BAD_REQUEST, "the fixed address is not a usable IPv4 CIDR"
                )
            if not self._is_free(book, wanted.ip, edge, now):
                raise RegistrationRefused(RefusalReason.ADDRESS_TAKEN)
            return wanted
        if subnet is None:
            raise RegistrationRefused(
                RefusalReason.BAD_REQUEST, "none of the proposed subnets is usable"
            )
        address = self._automatic(book, subnet, edge, wanted, now)
        return ipaddress.IPv4Interface((address, subnet.prefixlen))

    def _automatic(
        self,
        book: _Book,
        subnet: ipaddress.IPv4Network,
        edge: EdgeId,
        wanted: ipaddress.IPv4Interface | None,
        now: float,
    ) -> ipaddress.IPv4Address:
        held = book.addresses.get(edge)
        # What it wants comes first: that is what another supernode has leased to it.
        for previous in (wanted, held):
            if (
                previous is not None
                and _is_host(previous.ip, subnet)
                and self._is_free(book, previous.ip, edge, now)
            ):
                return previous.ip
        for address in _hosts_from(subnet, edge, len(book.holders) + 1):
            if address not in book.holders:
                return address
        for address in _hosts_from(subnet, edge, len(book.holders) + 1):
            if self._is_free(book, address, edge, now):
                return address
        raise RegistrationRefused(RefusalReason.NO_FREE_ADDRESS)

    def _is_free(
        self,
        book: _Book,
        address: ipaddress.IPv4Address,
        edge: EdgeId,
        now: float,
    ) -> bool:
        holder = book.holders.get(address)
        if holder is None or holder == edge:
            return True
        idle_since = self._idle.since(book.id, holder)
        return idle_since is not None and now - idle_since >= LEASE_LIFETIME

    def _is_full(
        self, edge: EdgeId, book: _Book, interface: ipaddress.IPv4Interface | None
    ) -> bool:
        if interface is None or edge in book.addresses:
            return False
        return self._total >= self._max_leases and not self._idle

    # What is remembered.

    def _hold(self, book: _Book, edge: EdgeId, interface: ipaddress.IPv4Interface) -> None:
        self._idle.discard(book.id, edge)
        if book.addresses.get(edge) == interface:
            return
        gives_way = self._next_to_give_way(book, edge, interface)
        if gives_way is not None:
            self._forget(*gives_way)
        self._put(book, edge, interface)
        # Only now, so that a community whose only lease changed hands keeps its subnet.
        if gives_way is not None:
            self._drop_book_if_empty(gives_way[0])
        self._report(LeaseGranted(book.id, edge, str(interface)))

    def _next_to_give_way(
        self, book: _Book, edge: EdgeId, interface: ipaddress.IPv4Interface
    ) -> tuple[bytes, EdgeId] | None:
        holder = book.holders.get(interface.ip)
        if holder is not None and holder != edge:
            return book.id, holder
        if edge not in book.addresses and self._total >= self._max_leases:
            return self._idle.next_to_give_way(book.id)
        return None

    def _put(self, book: _Book, edge: EdgeId, interface: ipaddress.IPv4Interface) -> None:
        previous = book.addresses.get(edge)
        if previous is not None:
            del book.holders[previous.ip]
        else:
            self._total += 1
        book.addresses[edge] = interface
        book.holders[interface.ip] = edge
        self._idle.resize(book.id, len(book.addresses))

    def _forget(self, community: bytes, edge: EdgeId) -> None:
        book = self._books[community]
        del book.holders[book.addresses.pop(edge).ip]
        self._idle.discard(community, edge)
        self._idle.resize(community, len(book.addresses))
        self._total -= 1
        self._report(LeaseForgotten(community, edge))

    def _drop_book_if_empty(self, community: bytes) -> None:
        book = self._books[community]
        if not book.addresses:
            del self._books[community]
            if book.subnet is not None:
                self._report(SubnetForgotten(community))

    def _book(self, community: bytes) -> _Book:
        return self._books.setdefault(community, _Book(community))

    def _restore(self, stored: StoredLeases, now: float) -> None:
        for subnet_record in stored.subnets:
            subnet = _first_usable((subnet_record.subnet,))
            if subnet is not None:
                self._book(subnet_record.community).subnet = subnet
        newest_first = sorted(stored.leases, key=lambda record: record.unseen_for)
        for record in newest_first[self._max_leases :]:
            self._report(LeaseForgotten(record.community, record.edge))
        for record in reversed(newest_first[: self._max_leases]):
            interface = _parse_interface(record.address)
            book = self._book(record.community)
            if interface is None or interface.ip in book.holders or record.edge in book.addresses:
                continue
            self._put(book, record.edge, interface)
            leases = len(book.addresses)
            self._idle.add(record.community, record.edge, leases, now - record.unseen_for)
        for community in [*self._books]:
            self._drop_book_if_empty(community)


def _first_usable(proposals: Iterable[str]) -> ipaddress.IPv4Network | None:
    """Return the first subnet that may be leased from; a fixed address needs none."""
    for text in proposals:
        try:
            subnet = ipaddress.IPv4Network(text)
        except ValueError:
            continue
        is_private = any(subnet.subnet_of(network) for network in PRIVATE_NETWORKS)
        if is_private and MIN_SUBNET_PREFIX <= subnet.prefixlen <= MAX_SUBNET_PREFIX:
            return subnet
    return None


def _parse_interface(text: str) -> ipaddress.IPv4Interface | None:
    """Return the interface address, or None if no host can have it."""
    if "/" not in text:
        return None
    try:
        interface = ipaddress.IPv4Interface(text)
    except ValueError:
        return None
    network = interface.network
    is_reserved = network.prefixlen <= MAX_SUBNET_PREFIX and not _is_host(interface.ip, network)
    return interface if _is_unicast(interface.ip) and not is_reserved else None


def _is_unicast(address: ipaddress.IPv4Address) -> bool:
    return not (
        address.is_multicast
        or address.is_loopback
        or address.is_unspecified
        or address.is_reserved
        or address.packed[0] == 0
    )


def _is_host(address: ipaddress.IPv4Address, network: ipaddress.IPv4Network) -> bool:
    return address in network and address not in {
        network.network_address,
        network.broadcast_address,
    }


def _hosts_from(
    subnet: ipaddress.IPv4Network, edge: EdgeId, limit: int
) -> Iterator[ipaddress.IPv4Address]:
    """Yield up to ``limit`` host addresses, from the one that the EdgeId hashes to on, and around.

    A search among n leases meets a free address, if there is one, within n + 1 steps.
    """
    hosts = subnet.num_addresses - 2
    digest = hashlib.blake2s(b"mesh v1 host" + edge, digest_size=4).digest()
    first = int.from_bytes(digest, "big") % hosts
    for offset in itertools.islice(range(hosts), limit):
        yield subnet.network_address + 1 + (first + offset) % hosts
