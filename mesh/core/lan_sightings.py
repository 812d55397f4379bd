"""Where members have announced themselves on the LAN, before we know them; section 14.1."""

from mesh.addresses import EdgeId, Endpoint

MAX_SIGHTINGS = 256
MAX_PER_EDGE = 4  # interfaces times address families


class LanSightings:
    """The latest announcements, by edge id; bounded."""

    def __init__(self) -> None:
        self._by_id: dict[EdgeId, dict[Endpoint, None]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def note(self, edge_id: EdgeId, endpoint: Endpoint) -> None:
        """Note one more endpoint; the oldest ones give way."""
        endpoints = self._by_id.pop(edge_id, {})
        endpoints.pop(endpoint, None)
        endpoints[endpoint] = None
        while len(endpoints) > MAX_PER_EDGE:
            del endpoints[next(iter(endpoints))]
        self._by_id[edge_id] = endpoints
        while len(self._by_id) > MAX_SIGHTINGS:
            del self._by_id[next(iter(self._by_id))]

    def of(self, edge_id: EdgeId) -> list[Endpoint]:
        """Return where an edge was seen."""
        return list(self._by_id.get(edge_id, ()))
