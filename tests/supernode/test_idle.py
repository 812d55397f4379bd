"""Whose lease gives way: the longest idle one of the community with the most leases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.addresses import EdgeId
from supernode.idle import IdleLeases

ALICE, BOB, CAROL = (EdgeId(letter * 16) for letter in (b"a", b"b", b"c"))
ONE, TWO, NEW = b"1" * 32, b"2" * 32, b"n" * 32


def test_the_longest_idle_lease_of_the_largest_community_gives_way() -> None:
    idle = IdleLeases()
    idle.add(ONE, ALICE, 2, 1.0)
    idle.add(TWO, BOB, 3, 2.0)
    idle.add(TWO, CAROL, 3, 3.0)
    assert idle.next_to_give_way(NEW) == (TWO, BOB)


def test_of_equals_the_one_that_grows_gives_way() -> None:
    idle = IdleLeases()
    idle.add(ONE, ALICE, 2, 1.0)
    idle.add(TWO, BOB, 2, 2.0)
    assert idle.next_to_give_way(TWO) == (TWO, BOB)
    assert idle.next_to_give_way(ONE) == (ONE, ALICE)


def test_a_lease_that_is_held_again_does_not_give_way() -> None:
    idle = IdleLeases()
    idle.add(ONE, ALICE, 2, 1.0)
    idle.add(ONE, BOB, 2, 2.0)
    idle.discard(ONE, ALICE)
    assert idle.since(ONE, ALICE) is None
    assert idle.next_to_give_way(NEW) == (ONE, BOB)
    idle.discard(ONE, BOB)
    assert not idle
    with pytest.raises(KeyError):
        idle.next_to_give_way(NEW)


def test_a_lease_that_becomes_idle_once_more_stands_last() -> None:
    idle = IdleLeases()
    idle.add(ONE, ALICE, 2, 1.0)
    idle.add(ONE, BOB, 2, 2.0)
    idle.add(ONE, ALICE, 2, 3.0)
    assert idle.next_to_give_way(NEW) == (ONE, BOB)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "discard", "resize"]),
            st.sampled_from([ONE, TWO, NEW]),
            st.sampled_from([ALICE, BOB, CAROL]),
            st.integers(1, 4),
        ),
        max_size=40,
    )
)
def test_it_chooses_as_a_search_through_all_of_them_would(
    steps: list[tuple[str, bytes, EdgeId, int]],
) -> None:
    idle = IdleLeases()
    since: dict[tuple[bytes, EdgeId], float] = {}
    sizes = dict.fromkeys((ONE, TWO, NEW), 1)
    for now, (step, community, edge, size) in enumerate(steps):
        if step == "add":
            idle.add(community, edge, sizes[community], float(now))
            since[community, edge] = float(now)
        elif step == "discard":
            idle.discard(community, edge)
            since.pop((community, edge), None)
        else:
            idle.resize(community, size)
            sizes[community] = size
        assert bool(idle) == bool(since)
        if since:
            chosen, who = idle.next_to_give_way(b"x" * 32)
            assert sizes[chosen] == max(sizes[each] for each, _ in since)
            assert who == min((moment, e) for (c, e), moment in since.items() if c == chosen)[1]
