"""Who sent the bytes: Noise handshakes, sessions, cookies and keys; pure."""

from collections.abc import Callable
from typing import TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview
"""The same as in ``mesh.engine``, a room beside this one that it may not import."""

Entropy: TypeAlias = Callable[[int], bytes]
"""Returns that many random bytes: ``os.urandom`` in life, a seeded generator in tests."""
