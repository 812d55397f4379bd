"""Strangers: handshakes until an edge has proved its key, sessions until it registers.

docs/protocol.md sections 5.2, 5.4 and 7. A stranger passes through two bounded tables:

    initiation ──▶ pending handshake ──confirmation──▶ guest ──register──▶ (registry)
                        │ 5 s                           │ 5 s
                        ▼                               ▼
                    forgotten                       forgotten

When a table is full its oldest entry gives way: filling it gains an attacker nothing unless he
does so within the round trip of everybody else.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from mesh.constants import PROTOCOL_VERSION
from mesh.crypto.cookie import MAC1_KEY_SUPERNODE, CookieSecret, has_valid_mac1
from mesh.crypto.handshake import SupernodeInitiation
from mesh.crypto.identity import Identity
from mesh.crypto.session import Session
from mesh.engine import Buffer, Entropy
from mesh.events import DropReason
from mesh.wire.datagram import (
    classify_untrusted,
    encode_version_refusal,
    peek_receiver_index_untrusted,
)
from supernode.admission import Admission, Verdict, may_answer
from supernode.numbering import new_number
from supernode.origin import Origin

STRANGER_LIFETIME = 5.0  # s; section 5.3 starts a fresh handshake that often
MAX_GUEST_MESSAGES = 64  # a guest that is refused may try again, one that measures its way may ping


@dataclass(slots=True, eq=False, kw_only=True)
class _Stranger:
    origin: Origin
    expires_at: float


@dataclass(slots=True, eq=False, kw_only=True)
class _Pending(_Stranger):
    initiation: SupernodeInitiation


@dataclass(slots=True, eq=False, kw_only=True)
class Guest(_Stranger):
    """An edge that has proved its key and has not registered.

    Attributes:
        session: what it proved its key in.
        origin: the source that got our response, so no forged one.
        expires_at: when it is forgotten.
        messages_left: how many more messages are looked at.
    """

    session: Session
    messages_left: int = MAX_GUEST_MESSAGES


# Entries of a table live equally long, so that the first one in it is the first to expire.
_StrangerT = TypeVar("_StrangerT", bound=_Stranger)


class Reception:
    """Answers strangers.

    Args:
        identity: the supernode's.
        entropy: for ephemeral keys, indexes and cookies.
        max_strangers: the cap of either table.
        is_index_taken: whether a registered edge has a session of this index.
        answer: takes an answer and where to; what leaves through it keeps to section 17.
        count_drop: told why a datagram came to nothing.
    """

    def __init__(
        self,
        identity: Identity,
        entropy: Entropy,
        max_strangers: int,
        *,
        is_index_taken: Callable[[int], bool],
        answer: Callable[[bytes, Origin], None],
        count_drop: Callable[[DropReason, int], None],
    ) -> None:
        self._identity = identity
        self._entropy = entropy
        self._max_strangers = max_strangers
        self._is_registered_index = is_index_taken
        self._answer = answer
        self._count_drop = count_drop
        self._admission = Admission()
        self._cookies = CookieSecret(entropy)
        self._pending: OrderedDict[int, _Pending] = OrderedDict()
        self._guests: OrderedDict[int, Guest] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pending) + len(self._guests)

    def receive_initiation_untrusted(self, datagram: Buffer, origin: Origin, now: float) -> None:
        """Take in a datagram of type 6 of any version.

        Raises:
            MalformedMessage: it does not parse.
            NotAuthentic: its key cannot be used.
        """
        if len(datagram) >= 8 and datagram[1] != PROTOCOL_VERSION:
            self._refuse_version_untrusted(datagram, origin, now)
            return
        classify_untrusted(datagram)
        if not has_valid_mac1(datagram, MAC1_KEY_SUPERNODE):
            self._count_drop(DropReason.BAD_MAC1, 1)
            return
        verdict = self._admission.judge(
            origin.endpoint,
            now,
            is_table_filling=2 * len(self._pending) >= self._max_strangers,
            has_valid_mac2=lambda: self._cookies.has_valid_mac2(datagram, origin.endpoint, now),
        )
        match verdict:
            case Verdict.ADMIT:
                self._respond_untrusted(datagram, origin, now)
            case Verdict.ASK_COOKIE:
                self._count_drop(DropReason.UNDER_LOAD, 1)
                cookie = self._cookies.reply(datagram, origin.endpoint, MAC1_KEY_SUPERNODE, now)
                self._answer_untrusted(cookie, datagram, origin)
            case Verdict.DROP:
                self._count_drop(DropReason.RATE_LIMITED, 1)

    def receive_confirmation_untrusted(self, datagram: Buffer, origin: Origin, now: float) -> None:
        """Take in a classified datagram of type 8; a repeated one changes nothing.

        It must come from where the response went to: a session whose owner never showed that it
        receives there could be made to send lists of members to a stranger.

        Raises:
            MalformedMessage: it does not parse.
            NotAuthentic: it does not verify; the handshake goes on waiting for one that does.
        """
        index = peek_receiver_index_untrusted(datagram)
        if index in self._guests or self._is_registered_index(index):
            return
        pending = self._pending.get(index)
        if pending is None:
            self._count_drop(DropReason.UNKNOWN_SESSION, 1)
        elif pending.origin != origin:
            self._count_drop(DropReason.UNKNOWN_SENDER, 1)
        else:
            session = pending.initiation.receive_confirmation_untrusted(datagram, now)
            del self._pending[index]
            _make_room(self._guests, self._max_strangers)
            self._guests[index] = Guest(
                session=session, origin=origin, expires_at=now + STRANGER_LIFETIME
            )

    def guest(self, index: int) -> Guest | None:
        """Return the guest whose session has this index of ours."""
        return self._guests.get(index)

    def leave_to_registry(self, index: int) -> None:
        """Forget a guest that has registered."""
        self._guests.pop(index, None)

    def hint_untrusted(self, hint: bytes, received: Buffer, origin: Origin, now: float) -> None:
        """Send a hint (section 6.5) about a datagram, unless its source had enough of them."""
        if self._admission.may_hint(origin.endpoint, now):
            self._answer_untrusted(hint, received, origin)

    def expire(self, now: float) -> None:
        """Forget strangers whose time is over."""
        _expire(self._pending, now)
        _expire(self._guests, now)

    def _respond_untrusted(self, datagram: Buffer, origin: Origin, now: float) -> None:
        initiation = SupernodeInitiation.receive_untrusted(datagram, self._identity)
        index = new_number(self._entropy, self._is_index_taken)
        response = initiation.respond(index, self._entropy)
        if len(self._pending) >= self._max_strangers:
            self._count_drop(DropReason.TABLE_FULL, 1)
        _make_room(self._pending, self._max_strangers)
        self._pending[index] = _Pending(
            initiation=initiation, origin=origin, expires_at=now + STRANGER_LIFETIME
        )
        self._answer_untrusted(response, datagram, origin)

    def _refuse_version_untrusted(self, datagram: Buffer, origin: Origin, now: float) -> None:
        self._count_drop(DropReason.MALFORMED, 1)
        their_index = int.from_bytes(datagram[4:8], "big")
        refusal = encode_version_refusal(PROTOCOL_VERSION, their_index)
        self.hint_untrusted(refusal, datagram, origin, now)

    def _answer_untrusted(self, answer: bytes, received: Buffer, origin: Origin) -> None:
        """Let an answer to somebody unproved leave: the only way out, and it measures."""
        if may_answer(len(answer), len(received)):
            self._answer(answer, origin)

    def _is_index_taken(self, index: int) -> bool:
        return index in self._pending or index in self._guests or self._is_registered_index(index)


def _make_room(table: OrderedDict[int, _StrangerT], cap: int) -> None:
    if len(table) >= cap:
        table.popitem(last=False)


def _expire(table: OrderedDict[int, _StrangerT], now: float) -> None:
    while table and next(iter(table.values())).expires_at <= now:
        table.popitem(last=False)
