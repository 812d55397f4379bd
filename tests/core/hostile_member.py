"""A member of the target's community who says whatever a test wants, and is on no supernode."""

from mesh.addresses import Endpoint
from mesh.crypto.handshake import PeerInitiator
from mesh.crypto.identity import Identity
from mesh.crypto.session import Session
from mesh.crypto.suite import Suite
from mesh.wire.datagram import DatagramType
from mesh.wire.inner import wrap_control
from mesh.wire.messages import Hello, Message, decode_message, encode_message
from tests.core.edge_alone import COMMUNITY, HOME, Target, dice, of_type


class HostileMember:
    """Knows the community's secret and the target's key; is on no supernode.

    Attributes:
        session: the latest one with the target.
        endpoint: where it sends from.
    """

    def __init__(
        self, target: Target, now: float = 1.0, *, seed: int = 7, endpoint: Endpoint = HOME
    ) -> None:
        self.identity = Identity.generate(dice(seed))
        self.endpoint = endpoint
        self._target = target
        self._entropy = dice(seed + 1)
        self.session: Session
        self.initiate(now)

    def initiation(self, number: int = 1, cookie: bytes | None = None) -> PeerInitiator:
        """Return an initiation for the target; the upper 32 bits of the number are our epoch."""
        return PeerInitiator(
            self.identity,
            COMMUNITY,
            self._target.identity.public_key,
            Suite.AESGCM_SHA256,
            our_index=1,
            number=number,
            entropy=self._entropy,
            cookie=cookie,
        )

    def initiate(self, now: float, number: int = 1) -> None:
        """Make a session; the upper 32 bits of the number say which life of ours this is."""
        initiator = self.initiation(number)
        self.deliver(initiator.datagram, now)
        [response] = of_type(DatagramType.PEER_RESPONSE, self._target.sent())
        self.session = initiator.receive_response_untrusted(response, now)

    def deliver(self, datagram: bytes, now: float) -> None:
        """Hand a datagram to the target as if it came from where we are."""
        self._target.receive(datagram, self.endpoint, now)

    def seal(self, message: Message) -> bytes:
        """Return a message as a datagram."""
        return self.session.seal(wrap_control(encode_message(message)))

    def say(self, message: Message, now: float) -> None:
        """Send a message."""
        self.deliver(self.seal(message), now)

    def say_hello(self, now: float, **changes: object) -> None:
        """Send a hello that says little."""
        fields: dict[str, object] = {
            "name": "hostile",
            "mac": self.identity.default_mac,
            "addresses": (),
            "candidates": (),
            "mtu": 1500,
            "answer": False,
        }
        self.say(Hello(**fields | changes), now)  # type: ignore[arg-type]

    def read(self, sent: list[tuple[bytes, Endpoint]]) -> list[Message]:
        """Return the messages for us among what the target sent."""
        prefix = bytes([DatagramType.TRANSPORT, 0, 0, 0, 0, 0, 0, 1])
        plaintexts = [self.session.open_untrusted(d) for d, _ in sent if d.startswith(prefix)]
        return [decode_message(plain[4:]) for plain in plaintexts if plain[0] == 3]
