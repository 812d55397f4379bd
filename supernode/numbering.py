"""Random 32-bit names: session indexes and relay ids; docs/protocol.md sections 6.4 and 11."""

from collections.abc import Callable

from mesh.engine import Entropy


def new_number(entropy: Entropy, is_taken: Callable[[int], bool]) -> int:
    """Return a random number of 1 to 2^32 - 1 that is not taken.

    Tables hold some ten thousands of them at most, so that a second draw is rare.
    """
    while True:
        number = int.from_bytes(entropy(4), "big")
        if number and not is_taken(number):
            return number
