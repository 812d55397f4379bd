import pytest

from mesh.datapath.arena import Arena
from mesh.errors import LocalError


def test_pieces_do_not_overlap_until_all_are_taken_back() -> None:
    arena = Arena(100)
    pieces = [arena.take(30) for _ in range(10)]
    for number, piece in enumerate(pieces):
        piece[:] = bytes([number]) * 30
    assert [bytes(piece) for piece in pieces] == [bytes([number]) * 30 for number in range(10)]


def test_room_is_used_again_after_a_rewind() -> None:
    arena = Arena(100)
    first = arena.take(60)
    arena.rewind()
    second = arena.take(60)
    second[:] = b"x" * 60
    assert bytes(first) == b"x" * 60


def test_more_than_a_chunk_is_refused() -> None:
    with pytest.raises(LocalError):
        Arena(100).take(101)
