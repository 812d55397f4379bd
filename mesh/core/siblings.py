"""What registrations with several supernodes have to know of each other, and say to others."""

from typing import TYPE_CHECKING, NamedTuple, Protocol

from mesh.addresses import EdgeId
from mesh.core.outbox import Via

if TYPE_CHECKING:
    from mesh.core.registration import Registration


class News(NamedTuple):
    """What a supernode said about others.

    Attributes:
        changed: members that are new or told differently.
        gone: members that are none any more.
        is_list: whether this was a full list: we are the newcomer and initiate (section 12.2).
    """

    changed: list[EdgeId]
    gone: list[EdgeId]
    is_list: bool


NO_NEWS = News([], [], is_list=False)


class Siblings(Protocol):
    """All registrations of one edge, as one of them sees them."""

    def changed(self, registration: "Registration", now: float) -> None:
        """Learn that it was connected, lost, or measured anew."""

    def doubted(self, registration: "Registration", now: float) -> None:
        """Learn that a ping drew no answer, or could not be sent."""

    def moved(self, registration: "Registration", now: float) -> None:
        """Learn that its supernode is now reached by another way."""

    def are_serving(self) -> bool:
        """Whether any registration is connected."""

    def are_serving_by(self, fingerprint: str, but: "Registration") -> bool:
        """Whether another registration is connected to the supernode with this key."""

    def is_way_of_another(self, registration: "Registration", via: Via) -> bool:
        """Whether a different supernode is reached by this way."""
