"""What makes this edge a member: the community's secret, kept or made, and the keys from it."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from mesh.cli.settings import JoinSettings
from mesh.crypto.community import CommunityKeys, derive_root, generate_secret
from mesh.errors import ConfigError
from mesh.net.state import StateDir


@dataclass(frozen=True, slots=True)
class Membership:
    """What a member holds.

    Attributes:
        keys: derived from name and secret.
        secret: or None where the community is open.
        was_made: the secret is new, so that nobody else can know it yet.
    """

    keys: CommunityKeys
    secret: str | None = field(repr=False)
    was_made: bool = False


async def find_membership(
    settings: JoinSettings,
    state: StateDir,
    *,
    entropy: Callable[[int], bytes] = os.urandom,
) -> Membership:
    """Return the membership that ``settings`` ask for.

    A new secret is stored before it is used: one that was shown to others and then lost would
    leave them in a network of their own.

    Raises:
        ConfigError: there is no secret and none may be made.
        StateError: a state file is corrupt or cannot be written.
    """
    secret, was_made = _find_secret(settings, state, entropy)
    root = state.root(settings.community, secret)
    if root is None:
        # 0.15 s of computing; in a thread, so that a signal meanwhile is obeyed at once.
        root = await trio.to_thread.run_sync(
            derive_root, settings.community, secret, abandon_on_cancel=True
        )
        state.save_root(settings.community, secret, root)
    return Membership(CommunityKeys.from_root(settings.community, root), secret, was_made)


def _find_secret(
    settings: JoinSettings, state: StateDir, entropy: Callable[[int], bytes]
) -> tuple[str | None, bool]:
    key = settings.key
    if key.is_open:
        return None, False
    if key.secret is not None:
        if settings.is_invited and state.secret(settings.community) != key.secret:
            state.save_secret(settings.community, key.secret)
        return key.secret, False
    kept = state.secret(settings.community)
    if kept is not None:
        return kept, False
    if not key.may_be_made:
        raise ConfigError(
            "invite",
            "secret",
            "it carries no key and none is kept; was it cut off? Quote it, or give --key-file",
        )
    secret = generate_secret(entropy)
    state.save_secret(settings.community, secret)
    return secret, True
