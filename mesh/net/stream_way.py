"""A way to a supernode by stream, as a URL; section 19."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from mesh.engine import Transport

DEFAULT_PATH = "/mesh"
"""What is asked of a web server that was named without a path."""

_DEFAULT_PORTS = {"ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True)
class StreamWay:
    """One way to a supernode by stream.

    Attributes:
        transport: TCP or WEBSOCKET.
        host: a name or numeric address.
        port: TCP.
        is_tls: whether inside TLS (``wss``).
        path: what to ask a web server for.
    """

    transport: Transport
    host: str
    port: int
    is_tls: bool = False
    path: str = ""

    def __str__(self) -> str:
        return f"{self._scheme}://{self._bracketed}:{self.port}{self.path}"

    @property
    def host_header(self) -> str:
        """What a web server is told that is asked for: the port only where it is an odd one."""
        is_usual = self.port == _DEFAULT_PORTS.get(self._scheme)
        return self._bracketed if is_usual else f"{self._bracketed}:{self.port}"

    @property
    def _scheme(self) -> str:
        return "wss" if self.is_tls else self.transport.value

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def read_stream_way(text: str) -> StreamWay:
    """Read ``tcp://HOST:PORT``, ``ws://HOST[:PORT][/PATH]`` or ``wss://HOST[:PORT][/PATH]``.

    Raises:
        ValueError: it is something else.
    """
    wanted = "tcp://HOST:PORT, ws://HOST[:PORT][/PATH] or wss://HOST[:PORT][/PATH]"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"{text!r} is not {wanted}") from None
    port = _DEFAULT_PORTS.get(parts.scheme) if port is None else port
    is_bad_path = parts.scheme == "tcp" and parts.path not in {"", "/"}
    odd = parts.query or parts.fragment or parts.username or is_bad_path
    if parts.scheme not in {"tcp", "ws", "wss"} or not host or not port or odd:
        raise ValueError(f"{text!r} is not {wanted}")
    if not (text.isascii() and text.isprintable()) or {" ", ","} & {*text}:
        raise ValueError(f"{text!r} has characters that no such URL has")
    if parts.scheme == "tcp":
        return StreamWay(Transport.TCP, host, port)
    path = DEFAULT_PATH if parts.path in {"", "/"} else parts.path
    return StreamWay(Transport.WEBSOCKET, host, port, parts.scheme == "wss", path)
