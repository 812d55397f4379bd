"""What most scenarios start from."""

import pytest

from tests.world import World


@pytest.fixture
def world() -> World:
    """A world with one supernode on the internet."""
    world = World(seed=1)
    world.add_supernode()
    return world
