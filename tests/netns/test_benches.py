"""The benches can still bring our system up: their figures are asked for too seldom to notice."""

import pytest

from benches.machines import machines
from benches.measures import cpu_seconds, pings, share
from benches.ours import mesh


@pytest.mark.usefixtures("namespaces_allowed")
def test_the_machines_of_the_benches_carry_our_system() -> None:
    with machines() as where, mesh(where) as tunnel:
        spent = cpu_seconds(tunnel.pids)
        found = pings(tunnel, 1.0, interval=0.05)
        assert len(found) == 20
        assert 0 < share(found, 0.5) < 0.5
        assert cpu_seconds(tunnel.pids) >= spent > 0
        assert len(tunnel.pids) == 2
        assert len(tunnel.helper_pids) == 1
