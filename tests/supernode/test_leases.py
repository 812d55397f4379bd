"""Leases: the same address back, nobody else's, and bounded memory."""

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.addresses import EdgeId
from mesh.errors import RefusalReason, RegistrationRefused
from mesh.events import Event, LeaseForgotten, LeaseGranted, SubnetChosen, SubnetForgotten
from mesh.wire.messages import AddressMode
from supernode.leases import (
    LEASE_LIFETIME,
    AddressRequest,
    LeaseRecord,
    Leases,
    StoredLeases,
    SubnetRecord,
)

HOME = b"h" * 32
OTHER = b"o" * 32
AUTO = AddressRequest(AddressMode.AUTO, "", ("10.20.4.0/22", "10.99.0.0/22"))
TINY = AddressRequest(AddressMode.AUTO, "", ("10.20.4.0/29",))


def edge(number: int) -> EdgeId:
    return EdgeId(number.to_bytes(16, "big"))


def fixed(address: str) -> AddressRequest:
    return AddressRequest(AddressMode.FIXED, address, AUTO.subnets)


class Book:
    """Leases and what they reported."""

    def __init__(self, stored: StoredLeases | None = None, max_leases: int = 100) -> None:
        self.events: list[Event] = []
        self.leases = Leases(stored or StoredLeases(), max_leases, self.events.append, 0.0)

    def grant(
        self, number: int, request: AddressRequest = AUTO, now: float = 0.0, community: bytes = HOME
    ) -> str:
        return self.leases.grant(community, edge(number), request, now)

    def refusal(self, number: int, request: AddressRequest, now: float = 0.0) -> RefusalReason:
        before = list(self.events)
        with pytest.raises(RegistrationRefused) as caught:
            self.grant(number, request, now)
        assert self.events == before
        return caught.value.reason


def test_the_first_usable_proposal_becomes_the_subnet_and_is_reported_before_the_lease() -> None:
    book = Book()
    request = AddressRequest(AddressMode.AUTO, "", ("nonsense", "224.0.0.0/22", *AUTO.subnets))
    address = book.grant(1, request)
    assert ipaddress.IPv4Interface(address).network == ipaddress.IPv4Network("10.20.4.0/22")
    assert book.events == [SubnetChosen(HOME, "10.20.4.0/22"), LeaseGranted(HOME, edge(1), address)]


def test_an_edge_gets_the_same_address_back() -> None:
    book = Book()
    address = book.grant(1)
    book.leases.release(HOME, edge(1), 5.0)
    assert book.grant(1, now=10 * LEASE_LIFETIME) == address


def test_a_granted_lease_is_reported_only_when_it_changes() -> None:
    book = Book()
    book.grant(1)
    book.grant(1)
    assert [type(event) for event in book.events] == [SubnetChosen, LeaseGranted]


def test_a_wanted_address_is_honoured_if_it_is_free() -> None:
    wanted = AddressRequest(AddressMode.AUTO, "10.20.5.77/22", AUTO.subnets)
    book = Book()
    assert book.grant(1, wanted) == "10.20.5.77/22"
    assert book.grant(2, wanted) != "10.20.5.77/22"


@pytest.mark.parametrize(
    "wanted", ["10.99.0.1/22", "10.20.4.0/22", "10.20.7.255/22", "x", "10.20.5.1"]
)
def test_a_wanted_address_outside_the_hosts_of_the_subnet_is_ignored(wanted: str) -> None:
    address = Book().grant(1, AddressRequest(AddressMode.AUTO, wanted, AUTO.subnets))
    subnet = ipaddress.IPv4Network("10.20.4.0/22")
    assert ipaddress.IPv4Interface(address).ip in list(subnet.hosts())
    assert address != wanted


def test_a_fixed_address_is_granted_as_it_is_and_kept_from_others() -> None:
    book = Book()
    assert book.grant(1, fixed("192.168.7.9/24")) == "192.168.7.9/24"
    assert book.refusal(2, fixed("192.168.7.9/16")) is RefusalReason.ADDRESS_TAKEN


def test_a_fixed_address_that_another_has_leased_is_refused() -> None:
    book = Book()
    address = book.grant(1)
    assert book.refusal(2, fixed(address)) is RefusalReason.ADDRESS_TAKEN


def test_communities_do_not_share_addresses() -> None:
    book = Book()
    assert book.grant(1, fixed("10.0.0.1/24")) == book.grant(
        2, fixed("10.0.0.1/24"), community=OTHER
    )


@pytest.mark.parametrize(
    "address",
    ["", "10.0.0.1", "10.0.0.0/24", "10.0.0.255/24", "127.0.0.1/8", "224.0.0.1/4", "0.0.0.0/0"],
)
def test_a_fixed_address_that_no_host_can_have_is_a_bad_request(address: str) -> None:
    assert Book().refusal(1, fixed(address)) is RefusalReason.BAD_REQUEST


def test_an_edge_that_wants_no_address_gets_none_and_leaves_no_trace() -> None:
    book = Book()
    assert book.grant(1, AddressRequest(AddressMode.NONE)) == ""
    assert book.events == []
    assert list(book.leases.communities()) == []


def test_a_full_subnet_has_no_free_address() -> None:
    book = Book()
    granted = {book.grant(number, TINY) for number in range(6)}
    assert len(granted) == 6
    assert book.refusal(7, TINY) is RefusalReason.NO_FREE_ADDRESS


def test_a_lease_unused_for_30_days_may_pass_to_another() -> None:
    book = Book()
    addresses = [book.grant(number, TINY) for number in range(6)]
    book.leases.release(HOME, edge(3), 0.0)
    assert book.refusal(7, TINY, LEASE_LIFETIME - 1) is RefusalReason.NO_FREE_ADDRESS
    book.events.clear()
    assert book.grant(7, TINY, LEASE_LIFETIME) == addresses[3]
    assert book.events == [
        LeaseForgotten(HOME, edge(3)),
        LeaseGranted(HOME, edge(7), addresses[3]),
    ]


def test_a_lease_of_a_registered_edge_never_passes_to_another() -> None:
    book = Book()
    for number in range(6):
        book.grant(number, TINY)
    assert book.refusal(7, TINY, 100 * LEASE_LIFETIME) is RefusalReason.NO_FREE_ADDRESS


def test_the_only_lease_may_change_hands_without_the_subnet_being_forgotten() -> None:
    book = Book()
    address = book.grant(1)
    book.leases.release(HOME, edge(1), 0.0)
    assert book.grant(2, fixed(address), LEASE_LIFETIME) == address
    assert book.leases.subnet_of(HOME) == "10.20.4.0/22"
    assert SubnetForgotten(HOME) not in book.events


def test_a_full_table_forgets_the_longest_idle_lease() -> None:
    book = Book(max_leases=3)
    for number in range(3):
        book.grant(number)
    book.leases.release(HOME, edge(1), 1.0)
    book.leases.release(HOME, edge(0), 2.0)
    book.grant(4, community=OTHER)
    assert book.leases.total == 3
    assert LeaseForgotten(HOME, edge(1)) in book.events


def test_a_full_table_without_an_idle_lease_refuses() -> None:
    book = Book(max_leases=2)
    book.grant(1)
    book.grant(2)
    assert book.refusal(3, AUTO) is RefusalReason.SUPERNODE_FULL


def test_a_community_whose_last_lease_is_forgotten_is_forgotten() -> None:
    book = Book(max_leases=1)
    book.grant(1)
    book.leases.release(HOME, edge(1), 1.0)
    book.grant(2, community=OTHER)
    assert list(book.leases.communities()) == [OTHER]
    assert SubnetForgotten(HOME) in book.events


def test_stored_leases_come_back_with_their_age() -> None:
    stored = StoredLeases(
        (SubnetRecord(HOME, "10.20.4.0/29"),),
        (LeaseRecord(HOME, edge(1), "10.20.4.3/29", LEASE_LIFETIME - 10.0),),
    )
    book = Book(stored)
    assert book.leases.subnet_of(HOME) == "10.20.4.0/29"
    assert book.refusal(2, fixed("10.20.4.3/29"), now=9.0) is RefusalReason.ADDRESS_TAKEN
    assert book.grant(2, fixed("10.20.4.3/29"), now=10.0) == "10.20.4.3/29"


def test_stored_records_that_make_no_sense_are_left_out() -> None:
    stored = StoredLeases(
        (SubnetRecord(HOME, "what"), SubnetRecord(OTHER, "10.0.0.0/24")),
        (
            LeaseRecord(HOME, edge(1), "what", 0.0),
            LeaseRecord(HOME, edge(2), "10.0.0.2/24", 5.0),
            LeaseRecord(HOME, edge(3), "10.0.0.2/24", 1.0),
        ),
    )
    book = Book(stored)
    assert book.leases.count(HOME) == 1
    assert book.leases.count(OTHER) == 0


def test_more_stored_leases_than_fit_lose_the_longest_unseen() -> None:
    records = tuple(
        LeaseRecord(HOME, edge(number), f"10.0.0.{number}/24", float(number))
        for number in range(1, 6)
    )
    book = Book(StoredLeases((), records), max_leases=2)
    assert book.leases.total == 2
    assert {event.edge for event in book.events if isinstance(event, LeaseForgotten)} == {
        edge(3),
        edge(4),
        edge(5),
    }


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["grant", "fixed", "release"]),
            st.integers(0, 7),
            st.integers(1, 6),
            st.integers(0, 40),
        ),
        max_size=40,
    )
)
def test_no_address_is_ever_held_twice_and_the_cap_holds(
    steps: list[tuple[str, int, int, int]],
) -> None:
    book = Book(max_leases=5)
    held: dict[EdgeId, str] = {}
    now = 0.0
    for action, number, host, days in steps:
        now += days * 86400.0
        if action == "release":
            book.leases.release(HOME, edge(number), now)
            held.pop(edge(number), None)
            continue
        request = TINY if action == "grant" else fixed(f"10.20.4.{host}/29")
        with contextlib.suppress(RegistrationRefused):
            held[edge(number)] = book.grant(number, request, now)
        hosts = [address.partition("/")[0] for address in held.values()]
        assert len(hosts) == len(set(hosts))
        assert book.leases.total <= 5


@given(st.text(max_size=20), st.lists(st.text(max_size=20), max_size=8))
def test_any_text_in_a_request_is_granted_or_refused(address: str, subnets: list[str]) -> None:
    for mode in AddressMode:
        with contextlib.suppress(RegistrationRefused):
            assert "/" in Book().grant(1, AddressRequest(mode, address, tuple(subnets))) or (
                mode is AddressMode.NONE
            )


@pytest.mark.parametrize(
    "subnet",
    ["8.0.0.0/8", "1.1.1.0/24", "10.0.0.0/8", "10.0.0.0/15", "172.32.0.0/16", "100.128.0.0/16"],
)
def test_no_community_leases_from_a_large_or_public_network(subnet: str) -> None:
    book = Book()
    address = book.grant(1, AddressRequest(AddressMode.AUTO, "", (subnet, *AUTO.subnets)))
    assert ipaddress.IPv4Interface(address).network == ipaddress.IPv4Network("10.20.4.0/22")
    only = AddressRequest(AddressMode.AUTO, "", (subnet,))
    assert Book().refusal(1, only) is RefusalReason.BAD_REQUEST


@pytest.mark.parametrize(
    "subnet", ["10.1.0.0/16", "172.31.4.0/22", "192.168.0.0/16", "100.127.0.0/16"]
)
def test_private_networks_may_be_leased_from(subnet: str) -> None:
    address = Book().grant(1, AddressRequest(AddressMode.AUTO, "", (subnet,)))
    assert str(ipaddress.IPv4Interface(address).network) == subnet


def test_a_fixed_address_of_any_network_is_its_owners_choice_and_no_subnet_for_others() -> None:
    book = Book()
    request = AddressRequest(AddressMode.FIXED, "8.8.8.9/8", ("8.0.0.0/8", *AUTO.subnets))
    assert book.grant(1, request) == "8.8.8.9/8"
    assert book.leases.subnet_of(HOME) == "10.20.4.0/22"


def test_a_stored_subnet_that_may_not_be_leased_from_is_chosen_anew() -> None:
    stored = StoredLeases(
        (SubnetRecord(HOME, "8.0.0.0/8"),), (LeaseRecord(HOME, edge(1), "8.1.2.3/8", 0.0),)
    )
    address = Book(stored).grant(1)
    assert ipaddress.IPv4Interface(address).network == ipaddress.IPv4Network("10.20.4.0/22")


def test_idle_leases_of_others_do_not_give_way_to_a_community_that_hoards() -> None:
    book = Book(max_leases=100)
    for community, count in ((HOME, 50), (OTHER, 200)):
        for number in range(count):
            book.grant(number, community=community)
            book.leases.release(community, edge(number), float(number))
    assert (book.leases.count(HOME), book.leases.count(OTHER)) == (50, 50)
