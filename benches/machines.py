"""Two machines, a router between them and a third machine, as network namespaces.

```
  alice 10.91.1.2 ──┐
                    ├── router ── helper 10.91.3.2 (a supernode, where a system needs one)
  bert  10.91.2.2 ──┘
```

Everything here dies with this process, however it ends: see tests/netns/namespaces.py.
"""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen, TimeoutExpired

from tests.netns.cable import Conditions
from tests.netns.lab import Lab, plug
from tests.netns.namespaces import Host, why_no_namespaces

ALICE, BERT, HELPER = "10.91.1.2", "10.91.2.2", "10.91.3.2"
TUNNEL_ALICE, TUNNEL_BERT = "10.92.0.1", "10.92.0.2"


class BenchError(Exception):
    """A system or a load did not do what it should: one figure less, the others still count."""


@dataclass(frozen=True)
class Machines:
    """The ends and the helper.

    Attributes:
        alice: where clients run.
        bert: where servers run.
        helper: a third machine.
        files: a folder for whatever a system needs.
    """

    alice: Host
    bert: Host
    helper: Host
    files: Path


@dataclass(frozen=True)
class Tunnel:
    """A system that is up.

    Attributes:
        machines: where.
        address: bert's, as alice reaches it through the system.
        pids: its processes at both ends.
        helper_pids: its processes on the helper.
    """

    machines: Machines
    address: str
    pids: tuple[int, ...] = ()
    helper_pids: tuple[int, ...] = ()


@contextlib.contextmanager
def machines(conditions: Conditions | None = None) -> Iterator[Machines]:
    """Build them; with ``conditions``, a bad cable lies between alice and the router."""
    complaint = why_no_namespaces()
    if complaint:
        raise SystemExit(f"benches need network namespaces and TAPs (run with sudo): {complaint}")
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as folder:
        lab = Lab(Path(folder))
        try:
            router = lab.host("router")
            router.sysctl({"net/ipv4/ip_forward": "1"})
            ends = [lab.host(name) for name in ("alice", "bert", "helper")]
            for number, host in enumerate(ends, start=1):
                is_bad = conditions is not None and number == 1
                lay = lab.use_cables(conditions).lay if is_bad and conditions else plug
                lay(router, f"p{number}", host, "eth0")
                router.ip(f"address add 10.91.{number}.1/24 dev p{number}")
                host.ip(
                    f"address add 10.91.{number}.2/24 broadcast + dev eth0",
                    f"route add default via 10.91.{number}.1",
                )
            yield Machines(ends[0], ends[1], ends[2], Path(folder))
        except KeyboardInterrupt:
            raise SystemExit("interrupted") from None
        finally:
            lab.close()


def stop(process: Popen[str]) -> None:
    """End a process, kindly at first."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except TimeoutExpired:
            process.kill()
    process.wait()


def wait_for_ping(host: Host, address: str, name: str, timeout: float = 20.0) -> None:
    """Wait until ``address`` answers three pings in a row: no figure without a tunnel."""
    deadline = time.monotonic() + timeout
    ping = ("ping", "-n", "-c3", "-i0.05", "-W1", address)
    while host.run(*ping, check=False).returncode:
        if time.monotonic() > deadline:
            raise BenchError(f"{name} carries no ping to {address}")
        time.sleep(0.1)
