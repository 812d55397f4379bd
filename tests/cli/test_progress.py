"""When a join is hopeless, and what is said then."""

import pytest

from mesh import events
from mesh.addresses import Endpoint
from mesh.cli.progress import JoinFailed, JoinProgress
from mesh.cli.supernodes import SupernodeTarget
from mesh.cli.values import HostPort
from mesh.errors import RefusalReason, RegistrationRefused

EXPECTED, FOUND = "a" * 32, "b" * 32
MISMATCH = events.SupernodeKeyMismatch(0, EXPECTED, FOUND)
TAKEN = events.Refused(0, RefusalReason.ADDRESS_TAKEN, "by\x1b[2J somebody")
REGISTERED = events.Registered(0, "10.1.2.3/22", Endpoint("1.2.3.4", 5), is_first=True)


def target(host: str) -> SupernodeTarget:
    return SupernodeTarget((HostPort(host, 7777),), "", "remove the line")


def test_a_refusal_before_joining_ends_it_with_the_reason_and_harmless_detail() -> None:
    with pytest.raises(RegistrationRefused) as caught:
        JoinProgress((target("a"),)).handle(TAKEN)
    assert "another member" in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_refusal_after_joining_does_not_end_it() -> None:
    progress = JoinProgress((target("a"),))
    progress.handle(REGISTERED)
    progress.handle(TAKEN)
    progress.handle(MISMATCH)
    assert progress.has_joined


def test_with_several_supernodes_all_have_to_refuse() -> None:
    progress = JoinProgress((target("a"), target("b")))
    progress.handle(TAKEN)
    mismatch = events.SupernodeKeyMismatch(1, EXPECTED, FOUND)
    progress.handle(mismatch)
    with pytest.raises(JoinFailed):
        progress.handle(mismatch)


def test_one_wrong_key_may_be_injected_and_ends_nothing() -> None:
    progress = JoinProgress((target("a"),))
    progress.handle(MISMATCH)
    progress.handle(REGISTERED)
    assert progress.has_joined


def test_a_changed_key_is_told_with_both_fingerprints_and_what_to_do() -> None:
    progress = JoinProgress((target("a"),))
    progress.handle(MISMATCH)
    with pytest.raises(JoinFailed) as caught:
        progress.handle(MISMATCH)
    for part in ("a:7777", EXPECTED, FOUND, "remove the line"):
        assert part in str(caught.value)


def test_a_second_edge_with_our_identity_always_ends_it() -> None:
    progress = JoinProgress((target("a"),))
    progress.handle(REGISTERED)
    with pytest.raises(JoinFailed, match="another machine registered"):
        progress.handle(events.Replaced(0))


def test_a_second_edge_with_our_identity_on_one_of_two_supernodes_leaves_the_other() -> None:
    progress = JoinProgress((target("a"), target("b")))
    progress.handle(REGISTERED)
    progress.handle(events.Replaced(0))
    progress.handle(events.Replaced(0))
    with pytest.raises(JoinFailed, match="another machine registered"):
        progress.handle(events.Replaced(1))


def test_a_version_hint_is_no_reason_to_stop_since_anybody_can_forge_it() -> None:
    progress = JoinProgress((target("a"),))
    progress.handle(events.SupernodeVersion(0, 2))
    assert not progress.has_joined
