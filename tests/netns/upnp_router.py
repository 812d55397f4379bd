"""A home router that maps ports for its machines: a real miniupnpd on a router of the lab."""

import re
import shutil
import signal
import subprocess
from typing import Final

from tests.netns.lab import Home
from tests.netns.product import wait_until

PORT_MAP_PORT: Final = 5351

# miniupnpd's own chains; the forward chain is the lab's, which drops what nobody asked for.
_CHAINS = """
table inet forward {
  chain miniupnpd { }
}
table inet mapped {
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
  chain prerouting {
    type nat hook prerouting priority dstnat;
    jump prerouting_miniupnpd
  }
  chain postrouting {
    type nat hook postrouting priority srcnat;
    jump postrouting_miniupnpd
  }
}
insert rule inet forward forward jump miniupnpd
table inet one_protocol {
  chain input {
    type filter hook input priority -10;
  }
}
"""

_CONFIG = """
ext_ifname=wan0
listening_ip=lan0
enable_natpmp={natpmp}
enable_upnp={upnp}
http_port=0
secure_mode=yes
upnp_table_name=forward
upnp_nat_table_name=mapped
uuid=0b2e4c52-3f3c-4f7b-8a39-5a5f2f1c7a11
min_lifetime=120
max_lifetime=86400
allow 1024-65535 192.168.0.0/16 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""

# The daemon cannot be told to speak only one of NAT-PMP and PCP: the first byte of a request is
# the version, 0 or 2, and the other one is dropped.
_ONLY = {
    "nat-pmp": f"udp dport {PORT_MAP_PORT} @th,64,8 2 drop",
    "pcp": f"udp dport {PORT_MAP_PORT} @th,64,8 0 drop",
}


def why_no_miniupnpd() -> str:
    """Say what is missing, or nothing."""
    found = shutil.which("miniupnpd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    return "" if found else "miniupnpd is not installed (Debian: miniupnpd-nftables)"


class UpnpRouter:
    """A miniupnpd on a home's router, which can be restarted.

    Attributes:
        host: the router.
    """

    def __init__(self, home: Home) -> None:
        """Prepare; nothing runs before `start`."""
        self.host = home.router
        self.host.nft(_CHAINS)
        self._process: subprocess.Popen[str] | None = None
        self._starts = 0

    def start(self, *protocols: str) -> None:
        """Speak these protocols only (``pcp``, ``nat-pmp``, ``upnp``); all if none is named."""
        spoken = set(protocols or ("pcp", "nat-pmp", "upnp"))
        self.host.run("nft", "flush", "chain", "inet", "one_protocol", "input")
        datagrams = spoken & {"pcp", "nat-pmp"}
        if len(datagrams) == 1:
            rule = _ONLY[datagrams.pop()].split()
            self.host.run("nft", "add", "rule", "inet", "one_protocol", "input", *rule)
        config = self.host.files / "miniupnpd.conf"
        natpmp = "yes" if spoken & {"pcp", "nat-pmp"} else "no"
        config.write_text(_CONFIG.format(natpmp=natpmp, upnp="yes" if "upnp" in spoken else "no"))
        self._starts += 1
        log = self.host.files / f"miniupnpd-{self._starts}"
        with log.open("w") as out:
            pid_file = self.host.files / "miniupnpd.pid"
            self._process = self.host.popen(
                "miniupnpd",
                "-d",
                "-f",
                str(config),
                "-P",
                str(pid_file),
                stdout=out.fileno(),
                stderr=out.fileno(),
            )
        wait_until(lambda: self._is_listening(natpmp == "yes"), 5.0, f"miniupnpd runs: {log}")

    def _is_listening(self, speaks_datagrams: bool) -> bool:  # noqa: FBT001 - one of two
        sockets = self.host.run("ss", "-lun").stdout
        return f":{PORT_MAP_PORT if speaks_datagrams else 1900} " in sockets

    def crash(self) -> None:
        """Lose power: no farewell, and every mapping is gone."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(5)
        for table, chain in (
            ("forward", "miniupnpd"),
            ("mapped", "prerouting_miniupnpd"),
            ("mapped", "postrouting_miniupnpd"),
        ):
            self.host.run("nft", "flush", "chain", "inet", table, chain)

    def stop(self) -> None:
        """End the daemon."""
        if self._process is not None and self._process.poll() is None:
            self.crash()

    def mapped(self) -> set[tuple[int, str]]:
        """Return what is mapped now: external UDP ports and where they lead."""
        rules = self.host.run("nft", "list", "chain", "inet", "mapped", "prerouting_miniupnpd")
        return {
            (int(port), inside)
            for port, inside in re.findall(r"dport (\d+) .*dnat ip to (\S+)", rules.stdout)
        }

    def pinholes(self) -> str:
        """Return the rules that let in what is not mapped but passed."""
        return self.host.run("nft", "list", "chain", "inet", "forward", "miniupnpd").stdout
