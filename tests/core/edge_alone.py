"""An engine of an edge without a driver; dice, keys and settings that tests here share."""

import random
from collections.abc import Callable, Iterable
from dataclasses import replace

from mesh.addresses import Endpoint
from mesh.core.config import EdgeConfig, SupernodeConfig
from mesh.core.context import Context
from mesh.core.edge import EdgeEngine
from mesh.crypto.identity import Identity
from mesh.engine import OutgoingDatagrams, ReceivedDatagrams
from mesh.wire.datagram import DatagramType
from tests.world import community_keys

COMMUNITY = community_keys("home")
PROPOSALS = tuple(map(str, COMMUNITY.subnet_proposals()))
SUPERNODE = Endpoint("203.0.113.1", 7777)
HOME = Endpoint("203.0.113.9", 5000)


def dice(seed: int) -> Callable[[int], bytes]:
    """Return entropy that is the same in every run."""
    return random.Random(seed).randbytes


def edge_config(seed: int = 1, **changes: object) -> EdgeConfig:
    """Return the settings of an edge whose identity follows from the seed."""
    identity = Identity.generate(dice(seed))
    config = EdgeConfig(
        identity=identity,
        community=COMMUNITY,
        epoch=1,
        name="target",
        mac=identity.default_mac,
        subnets=PROPOSALS,
        supernodes=(SupernodeConfig("supernode.example:7777"),),
    )
    return replace(config, **changes)  # type: ignore[arg-type]


def edge_context(seed: int = 1, **changes: object) -> Context:
    """Return what the parts of one engine share."""
    return Context(edge_config(seed, **changes), dice(seed + 100))


def split(batches: Iterable[OutgoingDatagrams]) -> list[tuple[bytes, Endpoint]]:
    """Cut batches as a driver without UDP_SEGMENT does: datagrams and where they go."""
    return [
        (joined[start : start + batch.segment_bytes], batch.destination)
        for batch in batches
        for joined in [b"".join(batch.buffers)]
        for start in range(0, len(joined), batch.segment_bytes)
    ]


def of_type(kind: DatagramType, sent: Iterable[tuple[bytes, Endpoint]]) -> list[bytes]:
    """Return those datagrams that are of one type."""
    return [datagram for datagram, _ in sent if datagram[0] == kind]


class Target:
    """One edge engine without a driver."""

    def __init__(self, **changes: object) -> None:
        self.config = edge_config(**changes)
        self.identity = self.config.identity
        self.engine = EdgeEngine(self.config, dice(2), 0.0)

    def receive(self, datagram: bytes, source: Endpoint, now: float) -> None:
        batch = ReceivedDatagrams(datagram, len(datagram), source, 0)
        self.engine.receive_datagrams(batch, now)

    def sent(self) -> list[tuple[bytes, Endpoint]]:
        return split(self.engine.datagrams_to_send())

    def drops(self) -> dict[str, int]:
        return self.engine.edge_view(0.0)["drops"]
