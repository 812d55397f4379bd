"""Fuzz target: handshakes whose datagrams were changed on the way, their MACs made right again.

A member of the community, or whoever knows a supernode, can make those MACs; what comes behind them
is Noise's, and a changed datagram never leads to a session.
"""

import contextlib
from collections.abc import Callable

from mesh.crypto.cookie import (
    MAC1_KEY_SUPERNODE,
    MACS_BYTES,
    CookieSecret,
    add_macs,
    has_valid_mac1,
    mac1_key_peer,
    mac1_of,
    open_cookie_reply_untrusted,
)
from mesh.crypto.handshake import PeerInitiation, SupernodeInitiation, SupernodeInitiator
from mesh.crypto.suite import Suite
from mesh.errors import RemoteError
from tests.core.edge_alone import HOME
from tests.crypto.actors import (
    ALICE,
    ALICE_INDEX,
    BOB,
    BOB_INDEX,
    COMMUNITY,
    SUPERNODE,
    initiate_to_bob,
    seeded_entropy,
)
from tests.fuzz.cursor import Cursor

_K1 = mac1_key_peer(COMMUNITY, BOB.public_key)
_INDEX = slice(4, 8)
"""Where the sender's index stands: for the sender alone, so that nothing else depends on it."""


def _changed(datagram: bytes, cursor: Cursor) -> bytes:
    """Return the datagram with a few bytes changed, shortened or lengthened."""
    changed = bytearray(datagram)
    for _ in range(cursor.choice(4)):
        changed[cursor.number(2) % len(changed)] ^= cursor.number()
    match cursor.choice(4):
        case 0:
            del changed[cursor.number(2) % (len(changed) + 1) :]
        case 1:
            changed += cursor.some(cursor.number())
        case _:
            pass
    return bytes(changed)


def _without_index(datagram: bytes) -> bytes:
    return datagram[: _INDEX.start] + datagram[_INDEX.stop :]


def _check(receive: Callable[[bytes], object], honest: bytes, received: bytes) -> None:
    """Assert that what was changed is refused, and what was not is taken."""
    try:
        receive(received)
    except RemoteError:
        assert received != honest
    else:
        assert _without_index(received) == _without_index(honest)


def _peer_initiation(cursor: Cursor) -> None:
    def receive(message: bytes) -> None:
        PeerInitiation.receive_untrusted(add_macs(message, _K1, None), BOB, COMMUNITY)

    honest = initiate_to_bob().datagram[:-MACS_BYTES]
    _check(receive, honest, _changed(honest, cursor))


def _peer_response(cursor: Cursor) -> None:
    initiator = initiate_to_bob()
    initiation = PeerInitiation.receive_untrusted(initiator.datagram, BOB, COMMUNITY)
    honest, _ = initiation.respond(BOB_INDEX, seeded_entropy(11), 0.0)
    received = _changed(honest, cursor)
    _check(lambda datagram: initiator.receive_response_untrusted(datagram, 0.0), honest, received)


def _to_supernode() -> SupernodeInitiator:
    return SupernodeInitiator(ALICE, Suite.AESGCM_SHA256, ALICE_INDEX, seeded_entropy(10))


def _supernode_initiation(cursor: Cursor) -> None:
    message = _changed(_to_supernode().datagram[:-MACS_BYTES], cursor)
    # Noise XX: its first message is not authenticated yet.
    with contextlib.suppress(RemoteError):
        SupernodeInitiation.receive_untrusted(
            add_macs(message, MAC1_KEY_SUPERNODE, None), SUPERNODE
        )


def _supernode_response(cursor: Cursor) -> None:
    initiator = _to_supernode()
    initiation = SupernodeInitiation.receive_untrusted(initiator.datagram, SUPERNODE)
    honest = initiation.respond(BOB_INDEX, seeded_entropy(11))
    _check(initiator.receive_response_untrusted, honest, _changed(honest, cursor))


def _supernode_confirmation(cursor: Cursor) -> None:
    initiator = _to_supernode()
    initiation = SupernodeInitiation.receive_untrusted(initiator.datagram, SUPERNODE)
    initiator.receive_response_untrusted(initiation.respond(BOB_INDEX, seeded_entropy(11)))
    honest, _ = initiator.confirm(0.0)
    received = _changed(honest, cursor)
    _check(lambda one: initiation.receive_confirmation_untrusted(one, 0.0), honest, received)


def _cookie(cursor: Cursor) -> None:
    initiation = initiate_to_bob().datagram
    secret = CookieSecret(seeded_entropy(12))
    honest = secret.reply(initiation, HOME, _K1, 0.0)
    has_valid_mac1(_changed(initiation, cursor), _K1)
    mac1, received = mac1_of(initiation), _changed(honest, cursor)
    _check(lambda one: open_cookie_reply_untrusted(one, _K1, mac1), honest, received)


_STEPS = (
    _peer_initiation,
    _peer_response,
    _supernode_initiation,
    _supernode_response,
    _supernode_confirmation,
    _cookie,
)


def fuzz_handshake(data: bytes) -> None:
    """One datagram of a handshake."""
    cursor = Cursor(data)
    _STEPS[cursor.choice(len(_STEPS))](cursor)
