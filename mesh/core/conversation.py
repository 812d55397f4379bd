"""A talk of somebody who is no member with a supernode; docs/protocol.md sections 5.2 and 10.5.

Theory of operation. It finds out what one way to a supernode is like: whether anything is answered
there, by whose key, how fast, how large a datagram may be, and from where we are seen by each of
the supernode's ports. Its second observation port answers a ping to the first one before we have
sent anything to it: whether that comes through shows what our NAT or firewall filters.

    HANDSHAKE ──response, right key──▶ GREETING ──first pong──▶ MEASURING ──all answered──▶ DONE
        │                                  │                        │           or given up  ▲
        └── silence, wrong key, no route ──┴──────── silence ───────┴────────────────────────┘

Everything sent is repeated a few times and then given up, so that a talk ends within seconds.
"""

import enum
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from mesh.addresses import Endpoint
from mesh.core.size_search import SizeSearch
from mesh.crypto.cookie import MAC1_KEY_SUPERNODE, open_cookie_reply_untrusted
from mesh.crypto.handshake import SupernodeInitiator
from mesh.crypto.identity import Identity, fingerprint_of
from mesh.crypto.session import Session
from mesh.crypto.suite import Suite
from mesh.engine import Buffer, Entropy
from mesh.wire.inner import open_control_untrusted, wrap_control
from mesh.wire.messages import (
    MAX_PROBES,
    TOKEN_BYTES,
    Ping,
    Pong,
    decode_message,
    encode_message,
    padded_ping,
)

INITIATION_INTERVALS: Final = (0.3, 0.5, 0.7, 1.0)
"""Seconds to wait after each initiation; an answer to any of them counts, however late."""

KNOCKS: Final = 3
"""Initiations where nothing but an answer is wanted; ports that nobody listens on are common."""

GREETING_INTERVALS: Final = (0.3, 0.4, 0.6, 0.7)
ASK_PATIENCE: Final = 0.25
"""Seconds before a ping is repeated; four round trips where that is more."""

ASK_TRIES: Final = 2
RTT_PINGS: Final = 3
MAX_PATIENCE: Final = 0.7

NO_WAY_ERRNOS: Final = frozenset({97, 99, 101})
"""EAFNOSUPPORT, EADDRNOTAVAIL, ENETUNREACH: trying again within seconds is of no use."""

_SEALED_BYTES: Final = 36  # transport header, inner header and tag around a message
_UDP_HEADERS: Final = {False: 28, True: 48}  # by whether it is IPv6; IP header included


class Depth(enum.IntEnum):
    """How much a talk is to find out."""

    KNOCK = 0
    """Whether anybody answers."""
    SEEN = 1
    """And from where we are seen."""
    FULL = 2
    """And everything else."""


class Stage(enum.Enum):
    """How far a talk has come."""

    HANDSHAKE = "waiting for an answer"
    GREETING = "waiting for the first pong"
    MEASURING = "pinging"
    DONE = "at an end"


class Sender(Protocol):
    """Takes what is to be sent to the supernode."""

    def __call__(self, datagram: bytes, *, port: int = 0, dont_fragment: bool = False) -> None:
        """Send it now, to that port of the supernode or by default to the usual one."""
        ...


class _Question(NamedTuple):
    """What a ping is to find out.

    Attributes:
        size: of the IP packet, or 0 for any.
        port: an observation port, or 0.
        other: whether the other observation port is to answer.
    """

    size: int = 0
    port: int = 0
    other: bool = False


class _Asked:
    """A ping under way: when it was sent first, and how often."""

    __slots__ = ("question", "sent_at", "tries")

    def __init__(self, question: _Question, sent_at: float) -> None:
        self.question = question
        self.sent_at = sent_at
        self.tries = 1


class Conversation:
    """One talk with one supernode on one endpoint.

    Args:
        endpoint: where it should be.
        pin: the fingerprint its key must have, or empty for any.
        depth: how much is wanted.
        identity: ours, made for this occasion.
        entropy: for keys and tokens.
        new_index: returns a receiver index that is then known to be ours.
        send: takes what is to be sent to ``endpoint``.

    Attributes:
        stage: how far this has come.
        fingerprint: of the key that the supernode proved, empty before.
        is_key_right: whether that is the pinned one, None without a pin or an answer.
        rtt: the shortest round trip in seconds, None before the first.
        seen_as: where the supernode sees us.
        observed: where its observation ports see us, in the order in which we sent to them first.
        lets_in_strangers: whether what came from a port that we had not sent to reached us; None
            where that was not tried.
        errno: why nothing can be sent there, 0 if something can.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        pin: str,
        *,
        depth: Depth,
        identity: Identity,
        entropy: Entropy,
        new_index: Callable[["Conversation"], int],
        send: Sender,
    ) -> None:
        self.endpoint = endpoint
        self.stage = Stage.HANDSHAKE
        self.fingerprint = ""
        self.is_key_right: bool | None = None
        self.rtt: float | None = None
        self.seen_as: Endpoint | None = None
        self.observed: list[Endpoint] = []
        self.lets_in_strangers: bool | None = None
        self.errno = 0
        self._probes: tuple[int, ...] = ()
        self.timer_at = 0.0
        self._pin = pin
        self._depth = depth
        self._max_initiations = KNOCKS if depth is Depth.KNOCK else len(INITIATION_INTERVALS)
        self._identity = identity
        self._entropy = entropy
        self._new_index = new_index
        self._send = send
        self._initiators: dict[int, tuple[SupernodeInitiator, float]] = {}
        self._cookie: bytes | None = None
        self._confirmation = b""
        self._session: Session | None = None
        self._tries = 0
        self._asked: dict[bytes, _Asked] = {}
        self._sizes = SizeSearch()
        self._round = 0

    @property
    def is_done(self) -> bool:
        """Whether there is nothing more to find out."""
        return self.stage is Stage.DONE

    @property
    def mtu(self) -> int:
        """The largest IP packet that has reached the supernode whole, in bytes; 0 for none."""
        return self._sizes.largest

    # What comes

    def receive_response_untrusted(self, datagram: Buffer, index: int, now: float) -> None:
        """Take in message 2 of the handshake, to the initiation of this index.

        Raises:
            RemoteError: it does not parse or verify; nothing has changed.
        """
        if self.stage is not Stage.HANDSHAKE or index not in self._initiators:
            return
        initiator, sent_at = self._initiators[index]
        fingerprint = fingerprint_of(initiator.receive_response_untrusted(datagram))
        self.rtt = now - sent_at
        if not self._pin:
            self.fingerprint = fingerprint
        elif fingerprint != self._pin:
            # Anybody who saw the initiation may have answered: the right one may still come.
            self.fingerprint, self.is_key_right = fingerprint, False
            return
        else:
            self.fingerprint, self.is_key_right = fingerprint, True
        if self._depth is Depth.KNOCK:
            self.stage = Stage.DONE
            return
        self._confirmation, self._session = initiator.confirm(now)
        self.stage, self._tries = Stage.GREETING, 0
        self.handle_timer(now)

    def receive_cookie_untrusted(self, datagram: Buffer, index: int, now: float) -> None:
        """Take in a cookie: the supernode is busy, and wants to see it in an initiation.

        Raises:
            RemoteError: it does not parse, or was not made for our initiation.
        """
        if self.stage is not Stage.HANDSHAKE or index not in self._initiators or self._cookie:
            return
        initiator, _ = self._initiators[index]
        self._cookie = open_cookie_reply_untrusted(datagram, MAC1_KEY_SUPERNODE, initiator.mac1)[1]
        self._initiate(now)

    def receive_transport_untrusted(self, datagram: Buffer, now: float) -> None:
        """Take in what came under our session.

        Raises:
            RemoteError: it does not verify or parse.
        """
        if self._session is None:
            return
        message = decode_message(open_control_untrusted(self._session.open_untrusted(datagram)))
        asked = self._asked.pop(message.token, None) if isinstance(message, Pong) else None
        if asked is None or not isinstance(message, Pong):
            return
        self._learn(asked, message, now)
        if self.stage is Stage.GREETING:
            self._measure(now)
        elif not self._asked:
            self._next_round(now)

    def _learn(self, asked: _Asked, pong: Pong, now: float) -> None:
        question = asked.question
        if question.size:
            self._sizes.passed(question.size)
        elif question.other:
            self.lets_in_strangers = True
        elif question.port:
            if pong.endpoint is not None:
                self.observed.append(pong.endpoint)
        else:
            if asked.tries == 1:  # else nobody knows which of them was answered
                self.rtt = min(now - asked.sent_at, self.rtt if self.rtt is not None else now)
            self.seen_as = pong.endpoint or self.seen_as
            self._probes = self._probes or pong.probes

    def receive_too_large(self, datagram_bytes: int, now: float) -> None:
        """Learn that our own interface does not take a datagram of this size."""
        overhead = _UDP_HEADERS[self.endpoint.is_ipv6]
        for token, asked in list(self._asked.items()):
            if asked.question.size >= datagram_bytes + overhead:
                del self._asked[token]
        if self.stage is Stage.MEASURING and not self._asked:
            self._next_round(now)

    def receive_send_error(self, errno: int) -> None:
        """Learn that the kernel sends nothing there."""
        self.errno = errno
        if self.stage is Stage.HANDSHAKE and errno in NO_WAY_ERRNOS:
            self.stage = Stage.DONE

    # What is sent

    def handle_timer(self, now: float) -> None:
        """Do what is due: begin, repeat or give up."""
        match self.stage:
            case Stage.HANDSHAKE:
                if self._tries == self._max_initiations:
                    self.stage = Stage.DONE
                    return
                self._initiate(now)
                self.timer_at = now + INITIATION_INTERVALS[self._tries]
                self._tries += 1
            case Stage.GREETING:
                if self._tries == len(GREETING_INTERVALS):
                    self.stage = Stage.DONE
                    return
                self._send(self._confirmation)
                self._ask(_Question(), now)
                self.timer_at = now + GREETING_INTERVALS[self._tries]
                self._tries += 1
            case Stage.MEASURING:
                self._ask_again(now)
            case Stage.DONE:
                pass

    def _initiate(self, now: float) -> None:
        suite = Suite.preferred(both_have_aes=True)
        index = self._new_index(self)
        initiator = SupernodeInitiator(self._identity, suite, index, self._entropy, self._cookie)
        self._initiators[index] = initiator, now
        self._send(initiator.datagram)

    def _measure(self, now: float) -> None:
        self._asked.clear()
        if self._depth is Depth.SEEN:
            self.stage = Stage.DONE
            return
        self.stage = Stage.MEASURING
        for _ in range(RTT_PINGS):
            self._ask(_Question(), now)
        self._next_round(now)

    def _next_round(self, now: float) -> None:
        """Ask what is still to be asked, now that all of the round before has come to an end."""
        for size in self._sizes.next_round():
            self._ask(_Question(size), now)
        self._round += 1
        if len(self._probes) == MAX_PROBES:
            self._observe(self._probes[0], self._probes[1], now)
        self.timer_at = now + self._patience()
        if not self._asked:
            self.stage = Stage.DONE

    def _observe(self, one: int, other: int, now: float) -> None:
        """Ask the first observation port, and the second one only where it can say something.

        A Linux router that rejects what comes in takes the answer of the second one for its own,
        and what we then send there ourselves gets another port: as if it gave everybody another.
        """
        if self._round == 1:
            self.lets_in_strangers = False
            self._ask(_Question(port=one), now)
            self._ask(_Question(port=one, other=True), now)
        elif self._round == 2 and self.observed and self.observed[0] != self.seen_as:
            self._ask(_Question(port=other), now)

    def _patience(self) -> float:
        return max(ASK_PATIENCE, min(MAX_PATIENCE, 4 * (self.rtt or 0.0)))

    def _ask_again(self, now: float) -> None:
        for token, asked in list(self._asked.items()):
            if asked.tries == ASK_TRIES:
                del self._asked[token]
            else:
                asked.tries += 1
                self._ping(token, asked.question)
        self.timer_at = now + self._patience()
        if not self._asked:
            self._next_round(now)

    def _ask(self, question: _Question, now: float) -> None:
        token = self._entropy(TOKEN_BYTES)
        self._asked[token] = _Asked(question, now)
        self._ping(token, question)

    def _ping(self, token: bytes, question: _Question) -> None:
        if self._session is None:
            return
        size, port, other = question
        ping = Ping(token, other=other)
        if size:
            ping = padded_ping(token, size - _UDP_HEADERS[self.endpoint.is_ipv6] - _SEALED_BYTES)
        sealed = self._session.seal(wrap_control(encode_message(ping)))
        self._send(sealed, port=port, dont_fragment=bool(size))
