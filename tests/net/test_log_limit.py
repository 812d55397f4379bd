from mesh.net.log_limit import LogLimit


def test_the_first_line_of_a_reason_passes() -> None:
    assert LogLimit().ask("send ENETUNREACH", 0.0) == 0


def test_a_second_line_within_a_second_is_held_back_and_counted() -> None:
    limit = LogLimit()
    limit.ask("a", 0.0)
    assert limit.ask("a", 0.5) is None
    assert limit.ask("a", 0.9) is None
    assert limit.ask("a", 1.0) == 2


def test_reasons_do_not_hold_back_each_other() -> None:
    limit = LogLimit()
    limit.ask("a", 0.0)
    assert limit.ask("b", 0.0) == 0


def test_a_reason_that_goes_on_for_a_day_is_logged_at_most_once_a_minute() -> None:
    limit = LogLimit()
    lines = sum(limit.ask("a", float(second)) is not None for second in range(86400))
    assert 1000 < lines <= 1440 + 7


def test_a_reason_that_was_quiet_is_logged_at_once_again() -> None:
    limit = LogLimit()
    for second in range(100):
        limit.ask("a", float(second))
    assert limit.ask("a", 1000.0) is not None
    assert limit.ask("a", 1001.0) is not None


def test_the_table_of_reasons_has_a_cap() -> None:
    limit = LogLimit()
    for number in range(10_000):
        limit.ask(str(number), 0.0)
    assert len(limit._reasons) <= 256


def test_inventing_reasons_does_not_fill_a_disk() -> None:
    limit = LogLimit()
    lines = sum(
        limit.ask(f"peer {number % 300}", second + number / 1000) is not None
        for second in range(100)
        for number in range(300)
    )
    assert lines <= 100 + 10 * 100


def test_many_reasons_do_not_switch_the_limit_on_log_lines_off() -> None:
    limit = LogLimit()
    passed = [limit.ask(f"PeerUp {n % 300}", n / 100) for n in range(30_000)]
    assert sum(held_back is not None for held_back in passed) < 10_000
