"""The exceptions of the project: whose fault it was, and what to do about it."""

import enum


class MeshError(Exception):
    """Everything this project raises on purpose."""


class RemoteError(MeshError):
    """The network's fault: caught once, in an engine, and counted."""


class MalformedMessage(RemoteError):  # noqa: N818 - names the thing received, as h11 does
    """Bytes that do not parse; the only thing a ``decode_*`` function may raise."""


class NotAuthentic(RemoteError):  # noqa: N818 - names the thing received
    """Bytes that do not verify, were replayed, or were meant for another key."""


class Replayed(NotAuthentic):
    """A datagram that verified once already, or is too old to tell."""


class LocalError(MeshError):
    """Our caller's fault: wrong state or wrong argument."""


class RefusalReason(enum.IntEnum):
    """Why a supernode refused a registration; docs/protocol.md section 10.3."""

    VERSION = 1
    NOT_A_MEMBER = 2
    ADDRESS_TAKEN = 3
    NO_FREE_ADDRESS = 4
    COMMUNITY_FULL = 5
    SUPERNODE_FULL = 6
    BAD_REQUEST = 7

    @property
    def sentence(self) -> str:
        """What a person should read, without a closing full stop."""
        return _REFUSAL_SENTENCES[self]


_REFUSAL_SENTENCES = {
    RefusalReason.VERSION: "the supernode does not speak our protocol version; upgrade one of them",
    RefusalReason.NOT_A_MEMBER: "the proof of membership does not verify; check the key",
    RefusalReason.ADDRESS_TAKEN: (
        "the fixed address is held by another member; choose another or use --address auto"
    ),
    RefusalReason.NO_FREE_ADDRESS: "the community has no free address left; use --address CIDR",
    RefusalReason.COMMUNITY_FULL: "the community has as many members as this supernode allows",
    RefusalReason.SUPERNODE_FULL: "the supernode is full; try another one or come back later",
    RefusalReason.BAD_REQUEST: "the supernode did not understand the request; upgrade one of them",
}


class RegistrationRefused(MeshError):  # noqa: N818 - names what happened
    """A supernode answered a registration with a refusal.

    Attributes:
        reason: what it said.
        detail: its own words, possibly empty; untrusted text, at most 200 characters.
    """

    def __init__(self, reason: RefusalReason, detail: str = "") -> None:
        super().__init__(f"{reason.sentence} ({detail})" if detail else reason.sentence)
        self.reason = reason
        self.detail = detail


class ConfigError(MeshError):
    """A value from the user that cannot be used.

    Attributes:
        where: the file or flag it came from.
        key: the option, possibly empty.
    """

    def __init__(self, where: str, key: str, message: str) -> None:
        super().__init__(f"{where}: {key}: {message}" if key else f"{where}: {message}")
        self.where = where
        self.key = key


class DeviceUnavailable(MeshError):  # noqa: N818 - names what happened
    """No TAP can be had; ``hint`` says what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.hint = hint


class StateError(MeshError):
    """A state file is corrupt or cannot be written; the message names it and what was kept."""
