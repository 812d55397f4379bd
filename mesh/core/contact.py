"""How a supernode that has registered us is reached: by which way, and whether it answers there.

Theory of operation. Pings by the way in use are the heartbeat (section 10.5). A ping by another
way may move us: the supernode pings back there, our answer proves that we receive there, and its
pong carries the digest from then on, which tells that it has followed (sections 10.5 and 19).
"""

from collections.abc import Callable

from mesh.addresses import Endpoint
from mesh.core.context import Context
from mesh.core.liveness import Liveness
from mesh.core.outbox import Via
from mesh.core.ways import Ways
from mesh.crypto.session import Session
from mesh.engine import Transport
from mesh.wire.inner import wrap_control
from mesh.wire.messages import Message, Ping, Pong, encode_message


class Contact:
    """Our place at one supernode.

    Args:
        number: the supernode's.
        context: the engine's.
        is_way_of_another: whether a different supernode is reached by a way.

    Attributes:
        ways: all that may lead to it.
        via: the one in use, once it has been found.
        liveness: whether it answers.
        session: the current one, or None.
        previous: the one before, which still opens what is on its way.
        relay_id: ours there, 0 before registration.
        seen_as: our endpoint as it saw it, without a port if that is a stream.
        udp_seen_as: the same for UDP, None before UDP brought an answer.
    """

    def __init__(
        self, number: int, context: Context, is_way_of_another: Callable[[Via], bool]
    ) -> None:
        self.ways = Ways(number, context)
        self.via: Via | None = None
        self.liveness = Liveness()
        self.session: Session | None = None
        self.previous: Session | None = None
        self.relay_id = 0
        self.seen_as: Endpoint | None = None
        self.udp_seen_as: Endpoint | None = None
        self._context = context
        self._is_way_of_another = is_way_of_another
        self._told_vias: set[Via] = set()

    @property
    def transport(self) -> Transport:
        """What carries datagrams to it."""
        return self.ways.transport(self.via)

    @property
    def vias(self) -> set[Via]:
        """All ways by which its datagrams may come."""
        ways = {self.via, self.ways.stream, *self.ways.udp()}
        return {way for way in ways if way is not None}

    def established(self, session: Session, via: Via, relay_id: int, now: float) -> None:
        """Note that we are registered under a new session."""
        if self.previous is not None:
            self._context.indexes.release(self.previous.our_index)
        self.previous, self.session = self.session, session
        self.via = via
        self.relay_id = relay_id
        self.tell_relay_id()
        self.ways.use(via, now)
        self.liveness.registered(now)

    def tell_relay_id(self) -> None:
        """Have envelopes for this supernode carry our id, whichever way they take.

        Its name may lead to anywhere, to another supernode of ours as well: that way is left alone.
        """
        vias = self.vias
        for via in self._told_vias | vias:
            if via == self.via or not self._is_way_of_another(via):
                relay_id = self.relay_id if via in vias else 0
                self._context.outbox.set_our_relay_id(via, relay_id)
        self._told_vias = vias

    def note_seen_as(self, endpoint: Endpoint) -> bool:
        """Note where it sees us; whether that changed."""
        changed, self.seen_as = endpoint != self.seen_as, endpoint
        if endpoint.port:
            self.udp_seen_as = endpoint
        return changed

    # What we say

    def send(self, message: Message) -> bool:
        """Send a message by the way in use; whether there is one, and a session."""
        return self.via is not None and self.send_by(self.via, message)

    def send_by(self, via: Via, message: Message) -> bool:
        """Send a message by any way; whether there is a session."""
        if self.session is None:
            return False
        self._context.outbox.send(via, self.session.seal(wrap_control(encode_message(message))))
        return True

    def ping(self, now: float) -> None:
        """Ask for a sign of life."""
        token = self._context.entropy(8)
        if self.send(Ping(token=token, pad=b"")):
            self.liveness.pinged(token, now)

    def ping_by(self, via: Via, *repeats_left: int) -> None:
        """Ask for a sign of life by another way, which may move us there."""
        token = self._context.entropy(8)
        self.ways.probed(token, via, *repeats_left)
        self.send_by(via, Ping(token=token, pad=b""))

    def probe_udp(self, now: float) -> None:
        """See whether UDP works again while a stream is in use."""
        if self.transport is not Transport.UDP:
            for via in self.ways.probe_due(now):
                self.ping_by(via)

    # What it answers

    def receive_pong(self, pong: Pong, via: Via, now: float) -> bool:
        """Take in a pong; whether it answers a ping by the way in use."""
        if not self.liveness.answered(pong.token, now):
            return False
        if via == self.via and pong.digest:
            self.ways.use(via, now)
        return True

    def receive_probe_answer(self, pong: Pong, via: Via, now: float) -> bool:
        """Follow the supernode to a way that it has moved us to; until then, ask again.

        Returns:
            Whether another way is in use now.
        """
        probe = self.ways.take_probe(pong.token, via)
        if probe is None or via == self.via:
            return False
        if len(pong.digest) == 8:
            self.via = via
            self.ways.use(via, now)
            self.liveness.registered(now)
            return True
        if via != self.ways.stream:
            self.ways.udp_answered(now)
            if pong.endpoint is not None and pong.endpoint.port:
                self.udp_seen_as = pong.endpoint
        if probe.repeats_left:
            self.ping_by(via, probe.repeats_left - 1)
        return False
