"""Finding a supernode on the LAN by multicast; docs/protocol.md section 14."""

from collections.abc import Callable
from dataclasses import dataclass

import trio

from mesh.addresses import Endpoint


@dataclass(frozen=True, slots=True)
class FoundSupernode:
    """A supernode that answered; not authenticated before the handshake with it.

    Attributes:
        endpoint: where to register.
        fingerprint: its key's, 32 characters of base32.
        serves_us: whether the tag proves that it knows the community.
        takes_any: whether it takes any community.
    """

    endpoint: Endpoint
    fingerprint: str
    serves_us: bool
    takes_any: bool


@dataclass(frozen=True, slots=True)
class LanResponder:
    """What a supernode says to LAN queries.

    Attributes:
        fingerprint: 20 bytes.
        port: its UDP port.
        takes_any: whether it takes any community; if not, only known ones are answered.
        community_of: given the 16-byte nonce and 16-byte tag of a query (not authenticated),
            returns the 32-byte id of the served community whose tag it is, or None.
    """

    fingerprint: bytes
    port: int
    takes_any: bool
    community_of: Callable[[bytes, bytes], bytes | None]


async def find_supernodes(
    community_id: bytes,
    timeout: float = 0.8,  # noqa: ASYNC109 - how long to listen; running out of it is no failure
) -> list[FoundSupernode]:
    """Ask every up, multicast-capable, non-overlay interface; those that serve us come first.

    Takes at most ``timeout`` seconds, less once a supernode has proved to know the community.
    """
    raise NotImplementedError


async def serve_lan(
    responder: LanResponder, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Answer LAN queries on every interface, new ones included, until cancelled."""
    raise NotImplementedError
