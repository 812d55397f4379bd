"""Two edges and a supernode in one process, without root: run it with ``python`` from this folder.

```
   alice ── 127.0.0.1 ── supernode ── 127.0.0.1 ── bob
     ╚══════════════ direct session ═══════════════╝
```

The engines and the driver are those of the real programs, the sockets are real, too. Only
/dev/net/tun is replaced: by one half of a socket pair, in whose other half we are the kernel.
"""

import os
import secrets
import socket

import trio

from mesh.addresses import BROADCAST_MAC, format_mac
from mesh.core.config import EdgeConfig, SupernodeConfig
from mesh.core.edge import EdgeEngine
from mesh.crypto.community import CommunityKeys, derive_root
from mesh.crypto.identity import Identity
from mesh.datapath.vnet import VIRTIO_NET_HEADER_BYTES, encode_vnet_plain
from mesh.engine import WellKnownSocket
from mesh.events import EdgeRegistered, Event, PathChanged, PeerUp, Registered, SupernodeSeen
from mesh.net.driver import Driver
from mesh.net.tap import Tap
from mesh.net.udp import UdpPort, open_udp
from supernode.engine import SupernodeEngine
from supernode.limits import SupernodeLimits

COMMUNITY = "kitchen table"
ETHERTYPE = bytes.fromhex("88b5")  # set aside by IEEE 802 for local experiments
UDP = WellKnownSocket.UDP_IPV4


class Edge:
    """One edge with its driver, and our end of what stands in for its TAP."""

    def __init__(self, name: str, community: CommunityKeys, supernode: UdpPort) -> None:
        self.name = name
        self.identity = Identity.generate(os.urandom)
        self.mac = self.identity.default_mac
        config = EdgeConfig(
            identity=self.identity,
            community=community,
            epoch=1,
            name=name,
            mac=self.mac,
            subnets=tuple(map(str, community.subnet_proposals())),
            supernodes=(SupernodeConfig(str(supernode.local)),),
        )
        now = trio.current_time()
        self.engine = EdgeEngine(config, os.urandom, now)
        self.engine.set_supernode_endpoints(0, [supernode.local], now)
        kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        kernel.setblocking(False)
        ours.setblocking(False)
        self._kernel = trio.socket.from_stdlib_socket(ours)
        self.driver = Driver(
            self.engine,
            {UDP: open_udp(socket.AF_INET, "127.0.0.1", 0)},
            Tap(kernel.detach(), name, 0),
            on_event=self.tell,
        )
        self.is_direct = trio.Event()

    def tell(self, event: Event) -> None:
        """Print what the engine reports."""
        match event:
            case SupernodeSeen():
                print(f"{self.name}: first contact, the supernode's key is {event.fingerprint}")
            case Registered():
                print(f"{self.name}: registered, our address is {event.address}")
            case PeerUp():
                print(f"{self.name}: there is a session with {event.name or 'a peer'}")
            case PathChanged():
                print(f"{self.name}: frames for {event.name} go {event.kind} to {event.endpoint}")
                if event.kind == "direct":
                    self.is_direct.set()
            case _:
                print(f"{self.name}: {event}")

    async def send(self, destination: bytes, payload: bytes) -> None:
        """Send a frame as the kernel would: a virtio-net header, then Ethernet."""
        frame = destination + self.mac + ETHERTYPE + payload
        print(f"{self.name}: sends {payload!r} to {format_mac(destination)}")
        await self._kernel.send(encode_vnet_plain() + frame)

    async def receive(self) -> tuple[bytes, bytes]:
        """Return the source and the payload of the next frame."""
        frame = (await self._kernel.recv(65536))[VIRTIO_NET_HEADER_BYTES:]
        source, payload = frame[6:12], frame[14:]
        print(f"{self.name}: receives {payload!r} from {format_mac(source)}")
        return source, payload


def tell_of_supernode(event: Event) -> None:
    """Print what the supernode reports; it knows neither the community's name nor its secret."""
    if isinstance(event, EdgeRegistered):
        community = event.community.hex()[:12]
        print(f"supernode: an edge of community {community}... registered from {event.endpoint}")


async def talk(alice: Edge, bob: Edge) -> None:
    """Have both say a word: a broadcast first, and an answer to where it came from."""
    await alice.is_direct.wait()
    await bob.is_direct.wait()
    await alice.send(BROADCAST_MAC, b"Is anybody there?")
    source, _ = await bob.receive()
    await bob.send(source, b"I am. Only you can read this.")
    await alice.receive()
    for row in alice.engine.fdb_views(trio.current_time()):
        print(f"alice: has learnt that {row['mac']} is behind {row['name']}")


async def main() -> None:
    """Run all three until both edges have spoken."""
    secret = secrets.token_urlsafe()
    community = CommunityKeys.from_root(COMMUNITY, derive_root(COMMUNITY, secret))
    port = open_udp(socket.AF_INET, "127.0.0.1", 0)
    engine = SupernodeEngine(
        Identity.generate(os.urandom), SupernodeLimits(), os.urandom, trio.current_time()
    )
    print(f"supernode: listening on {port.local}")
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(Driver(engine, {UDP: port}, on_event=tell_of_supernode).run)
            edges = [Edge(name, community, port) for name in ("alice", "bob")]
            for edge in edges:
                await nursery.start(edge.driver.run)
            await talk(*edges)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
