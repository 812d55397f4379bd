"""The tunnel through an HTTP proxy: CONNECT, RFC 9110 section 9.3.6; Basic, RFC 7617."""

import base64
import re
from typing import Final

from mesh.net.port import PortClosed
from mesh.net.proxy import Proxy
from mesh.net.stream_opening import Opening

MAX_ANSWER_BYTES: Final = 16384

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: ([\t -~]*))?\r?\n")
_END: Final = b"\r\n\r\n"


async def open_tunnel(opening: Opening, proxy: Proxy, host: str, port: int) -> None:
    """Ask a proxy to connect us; what is sent afterwards goes to ``host``.

    Args:
        opening: connected with the proxy, its TLS on.
        proxy: who it is.
        host: a name, which the proxy resolves, or a numeric address.
        port: TCP.

    Raises:
        PortClosed: the proxy refused, or is none.
        OSError: the network ended it.
    """
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    request = f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n"
    if proxy.credentials:
        request += f"Proxy-Authorization: Basic {_base64(proxy.credentials)}\r\n"
    await opening.send(f"{request}\r\n".encode("ascii"))
    answer = b""
    while _END not in answer:
        if len(answer) > MAX_ANSWER_BYTES:
            raise PortClosed(f"{proxy} answers with more than a proxy does")
        answer = await opening.peek(len(answer) + 1)
    found = _STATUS_LINE.match(answer)
    if found is None:
        raise PortClosed(f"{proxy} does not answer as an HTTP proxy")
    if not found[1].startswith(b"2"):
        status = f"{found[1].decode()} {(found[2] or b'').decode('ascii')}".strip()
        raise PortClosed(f"{proxy} refuses: {status}")
    await opening.take(answer.index(_END) + len(_END))


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")
