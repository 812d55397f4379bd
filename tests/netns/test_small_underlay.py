"""A full-size frame crosses a path whose MTU is smaller than a datagram of ours.

```
                    supernode
                        |
   anna's home ----- internet ----- bert's home     both routers: port-restricted NATs
        |                                |
     anna ═══ mesh0 (1500)  mesh0 ═══ bert          bert's cable: MTU 1280
```
"""

from tests.netns.lab import Lab, address_of
from tests.netns.nats import Nat
from tests.netns.product import Edge, Supernode, join_all, wait_direct


def test_packets_of_1500_bytes_cross_an_underlay_of_1280(lab: Lab) -> None:
    internet = lab.internet()
    host = lab.public_host("supernode", internet)
    supernode = Supernode(host, address_of(host))
    supernode.serve()
    server = ("narrow", "--supernode", supernode.endpoint)
    homes = [lab.home(f"router-{name}", internet, Nat.PORT_RESTRICTED) for name in ("anna", "bert")]
    anna, bert = (
        Edge(lab.home_host(name, home), *server)
        for name, home in zip(("anna", "bert"), homes, strict=True)
    )
    bert.host.run("ip", "link", "set", "eth0", "mtu", "1280")
    join_all(anna, bert)
    wait_direct(anna, bert)
    for edge, other in ((anna, bert), (bert, anna)):
        ping = ("ping", "-M", "do", "-c5", "-i0.1", "-s1472", other.ip)
        assert " 0% packet loss" in edge.host.run(*ping, check=False).stdout
        assert edge.path_to(other) == "direct"
