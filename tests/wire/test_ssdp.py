"""mesh.wire.ssdp: searching for a router's description, and whom not to believe."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import MalformedMessage
from mesh.wire.ssdp import decode_location, is_on, searches

ROUTER = "192.168.1.1"
URL = f"http://{ROUTER}:5000/rootDesc.xml"


def answer(location: str = URL, kind: str = "InternetGatewayDevice:1") -> bytes:
    return (
        "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\n"
        f"ST: urn:schemas-upnp-org:device:{kind}\r\nLocation: {location}\r\n\r\n"
    ).encode()


def test_a_search_is_what_upnp_asks_for() -> None:
    for search in searches():
        lines = search.decode().split("\r\n")
        assert lines[0] == "M-SEARCH * HTTP/1.1"
        assert 'MAN: "ssdp:discover"' in lines
        assert lines[-2:] == ["", ""]


def test_the_location_on_the_router_is_found() -> None:
    assert decode_location(answer(), ROUTER) == URL


@pytest.mark.parametrize(
    "location",
    [
        "http://192.168.1.66:5000/rootDesc.xml",
        "http://router.example/rootDesc.xml",
        "https://192.168.1.1/rootDesc.xml",
        "file:///etc/passwd",
        "http://192.168.1.1@192.168.1.66/x",
        "http://192.168.1.66\\@192.168.1.1/x",
        "http://192.168.1.1.example/x",
        "http://192.168.1.1:123456/x",
        "http://192.168.1.1",
        "http://192.168.1.1/" + "x" * 300,
        "http://192.168.1.1/a b",
        "",
    ],
)
def test_a_location_elsewhere_is_malformed(location: str) -> None:
    assert not is_on(location, ROUTER)
    with pytest.raises(MalformedMessage):
        decode_location(answer(location), ROUTER)


def test_the_answer_of_a_printer_is_malformed() -> None:
    with pytest.raises(MalformedMessage, match="no router"):
        decode_location(answer(kind="Printer:1"), ROUTER)


@given(st.binary(max_size=3000) | st.binary(max_size=300).map(lambda rest: answer() + rest))
def test_arbitrary_bytes_name_a_url_on_the_router_or_are_malformed(said: bytes) -> None:
    try:
        location = decode_location(said, ROUTER)
    except MalformedMessage:
        return
    assert is_on(location, ROUTER)
