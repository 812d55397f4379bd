"""How far a join has come, and when it is hopeless: pure, told events in order."""

from mesh import events
from mesh.cli.supernodes import SupernodeTarget
from mesh.cli.terminal import printable
from mesh.errors import MeshError, RegistrationRefused
from mesh.events import Event


class JoinFailed(MeshError):  # noqa: N818 - names what happened
    """Going on makes no sense; the message says why and what to do."""


class JoinProgress:
    """Decides which refusals end the program.

    Before the first success a refusal is most likely a mistake of the user's, who is watching:
    once every supernode has refused, we say so and stop. After it, the engine keeps trying.

    Attributes:
        has_joined: whether any supernode has taken us in.
    """

    def __init__(self, targets: tuple[SupernodeTarget, ...]) -> None:
        self.has_joined = False
        self._targets = targets
        self._failures: dict[int, MeshError] = {}
        self._mismatched: set[int] = set()
        self._replaced: set[int] = set()

    def handle(self, event: Event) -> None:
        """Take in one event.

        Raises:
            RegistrationRefused: every supernode refused; this is the last one's word.
            JoinFailed: the same for keys, or every supernode knows our identity elsewhere.
        """
        match event:
            case events.Registered():
                self.has_joined = True
            case events.Refused():
                detail = printable(event.detail)
                self._fail(event.supernode, RegistrationRefused(event.reason, detail))
            case events.SupernodeKeyMismatch():
                self._handle_mismatch(event)
            case events.Replaced():
                self._handle_replaced(event.supernode)
            case _:
                pass

    def _handle_mismatch(self, event: events.SupernodeKeyMismatch) -> None:
        """Give up at the second wrong key: an injected first one is followed by the right one."""
        is_second = event.supernode in self._mismatched
        self._mismatched.add(event.supernode)
        if is_second:
            target = self._targets[event.supernode]
            self._fail(event.supernode, JoinFailed(mismatch_sentence(target, event)))

    def _handle_replaced(self, supernode: int) -> None:
        self._replaced.add(supernode)
        if len(self._replaced) == len(self._targets):
            raise JoinFailed(
                "another machine registered with this edge's identity; if its state directory"
                " was copied from here, remove identity.key from one of the two copies"
                " and join again"
            )

    def _fail(self, supernode: int, error: MeshError) -> None:
        self._failures[supernode] = error
        if not self.has_joined and len(self._failures) == len(self._targets):
            raise error


def mismatch_sentence(target: SupernodeTarget, event: events.SupernodeKeyMismatch) -> str:
    """Return what to say about a supernode that proved another key than the pinned one."""
    return (
        f"supernode {target} has key {event.found}, but {event.expected} was expected: somebody may"
        f" be in between; if its key was changed on purpose, {target.how_to_accept}"
    )
