"""The jar shows a cookie while it is good, and lets one per retry start a handshake at once."""

from mesh.constants import COOKIE_LIFETIME
from mesh.core.cookie_jar import CookieJar

COOKIE = b"c" * 16
YOUNGER = b"y" * 16


def test_without_a_cookie_there_is_nothing_to_show() -> None:
    assert CookieJar().started(0.0) is None


def test_a_cookie_is_shown_until_its_lifetime_is_over() -> None:
    jar = CookieJar()
    jar.started(10.0)
    jar.put(COOKIE)
    assert jar.started(10.0) == COOKIE
    assert jar.started(10.0 + COOKIE_LIFETIME - 0.01) == COOKIE
    assert jar.started(10.0 + COOKIE_LIFETIME) is None
    assert jar.started(10.0) is None


def test_the_age_of_a_cookie_counts_from_the_question_that_it_answers() -> None:
    jar = CookieJar()
    for at in (10.0, 50.0):
        jar.started(at)
    jar.put(COOKIE)
    assert jar.started(50.0 + COOKIE_LIFETIME - 0.01) == COOKIE


def test_the_younger_of_two_cookies_is_shown() -> None:
    jar = CookieJar()
    jar.started(10.0)
    jar.put(COOKIE)
    jar.put(YOUNGER)
    assert jar.started(11.0) == YOUNGER


def test_one_cookie_per_retry_is_a_reason_to_start_at_once() -> None:
    jar = CookieJar()
    assert jar.put(COOKIE)
    assert not jar.put(COOKIE)
    jar.retried()
    assert jar.put(YOUNGER)
