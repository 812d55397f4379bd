"""The forwarding database of the virtual switch; docs/protocol.md section 13.

Every peer is a port. The database answers one question per frame from the TAP (whose address is
this?) and takes one statement per frame from a peer (this address is there).
"""

from collections import Counter
from typing import NamedTuple

from mesh.addresses import EdgeId
from mesh.constants import MAC_LIFETIME, MAX_MACS, MAX_MACS_PER_PEER


class FdbEntry(NamedTuple):
    """One learnt address, for people: the port and the seconds since it was last seen."""

    mac: bytes
    port: EdgeId
    age: float


class Switch:
    """Learns, ages and looks up MAC addresses.

    Attributes:
        refused: addresses not learnt because a table was full, or because they are the hash of
            another peer's key. A full table never evicts: a peer that invents addresses must not
            make the switch forget those of others.
        changes: how often an address was learnt anew, moved or forgotten.
    """

    def __init__(self) -> None:
        self.refused = self.changes = 0
        # address -> (port, last seen)
        self._entries: dict[bytes, tuple[EdgeId, float]] = {}
        self._per_port: Counter[EdgeId] = Counter()
        self._owners: dict[bytes, EdgeId] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def reserve(self, mac: bytes, port: EdgeId) -> None:
        """Note that ``mac`` is the hash of a peer's key: nobody else can take it over.

        Ordinary switches, and the peers of other overlays, believe whoever sent last.
        """
        self._owners[mac] = port

    def learn(self, mac: bytes, port: EdgeId, now: float) -> None:  # Hot path.
        """Note that frames from ``mac`` come in by ``port``; group addresses are ignored."""
        entry = self._entries.get(mac)
        if entry is not None and entry[0] == port:
            if now - entry[1] > 1.0:  # a store per second instead of per frame
                self._entries[mac] = (port, now)
            return
        if mac[0] & 1:
            return
        owner = self._owners.get(mac)
        if owner is not None and owner != port:
            self.refused += 1
        elif entry is not None:
            self._move(mac, entry[0], port, now)
        elif owner is None and self._is_full(port):
            self.refused += 1
        else:
            self._entries[mac] = (port, now)
            self._per_port[port] += 1
            self.changes += 1

    def _is_full(self, port: EdgeId) -> bool:
        return len(self._entries) >= MAX_MACS or self._per_port[port] >= MAX_MACS_PER_PEER

    def _move(self, mac: bytes, old: EdgeId, new: EdgeId, now: float) -> None:
        if self._per_port[new] >= MAX_MACS_PER_PEER:
            self.refused += 1
            return
        self._entries[mac] = (new, now)
        self._per_port[old] -= 1
        self._per_port[new] += 1
        self.changes += 1

    def port_of(self, mac: bytes, now: float) -> EdgeId | None:  # Hot path.
        """Return the port that owns ``mac``, or None where the frame must be flooded."""
        entry = self._entries.get(mac)
        if entry is None:
            return None
        if now - entry[1] > MAC_LIFETIME:
            self.forget(mac)
            return None
        return entry[0]

    def known_until(self, mac: bytes) -> float:
        """Return when an address is forgotten unless it is seen again; 0 for none."""
        entry = self._entries.get(mac)
        return entry[1] + MAC_LIFETIME if entry is not None else 0.0

    def knows(self, mac: bytes) -> bool:
        """Whether ``mac`` is some peer's."""
        return mac in self._entries

    def forget(self, mac: bytes) -> None:
        """Forget one address: it aged, or was seen on our own side."""
        entry = self._entries.pop(mac, None)
        if entry is not None:
            self._per_port[entry[0]] -= 1
            self.changes += 1

    def forget_port(self, port: EdgeId) -> None:
        """Forget all addresses of a peer that is gone."""
        for mac in [mac for mac, entry in self._entries.items() if entry[0] == port]:
            del self._entries[mac]
        del self._per_port[port]
        self.changes += 1
        for mac in [mac for mac, owner in self._owners.items() if owner == port]:
            del self._owners[mac]

    def age(self, now: float) -> None:
        """Forget every address that has not been seen for ``MAC_LIFETIME``."""
        for mac in [m for m, entry in self._entries.items() if now - entry[1] > MAC_LIFETIME]:
            self.forget(mac)

    def entries(self, now: float) -> list[FdbEntry]:
        """Return what is known, sorted by address."""
        return [
            FdbEntry(mac, port, max(0.0, now - seen))
            for mac, (port, seen) in sorted(self._entries.items())
        ]
