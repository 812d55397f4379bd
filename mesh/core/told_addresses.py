"""How often addresses are pinged only because peers named them; docs/protocol.md section 12.2.

A peer may name whom it likes, and one person may be many peers: whatever they say, an address that
none of them has proved to be at gets no more than this from us. Where the supernode saw a peer, and
where a peer's own datagrams come from, is not for peers to say: such endpoints count apart, so that
no member can keep us from another one, and for more. They are not proved either, though.
"""

import ipaddress
import math

from mesh.constants import TOLD_ADDRESS_BURST, TOLD_ADDRESS_RATE
from mesh.core.allowance import Allowance

MAX_ADDRESSES = 1024  # that have been pinged so lately that their allowance is not whole again
LOOK_INTERVAL = 0.1  # s between looks for such that may be forgotten, 0.2 ms each
LAN_FACTOR = 4
"""Homes all use the same few private networks: of many peers each may name 192.168.1.2."""


class ToldAddresses:
    """One allowance per IPv4 address or IPv6 /64, for all peers of an edge together.

    Args:
        burst: how much is allowed at once.
        rate: how much per second after that.
        refuses_strangers: whether one that there is no room for gets nothing. Without that each of
            so many addresses gets little.
    """

    def __init__(
        self,
        burst: float = TOLD_ADDRESS_BURST,
        rate: float = TOLD_ADDRESS_RATE,
        *,
        refuses_strangers: bool = True,
    ) -> None:
        self._burst, self._rate = burst, rate
        self._refuses_strangers = refuses_strangers
        self._look_at = -math.inf
        self._by_address: dict[str | int, Allowance] = {}

    def __len__(self) -> int:
        return len(self._by_address)

    def take(self, host: str, now: float, *, is_lan: bool) -> bool:
        """Take one ping to ``host``, if there is one."""
        key = _key(host)
        allowance = self._by_address.get(key)
        if allowance is None:
            if len(self._by_address) >= MAX_ADDRESSES and now >= self._look_at:
                self._look_at = now + LOOK_INTERVAL
                self._forget_whole(now)
            if len(self._by_address) >= MAX_ADDRESSES:
                return not self._refuses_strangers
            factor = LAN_FACTOR if is_lan else 1
            allowance = Allowance(factor * self._burst, factor * self._rate)
            self._by_address[key] = allowance
        return allowance.take(now)

    def give_back(self, host: str) -> None:
        """Put one back that was taken for ``host`` and not used."""
        allowance = self._by_address.get(_key(host))
        if allowance is not None:
            allowance.give_back()

    def _forget_whole(self, now: float) -> None:
        """Forget the addresses whose allowance says no more than a new one would."""
        whole = [key for key, each in self._by_address.items() if each.is_whole(now)]
        for key in whole:
            del self._by_address[key]


def _key(host: str) -> str | int:
    if ":" not in host:
        return host
    return int(ipaddress.IPv6Address(host.partition("%")[0])) >> 64
