"""Finding the router's UPnP description: SSDP, as UPnP Device Architecture 1.1 section 1.3 has it.

Only the router that was asked is believed, and only a description on that router: an answer may
otherwise make us fetch whatever it names.
"""

import re
from typing import Final

from mesh.errors import MalformedMessage

SSDP_GROUP: Final = "239.255.255.250"
SSDP_PORT: Final = 1900
MAX_SSDP_BYTES: Final = 2048
_URL: Final = re.compile(r"http://([0-9.]{7,15})(?::[0-9]{1,5})?/[!-~]{0,256}")

_TARGETS: Final = (
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
)


def searches() -> list[bytes]:
    """Return the searches for a router, to be sent to the group and to the router itself."""
    return [
        (
            "M-SEARCH * HTTP/1.1\r\n"
            f"HOST: {SSDP_GROUP}:{SSDP_PORT}\r\n"
            'MAN: "ssdp:discover"\r\n'
            "MX: 1\r\n"
            f"ST: {target}\r\n"
            "\r\n"
        ).encode()
        for target in _TARGETS
    ]


def decode_location(answer: bytes, router: str) -> str:
    """Return the URL of the description that an answer names.

    Args:
        answer: what came from ``router``.
        router: its IPv4 address; the description has to be there.

    Raises:
        MalformedMessage: it is no answer about a router, or names another machine.
    """
    if len(answer) > MAX_SSDP_BYTES:
        raise MalformedMessage("an SSDP answer is not that long")
    try:
        lines = answer.decode("ascii").split("\r\n")
    except UnicodeDecodeError:
        raise MalformedMessage("an SSDP answer is ASCII") from None
    if not lines[0].startswith("HTTP/1.1 200"):
        raise MalformedMessage("not an SSDP answer")
    pairs = (line.partition(":") for line in lines[1:])
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if "InternetGatewayDevice" not in headers.get("st", ""):
        raise MalformedMessage("the answer of something that is no router")
    location = headers.get("location", "")
    if not is_on(location, router):
        raise MalformedMessage("the description is not on the router")
    return location


def is_on(url: str, router: str) -> bool:
    """Whether a URL is plain HTTP to this very IPv4 address, written as an address.

    A strict pattern instead of a URL parser: the library that fetches it has another one, and must
    not read another host out of the same text.
    """
    match = _URL.fullmatch(url)
    return match is not None and match[1] == router
