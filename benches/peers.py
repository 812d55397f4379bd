"""Other systems, as Debian ships them and with their defaults, to be measured beside ours."""

import contextlib
import datetime as dt
import itertools
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from benches.machines import (
    ALICE,
    BERT,
    HELPER,
    TUNNEL_ALICE,
    TUNNEL_BERT,
    BenchError,
    Machines,
    Tunnel,
    stop,
    wait_for_ping,
)
from tests.netns.namespaces import Host
from tests.netns.product import wait_until

_numbers = itertools.count()
_TUNNEL_TIMEOUT = 15.0


def _folder(machines: Machines, name: str) -> Path:
    folder = machines.files / f"{name}-{next(_numbers)}"
    folder.mkdir()
    return folder


def _address(host: Host, interface: str, address: str) -> None:
    """Wait for an interface and give it an address."""
    wait_until(lambda: interface in host.interfaces(), _TUNNEL_TIMEOUT, f"{interface} is there")
    host.ip(f"address add {address}/24 dev {interface}", f"link set {interface} up")


@contextlib.contextmanager
def _running(
    machines: Machines, name: str, *commands: tuple[Host, list[str]]
) -> Iterator[tuple[int, ...]]:
    """Run a process per command, each ending with the block; yield their pids."""
    log = machines.files / f"{name}-{next(_numbers)}.log"
    with contextlib.ExitStack() as stack, log.open("w") as output:
        pids = []
        for host, command in commands:
            process = host.popen(*command, stdout=output.fileno(), stderr=output.fileno())
            stack.callback(stop, process)
            pids.append(process.pid)
        try:
            yield tuple(pids)
        except (AssertionError, BenchError) as error:
            raise BenchError(f"{name}: {error}\n{log.read_text()}") from None


def _ready(machines: Machines, name: str, pids: tuple[int, ...]) -> Tunnel:
    wait_for_ping(machines.alice, TUNNEL_BERT, name)
    return Tunnel(machines, TUNNEL_BERT, pids[:2], pids[2:])


@contextlib.contextmanager
def bare(machines: Machines) -> Iterator[Tunnel]:
    """Nothing between the two but the router."""
    wait_for_ping(machines.alice, BERT, "the bare link")
    yield Tunnel(machines, BERT)


# openvpn


def _certificate(folder: Path, name: str) -> str:
    """Write a key and a certificate signed by itself; return its fingerprint."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / f"{name}.key").touch(0o600)
    (folder / f"{name}.key").write_bytes(private)
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


@contextlib.contextmanager
def openvpn(machines: Machines) -> Iterator[Tunnel]:
    """Point to point with a TAP, TLS and AES-256-GCM."""
    folder = _folder(machines, "openvpn")
    prints = {name: _certificate(folder, name) for name in ("alice", "bert")}

    def command(name: str, other: str, address: str, *role: str) -> list[str]:
        return [
            "openvpn",
            *("--dev", "tap0", "--dev-type", "tap", "--proto", "udp", "--dh", "none"),
            *("--ifconfig", address, "255.255.255.0"),
            *("--cert", str(folder / f"{name}.crt"), "--key", str(folder / f"{name}.key")),
            *("--peer-fingerprint", prints[other]),
            *("--data-ciphers", "AES-256-GCM", "--cipher", "AES-256-GCM"),
            *role,
        ]

    server = command("bert", "alice", TUNNEL_BERT, "--tls-server", "--port", "1194")
    client = command(
        "alice", "bert", TUNNEL_ALICE, "--tls-client", "--remote", BERT, "1194", "--nobind"
    )
    client = [word for word in client if word not in {"--dh", "none"}]
    both = ((machines.alice, client), (machines.bert, server))
    with _running(machines, "openvpn", *both) as pids:
        yield _ready(machines, "openvpn", pids)


# tinc


def _tinc_folder(folder: Path, host: Host, name: str, other: str) -> Path:
    """Write a configuration with a new key."""
    settings = folder / name
    (settings / "hosts").mkdir(parents=True)
    lines = [f"Name = {name}", "Mode = switch", "DeviceType = tap", "Interface = tinc0"]
    if name == "alice":
        lines.append(f"ConnectTo = {other}")
    (settings / "tinc.conf").write_text("\n".join(lines) + "\n")
    (settings / "hosts" / name).write_text(f"Address = {ALICE if name == 'alice' else BERT}\n")
    # It asks where to write the keys; nothing typed means the usual files.
    host.run("tincd", "-c", str(settings), "-K2048", text="\n\n", timeout=60)
    return settings


@contextlib.contextmanager
def tinc(machines: Machines) -> Iterator[Tunnel]:
    """Version 1.0 as a switch."""
    folder = _folder(machines, "tinc")
    ends = (("alice", machines.alice), ("bert", machines.bert))
    folders = {
        name: _tinc_folder(folder, host, name, "bert" if name == "alice" else "alice")
        for name, host in ends
    }
    shutil.copy(folders["alice"] / "hosts" / "alice", folders["bert"] / "hosts")
    shutil.copy(folders["bert"] / "hosts" / "bert", folders["alice"] / "hosts")

    def command(name: str) -> list[str]:
        pidfile = f"--pidfile={folders[name] / 'pid'}"
        return ["tincd", "-c", str(folders[name]), "-D", pidfile]

    both = ((machines.alice, command("alice")), (machines.bert, command("bert")))
    with _running(machines, "tinc", *both) as pids:
        _address(machines.alice, "tinc0", TUNNEL_ALICE)
        _address(machines.bert, "tinc0", TUNNEL_BERT)
        yield _ready(machines, "tinc", pids)


# wireguard-go


@contextlib.contextmanager
def wireguard_go(machines: Machines) -> Iterator[Tunnel]:
    """WireGuard in user space: IP packets only, no Ethernet."""
    folder = _folder(machines, "wireguard")
    ends = {
        "alice": (machines.alice, TUNNEL_ALICE, BERT),
        "bert": (machines.bert, TUNNEL_BERT, ALICE),
    }
    keys = {}
    for name, (host, _, _) in ends.items():
        keys[name] = host.run("wg", "genkey").stdout.strip()
        (folder / name).touch(0o600)
        (folder / name).write_text(keys[name] + "\n")
    publics = {name: _wg_public(machines.alice, key) for name, key in keys.items()}
    commands = [
        (host, ["env", "LOG_LEVEL=error", "wireguard-go", "-f", "wg0"])
        for host, _, _ in ends.values()
    ]
    with _running(machines, "wireguard-go", *commands) as pids:
        for name, (host, address, other) in ends.items():
            _address(host, "wg0", address)
            peer = publics["bert" if name == "alice" else "alice"]
            host.run(
                *("wg", "set", "wg0", "private-key", str(folder / name), "listen-port", "51820"),
                *("peer", peer, "allowed-ips", "10.92.0.0/24", "endpoint", f"{other}:51820"),
            )
        yield _ready(machines, "wireguard-go", pids)


def _wg_public(host: Host, key: str) -> str:
    return host.run("wg", "pubkey", text=key + "\n").stdout.strip()


# n2n


@contextlib.contextmanager
def n2n(machines: Machines) -> Iterator[Tunnel]:
    """Version 1 of n2n, with its supernode on the helper."""

    def command(address: str) -> list[str]:  # -f would let it fork and outlive us
        options = ("-d", "n2n0", "-a", address, "-c", "bench", "-k", "a secret")
        return ["/usr/sbin/edge", *options, "-l", f"{HELPER}:7654"]

    supernode = (machines.helper, ["/usr/bin/supernode", "-l", "7654"])
    edges = ((machines.alice, command(TUNNEL_ALICE)), (machines.bert, command(TUNNEL_BERT)))
    with _running(machines, "n2n-supernode", supernode) as helper_pids:
        time.sleep(0.5)  # an edge that finds nobody asks again after 20 s
        with _running(machines, "n2n", *edges) as pids:
            yield _ready(machines, "n2n", pids + helper_pids)


PEERS: Final[dict[str, Callable[[Machines], AbstractContextManager[Tunnel]]]] = {
    "bare veth": bare,
    "openvpn (tap)": openvpn,
    "tinc 1.0 (switch)": tinc,
    "wireguard-go": wireguard_go,
    "n2n": n2n,
}
