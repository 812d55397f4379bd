"""mesh.datapath.fragment: frames cut are frames again, once, and nobody can fill our memory."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.constants import MAX_FRAGMENTS, MAX_FRAME_BYTES, MAX_INCOMPLETE_FRAMES
from mesh.datapath.fragment import Csum, Reassembler, cut
from mesh.errors import LocalError
from mesh.wire.inner import is_checksum_inside

NO_CSUM: Csum = (0, 0)

Piece = tuple[int, int, int, Csum, bytes]

frames = st.builds(
    lambda size, seed: bytes((at * seed + (at >> 8)) & 0xFF for at in range(size)),
    st.integers(14, MAX_FRAME_BYTES) | st.integers(14, 100),
    st.integers(1, 255),
)


def pieces_of(frame: bytes, frame_number: int = 0, count: int = 4) -> list[Piece]:
    """Return what a peer sends for a frame, as `Reassembler.add` takes it, ``count`` at most."""
    cut_up = cut(frame, -(-len(frame) // count))
    return [
        (frame_number, index, len(cut_up), NO_CSUM, bytes(piece))
        for index, piece in enumerate(cut_up)
    ]


def add_all(
    reassembler: Reassembler, pieces: Iterable[Piece], now: float = 0.0
) -> list[tuple[bytes, Csum]]:
    """Return the frames that the pieces complete."""
    added = (reassembler.add(*piece, now) for piece in pieces)
    return [frame for frame in added if frame is not None]


class TestCutting:
    @given(frames, st.integers(564, 9018))
    def test_pieces_joined_are_the_frame(self, frame: bytes, piece_bytes_max: int) -> None:
        pieces = cut(frame, piece_bytes_max)
        assert b"".join(pieces) == frame
        assert len(pieces) == -(-len(frame) // piece_bytes_max) <= MAX_FRAGMENTS

    @given(st.integers(1, 500), st.integers(1, 500))
    def test_all_but_the_last_are_equally_long(self, length: int, piece_bytes_max: int) -> None:
        if length > MAX_FRAGMENTS * piece_bytes_max:
            with pytest.raises(LocalError):
                cut(bytes(length), piece_bytes_max)
            return
        sizes = [len(piece) for piece in cut(bytes(length), piece_bytes_max)]
        assert sum(sizes) == length
        assert len(set(sizes[:-1])) <= 1
        assert 0 < sizes[-1] <= sizes[0] <= piece_bytes_max

    def test_a_frame_that_is_a_little_too_long_is_halved(self) -> None:
        assert [len(piece) for piece in cut(bytes(1514), 1400)] == [757, 757]

    def test_pieces_are_views(self) -> None:
        frame = bytearray(100)
        pieces = cut(frame, 50)
        frame[:] = b"\xff" * 100
        assert bytes(pieces[1]) == b"\xff" * 50

    @pytest.mark.parametrize(("length", "piece_bytes_max"), [(17, 1), (9018, 563), (10, 0), (0, 9)])
    def test_what_does_not_fit_sixteen_pieces_is_our_own_fault(
        self, length: int, piece_bytes_max: int
    ) -> None:
        with pytest.raises(LocalError):
            cut(bytes(length), piece_bytes_max)


class TestReassembly:
    @given(st.data())
    def test_any_order_with_copies_gives_every_frame_exactly_once(
        self, data: st.DataObject
    ) -> None:
        sent = data.draw(st.dictionaries(st.integers(0, 65535), frames, min_size=1, max_size=4))
        pieces = [
            piece
            for number, frame in sent.items()
            for piece in pieces_of(frame, number, data.draw(st.integers(1, 16)))
        ]
        copies = data.draw(st.lists(st.sampled_from(pieces), max_size=30))
        arriving = data.draw(st.permutations(pieces + copies))
        reassembler = Reassembler()
        received = add_all(reassembler, arriving)
        assert sorted(received) == sorted((frame, NO_CSUM) for frame in sent.values())
        assert len(reassembler) == 0
        assert reassembler.dropped == 0

    def test_the_last_missing_piece_delivers_whichever_it_is(self) -> None:
        frame = bytes(range(100))
        first, second = pieces_of(frame, count=2)
        reassembler = Reassembler()
        assert reassembler.add(*second, 0.0) is None
        assert reassembler.add(*first, 0.0) == (frame, NO_CSUM)

    def test_pieces_are_copied(self) -> None:
        lent = bytearray(b"a" * 20)
        reassembler = Reassembler()
        assert reassembler.add(1, 0, 2, NO_CSUM, memoryview(lent), 0.0) is None
        lent[:] = b"b" * 20
        assert reassembler.add(1, 1, 2, NO_CSUM, memoryview(lent), 0.0) == (
            b"a" * 20 + b"b" * 20,
            NO_CSUM,
        )

    def test_the_csum_fields_come_with_the_frame(self) -> None:
        reassembler = Reassembler()
        assert reassembler.add(1, 0, 2, (34, 6), bytes(30), 0.0) is None
        assert reassembler.add(1, 1, 2, (34, 6), bytes(30), 0.0) == (bytes(60), (34, 6))

    def test_a_piece_that_disagrees_is_dropped_and_counted(self) -> None:
        reassembler = Reassembler()
        reassembler.add(1, 0, 2, (34, 6), bytes(30), 0.0)
        assert reassembler.add(1, 1, 3, (34, 6), bytes(30), 0.0) is None
        assert reassembler.add(1, 1, 2, (34, 16), bytes(30), 0.0) is None
        assert reassembler.dropped == 2
        assert reassembler.add(1, 1, 2, (34, 6), bytes(30), 0.0) is not None

    def test_a_copy_after_the_delivery_starts_nothing(self) -> None:
        reassembler = Reassembler()
        pieces = pieces_of(bytes(100), count=2)
        assert len(add_all(reassembler, [*pieces, *pieces, *pieces])) == 1
        assert len(reassembler) == 0

    def test_a_frame_number_can_be_used_again_after_a_second(self) -> None:
        reassembler = Reassembler()
        pieces = pieces_of(bytes(100), count=2)
        assert len(add_all(reassembler, pieces, 0.0)) == 1
        assert len(add_all(reassembler, pieces, 1.0)) == 1

    def test_a_frame_incomplete_for_a_second_is_given_up_and_counted(self) -> None:
        reassembler = Reassembler()
        first, second = pieces_of(bytes(100), count=2)
        reassembler.add(*first, 0.0)
        reassembler.expire(0.999)
        assert len(reassembler) == 1
        reassembler.expire(1.0)
        assert (len(reassembler), reassembler.dropped) == (0, 1)
        assert reassembler.add(*second, 1.0) is None

    def test_a_late_piece_does_not_join_an_old_one(self) -> None:
        reassembler = Reassembler()
        first, second = pieces_of(bytes(100), count=2)
        reassembler.add(*first, 0.0)
        assert reassembler.add(*second, 1.5) is None
        assert reassembler.dropped == 1


class TestLimits:
    def test_the_oldest_incomplete_frame_gives_way(self) -> None:
        reassembler = Reassembler()
        firsts, seconds = zip(
            *(pieces_of(bytes(100), number, 2) for number in range(MAX_INCOMPLETE_FRAMES + 1)),
            strict=True,
        )
        assert add_all(reassembler, firsts) == []
        assert len(reassembler) == MAX_INCOMPLETE_FRAMES
        assert reassembler.dropped == 1
        assert len(add_all(reassembler, seconds[1:])) == MAX_INCOMPLETE_FRAMES

    def test_a_frame_of_more_than_9018_bytes_is_given_up_at_once(self) -> None:
        reassembler = Reassembler()
        for index in range(8):
            reassembler.add(1, index, 16, NO_CSUM, bytes(1200), 0.0)
        assert (len(reassembler), reassembler.dropped) == (0, 1)

    def test_the_longest_frame_is_delivered(self) -> None:
        frame = bytes(MAX_FRAME_BYTES)
        assert add_all(Reassembler(), pieces_of(frame, count=16)) == [(frame, NO_CSUM)]

    def test_a_frame_of_fewer_than_14_bytes_is_not_delivered(self) -> None:
        reassembler = Reassembler()
        assert add_all(reassembler, pieces_of(bytes(13), count=2)) == []
        assert reassembler.dropped == 1

    @pytest.mark.parametrize("csum", [(34, 65), (1, 16), (99, 0), (65535, 255)])
    def test_a_partial_checksum_outside_the_frame_is_not_delivered(self, csum: Csum) -> None:
        reassembler = Reassembler()
        assert reassembler.add(1, 0, 1, csum, bytes(100), 0.0) is None
        assert reassembler.dropped == 1

    def test_what_was_delivered_is_remembered_within_bounds(self) -> None:
        reassembler = Reassembler()
        for number in range(5000):
            assert add_all(reassembler, pieces_of(bytes(20), number, 2))
        assert len(reassembler._delivered) <= 256

    @given(
        st.lists(
            st.tuples(
                st.integers(0, 100),
                st.integers(0, 20) | st.integers(0, 255),
                st.integers(0, 20) | st.integers(0, 255),
                st.tuples(st.integers(0, 65535) | st.integers(0, 40), st.integers(0, 255)),
                st.binary(max_size=40) | st.integers(0, 9100).map(bytes),
            ),
            max_size=150,
        ),
        st.lists(st.floats(0.0, 0.5), min_size=150, max_size=150),
    )
    def test_hostile_fragments_never_raise_and_every_cap_holds(
        self, pieces: list[Piece], pauses: list[float]
    ) -> None:
        reassembler = Reassembler()
        now = 0.0
        for piece, pause in zip(pieces, pauses, strict=False):
            now += pause
            delivered = reassembler.add(*piece, now)
            if delivered is not None:
                frame, (csum_start, csum_offset) = delivered
                assert 14 <= len(frame) <= MAX_FRAME_BYTES
                assert csum_start == 0 or is_checksum_inside(len(frame), csum_start, csum_offset)
            assert len(reassembler) <= MAX_INCOMPLETE_FRAMES
            assert all(
                sum(len(held) for held in incomplete.pieces if held) <= MAX_FRAME_BYTES
                for incomplete in reassembler._incomplete.values()
            )
        reassembler.expire(now + 1.0)
        assert len(reassembler) == 0
        assert not reassembler._delivered
