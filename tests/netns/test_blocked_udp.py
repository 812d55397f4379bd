"""Networks that let no UDP pass, or little else: an edge joins by what is left, and says which.

```
   supernode: UDP and TCP 7777 and 443,          web: an HTTP proxy (tinyproxy, 8888) and a web
     streams for the web server on 7780            server (nginx, 443) in front of the supernode
          |                                         |
      internet ─────────────────────────────────────┘
          |  |
       alice  router, whose rules each test chooses ── bob
```
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.certificates import Certificate, make_certificate
from tests.netns.lab import Home, Lab, address_of
from tests.netns.namespaces import Host
from tests.netns.product import Edge, PingStream, Supernode, wait_until

_RULES = """
table inet only {{
  chain forward {{
    type filter hook forward priority filter - 1; policy accept;
    iifname "lan0" {rules}
  }}
}}
"""

_TINYPROXY = """
Port 8888
Timeout 600
MaxClients 20
ConnectPort 443
"""

_NGINX = """
pid {folder}/nginx.pid;
worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  map_hash_bucket_size 128;
  server {{
    listen 443 ssl;
    ssl_certificate {files.certificate}; ssl_certificate_key {files.key};
    location /mesh {{
      proxy_pass http://{supernode}:7780;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_buffering off;
    }}
  }}
}}
"""


@dataclass
class Scene:
    """The topology, with all but bob's edge running."""

    supernode: Supernode
    web: str
    web_host: Host
    files: Certificate
    alice: Edge
    router: Home
    bob: Host


@pytest.fixture(scope="module")
def scene(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    internet = lab.internet()
    host, web = (lab.public_host(name, internet) for name in ("supernode", "web"))
    address, web_address = address_of(host), address_of(web)
    folder = tmp_path_factory.mktemp("web")
    files = make_certificate(folder, web_address)
    options = ("--listen", f"{address}:443", "--listen-ws", f"{address}:7780")
    supernode = Supernode(host, address, options=(*options, "--trust-proxy", web_address))
    supernode.serve()
    start_web(web, folder, _NGINX.format(folder=folder, files=files, supernode=address))
    alice = Edge(lab.public_host("alice", internet), "blocked", "--supernode", supernode.endpoint)
    alice.join()
    router = lab.home("router", internet)
    return Scene(supernode, web_address, web, files, alice, router, lab.home_host("bob", router))


def start_web(host: Host, folder: Path, nginx: str) -> None:
    """Start both kinds of proxy and wait until they listen."""
    for name, text in (("tinyproxy.conf", _TINYPROXY), ("nginx.conf", nginx)):
        (folder / name).write_text(text)
    with (folder / "log").open("w") as log:
        for command in (
            ("tinyproxy", "-d", "-c", str(folder / "tinyproxy.conf")),
            ("nginx", "-e", "stderr", "-c", str(folder / "nginx.conf"), "-g", "daemon off;"),
        ):
            host.popen(*command, stdout=log.fileno(), stderr=log.fileno())

    def are_listening() -> bool:
        listening = host.run("ss", "-Hltn").stdout
        return ":8888 " in listening and ":443 " in listening

    wait_until(are_listening, 10.0, f"proxies listen; {(folder / 'log').read_text()}")


@contextmanager
def joined(
    scene: Scene, *rules: str, arguments: tuple[str, ...] = (), **environment: str
) -> Iterator[Edge]:
    """Bob's edge, joined through a router with these rules and in touch with alice."""
    let_pass(scene.router, *rules)
    supernode = () if "--supernode" in arguments else ("--supernode", scene.supernode.endpoint)
    bob = Edge(
        scene.bob, "blocked", *supernode, *arguments, label=f"edge-{len(rules)}-{hash(rules)}"
    )
    bob.environment.update(environment)
    try:
        bob.join()
        bob.wait_ping(scene.alice, 10.0)
        yield bob
    finally:
        bob.stop()
        let_pass(scene.router)


def let_pass(router: Home, *rules: str) -> None:
    """Have the router do what the rules say with what comes from inside; without any, its best."""
    lines = '\n    iifname "lan0" '.join(rules or ("accept",))
    router.router.nft("table inet only\ndelete table inet only\n" + _RULES.format(rules=lines))


def reached(edge: Edge) -> tuple[str, str]:
    """By which transport an edge reaches its supernode, and at which port."""
    supernode = edge.status()["supernode"]
    assert supernode["connected"]
    return supernode["transport"], supernode["endpoint"].rpartition(":")[2]


def transport_at(scene: Scene, edge: Edge) -> str:
    """Which transport the supernode sees the edge on."""
    rows = {row["address"]: row["transport"] for row in scene.supernode.edges()}
    return str(rows[edge.joined.address])


def test_without_udp_an_edge_joins_by_tcp_and_goes_back_to_udp_without_losing_a_ping(
    scene: Scene,
) -> None:
    with joined(scene, "meta l4proto udp drop", "tcp dport 443 drop") as bob:
        assert reached(bob) == ("tcp", "7777")
        assert transport_at(scene, bob) == "tcp"
        assert bob.path_to(scene.alice) == "relay"
        stream = PingStream(scene.alice, bob, 0.1)
        let_pass(scene.router)
        wait_until(lambda: reached(bob)[0] == "udp", 30.0, "UDP is taken up again")
        wait_until(lambda: bob.path_to(scene.alice) == "direct", 30.0, "a direct path is found")
        wait_until(lambda: scene.supernode.ask("status")["streams"] == 0, 10.0, "no stream is left")
        pings = stream.finish()
        assert not pings.lost, str(pings)


@pytest.mark.parametrize(
    ("protocol", "transport"), [("udp dport 443", "udp"), ("tcp dport 443", "tcp")]
)
def test_port_443_alone_is_enough(scene: Scene, protocol: str, transport: str) -> None:
    with joined(scene, f"{protocol} accept", "drop") as bob:
        assert reached(bob) == (transport, "443")


def test_a_supernode_that_crashed_is_found_again_without_udp(scene: Scene) -> None:
    with joined(scene, "tcp dport 7777 accept", "drop") as bob:
        scene.supernode.kill()
        wait_until(lambda: not bob.status()["supernode"]["connected"], 10.0, "its end is noticed")
        scene.supernode.serve()
        bob.wait_ping(scene.alice, 20.0)
        assert reached(bob) == ("tcp", "7777")


def test_an_http_proxy_alone_is_enough(scene: Scene) -> None:
    proxy = f"http://{scene.web}:8888"
    # Nobody but the proxy can resolve names.
    for host, name, text in (
        (scene.web_host, "hosts", f"{address_of(scene.supernode.host)} vpn.example\n"),
        (scene.bob, "resolv.conf", "nameserver 127.0.0.1\n"),
    ):
        (host.files / name).write_text(text)
        host.run("mount", "--bind", str(host.files / name), f"/etc/{name}")
    only_the_proxy = f"ip daddr {scene.web} tcp dport 8888 accept"
    arguments = ("--supernode", "vpn.example:7777")
    with joined(scene, only_the_proxy, "drop", arguments=arguments, https_proxy=proxy) as bob:
        assert reached(bob)[0] == "tcp"
        assert transport_at(scene, bob) == "tcp"


def test_a_web_server_in_front_of_the_supernode_is_enough(scene: Scene) -> None:
    url = f"wss://{scene.web}/mesh#{scene.supernode.fingerprint}"
    arguments = ("--supernode", url, "--tls-ca", str(scene.files.authority))
    only_the_web = f"ip daddr {scene.web} tcp dport 443 accept"
    with joined(scene, only_the_web, "drop", arguments=arguments) as bob:
        assert reached(bob)[0] == "ws"
        assert transport_at(scene, bob) == "ws"
        [seen] = [row for row in scene.supernode.edges() if row["transport"] == "ws"]
        # What the web server says of bob, whose router has this address; a stream has no port.
        assert seen["endpoint"] == f"{scene.router.public_address}:0"
