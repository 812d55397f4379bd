"""Names of stores."""

from pathlib import Path

import pytest

from supernode.store.memory import MemoryStore
from supernode.store.urls import open_store, parse_store_url


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("sqlite:///var/lib/x.db", "/var/lib/x.db"),
        ("sqlite:////var/lib/x.db", "/var/lib/x.db"),
        ("sqlite:///with%20space", "/with space"),
    ],
)
def test_a_sqlite_url_names_an_absolute_path(text: str, path: str) -> None:
    assert parse_store_url(text) == Path(path)


def test_memory_is_a_store() -> None:
    assert parse_store_url("memory:") is None
    assert isinstance(open_store("memory:"), MemoryStore)


@pytest.mark.parametrize(
    "text",
    ["", "redis://host/0", "sqlite:", "sqlite:///", "sqlite://host/x", "/var/x", "sqlite:///x?y=1"],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="sqlite:///PATH"):
        parse_store_url(text)
