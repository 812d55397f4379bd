"""An edge's engine on its own, and a member of its community who says whatever a test wants."""

import random

from mesh.addresses import Endpoint
from mesh.core.config import EdgeConfig, SupernodeConfig
from mesh.core.edge import EdgeEngine
from mesh.crypto.handshake import PeerInitiator
from mesh.crypto.identity import Identity
from mesh.crypto.session import Session
from mesh.crypto.suite import Suite
from mesh.engine import ReceivedDatagrams
from mesh.wire.datagram import DatagramType
from mesh.wire.inner import wrap_control
from mesh.wire.messages import Message, encode_message
from tests.world import community_keys

COMMUNITY = community_keys("home")
HOME = Endpoint("203.0.113.9", 5000)


class Target:
    """One edge engine without a driver."""

    def __init__(self) -> None:
        self.identity = Identity.generate(random.Random(1).randbytes)
        self.config = EdgeConfig(
            identity=self.identity,
            community=COMMUNITY,
            epoch=1,
            name="target",
            mac=self.identity.default_mac,
            subnets=tuple(map(str, COMMUNITY.subnet_proposals())),
            supernodes=(SupernodeConfig("supernode.example:7777"),),
        )
        self.engine = EdgeEngine(self.config, random.Random(2).randbytes, 0.0)

    def receive(self, datagram: bytes, source: Endpoint, now: float) -> None:
        batch = ReceivedDatagrams(datagram, len(datagram), source, 0)
        self.engine.receive_datagrams(batch, now)

    def sent(self) -> list[tuple[bytes, Endpoint]]:
        return [
            (joined[start : start + batch.segment_bytes], batch.destination)
            for batch in self.engine.datagrams_to_send()
            for joined in [b"".join(batch.buffers)]
            for start in range(0, len(joined), batch.segment_bytes)
        ]


class HostileMember:
    """Knows the community's secret and the target's key; is on no supernode."""

    def __init__(self, target: Target, now: float = 1.0) -> None:
        self._dice = random.Random(7)
        self.identity = Identity.generate(self._dice.randbytes)
        self.initiate(target, now)

    def initiate(self, target: Target, now: float, number: int = 1) -> None:
        """Make a session; the upper 32 bits of the number say which life of ours this is."""
        initiator = PeerInitiator(
            self.identity,
            COMMUNITY,
            target.identity.public_key,
            Suite.AESGCM_SHA256,
            our_index=1,
            number=number,
            entropy=self._dice.randbytes,
        )
        target.receive(initiator.datagram, HOME, now)
        [response] = [d for d, _ in target.sent() if d[0] == DatagramType.PEER_RESPONSE]
        self.session: Session = initiator.receive_response_untrusted(response, now)

    def seal(self, message: Message) -> bytes:
        return self.session.seal(wrap_control(encode_message(message)))
