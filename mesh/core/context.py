"""What the parts of one edge's engine share: settings, dice, timers and outputs."""

import math
from collections import Counter
from collections.abc import Iterable

from mesh.constants import SHOWN_ADDRESS_BURST, SHOWN_ADDRESS_RATE
from mesh.core.config import EdgeConfig
from mesh.core.lan_sightings import LanSightings
from mesh.core.leased import Lease
from mesh.core.our_nat import OurNat
from mesh.core.outbox import Outbox
from mesh.core.timers import TimerTable
from mesh.core.told_addresses import ToldAddresses
from mesh.crypto.session import Session
from mesh.engine import Entropy
from mesh.events import DropReason, Event

INSTANCE_BYTES = 8


class IndexTable:
    """Receiver indexes of handshakes and sessions, and whose each is; protocol section 6.4.

    Attributes:
        waiting: the owner of a handshake that waits for its response, by our index.
        sessions: an established session and its owner, by our index.
    """

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self.waiting: dict[int, object] = {}
        self.sessions: dict[int, tuple[Session, object]] = {}
        self._by_their_index: dict[int, list[Session]] = {}

    def __len__(self) -> int:
        return len(self.waiting) + len(self.sessions)

    def allocate(self, owner: object) -> int:
        """Return a random index of 1 to 2^32 - 1 that nobody else has."""
        while True:
            index = int.from_bytes(self._entropy(4), "big")
            if index and index not in self.waiting and index not in self.sessions:
                self.waiting[index] = owner
                return index

    def establish(self, session: Session, owner: object) -> None:
        """Note that the handshake of this index has become a session."""
        self.waiting.pop(session.our_index, None)
        self.sessions[session.our_index] = (session, owner)
        self._by_their_index.setdefault(session.their_index, []).append(session)

    def find_by_their_index(self, index: int) -> tuple[Session, object] | None:
        """Return the session that seals for this receiver index of somebody else, and its owner.

        The oldest one, where a member has claimed the index that another one had drawn.
        """
        claimed = self._by_their_index.get(index)
        return self.sessions.get(claimed[0].our_index) if claimed else None

    def release(self, index: int) -> None:
        """Forget an index."""
        self.waiting.pop(index, None)
        session, _ = self.sessions.pop(index, (None, None))
        if session is not None:
            claimed = self._by_their_index[session.their_index]
            claimed.remove(session)
            if not claimed:
                del self._by_their_index[session.their_index]

    def retire(self, sessions: Iterable[Session]) -> None:
        """Forget the indexes of sessions that open nothing any more."""
        for session in sessions:
            self.release(session.our_index)


class Context:
    """Shared state of one engine.

    Attributes:
        drops: bytes dropped, by reason.
        events: what to report to the driver.
        number: the last initiation number used (section 5.1).
        lan_sightings: where members have announced themselves.
        told_addresses: how often addresses that peers merely name may be pinged.
        shown_addresses: the same of those that a supernode, or the source of a datagram, shows.
        instance: of this start, told to every supernode (section 10.1).
        lease: our address.
        our_nat: the kind of NAT that we are behind.
        unseen_until: while a supernode may yet see us by UDP, until when to give it the time; what
            peers cannot have punched for us does not go to them.
    """

    def __init__(self, config: EdgeConfig, entropy: Entropy) -> None:
        self.config = config
        self.entropy = entropy
        self.indexes = IndexTable(entropy)
        self.timers = TimerTable()
        self.outbox = Outbox()
        self.drops: Counter[DropReason] = Counter()
        self.events: list[Event] = []
        self.number = config.epoch << 32
        self.told_addresses = ToldAddresses()
        self.shown_addresses = ToldAddresses(
            SHOWN_ADDRESS_BURST, SHOWN_ADDRESS_RATE, refuses_strangers=False
        )
        self.lan_sightings = LanSightings()
        self.instance = entropy(INSTANCE_BYTES)
        self.lease = Lease()
        self.our_nat = OurNat()
        self.unseen_until = -math.inf

    def drop(self, reason: DropReason, count: int = 1) -> None:
        """Count something dropped."""
        self.drops[reason] += count

    def next_number(self) -> int:
        """Return an initiation number greater than all before."""
        self.number += 1
        return self.number

    def jitter(self, interval: float, share: float) -> float:
        """Return ``interval`` with up to ``share`` of itself added."""
        return interval * (1.0 + share * int.from_bytes(self.entropy(2), "big") / 65535.0)
