"""Machines made of network namespaces: each is held by one tiny process that dies with the tests.

Every process that is started in a machine asks the kernel to be killed when the test run dies
(PR_SET_PDEATHSIG), so that neither Ctrl-C nor ``kill -9`` leaves a process behind; a namespace
lives only as long as its processes, and takes its links, TAPs and NAT tables with it.
"""

import functools
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]

# Who asks for the signal when the tests have died already would wait for it for ever.
_UNLESS_ORPHANED = '[ "$PPID" = "$0" ] || exit 1; exec "$@"'
_SAY_WHEN_READY = ("sh", "-c", "echo ready; exec sleep infinity")
_USER_NAMESPACE = ("--user", "--map-root-user")

# br_netfilter would send frames of a bridge through the NAT tables; rp_filter would drop the
# spoofed datagrams that some tests are about; duplicate address detection costs two seconds.
_SYSCTLS = {
    "net/bridge/bridge-nf-call-iptables": "0",
    "net/bridge/bridge-nf-call-ip6tables": "0",
    "net/bridge/bridge-nf-call-arptables": "0",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv6/conf/all/accept_dad": "0",
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/all/disable_ipv6": "0",
    "net/ipv6/conf/default/disable_ipv6": "0",
}


@functools.cache
def why_no_namespaces() -> str:
    """Say what this machine does not allow, or nothing when the lab can work."""
    if os.geteuid() == 0:
        return _complaint_of("unshare", "--net", "--mount", "--", *_PROBE)
    return _complaint_of("unshare", *_USER_NAMESPACE, "--net", "--mount", "--", *_PROBE)


# Opening the device node alone is not enough: a container may hold it and still refuse a TAP.
_PROBE = (
    "sh",
    "-c",
    """ip tuntap add dev probe0 mode tap && ip link add veth-a type veth peer name veth-b &&
    nft list ruleset && ping -V""",
)


def _complaint_of(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environ())
    except FileNotFoundError as missing:
        return f"{missing.filename} is not installed"
    if done.returncode == 0:
        return ""
    return f"no network namespace with a TAP to be had here: {done.stderr.strip()}"


def _environ() -> dict[str, str]:
    """Return our environment with the folders of ``ip`` and ``nft``, which users may lack."""
    return {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}


class Host:
    """A machine: a network and a mount namespace, and the processes that run there.

    Attributes:
        name: what tests call it.
        pid: the process that holds the namespaces.
        files: a folder of its own, outside any namespace.
    """

    def __init__(self, name: str, files: Path, outer: Sequence[str] = ()) -> None:
        """Build it; ``outer`` is the command prefix that enters the lab's user namespace."""
        self.name = name
        self.files = files
        files.mkdir(parents=True, exist_ok=True)
        self._started: list[subprocess.Popen[str]] = []
        self._outer = tuple(outer)
        self._holder = _hold([*outer, "unshare", "--net", "--mount"])
        self.pid = self._holder.pid
        self.interface_numbers: Iterator[int] = itertools.count()
        self.run("mount", "-t", "sysfs", "sysfs", "/sys", check=False)
        for folder in _private_folders(files):
            self.run("mount", "-t", "tmpfs", "tmpfs", folder)
        self.sysctl(_SYSCTLS)
        self.run("ip", "link", "set", "lo", "up")

    def enter(self, *command: str) -> list[str]:
        """Return the command that runs ``command`` on this machine."""
        # --root: entering a mount namespace leaves a chroot, as package builders test in.
        entry = ("nsenter", f"--target={self.pid}", "--net", "--mount", "--root", "--")
        return [*self._outer, *entry, *_dying_with_the_tests(*command)]

    def run(
        self,
        *command: str,
        text: str | None = None,
        check: bool = True,
        timeout: float = 30.0,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; ``text`` is its stdin.

        Raises:
            AssertionError: ``check`` and it failed; the message holds what it said.
            subprocess.TimeoutExpired: it took longer than ``timeout`` seconds.
        """
        done = subprocess.run(
            self.enter(*command),
            input=text or "",
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            env={**_environ(), **(env or {})},
        )
        if check and done.returncode:
            said = f"{done.stdout}{done.stderr}".strip()
            raise AssertionError(f"{self.name}: {' '.join(command)}: {said}")
        return done

    def popen(
        self,
        *command: str,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.DEVNULL,
        stderr: int = subprocess.DEVNULL,
        env: dict[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a command; `close` kills it if nobody else has."""
        process = subprocess.Popen(
            self.enter(*command),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
            env={**_environ(), **(env or {})},
        )
        self._started.append(process)
        return process

    def ip(self, *lines: str, check: bool = True) -> None:
        """Run lines of ``ip -batch``, in one process since every one costs milliseconds."""
        self.run("ip", "-batch", "-", text="\n".join(lines) + "\n", check=check)

    def name_hosts(self, *lines: str) -> None:
        """Make this machine's ``/etc/hosts`` these lines: ``ADDRESS NAME``."""
        path = self.files / "hosts"
        path.write_text("127.0.0.1 localhost\n" + "\n".join(lines) + "\n")
        self.run("mount", "--bind", str(path), "/etc/hosts")

    def nft(self, ruleset: str) -> None:
        """Load an nftables ruleset on top of what is there."""
        self.run("nft", "--file", "-", text=ruleset)

    def sysctl(self, values: dict[str, str]) -> None:
        """Set kernel parameters, named as below /proc/sys; one that does not exist is left out."""
        lines = [
            f"[ ! -e /proc/sys/{key} ] || echo {values[key]} >/proc/sys/{key}" for key in values
        ]
        self.run("sh", text="\n".join(lines) + "\n")

    def interfaces(self) -> set[str]:
        """Return the names of the interfaces that are there now."""
        names = self.run("ip", "-brief", "link").stdout.splitlines()
        return {line.split()[0].partition("@")[0] for line in names}

    def routes(self) -> str:
        """Return every route of every table, IPv4 and IPv6, as ``ip`` prints them."""
        ipv4 = self.run("ip", "route", "show", "table", "all").stdout
        return ipv4 + self.run("ip", "-6", "route", "show", "table", "all").stdout

    def close(self) -> None:
        """Kill what runs here and let the namespaces go."""
        for process in [*self._started, self._holder]:
            process.kill()
        for process in [*self._started, self._holder]:
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None and not pipe.closed:
                    pipe.close()


def _private_folders(files: Path) -> list[str]:
    """Return where programs keep files by default: a lab machine must not touch our own.

    Left out is a folder that something of ours lies in, which would vanish.
    """
    ours = [ROOT, files, Path(sys.prefix), Path(sys.base_prefix)]
    return [
        folder
        for folder in ("/run", "/var/lib")
        if not any(path.resolve().is_relative_to(folder) for path in ours)
    ]


class UserNamespace:
    """What an ordinary user needs around the lab: a user namespace in which they are root."""

    def __init__(self) -> None:
        self._holder = None
        self.prefix: tuple[str, ...] = ()
        if os.geteuid() != 0:
            self._holder = _hold(["unshare", *_USER_NAMESPACE])
            target = f"--target={self._holder.pid}"
            self.prefix = ("nsenter", target, "--user", "--preserve-credentials", "--")

    def close(self) -> None:
        """Let it go."""
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()


def _dying_with_the_tests(*command: str) -> list[str]:
    """Return the command that runs ``command`` so that it does not outlive this process."""
    prefix = ("setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", _UNLESS_ORPHANED)
    return [*prefix, str(os.getpid()), *command]


def _hold(unshare: Sequence[str]) -> subprocess.Popen[str]:
    """Start a process that does nothing but hold namespaces; return once they exist.

    The order matters: a change of credentials, as entering a user namespace is one, clears the
    death signal, so it is asked for last.
    """
    process = subprocess.Popen(
        [*unshare, "--", *_dying_with_the_tests(*_SAY_WHEN_READY)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=_environ(),
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    process.stdout.close()
    assert said == "ready\n", f"could not hold a namespace with {' '.join(unshare)}"
    return process
