"""The state directory: keys, pins, epochs and addresses that survive a restart (protocol 3, 5.1)."""

from pathlib import Path


class StateDir:
    """One directory (0700) of small files (0600), each written atomically.

    Every method may raise `StateError`: a file is corrupt (it is copied to ``NAME.corrupt-N`` first
    and left as it is) or cannot be written (the old file is intact).

    Attributes:
        path: the directory; made on first use.
        warnings: sentences for the user, such as a secret that others can read.
    """

    def __init__(self, path: Path) -> None:
        """Open ``path``, making it if needed.

        Raises:
            StateError: it cannot be made or is not a directory.
        """
        raise NotImplementedError

    def identity(self) -> bytes:
        """Return the 32-byte private X25519 key, made with ``os.urandom`` on first use."""
        raise NotImplementedError

    def next_epoch(self, unix_time: int) -> int:
        """Return an epoch above all before: max(stored + 1, ``unix_time``), stored already (5.1)."""
        raise NotImplementedError

    def pinned(self, host_port: str) -> str | None:
        """Return the fingerprint pinned for ``HOST:PORT``, or None."""
        raise NotImplementedError

    def pin(self, host_port: str, fingerprint: str) -> None:
        """Pin ``fingerprint`` (32 characters of base32) for ``HOST:PORT``."""
        raise NotImplementedError

    def secret(self, community: str) -> str | None:
        """Return the kept secret of ``community``, or None."""
        raise NotImplementedError

    def save_secret(self, community: str, secret: str) -> None:
        """Keep the secret of ``community``."""
        raise NotImplementedError

    def root(self, community: str, secret: str | None) -> bytes | None:
        """Return the cached Argon2id result (32 bytes) for exactly this name and secret, or None."""
        raise NotImplementedError

    def save_root(self, community: str, secret: str | None, root: bytes) -> None:
        """Cache the Argon2id result for this name and secret (None: open)."""
        raise NotImplementedError

    def last_address(self, community: str) -> str:
        """Return the address (CIDR) leased before, or an empty string."""
        raise NotImplementedError

    def save_last_address(self, community: str, address: str) -> None:
        """Keep the leased address (CIDR)."""
        raise NotImplementedError
