"""Members of a community who want the others to flood a third party: a program.

``python -m tests.netns.hostile_members COMMUNITY SECRET SUPERNODE-ADDRESS:PORT VICTIM MEMBERS``

Each member is a real engine with a socket of its own. It joins like anybody, and then tells every
peer, as often as it likes and by every way that it has, that it may be reached at 32 endpoints of
the victim: always other ones. It says so on stdout when all have joined, and runs until killed.
"""

import contextlib
import itertools
import os
import select
import socket
import sys
import time

from mesh.addresses import Endpoint
from mesh.core.config import EdgeConfig, SupernodeConfig
from mesh.core.edge import EdgeEngine
from mesh.crypto.community import CommunityKeys, derive_root
from mesh.crypto.identity import Identity
from mesh.engine import ReceivedDatagrams, WellKnownSocket
from mesh.wire.messages import Hello

HELLO_INTERVAL = 0.05  # s
CANDIDATES = 32


class HostileMember:
    """One of them.

    Attributes:
        socket: what it speaks from.
        hellos: how many of the hostile ones have been sent.
    """

    def __init__(self, keys: CommunityKeys, number: int, supernode: Endpoint, victim: str) -> None:
        identity = Identity.generate(os.urandom)
        self._config = EdgeConfig(
            identity=identity,
            community=keys,
            epoch=int(time.time()),
            name=f"hostile-{number}",
            mac=identity.default_mac,
            subnets=tuple(map(str, keys.subnet_proposals())),
            supernodes=(SupernodeConfig(f"{supernode.host}:{supernode.port}"),),
        )
        self._victim = victim
        self._ports = itertools.cycle(range(1024 + number, 65536))
        self.hellos = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("0.0.0.0", 0))  # noqa: S104 - in the lab
        self.engine = EdgeEngine(self._config, os.urandom, time.monotonic())
        self.engine.set_supernode_endpoints(0, [supernode], time.monotonic())
        self.step()

    def receive(self) -> None:
        """Take in one datagram."""
        data, source = self.socket.recvfrom(65536)
        batch = ReceivedDatagrams(data, len(data), Endpoint(*source), WellKnownSocket.UDP_IPV4)
        self.engine.receive_datagrams(batch, time.monotonic())

    def step(self) -> None:
        """Do what is due and send what the engine wants sent, cut into datagrams."""
        self.engine.handle_timers(time.monotonic())
        self.engine.events_to_report()
        self.engine.frames_to_write()
        for batch in self.engine.datagrams_to_send():
            joined = b"".join(batch.buffers)
            for start in range(0, len(joined), batch.segment_bytes):
                datagram = joined[start : start + batch.segment_bytes]
                with contextlib.suppress(OSError):
                    self.socket.sendto(datagram, tuple(batch.destination))

    def accuse(self) -> None:
        """Tell every peer that we are at the victim's, by every way."""
        now = time.monotonic()
        for peer in list(self.engine._peers):
            if peer.sessions.current is None:
                continue
            candidates = tuple(
                Endpoint(self._victim, port) for port in itertools.islice(self._ports, CANDIDATES)
            )
            hello = Hello(
                name=self._config.name,
                mac=self._config.mac,
                addresses=(),
                candidates=candidates,
                mtu=1500,
                answer=False,
            )
            ways = tuple(path.via for path in peer.paths.paths() if path.is_validated)
            peer._send_by(ways or peer.paths.control_vias(now), hello, now)
            self.hellos += 1
        self.step()

    @property
    def has_joined(self) -> bool:
        """Whether the supernode has accepted us and a peer has said hello."""
        return any(peer.is_up for peer in self.engine._peers)


def main() -> None:
    """Run until killed."""
    name, secret, supernode, victim, count = sys.argv[1:]
    host, _, port = supernode.rpartition(":")
    keys = CommunityKeys.from_root(name, derive_root(name, secret))
    endpoint = Endpoint(host, int(port))
    members = [HostileMember(keys, number, endpoint, victim) for number in range(int(count))]
    by_socket = {member.socket: member for member in members}
    accuse_at = time.monotonic()
    has_said_so = False
    while True:
        ready, _, _ = select.select(list(by_socket), [], [], 0.01)
        for opened in ready:
            by_socket[opened].receive()
        for member in members:
            member.step()
        if not has_said_so and all(member.has_joined for member in members):
            has_said_so = True
            print("joined", flush=True)  # noqa: T201 - a program
        if time.monotonic() >= accuse_at:
            accuse_at = time.monotonic() + HELLO_INTERVAL
            for member in members:
                member.accuse()


if __name__ == "__main__":
    main()
