"""Indexes are unique and never zero, numbers only grow, and jitter stays inside its bounds."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from mesh.core.context import IndexTable
from mesh.crypto.session import Session
from mesh.crypto.suite import Suite
from mesh.events import DropReason
from tests.core.edge_alone import edge_context


def entropy_of(*numbers: int) -> Callable[[int], bytes]:
    values = iter(numbers)
    return lambda size: next(values).to_bytes(size, "big")


def session(our_index: int, their_index: int) -> Session:
    key = bytes(32)
    return Session(
        our_index=our_index,
        their_index=their_index,
        suite=Suite.AESGCM_SHA256,
        seal_key=key,
        open_key=key,
        is_initiator=True,
        their_static=key,
        handshake_hash=key,
        created_at=0.0,
    )


def test_an_index_is_never_zero_nor_one_that_is_in_use() -> None:
    table = IndexTable(entropy_of(5, 0, 5, 6, 5, 6, 7))
    assert table.allocate("a") == 5
    assert table.allocate("b") == 6
    table.establish(session(5, 1), "a")
    assert table.allocate("c") == 7


def test_an_established_session_waits_no_more_and_is_found_by_both_indexes() -> None:
    table = IndexTable(entropy_of(5))
    one = session(table.allocate("a"), 99)
    table.establish(one, "a")
    assert table.waiting == {}
    assert table.sessions == {5: (one, "a")}
    assert table.find_by_their_index(99) == (one, "a")
    assert table.find_by_their_index(5) is None


def test_what_is_released_is_not_found_any_more() -> None:
    table = IndexTable(entropy_of(5, 6))
    one = session(table.allocate("a"), 99)
    table.establish(one, "a")
    table.allocate("b")
    table.release(5)
    table.release(6)
    table.release(6)
    assert len(table) == 0
    assert table.find_by_their_index(99) is None


def test_the_older_of_two_sessions_for_one_index_does_not_take_the_younger_with_it() -> None:
    table = IndexTable(entropy_of(5, 6))
    old, new = session(table.allocate("a"), 99), session(table.allocate("b"), 99)
    table.establish(old, "a")
    table.establish(new, "b")
    table.retire([old])
    assert table.find_by_their_index(99) == (new, "b")


@given(st.lists(st.sampled_from(["allocate", "establish", "release"]), max_size=60), st.randoms())
def test_no_two_owners_ever_have_the_same_index(steps: list[str], dice: object) -> None:
    few = iter(range(10_000))
    table = IndexTable(lambda size: (next(few) % 97 // 2).to_bytes(size, "big"))
    owners: dict[int, int] = {}
    for number, step in enumerate(steps):
        if step == "allocate" and len(owners) < 20:
            index = table.allocate(number)
            assert index not in owners
            owners[index] = number
        elif owners:
            index = dice.choice(sorted(owners))  # type: ignore[attr-defined]
            if step == "establish":
                table.establish(session(index, 1 + number), owners[index])
            else:
                table.release(index)
                del owners[index]
        everybody = table.waiting | {i: owner for i, (_, owner) in table.sessions.items()}
        assert everybody == owners
        assert len(table) == len(owners)


def test_initiation_numbers_grow_from_the_epoch_on() -> None:
    first, second = edge_context(epoch=7), edge_context(epoch=8)
    numbers = [first.next_number() for _ in range(3)] + [second.next_number()]
    assert numbers == sorted(set(numbers))
    assert [number >> 32 for number in numbers] == [7, 7, 7, 8]


@given(st.floats(0.1, 100.0), st.integers(0, 1000))
def test_jitter_only_adds_and_no_more_than_its_share(interval: float, seed: int) -> None:
    assert interval <= edge_context(seed).jitter(interval, 0.2) <= interval * 1.2 * (1 + 1e-12)


def test_drops_are_counted_by_reason() -> None:
    context = edge_context()
    context.drop(DropReason.NO_PATH)
    context.drop(DropReason.NO_PATH, 4)
    assert context.drops == {DropReason.NO_PATH: 5}
