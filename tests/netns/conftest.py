"""The lab as fixtures: one per module, so that tests of one topology share it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.lab import Lab
from tests.netns.namespaces import why_no_namespaces

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if _HERE in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.netns)
    # Two edges are left alone while everything else runs: see test_idle.py.
    idle = [item for item in ours if item.path.name == "test_idle.py"]
    if ours and idle:
        first = items.index(ours[0])
        for item in idle:
            items.remove(item)
        items.insert(first, idle[0])
        items += idle[1:]


@pytest.fixture(scope="session")
def namespaces_allowed() -> None:
    """Skip where there is no privilege, unless MESH_REQUIRE_NETNS says that there has to be."""
    if complaint := why_no_namespaces():
        if os.environ.get("MESH_REQUIRE_NETNS"):
            pytest.fail(f"MESH_REQUIRE_NETNS is set, but {complaint}")
        pytest.skip(complaint)


@pytest.fixture(scope="module")
def lab(namespaces_allowed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Return an empty lab that is torn down after the module's last test."""
    opened = Lab(tmp_path_factory.mktemp("lab"))
    try:
        yield opened
    finally:
        opened.close()
