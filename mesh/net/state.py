"""What survives a restart: keys, pins, epochs, addresses; docs/protocol.md sections 3 and 5.1.

::

    STATE_DIR/
      identity.key                    64 hex digits: the private X25519 key
      epoch                           a decimal number
      known_supernodes                lines of HOST:PORT FINGERPRINT
      communities/QUOTED_NAME/
        secret                        as the user gave it
        root                          salt, tag and root in hex: a cache
        address                       CIDR
        supernodes                    lines of HOST:PORT[,HOST:PORT...]#FINGERPRINT, from an invite
"""

import hashlib
import hmac
import os
import re
from collections.abc import Callable, Iterable
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Final, TypeVar

from mesh.constants import KEY_BYTES
from mesh.errors import LocalError, StateError
from mesh.net.files import (
    is_readable_by_others,
    keep_corrupt,
    locked,
    make_directory,
    read_file,
    write_file,
)
from mesh.net.paths import quoted

T = TypeVar("T")

_FINGERPRINT: Final = re.compile(r"[a-z2-7]{32}")
_EPOCH_END: Final = 1 << 32
_LATEST_BELIEVABLE_TIME: Final = _EPOCH_END - (1 << 24)
_TAG_ITERATIONS: Final = 20_000
_SALT_BYTES: Final = 16
_TAG_BYTES: Final = 32


class StateDir:
    """One directory (0700) of small files (0600), each written atomically.

    Every method may raise `StateError`: a file is corrupt (it is copied to ``NAME.corrupt-N`` first
    and left as it is) or cannot be written (the old file is intact).

    Attributes:
        path: the directory.
        warnings: sentences for the user, such as a secret that others can read.
    """

    def __init__(self, path: Path) -> None:
        """Open ``path``, making it if needed.

        Raises:
            StateError: it cannot be made or is not a directory.
        """
        make_directory(path)
        self.path = path
        self.warnings: list[str] = []

    def identity(self) -> bytes:
        """Return the 32-byte private X25519 key, made with ``os.urandom`` on first use."""
        with locked(self.path):
            path = self.path / "identity.key"
            key = self._load(path, _parse_key, is_secret=True)
            if key is None:
                key = os.urandom(KEY_BYTES)
                write_file(path, key.hex().encode() + b"\n")
            return key

    def next_epoch(self, unix_time: int) -> int:
        """Return an epoch above all before: max(stored + 1, ``unix_time``), stored already (5.1).

        A clock that is beyond belief (before 1970, after 2105) is not followed: the epoch has 32
        bits and could not grow any more.
        """
        with locked(self.path):
            path = self.path / "epoch"
            stored = self._load(path, _parse_epoch)
            believed = unix_time if 0 <= unix_time < _LATEST_BELIEVABLE_TIME else 0
            epoch = max(0 if stored is None else stored + 1, believed)
            if epoch >= _EPOCH_END:
                raise StateError(
                    f"{path} has reached its end; remove it and identity.key to become a new edge"
                )
            write_file(path, f"{epoch}\n".encode())
            return epoch

    def pinned(self, host_port: str) -> str | None:
        """Return the fingerprint pinned for ``HOST:PORT``, or None."""
        return self._pins().get(host_port)

    def pin(self, host_port: str, fingerprint: str) -> None:
        """Pin ``fingerprint`` (32 characters of base32) for ``HOST:PORT``."""
        if not _FINGERPRINT.fullmatch(fingerprint) or len(host_port.split()) != 1:
            raise LocalError(f"cannot pin {fingerprint!r} for {host_port!r}")
        with locked(self.path):
            pins = self._pins() | {host_port: fingerprint}
            lines = "".join(f"{place} {pinned}\n" for place, pinned in sorted(pins.items()))
            write_file(self.path / "known_supernodes", lines.encode())

    def secret(self, community: str) -> str | None:
        """Return the kept secret of ``community``, or None."""
        return self._load(self._community(community) / "secret", _parse_secret, is_secret=True)

    def save_secret(self, community: str, secret: str) -> None:
        """Keep the secret of ``community``."""
        if secret != secret.strip() or not secret or "\n" in secret:
            raise LocalError("a secret is one line without spaces at its ends")
        self._save(community, "secret", secret)

    def root(self, community: str, secret: str | None) -> bytes | None:
        """Return the cached Argon2id result (32 bytes) for exactly this name and secret, or None.

        Takes about 10 ms: the tag that recognises the secret is itself slow to compute, so that the
        file is no short cut to guessing a passphrase.
        """
        cached = self._load(self._community(community) / "root", _parse_root, is_secret=True)
        if cached is None:
            return None
        salt, tag, root = cached
        return root if hmac.compare_digest(tag, _root_tag(secret, salt)) else None

    def save_root(self, community: str, secret: str | None, root: bytes) -> None:
        """Cache the Argon2id result for this name and secret (None: open)."""
        salt = os.urandom(_SALT_BYTES)
        fields = (salt, _root_tag(secret, salt), root)
        self._save(community, "root", " ".join(field.hex() for field in fields))

    def last_address(self, community: str) -> str:
        """Return the address (CIDR) leased before, or an empty string."""
        return self._load(self._community(community) / "address", _parse_address) or ""

    def save_last_address(self, community: str, address: str) -> None:
        """Keep the leased address (CIDR)."""
        self._save(community, "address", address)

    def supernodes(self, community: str) -> tuple[str, ...]:
        """Return the supernodes kept for ``community``, each as `save_supernodes` got it."""
        return self._load(self._community(community) / "supernodes", _parse_lines) or ()

    def save_supernodes(self, community: str, supernodes: Iterable[str]) -> None:
        """Keep the supernodes of an invite, one line of text each."""
        self._save(community, "supernodes", "\n".join(supernodes))

    def _community(self, community: str) -> Path:
        return self.path / "communities" / quoted(community)

    def _save(self, community: str, name: str, text: str) -> None:
        directory = self._community(community)
        make_directory(directory)
        write_file(directory / name, f"{text}\n".encode())

    def _pins(self) -> dict[str, str]:
        return self._load(self.path / "known_supernodes", _parse_pins) or {}

    def _load(self, path: Path, parse: Callable[[str], T], *, is_secret: bool = False) -> T | None:
        """Read and parse ``path``; None if it is not there.

        Raises:
            StateError: it cannot be read, or ``parse`` raised ValueError.
        """
        content = read_file(path)
        if content is None:
            return None
        if is_secret and is_readable_by_others(path):
            self._warn(f"{path} can be read by other users; run chmod 600 {path}")
        try:
            return parse(content.decode().strip())
        except ValueError as error:  # UnicodeDecodeError is one
            raise StateError(f"{path} is corrupt ({error}); {_rescue(path, content)}") from error

    def _warn(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)


def _rescue(path: Path, content: bytes) -> str:
    """Keep a copy of a corrupt file and say what to do."""
    try:
        copy = keep_corrupt(path, content)
    except StateError as error:
        return f"no copy could be made ({error})"
    return f"a copy is in {copy}: repair it, or remove it to start afresh"


def _parse_key(text: str) -> bytes:
    if len(text) != 2 * KEY_BYTES:
        raise ValueError(f"a key has {2 * KEY_BYTES} hex digits")
    try:
        return bytes.fromhex(text)
    except ValueError:  # its message quotes a position of a secret
        raise ValueError(f"a key has {2 * KEY_BYTES} hex digits") from None


def _parse_epoch(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) >= _EPOCH_END:
        raise ValueError("an epoch is a number of 32 bits")
    return int(text)


def _parse_pins(text: str) -> dict[str, str]:
    pins = {}
    for number, line in enumerate(text.splitlines(), 1):
        match line.split():
            case []:
                continue
            case [host_port, fingerprint] if _FINGERPRINT.fullmatch(fingerprint):
                pins[host_port] = fingerprint
            case _:
                raise ValueError(f"line {number} is not HOST:PORT FINGERPRINT")
    return pins


def _parse_secret(text: str) -> str:
    if not text or "\n" in text:
        raise ValueError("a secret is one line of text")
    return text


def _parse_root(text: str) -> tuple[bytes, bytes, bytes]:
    salt, tag, root = (bytes.fromhex(field) for field in text.split())
    if (len(salt), len(tag), len(root)) != (_SALT_BYTES, _TAG_BYTES, KEY_BYTES):
        raise ValueError("a cached root is a salt, a tag and a root")
    return salt, tag, root


def _parse_lines(text: str) -> tuple[str, ...]:
    return tuple(text.splitlines())


def _parse_address(text: str) -> str:
    return str(IPv4Interface(text)) if text else ""


def _root_tag(secret: str | None, salt: bytes) -> bytes:
    label = b"open" if secret is None else b"closed"
    return hashlib.pbkdf2_hmac(
        "sha256", (secret or "").encode(), salt + label, _TAG_ITERATIONS, _TAG_BYTES
    )
