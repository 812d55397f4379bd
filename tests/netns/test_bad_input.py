"""What cannot work ends with one clear line on stderr, exit code 1 or 2, and nothing lost.

```
   supernode ── internet ── anna      the machine that is set up wrongly
```
"""

from dataclasses import dataclass

import pytest

from tests.netns.lab import Lab, address_of
from tests.netns.product import Edge, Supernode, wait_until
from tests.netns.sockets import Agent

WRONG_PIN = "a" * 32


@dataclass
class Place:
    """The topology; every test has an edge of its own on anna's machine."""

    lab: Lab
    supernode: Supernode
    anna: Edge

    def edge(self, label: str, *arguments: str) -> Edge:
        """Return another edge on anna's machine with an empty state directory."""
        endpoint = self.supernode.endpoint
        return Edge(self.anna.host, "bad", "--supernode", endpoint, *arguments, label=label)


@pytest.fixture(scope="module")
def place(lab: Lab) -> Place:
    internet = lab.internet()
    host = lab.public_host("supernode", internet)
    supernode = Supernode(host, address_of(host))
    supernode.serve()
    anna = lab.public_host("anna", internet)
    return Place(lab, supernode, Edge(anna, "bad", "--supernode", supernode.endpoint))


def _refusal(edge: Edge, *more: str, prefix: tuple[str, ...] = (), code: int = 1) -> str:
    """Have an edge join, which must fail; return the one line that it says."""
    before = edge.host.interfaces()
    edge.begin(*more, prefix=prefix)
    assert edge.wait(10.0) == code, edge.stderr
    assert edge.stdout == ""
    lines = edge.stderr.strip().splitlines()
    assert len(lines) == 1, edge.stderr
    assert edge.host.interfaces() == before
    assert list(edge.runtime.rglob("*.sock")) == []
    return lines[0]


def test_without_cap_net_admin_it_says_what_to_do(place: Place) -> None:
    prefix = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "--")
    said = _refusal(place.edge("no-cap"), prefix=prefix)
    assert "CAP_NET_ADMIN" in said


def test_without_dev_net_tun_it_says_what_to_do(place: Place) -> None:
    hidden = 'mount -t tmpfs none /dev/net && exec "$@"'
    said = _refusal(place.edge("no-tun"), prefix=("unshare", "--mount", "sh", "-c", hidden, "sh"))
    assert "/dev/net/tun" in said
    assert "modprobe tun" in said


def test_an_interface_name_that_is_taken_is_refused(place: Place) -> None:
    place.anna.host.ip("link add lan7 type bridge")
    said = _refusal(place.edge("taken", "--tap", "lan7"))
    assert "lan7" in said
    assert "taken" in said
    assert "lan7" in place.anna.host.interfaces()


def test_an_interface_name_that_is_too_long_is_refused(place: Place) -> None:
    said = _refusal(place.edge("long", "--tap", "a-very-long-name"), code=2)
    assert "a-very-long-name" in said
    assert "15" in said


def test_a_port_that_is_taken_is_refused(place: Place) -> None:
    port = Agent(place.anna.host).udp().port
    said = _refusal(place.edge("port", "--port", str(port)))
    assert str(port) in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("--mac", "01:00:5e:00:00:01"),
        ("--mac", "not-a-mac"),
        ("--mtu", "70000"),
        ("--address", "10.1.2.3"),
        ("--address", "10.1.2.999/24"),
        ("--supernode", "example.org:0"),
        ("--no-such-option",),
    ],
    ids=" ".join,
)
def test_a_value_that_cannot_be_is_a_usage_error(place: Place, arguments: tuple[str, ...]) -> None:
    edge = place.edge("usage", *arguments)
    edge.begin()
    assert edge.wait(10.0) == 2
    assert arguments[0] in edge.stderr.strip().splitlines()[-1]
    assert "Traceback" not in edge.stderr


def test_a_key_file_that_is_missing_is_named(place: Place) -> None:
    edge = place.edge("key-file", "--key-file", "/nonexistent/key")
    del edge.environment["MESH_KEY"]
    said = _refusal(edge)
    assert "/nonexistent/key" in said


def test_a_broken_invite_is_refused(place: Place) -> None:
    edge = Edge(place.anna.host, "mesh://nowhere", key="", label="invite")
    assert "invite" in _refusal(edge)


def test_a_supernode_with_another_key_than_pinned_is_refused(place: Place) -> None:
    edge = Edge(
        place.anna.host,
        "bad",
        "--supernode",
        f"{place.supernode.endpoint}#{WRONG_PIN}",
        label="wrong-pin",
    )
    said = _refusal(edge)
    assert WRONG_PIN in said
    assert place.supernode.fingerprint in said
    assert place.supernode.edges() == []


def test_a_supernode_whose_key_changed_since_the_first_contact_is_refused(place: Place) -> None:
    edge = place.edge("pinned")
    edge.join()
    assert edge.stop() == 0
    known = edge.state / "known_supernodes"
    assert place.supernode.fingerprint in known.read_text()
    known.write_text(known.read_text().replace(place.supernode.fingerprint, WRONG_PIN))
    said = _refusal(edge)
    assert "known_supernodes" in said
    assert place.supernode.fingerprint in said


def test_a_name_that_does_not_resolve_is_said_and_tried_again(place: Place) -> None:
    edge = Edge(place.anna.host, "bad", "--supernode", "no-such.invalid:7777", label="resolve")
    edge.begin()
    edge.wait_for_log("no-such.invalid", 10.0)
    assert edge.is_running
    assert edge.stop() == 0
    assert "Traceback" not in edge.stderr


def test_a_second_join_of_the_same_community_is_refused(place: Place) -> None:
    first = place.edge("twice")
    first.join()
    second = place.edge("twice-again")
    second.environment["MESH_RUNTIME_DIR"] = str(first.runtime)
    second.runtime = place.anna.host.files / "nothing"
    said = _refusal(second)
    assert "already running" in said
    assert first.is_running
    assert first.status()["supernode"]["connected"]
    assert first.stop() == 0


def test_a_corrupt_identity_is_named_and_a_copy_kept(place: Place) -> None:
    edge = place.edge("corrupt")
    edge.join()
    assert edge.stop() == 0
    path = edge.state / "identity.key"
    path.write_bytes(b"garbage")
    said = _refusal(edge)
    assert "identity.key" in said
    assert "corrupt" in said
    assert path.read_bytes() == b"garbage"
    copies = list(edge.state.glob("identity.key.corrupt-*"))
    assert [copy.read_bytes() for copy in copies] == [b"garbage"]


def test_a_full_disk_is_said_and_nothing_is_lost(place: Place) -> None:
    edge = place.edge("full")
    edge.join()
    assert edge.stop() == 0
    kept = {file.name: file.read_bytes() for file in edge.state.iterdir() if file.is_file()}
    # A disk of 16 pages: what was there goes in, then a file takes all that is left.
    crowd = (
        'cp -a "$1/." "$2" && mount -t tmpfs -o size=64k none "$1" && cp -a "$2/." "$1"'
        ' && (cat /dev/zero >"$1/filler" 2>/dev/null; true) && shift 2 && exec "$@"'
    )
    copy = edge.files / "copy"
    copy.mkdir()
    prefix = ("unshare", "--mount", "sh", "-c", crowd, "sh", str(edge.state), str(copy))
    edge.begin(prefix=prefix)
    assert edge.wait(10.0) == 1, edge.stderr
    lines = edge.stderr.strip().splitlines()
    assert len(lines) == 1, edge.stderr
    assert "No space left" in lines[0]
    assert {f.name: f.read_bytes() for f in edge.state.iterdir() if f.is_file()} == kept
    assert edge.join().address
    assert edge.stop() == 0


def test_a_supernode_whose_port_is_taken_says_so(place: Place) -> None:
    second = Supernode(place.supernode.host, address_of(place.supernode.host), "second")
    second.begin()
    assert second.wait(10.0) == 1
    assert len(second.stderr.strip().splitlines()) == 1
    assert "7777" in second.stderr


def test_secrets_are_readable_by_their_owner_only(place: Place) -> None:
    edge = place.edge("modes")
    edge.join()
    # What lies in folders is safe behind the outermost one.
    for path in (edge.state, edge.runtime, *(f for f in edge.state.rglob("*") if f.is_file())):
        assert path.stat().st_mode & 0o077 == 0, path
    sockets = list(edge.runtime.rglob("*.sock"))
    assert sockets
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in sockets)
    assert edge.stop() == 0
    wait_until(lambda: place.supernode.edges() == [], 3.0, "nobody is left")
