"""The engine of ``mesh-edge netcheck``: talks to supernodes without registering with any.

It has an identity of its own, made for the occasion, and the members of no community hear of it.
It never ends by itself: whoever runs it looks at `is_done`, and gives up when it likes.
"""

import hmac
import math
from collections.abc import Iterable
from typing import Final, NamedTuple

from mesh.addresses import Endpoint
from mesh.core.conversation import Conversation, Depth, Stage
from mesh.crypto.identity import Identity
from mesh.engine import (
    Buffer,
    Entropy,
    OutgoingDatagrams,
    ReceivedDatagrams,
    SocketId,
    udp_socket_for,
)
from mesh.errors import RemoteError
from mesh.events import Event
from mesh.wire.datagram import (
    DatagramType,
    classify_untrusted,
    peek_receiver_index_untrusted,
)

HAIRPIN_BYTES: Final = 32
HAIRPIN_TRIES: Final = 3
HAIRPIN_INTERVAL: Final = 0.1  # s


class Target(NamedTuple):
    """A supernode to talk to.

    Attributes:
        endpoint: where.
        fingerprint: of the key it must have, or empty for any.
        depth: how much is to be found out.
    """

    endpoint: Endpoint
    fingerprint: str = ""
    depth: Depth = Depth.FULL


class CheckEngine:
    """One check; implements `mesh.engine.Engine`.

    Args:
        targets: with whom to talk; all of them at once.
        entropy: for keys, indexes and tokens.
        now: the moment of the start.
        hairpin_token: what two checks on one machine send each other by way of their router, 32
            secret bytes.

    Attributes:
        conversations: one per target, in order.
        hears_hairpin: whether something with the token has come.
    """

    def __init__(
        self, targets: Iterable[Target], entropy: Entropy, now: float, hairpin_token: bytes
    ) -> None:
        self.hears_hairpin = False
        self._entropy = entropy
        self._hairpin_token = hairpin_token
        self._hairpin_to: Endpoint | None = None
        self._hairpin_at = math.inf
        self._hairpin_tries = 0
        self._datagrams: list[OutgoingDatagrams] = []
        self._by_index: dict[int, Conversation] = {}
        identity = Identity.generate(entropy)
        self.conversations = [self._converse(target, identity) for target in targets]
        for conversation in self.conversations:
            conversation.handle_timer(now)

    def _converse(self, target: Target, identity: Identity) -> Conversation:
        socket = udp_socket_for(target.endpoint)

        def send(datagram: bytes, *, port: int = 0, dont_fragment: bool = False) -> None:
            to = Endpoint(target.endpoint.host, port) if port else target.endpoint
            self._send(datagram, to, socket, dont_fragment=dont_fragment)

        return Conversation(
            target.endpoint,
            target.fingerprint,
            depth=target.depth,
            identity=identity,
            entropy=self._entropy,
            new_index=self._new_index,
            send=send,
        )

    @property
    def is_done(self) -> bool:
        """Whether nothing more will be found out."""
        return self._hairpin_at == math.inf and all(one.is_done for one in self.conversations)

    @property
    def is_seen(self) -> bool:
        """Whether each IPv4 talk knows from where it is seen, or has ended."""
        return all(
            one.seen_as is not None or one.is_done
            for one in self.conversations
            if not one.endpoint.is_ipv6
        )

    def try_hairpin(self, reflexive: Endpoint, now: float) -> None:
        """Send the token to where the other check is seen from the outside."""
        self._hairpin_to, self._hairpin_tries = reflexive, 0
        self._hairpin_at = now
        self.handle_timers(now)

    # Input

    def receive_datagrams(self, batch: ReceivedDatagrams, now: float) -> None:
        """Take in what a socket delivered; nothing in it has been authenticated."""
        view, stride = memoryview(batch.buffer), max(batch.segment_bytes, 1)
        for start in range(0, len(view), stride):
            datagram = bytes(view[start : start + stride])
            try:
                self._receive_untrusted(datagram, now)
            except RemoteError:
                continue  # what does not verify is somebody else's

    def _receive_untrusted(self, datagram: bytes, now: float) -> None:
        if hmac.compare_digest(datagram, self._hairpin_token):
            self.hears_hairpin = True
            return
        kind = classify_untrusted(datagram)
        index = peek_receiver_index_untrusted(datagram)
        conversation = self._by_index.get(index)
        if conversation is None:
            return
        match kind:
            case DatagramType.SUPERNODE_RESPONSE:
                conversation.receive_response_untrusted(datagram, index, now)
            case DatagramType.COOKIE_REPLY:
                conversation.receive_cookie_untrusted(datagram, index, now)
            case DatagramType.TRANSPORT:
                conversation.receive_transport_untrusted(datagram, now)
            case _:
                pass

    def handle_timers(self, now: float) -> None:
        """Do what is due."""
        for conversation in self.conversations:
            if conversation.stage is not Stage.DONE and conversation.timer_at <= now:
                conversation.handle_timer(now)
        if self._hairpin_at <= now and self._hairpin_to is not None:
            self._send(self._hairpin_token, self._hairpin_to, udp_socket_for(self._hairpin_to))
            self._hairpin_tries += 1
            is_last = self._hairpin_tries == HAIRPIN_TRIES
            self._hairpin_at = math.inf if is_last else now + HAIRPIN_INTERVAL

    def receive_send_error(
        self, socket: SocketId, destination: Endpoint, errno: int, now: float
    ) -> None:
        """Learn that the kernel refused a send."""
        del socket, now
        for conversation in self._towards(destination):
            conversation.receive_send_error(errno)

    def receive_too_large(
        self, socket: SocketId, destination: Endpoint, datagram_bytes: int, now: float
    ) -> None:
        """Learn that a ping is larger than our interface takes."""
        del socket
        for conversation in self._towards(destination):
            conversation.receive_too_large(datagram_bytes, now)

    def socket_closed(self, socket: SocketId, now: float) -> None:
        """Nothing to do: silence says it."""
        del socket, now

    def stop(self, now: float) -> None:
        """Nothing to say: nobody counts on us."""
        del now

    # Output

    def next_timer_at(self) -> float:
        """Return the moment of the next deadline, or ``math.inf``."""
        due = [one.timer_at for one in self.conversations if not one.is_done]
        return min(self._hairpin_at, *due) if due else self._hairpin_at

    def datagrams_to_send(self) -> list[OutgoingDatagrams]:
        """Return, and forget, what is to be sent."""
        datagrams, self._datagrams = self._datagrams, []
        return datagrams

    def events_to_report(self) -> list[Event]:
        """Return nothing: what is found stands in the conversations."""
        return []

    def _send(
        self, datagram: Buffer, to: Endpoint, socket: SocketId, *, dont_fragment: bool = False
    ) -> None:
        self._datagrams.append(
            OutgoingDatagrams((datagram,), len(datagram), to, socket, dont_fragment=dont_fragment)
        )

    def _towards(self, destination: Endpoint) -> list[Conversation]:
        wanted = tuple(destination[:2])
        return [one for one in self.conversations if tuple(one.endpoint) == wanted]

    def _new_index(self, conversation: Conversation) -> int:
        while True:
            index = int.from_bytes(self._entropy(4), "big")
            if index and index not in self._by_index:
                self._by_index[index] = conversation
                return index
