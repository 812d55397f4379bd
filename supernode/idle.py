"""Which leases are idle, and which of them gives way when the table is full; section 15.1.

It is taken from the community that holds the most leases, the longest idle first: so a community
that hoards leases loses its own. Communities with idle leases stand in rows of equal size. The
sizes of n leases in all differ in at most sqrt(2 n) ways, 361 for 65,536 leases, and only a full
table looks for the largest; everything else here takes the same time however many there are.
"""

from collections import OrderedDict

from mesh.addresses import EdgeId


class _Idle:
    """The idle leases of one community, the longest idle first."""

    __slots__ = ("leases", "since")

    def __init__(self, leases: int) -> None:
        self.leases = leases
        self.since: OrderedDict[EdgeId, float] = OrderedDict()


class IdleLeases:
    """The leases whose edges are not registered; False while there are none."""

    def __init__(self) -> None:
        self._idle: dict[bytes, _Idle] = {}
        self._rows: dict[int, OrderedDict[bytes, None]] = {}

    def __bool__(self) -> bool:
        return bool(self._idle)

    def since(self, community: bytes, edge: EdgeId) -> float | None:
        """Return since when a lease is idle, or None if it is held or there is none."""
        idle = self._idle.get(community)
        return idle.since.get(edge) if idle is not None else None

    def add(self, community: bytes, edge: EdgeId, leases: int, now: float) -> None:
        """Note that an edge left its lease, one of ``leases`` that its community has."""
        idle = self._idle.get(community)
        if idle is None:
            idle = self._idle[community] = _Idle(leases)
            self._enter_row(community, leases)
        idle.since[edge] = now
        idle.since.move_to_end(edge)

    def discard(self, community: bytes, edge: EdgeId) -> None:
        """Note that a lease is held again, or gone."""
        idle = self._idle.get(community)
        if idle is None or edge not in idle.since:
            return
        del idle.since[edge]
        if not idle.since:
            self._leave_row(community, idle.leases)
            del self._idle[community]

    def resize(self, community: bytes, leases: int) -> None:
        """Note how many leases a community has now, idle or not."""
        idle = self._idle.get(community)
        if idle is not None:
            self._leave_row(community, idle.leases)
            self._enter_row(community, leases)
            idle.leases = leases

    def next_to_give_way(self, to: bytes) -> tuple[bytes, EdgeId]:
        """Return the community and the edge whose lease gives way to one more of ``to``.

        That counts as its own already: of two equals the one that grows gives way.

        Raises:
            KeyError: no lease is idle.
        """
        most = max(self._rows, default=0)
        growing = self._idle.get(to)
        if growing is not None and growing.leases >= most:
            community = to
        else:
            community = next(iter(self._rows[most]))
        return community, next(iter(self._idle[community].since))

    def _enter_row(self, community: bytes, leases: int) -> None:
        self._rows.setdefault(leases, OrderedDict())[community] = None

    def _leave_row(self, community: bytes, leases: int) -> None:
        row = self._rows[leases]
        del row[community]
        if not row:
            del self._rows[leases]
