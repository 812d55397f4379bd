"""An edge that has all it can have: a supernode, a member of its community, a direct path."""

from mesh.addresses import Endpoint
from mesh.wire.datagram import DatagramType
from mesh.wire.messages import Members, Message, Ping, Pong
from tests.core.edge_alone import HOME, PROPOSALS, Target
from tests.core.hostile_member import HostileMember
from tests.core.scripted_supernode import ScriptedSupernode, member_of

MEMBER_RELAY_ID = 77
LEASE = PROPOSALS[0].replace(".0/22", ".5/22")


class Joined:
    """A registered target that knows a member; it is 1 when this is made.

    Attributes:
        target: the edge; its engine is ``engine``.
        supernode: where it is registered.
        member: somebody of its community, introduced, with a session and a direct path
            that carries any frame whole.
    """

    def __init__(self, address: str = "", **changes: object) -> None:
        self.target = Target(**changes)
        self.engine = self.target.engine
        self.supernode = ScriptedSupernode(self.target)
        self.supernode.take_in(0.0, address)
        self.member = HostileMember(self.target)
        self.supernode.members = (member_of(self.member.identity, MEMBER_RELAY_ID, HOME),)
        news = Members(self.supernode.members, self.supernode.digest(address), page=0, pages=0)
        self.supernode.deliver(self.supernode.seal(news), 1.0)
        self.member.say_hello(1.0, name="member")
        self.engine.handle_timers(1.0)
        while pings := [message for message in self.said() if isinstance(message, Ping)]:
            for ping in pings:  # and then those that ask for the size of the path
                self.member.say(Pong(ping.token, HOME), 1.0)
            self.engine.handle_timers(1.0)
        self.target.sent()
        self.engine.events_to_report()

    def sealed(self) -> list[tuple[bytes, Endpoint]]:
        """Return what the target has sent under the member's session, opened; forget the rest."""
        wanted = bytes([DatagramType.TRANSPORT, 0, 0, 0, 0, 0, 0, 1])
        return [
            (self.member.session.open_untrusted(datagram), destination)
            for datagram, destination in self.target.sent()
            if datagram.startswith(wanted) and destination == HOME
        ]

    def said(self) -> list[Message]:
        """Return the messages of the target to the member; forget the rest."""
        return self.member.read([each for each in self.target.sent() if each[1] == HOME])

    def frames(self) -> list[tuple[bytes, bytes]]:
        """Return what the TAP was given: header and frame."""
        return [
            (joined[:10], joined[10:])
            for joined in (b"".join(iovec) for iovec in self.engine.frames_to_write())
        ]

    def path_kind(self) -> str:
        """Return how the target reaches the member."""
        [view] = [
            view
            for view in self.engine.peer_views(1.0)
            if view["id"] == self.member.identity.edge_id.hex()
        ]
        return view["path"]["kind"]
