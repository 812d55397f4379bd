"""Counts what an object keeps, to see that every table has a cap that holds."""

from collections import deque
from collections.abc import Iterator

_CONTAINERS = (dict, list, tuple, set, frozenset, deque)


def count_entries(root: object) -> int:
    """Return how many entries all containers reachable from ``root`` hold; each counts once."""
    seen: set[int] = set()
    pending = [root]
    entries = 0
    while pending:
        each = pending.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, _CONTAINERS):
            entries += len(each)
        pending.extend(_parts(each))
    return entries


def _parts(each: object) -> Iterator[object]:
    if isinstance(each, dict):
        yield from each.keys()
        yield from each.values()
    elif isinstance(each, _CONTAINERS):
        yield from each
    elif type(each).__module__.startswith(("mesh", "supernode")):
        yield from getattr(each, "__dict__", {}).values()
        for kind in type(each).__mro__:
            slots = getattr(kind, "__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if hasattr(each, name):
                    yield getattr(each, name)
