"""Names of stores in the configuration."""

import urllib.parse
from pathlib import Path

from supernode.store.contract import LeaseStore
from supernode.store.memory import MemoryStore
from supernode.store.sqlite import SqliteStore

MEMORY_URL = "memory:"


def parse_store_url(text: str) -> Path | None:
    """Return the file of ``sqlite:///PATH``, or None for ``memory:``.

    Raises:
        ValueError: it is another store, or none.
    """
    if text == MEMORY_URL:
        return None
    url = urllib.parse.urlsplit(text)
    path = urllib.parse.unquote(url.path)
    if url.scheme != "sqlite":
        raise ValueError(f"{text!r} is not a store; write sqlite:///PATH or memory:")
    if url.netloc or url.query or url.fragment or not path.strip("/"):
        raise ValueError(f"{text!r}: write sqlite:///PATH with an absolute path")
    return Path("/", path.lstrip("/"))


def open_store(text: str) -> LeaseStore:
    """Open the store that a URL names.

    Raises:
        ValueError: it names none.
        StateError: it is corrupt, in use, or cannot be opened.
    """
    path = parse_store_url(text)
    return MemoryStore() if path is None else SqliteStore(path)
