"""Commands against a real control socket, served by a dispatcher over a scripted engine."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self, TypeVar

import pytest
import trio

import mesh
from mesh.addresses import EdgeId, Endpoint
from mesh.cli.dispatch import Dispatcher, Surroundings
from mesh.cli.main import main
from mesh.cli.netcheck.choice import choose
from mesh.errors import MeshError
from mesh.events import PathKind, ProbeAnswered
from mesh.net.control import call, serve_control
from mesh.net.paths import control_path
from mesh.snapshots import EdgeView, FdbView, MappingView, PeerView, SupernodeView

T = TypeVar("T")
DESK, LAPTOP, LAPTOP_2 = EdgeId(b"\x01" * 16), EdgeId(b"\x02" * 16), EdgeId(b"\x03" * 16)
RELAY = Endpoint("198.51.100.1", 7777)
DIRECT = Endpoint("203.0.113.5", 4242)
MAPPED = MappingView(protocol="pcp", external="5.6.7.8:4243", expires_s=7000.5)

SUPERNODE = SupernodeView(
    name="vpn.example:7777",
    endpoint=str(RELAY),
    connected=True,
    rtt_ms=3.0,
    transport="udp",
    is_primary=True,
)


class ScriptedEngine:
    """Knows three peers; answers the pings of one by way of the script, of the others never."""

    def __init__(self) -> None:
        self.script: list[tuple[PathKind, Endpoint]] = []
        self.answer: Callable[[ProbeAnswered], None] | None = None
        self.drops = {"malformed": 2, "send_error": 1}

    def edge_view(self, _now: float) -> EdgeView:
        return EdgeView(
            community="lan",
            id="ab" * 16,
            name="here",
            mac="02:00:00:00:00:01",
            addresses=["10.1.2.3/22"],
            mtu=1500,
            supernode=SUPERNODE,
            supernodes=[SUPERNODE],
            endpoint="5.6.7.8:9",
            nat="easy",
            nat_detail={
                "mapping": "endpoint-independent",
                "filtering": "unknown",
                "ports": "preserved",
                "step": 0,
            },
            peers=2,
            drops=self.drops,
        )

    def peer_views(self, _now: float) -> list[PeerView]:
        return [
            PeerView(
                id=DESK.hex(),
                name="desk\x1b[2J",
                mac="02:00:00:00:00:02",
                addresses=["10.1.2.4/22"],
                path={"kind": "relay", "transport": "udp", "endpoint": str(RELAY), "rtt_ms": None},
                why="none of 3 addresses answered",
                paths=[],
                session={"established": True, "suite": "x", "age_s": 1.0},
                tx_bytes=1,
                rx_bytes=2,
                tx_frames=3,
                rx_frames=4,
                last_seen_s=0.5,
            )
        ]

    def fdb_views(self, _now: float) -> list[FdbView]:
        return [FdbView(mac="02:00:00:00:00:02", peer=DESK.hex(), name="desk", age_s=4.0)]

    def find_peer(self, text: str) -> list[EdgeId]:
        return {"desk": [DESK], "laptop": [LAPTOP, LAPTOP_2], "dead": [LAPTOP]}.get(text, [])

    def probe(self, peer: EdgeId, token: bytes, _now: float) -> bool:
        if self.script and self.answer is not None:
            kind, endpoint = self.script.pop(0)
            self.answer(ProbeAnswered(peer, token, kind, endpoint, 0.0125))
            return True
        return False


class BareDriver:
    def step(self, call: Callable[[float], T]) -> T:
        return call(trio.current_time())


class Edge:
    """A control socket in a thread of its own."""

    def __init__(self, runtime_dir: Path, community: str) -> None:
        self.engine = ScriptedEngine()
        self.is_stopped = threading.Event()
        self.invite = f"mesh://1.2.3.4:7777/lan?s={'a' * 32}#s3cret"
        self._path = control_path(runtime_dir, community)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._serve,))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            trio.from_thread.run_sync(self._scope.cancel, trio_token=self._token)
        self._thread.join(10)

    def _give_invite(self) -> str:
        if not self.invite:
            raise MeshError("no supernode has answered yet")
        return self.invite

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        surroundings = Surroundings(
            tap="mesh0",
            offload=False,
            is_realtime=lambda: True,
            started_at=trio.current_time() - 5,
            drops=lambda: {"send_error": 7},
            invite=self._give_invite,
            supernodes=lambda: [f"1.2.3.4:7777#{'a' * 32}", "sn.example:7777"],
            mapped=lambda: [MAPPED],
            stop=self.is_stopped.set,
        )
        dispatcher = Dispatcher(self.engine, BareDriver(), surroundings)
        self.engine.answer = dispatcher.receive_answer
        async with trio.open_nursery() as nursery:
            self._scope = nursery.cancel_scope
            await nursery.start(serve_control, self._path, dispatcher.dispatch)
            self._ready.set()


@pytest.fixture
def runtime_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MESH_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("NO_COLOR", "1")
    return tmp_path


@pytest.fixture
def edge(runtime_dir: Path) -> Iterator[Edge]:
    with Edge(runtime_dir, "lan") as edge:
        yield edge


def test_status_as_json_is_one_document_with_the_drivers_additions(
    edge: Edge, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--json"]) == 0
    captured = capsys.readouterr()
    status = json.loads(captured.out)
    assert captured.err == ""
    assert status["community"] == "lan"
    assert status["tap"] == "mesh0"
    assert status["offload"] is False
    assert status["realtime"] is True
    assert status["uptime_s"] >= 5
    assert status["version"] == mesh.__version__
    assert status["drops"] == {"malformed": 2, "send_error": 7}
    assert status["mapped"] == [MAPPED]


def test_peers_as_json_are_the_engines_view(edge: Edge, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["peers", "lan", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == edge.engine.peer_views(0.0)


def test_fdb_as_json_is_the_engines_view(edge: Edge, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fdb", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == edge.engine.fdb_views(0.0)


@pytest.mark.parametrize(
    ("command", "part"), [("status", "mesh0"), ("peers", "desk\\x1b[2J"), ("fdb", "desk")]
)
def test_tables_are_for_people(
    edge: Edge, capsys: pytest.CaptureFixture[str], command: str, part: str
) -> None:
    assert main([command]) == 0
    out = capsys.readouterr().out
    assert part in out
    assert "\x1b" not in out


def test_the_invite_stands_alone_on_one_line(
    edge: Edge, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["invite"]) == 0
    captured = capsys.readouterr()
    assert captured.out == edge.invite + "\n"
    assert captured.err == ""


def test_without_an_invite_yet_the_reason_is_told(
    edge: Edge, capsys: pytest.CaptureFixture[str]
) -> None:
    edge.invite = ""
    assert main(["invite"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "mesh-edge: no supernode has answered yet\n"


def test_ping_tells_path_endpoint_and_time_and_when_it_became_direct(
    edge: Edge, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.cli.dispatch.PING_INTERVAL", 0.0)
    edge.engine.script = [(PathKind.RELAY, RELAY), (PathKind.DIRECT, DIRECT)]
    assert main(["ping", "desk", "-c", "2"]) == 0
    *pings, became = capsys.readouterr().out.splitlines()
    assert pings == [
        "desk: through the relay 198.51.100.1:7777 in 12.5 ms (none of 3 addresses answered)",
        "desk: direct via 203.0.113.5:4242 in 12.5 ms",
    ]
    assert became.startswith("desk: the path has become direct, after ")


def test_ping_fails_if_nothing_was_answered(edge: Edge, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ping", "dead", "-c", "1"]) == 1
    assert capsys.readouterr().out == "dead: no path yet\n"


def test_ping_of_an_unknown_peer_says_where_to_look(
    edge: Edge, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ping", "no\x1b[2Jbody"]) == 1
    error = capsys.readouterr().err
    assert "mesh-edge peers" in error
    assert "\x1b" not in error


def test_ping_of_an_ambiguous_peer_asks_for_the_id(
    edge: Edge, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ping", "laptop"]) == 1
    error = capsys.readouterr().err
    assert LAPTOP.hex()[:12] in error
    assert LAPTOP_2.hex()[:12] in error


def test_with_several_edges_the_community_has_to_be_named(
    edge: Edge, runtime_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Edge(runtime_dir, "o/ther"):
        assert main(["peers"]) == 2
        assert "lan, o/ther" in capsys.readouterr().err
        assert main(["peers", "o/ther"]) == 0


def test_a_stale_socket_counts_for_nothing(
    edge: Edge, runtime_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    control_path(runtime_dir, "stale").touch()
    assert main(["status"]) == 0


@pytest.mark.parametrize("command", ["status", "peers", "fdb", "invite", "leave", "ping x"])
def test_without_an_edge_each_command_says_so_on_one_line(
    runtime_dir: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    for community in ([], ["--community", "lan"] if "ping" in command else ["lan"]):
        assert main([*command.split(), *community]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert "running" in captured.err
        assert str(runtime_dir) in captured.err


def test_leaving_asks_the_edge_to_stop(
    edge: Edge, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.cli.commands.LEAVE_TIMEOUT", 0.01)
    # The edge lives in this process, which does not end: that is told, too.
    assert main(["leave"]) == 1
    assert edge.is_stopped.is_set()
    assert "did not leave" in capsys.readouterr().err


def test_the_supernodes_are_told_as_they_would_be_named(edge: Edge, runtime_dir: Path) -> None:
    [told] = call(control_path(runtime_dir, "lan"), {"command": "supernodes"})
    assert told == [f"1.2.3.4:7777#{'a' * 32}", "sn.example:7777"]
    found = trio.run(choose, None, {"runtime-dir": str(runtime_dir)}, {}, None)
    assert found.source == "the running edge"
    assert [one.fingerprint for one in found.targets] == ["a" * 32, ""]
