"""What was just flooded reaches a peer whose session comes up now, and nothing older does."""

from mesh.addresses import EdgeId
from mesh.core.recent import (
    MAX_RECENT_FRAME_BYTES,
    MAX_RECENT_FRAMES,
    RECENT_LIFETIME,
    RecentFrames,
)
from tests.world import World

NEW, HEARD = EdgeId(b"n" * 16), EdgeId(b"h" * 16)


def test_only_what_is_recent_and_small_is_kept() -> None:
    recent = RecentFrames()
    recent.note(memoryview(b"old" * 20), [], 0.0)
    recent.note(memoryview(b"new" * 20), [HEARD], RECENT_LIFETIME)
    recent.note(memoryview(bytes(MAX_RECENT_FRAME_BYTES + 1)), [], RECENT_LIFETIME)
    assert recent.missed_by(NEW, RECENT_LIFETIME + 0.5) == [b"new" * 20]
    assert recent.missed_by(HEARD, RECENT_LIFETIME + 0.5) == []


def test_a_flood_leaves_only_the_latest_frames() -> None:
    recent = RecentFrames()
    for number in range(1000):
        recent.note(memoryview(number.to_bytes(60, "big")), [], 1.0)
    assert recent.missed_by(NEW, 1.0) == [
        number.to_bytes(60, "big") for number in range(1000 - MAX_RECENT_FRAMES, 1000)
    ]


def test_a_question_asked_before_the_peer_came_is_heard_by_it_once() -> None:
    world = World(seed=77)
    world.add_supernode()
    asker = world.add_edge("asker")
    world.run_for(2)
    stale = world.send_frame(asker)
    world.run_for(RECENT_LIFETIME + 0.1)
    question = world.send_frame(asker)
    late = world.add_edge("late")
    world.run_for(3)
    assert world.count_received(late, question) == 1
    assert world.count_received(late, stale) == 0
