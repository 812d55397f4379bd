"""The door for initiations: MAC, load and replay are checked before any Diffie-Hellman."""

from mesh.addresses import EdgeId, Endpoint
from mesh.core.allowance import Allowance
from mesh.crypto.community import CommunityKeys
from mesh.crypto.cookie import CookieSecret, has_valid_mac1, mac1_key_peer
from mesh.engine import Buffer, Entropy
from mesh.errors import NotAuthentic, Replayed

MAX_NUMBERS = 16384  # edges whose greatest initiation number is remembered


class InitiationGuard:
    """Decides which initiations are worth a Diffie-Hellman; docs/protocol.md sections 5.1 and 7."""

    def __init__(
        self, our_static: bytes, community: CommunityKeys, entropy: Entropy, per_second: float
    ) -> None:
        self._mac1_key = mac1_key_peer(community, our_static)
        self._cookies = CookieSecret(entropy)
        self._allowance = Allowance(per_second, per_second)
        self._numbers: dict[EdgeId, int] = {}

    def check_untrusted(self, datagram: Buffer, source: Endpoint, now: float) -> bytes | None:
        """Check an initiation's MACs.

        Returns:
            None where it should be answered, or the cookie reply to send instead.

        Raises:
            NotAuthentic: its mac1 is wrong: whoever made it is not of our community.
        """
        if not has_valid_mac1(datagram, self._mac1_key):
            raise NotAuthentic("mac1")
        if self._allowance.take(now) or self._cookies.has_valid_mac2(datagram, source, now):
            return None
        return self._cookies.reply(datagram, source, self._mac1_key, now)

    def accept_number(self, edge_id: EdgeId, number: int) -> None:
        """Remember the number of an initiation that verified.

        Raises:
            Replayed: it does not exceed all numbers that this edge has used before.
        """
        if number <= self._numbers.get(edge_id, -1):
            raise Replayed("initiation number")
        self._numbers.pop(edge_id, None)
        self._numbers[edge_id] = number
        if len(self._numbers) > MAX_NUMBERS:
            del self._numbers[next(iter(self._numbers))]
