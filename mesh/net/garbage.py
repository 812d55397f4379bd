"""Python's cyclic garbage collector, kept out of the way of frames."""

import gc
from typing import Final

YOUNG_OBJECTS: Final = 20_000
"""Objects made and not freed before the collector looks at the young ones: handling frames makes
short-lived ones only, which reference counts free without it."""


def settle_garbage() -> None:
    """Collect what starting left behind, and never look at what has survived that again.

    To be called once everything is imported and set up: modules and classes are most of what the
    collector would walk through, for tens of milliseconds, in the middle of a game.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)
