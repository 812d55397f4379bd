"""One try to register, against a supernode that says what it is told to."""

import pytest

from mesh.addresses import Endpoint
from mesh.core.attempt import CONFIRMATIONS_PER_ATTEMPT, Attempt, Stage
from mesh.core.outbox import Via
from mesh.crypto.cookie import MAC1_KEY_SUPERNODE, CookieSecret
from mesh.crypto.handshake import SupernodeInitiation
from mesh.crypto.identity import Identity
from mesh.crypto.suite import Suite
from mesh.errors import MalformedMessage, NotAuthentic
from mesh.wire.datagram import DatagramType
from mesh.wire.messages import AddressMode, Register, decode_message
from tests.core.edge_alone import SUPERNODE, dice, edge_context, split

VIA = Via(0, SUPERNODE)
MOVED = Via(0, Endpoint("203.0.113.2", 7777))
REGISTER = Register(bytes(32), bytes(64), bytes(8), AddressMode.AUTO, "", (), aes=True)


class Try:
    """An attempt, and the supernode's side of its handshake."""

    def __init__(self, *, has_aes: bool = True, cookie: bytes | None = None) -> None:
        self.context = edge_context(has_aes=has_aes)
        self.supernode = Identity.generate(dice(40))
        self.attempt = Attempt(self.context, "owner", [VIA], cookie)
        [(self.initiation, self.sent_to)] = split(self.context.outbox.take())

    def response(self, identity: Identity | None = None) -> bytes:
        key = identity or self.supernode
        self.pending = SupernodeInitiation.receive_untrusted(self.initiation, key)
        return self.pending.respond(0x500, dice(41))

    def confirmed(self) -> "Try":
        self.attempt.receive_response_untrusted(self.response())
        self.attempt.confirm(VIA, 1.0)
        return self


def test_an_attempt_starts_with_an_initiation_for_its_endpoint() -> None:
    one = Try()
    assert one.sent_to == SUPERNODE
    assert one.initiation[0] == DatagramType.SUPERNODE_INITIATION
    assert one.attempt.stage is Stage.INITIATED
    assert list(one.context.indexes.waiting.values()) == ["owner"]


@pytest.mark.parametrize(
    ("has_aes", "suite"), [(True, Suite.AESGCM_SHA256), (False, Suite.CHACHAPOLY_BLAKE2S)]
)
def test_the_suite_is_the_one_that_suits_our_cpu(*, has_aes: bool, suite: Suite) -> None:
    assert Try(has_aes=has_aes).initiation[2] == suite


def test_a_response_proves_a_fingerprint_and_commits_to_nothing() -> None:
    one = Try()
    assert one.attempt.receive_response_untrusted(one.response()) == one.supernode.fingerprint
    assert one.attempt.stage is Stage.INITIATED
    assert one.context.outbox.take() == []


def test_the_right_supernode_can_still_answer_after_an_impostor() -> None:
    one, impostor = Try(), Identity.generate(dice(50))
    assert one.attempt.receive_response_untrusted(one.response(impostor)) == impostor.fingerprint
    assert one.attempt.receive_response_untrusted(one.response()) == one.supernode.fingerprint
    one.attempt.confirm(VIA, 1.0)
    assert one.attempt.session is not None
    assert one.attempt.session.their_static == one.supernode.public_key


@pytest.mark.parametrize("at", [12, 50, 107])
def test_a_response_that_was_changed_on_its_way_is_refused_and_the_true_one_taken(at: int) -> None:
    one = Try()
    response = one.response()
    changed = bytearray(response)
    changed[at] ^= 1
    with pytest.raises(NotAuthentic):
        one.attempt.receive_response_untrusted(bytes(changed))
    assert one.attempt.receive_response_untrusted(response) == one.supernode.fingerprint


def test_a_confirmed_session_is_established_where_the_supernode_answered_from() -> None:
    one = Try()
    one.attempt.receive_response_untrusted(one.response())
    one.attempt.confirm(MOVED, 1.0)
    assert one.attempt.stage is Stage.CONFIRMED
    assert one.attempt.via == MOVED
    assert one.context.indexes.waiting == {}
    assert [owner for _, owner in one.context.indexes.sessions.values()] == ["owner"]


def test_the_registration_follows_the_confirmation_under_the_new_session() -> None:
    one = Try().confirmed()
    one.attempt.send_register(REGISTER)
    [(confirmation, _), (register, where)] = split(one.context.outbox.take())
    assert where == SUPERNODE
    session = one.pending.receive_confirmation_untrusted(confirmation, 1.0)
    assert session.their_static == one.context.config.identity.public_key
    assert decode_message(session.open_untrusted(register)[4:]) == REGISTER


def test_a_repeated_confirmation_is_the_same_and_a_repeated_register_no_replay() -> None:
    one = Try().confirmed()
    one.attempt.send_register(REGISTER)
    one.attempt.send_register(REGISTER)
    first, register, second, repeated = (d for d, _ in split(one.context.outbox.take()))
    assert first == second
    session = one.pending.receive_confirmation_untrusted(first, 1.0)
    assert session.open_untrusted(register) == session.open_untrusted(repeated)


def test_confirmation_and_registration_are_repeated_five_times_at_most() -> None:
    one = Try()
    assert not one.attempt.may_repeat
    one.confirmed()
    sent = 0
    while one.attempt.may_repeat:
        one.attempt.send_register(REGISTER)
        sent += 1
    assert sent == CONFIRMATIONS_PER_ATTEMPT == 5


def test_before_the_confirmation_there_is_no_session_to_register_under() -> None:
    one = Try()
    one.attempt.send_register(REGISTER)
    assert one.context.outbox.take() == []
    assert one.attempt.confirmations_sent == 0


def test_a_cookie_is_opened_while_the_initiation_waits_and_not_after_it() -> None:
    one, secret = Try(), CookieSecret(dice(60))
    reply = secret.reply(one.initiation, SUPERNODE, MAC1_KEY_SUPERNODE, 0.0)
    cookie = one.attempt.open_cookie_untrusted(reply)
    assert cookie is not None
    assert secret.has_valid_mac2(Try(cookie=cookie).initiation, SUPERNODE, 0.0)
    one.confirmed()
    assert one.attempt.open_cookie_untrusted(reply) is None


def test_a_cookie_that_does_not_verify_or_parse_says_so() -> None:
    one, secret = Try(), CookieSecret(dice(60))
    reply = secret.reply(one.initiation, SUPERNODE, MAC1_KEY_SUPERNODE, 0.0)
    with pytest.raises(NotAuthentic):
        one.attempt.open_cookie_untrusted(reply[:-1] + bytes([reply[-1] ^ 1]))
    with pytest.raises(MalformedMessage):
        one.attempt.open_cookie_untrusted(reply[:-1])


def test_an_abandoned_attempt_keeps_no_index_at_either_stage() -> None:
    for one in (Try(), Try().confirmed()):
        assert len(one.context.indexes) == 1
        one.attempt.abandon()
        assert len(one.context.indexes) == 0
