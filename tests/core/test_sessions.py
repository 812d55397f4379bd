"""The slots: what sealed lately still opens, however two rekeys cross, and nothing old does."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mesh.constants import REJECT_AFTER_TIME
from mesh.core.sessions import MAX_PREVIOUS, SessionSlots
from mesh.crypto.session import Session
from mesh.crypto.suite import Suite

_INDEXES = itertools.count(1)


def session(created_at: float = 0.0, *, is_initiator: bool = True) -> Session:
    key = bytes(32)
    return Session(
        our_index=next(_INDEXES),
        their_index=1,
        suite=Suite.AESGCM_SHA256,
        seal_key=key,
        open_key=key,
        is_initiator=is_initiator,
        their_static=key,
        handshake_hash=key,
        created_at=created_at,
    )


def test_a_session_that_we_initiated_seals_at_once() -> None:
    slots, ours = SessionSlots(), session(5.0)
    assert slots.initiated(ours) == []
    assert slots.current is ours
    assert slots.seals_until == 5.0 + REJECT_AFTER_TIME


def test_a_session_that_the_peer_initiated_seals_once_something_opened_under_it() -> None:
    slots, old, theirs = SessionSlots(), session(), session(7.0, is_initiator=False)
    slots.initiated(old)
    slots.responded(theirs)
    assert slots.current is old
    assert slots.next is theirs
    assert slots.confirmed() == []
    assert slots.current is theirs
    assert slots.next is None
    assert slots.seals_until == 7.0 + REJECT_AFTER_TIME
    assert old in list(slots)


def test_a_second_answer_takes_the_place_of_the_first_only() -> None:
    slots, current, first, second = SessionSlots(), session(), session(), session()
    slots.initiated(current)
    slots.responded(first)
    assert slots.responded(second) == [first]
    assert list(slots) == [current, second]


def test_a_peer_that_only_initiates_never_ends_the_current_session() -> None:
    slots, current = SessionSlots(), session()
    slots.initiated(current)
    for _ in range(10):
        slots.responded(session())
    assert slots.current is current
    assert len(list(slots)) == 2


def test_both_sides_may_initiate_at_once_and_all_four_sessions_open() -> None:
    slots = SessionSlots()
    old, current, theirs, ours = session(), session(), session(), session()
    slots.initiated(old)
    slots.initiated(current)
    slots.responded(theirs)
    assert slots.initiated(ours) == [old]
    assert slots.current is ours
    assert slots.next is None
    assert set(slots) == {current, theirs, ours}


def test_nothing_is_confirmed_where_nothing_was_answered() -> None:
    slots, current = SessionSlots(), session()
    slots.initiated(current)
    assert slots.confirmed() == []
    assert slots.current is current


def test_expired_sessions_are_dropped_from_every_slot() -> None:
    slots = SessionSlots()
    previous, current, following = session(0.0), session(1.0), session(2.0)
    slots.initiated(previous)
    slots.initiated(current)
    slots.responded(following)
    assert slots.drop_expired(REJECT_AFTER_TIME - 0.1) == []
    assert slots.drop_expired(REJECT_AFTER_TIME) == [previous]
    assert slots.seals_until == 1.0 + REJECT_AFTER_TIME
    assert slots.drop_expired(REJECT_AFTER_TIME + 1.0) == [current]
    assert (slots.current, slots.seals_until) == (None, 0.0)
    assert slots.drop_expired(REJECT_AFTER_TIME + 2.0) == [following]
    assert list(slots) == []


def test_of_two_previous_sessions_the_older_one_gives_way() -> None:
    slots = SessionSlots()
    oldest, overtaken, third, fourth = (session(float(at)) for at in range(4))
    slots.initiated(oldest)
    slots.responded(overtaken)
    slots.initiated(third)
    assert slots.initiated(fourth) == [oldest]
    assert overtaken in list(slots)


@given(st.lists(st.sampled_from(["ours", "theirs", "confirmed", "time"]), max_size=60))
def test_a_session_of_the_last_two_rekeys_opens_and_every_other_one_is_given_back(
    steps: list[str],
) -> None:
    slots, alive = SessionSlots(), set()
    currents: list[Session] = []
    overtaken: list[Session] = []
    now = 0.0
    for step in steps:
        retired: list[Session] = []
        if step == "ours":
            # Both sides may start a rekey at the same moment: the peer already seals under its own.
            overtaken = [slots.next] if slots.next is not None else []
            currents.append(session(now))
            alive.add(currents[-1])
            retired = slots.initiated(currents[-1])
        elif step == "theirs":
            theirs = session(now, is_initiator=False)
            alive.add(theirs)
            retired = slots.responded(theirs)
        elif step == "confirmed" and slots.next is not None:
            currents.append(slots.next)
            overtaken = []
            retired = slots.confirmed()
        elif step == "time":
            now += 50.0
            retired = slots.drop_expired(now)
        assert len(retired) == len(set(retired))
        alive -= set(retired)
        assert set(slots) == alive
        assert {s for s in currents[-2:] + overtaken if not s.is_expired(now)} <= alive
        assert len(alive) <= 2 + MAX_PREVIOUS
