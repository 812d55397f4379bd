"""Sizes to try, for every size that a way may have."""

import pytest

from mesh.core.size_search import LARGEST_TRIED, USUAL_SIZES, SizeSearch


def search(limit: int) -> tuple[int, int]:
    """Return what is found on a way that lets ``limit`` bytes pass, and how much was sent."""
    sizes = SizeSearch()
    sent = 0
    while tried := sizes.next_round():
        sent += len(tried)
        for size in tried:
            if size <= limit:
                sizes.passed(size)
    return sizes.largest, sent


@pytest.mark.parametrize("limit", range(1280, 1520))
def test_what_is_found_is_no_more_than_passes_and_at_most_eight_bytes_less(limit: int) -> None:
    found, sent = search(limit)
    most = min(limit, LARGEST_TRIED)
    assert most - 8 < found <= most
    assert sent <= 16


@pytest.mark.parametrize("limit", USUAL_SIZES)
def test_usual_sizes_are_found_exactly(limit: int) -> None:
    assert search(limit)[0] == limit


def test_nothing_is_found_where_not_even_ipv6s_least_passes() -> None:
    assert search(1279) == (0, len(USUAL_SIZES))


def test_an_ethernet_takes_one_round() -> None:
    assert search(1500) == (1500, len(USUAL_SIZES))


def test_losses_in_a_round_only_make_the_result_smaller() -> None:
    sizes = SizeSearch()
    sizes.next_round()
    sizes.passed(1400)
    sizes.passed(1280)
    assert all(1400 < size < 1420 for size in sizes.next_round())
    assert sizes.next_round() == ()
    assert sizes.largest == 1400
