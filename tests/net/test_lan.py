import base64
import socket
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from mesh.addresses import Endpoint
from mesh.constants import LAN_GROUP_IPV4, LAN_PORT
from mesh.net.lan import (
    FoundSupernode,
    LanResponder,
    _answer_untrusted,
    _read_answer_untrusted,
    find_supernodes,
    serve_lan,
)
from mesh.wire.lan import LanAnswer, LanQuery, lan_answer_tag

COMMUNITY = bytes(range(32))
OTHER_COMMUNITY = bytes(32)
FINGERPRINT = bytes(range(20))
FINGERPRINT_TEXT = base64.b32encode(FINGERPRINT).decode().lower()
NONCE = bytes(range(16))


def serving(*communities: bytes, takes_any: bool = False, port: int = 7777) -> LanResponder:
    def community_of(nonce: bytes, tag: bytes) -> bytes | None:
        query = LanQuery(nonce, tag)
        return next((one for one in communities if query.is_for(one)), None)

    return LanResponder(FINGERPRINT, port, takes_any, community_of)


def read(answer: bytes, query: LanQuery, community_id: bytes = COMMUNITY) -> FoundSupernode | None:
    return _read_answer_untrusted(answer, ("192.168.7.1", 7778), query, community_id)


def test_a_supernode_that_serves_the_community_shows_that_it_does() -> None:
    query = LanQuery.for_community(COMMUNITY, NONCE)
    answer = _answer_untrusted(query.encode(), serving(OTHER_COMMUNITY, COMMUNITY))
    assert answer is not None
    found = read(answer, query)
    assert found is not None
    assert found.serves_us
    assert not found.takes_any
    assert found.endpoint == Endpoint("192.168.7.1", 7777)
    assert found.fingerprint == FINGERPRINT_TEXT


def test_a_supernode_of_other_communities_keeps_silent_unless_it_takes_any() -> None:
    query = LanQuery.for_community(COMMUNITY, NONCE)
    assert _answer_untrusted(query.encode(), serving(OTHER_COMMUNITY)) is None
    answer = _answer_untrusted(query.encode(), serving(OTHER_COMMUNITY, takes_any=True))
    assert answer is not None
    found = read(answer, query)
    assert found is not None
    assert found.takes_any
    assert not found.serves_us


def test_an_answer_to_another_nonce_or_with_a_false_tag_is_not_believed() -> None:
    query = LanQuery.for_community(COMMUNITY, NONCE)
    other = LanQuery.for_community(COMMUNITY, NONCE[::-1])
    answer = _answer_untrusted(other.encode(), serving(COMMUNITY))
    assert answer is not None
    assert read(answer, query) is None
    tag = lan_answer_tag(COMMUNITY, NONCE, FINGERPRINT, 7777)
    other_port = LanAnswer(7776, NONCE, tag, FINGERPRINT, takes_any=False)
    assert read(other_port.encode(), query) is None


@given(st.binary(max_size=100) | st.binary(min_size=64, max_size=64))
def test_arbitrary_bytes_draw_no_more_than_their_own_size(datagram: bytes) -> None:
    answer = _answer_untrusted(datagram, serving(COMMUNITY, takes_any=True))
    assert answer is None or len(answer) <= len(datagram)
    assert read(datagram, LanQuery.for_community(COMMUNITY, NONCE)) is None


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def make_lan(*, ipv4: bool, ipv6: bool) -> None:
    """Two veth ends in one namespace: the searcher and the supernodes share both."""
    ip("link", "set", "lo", "up")
    ip("link", "add", "left", "type", "veth", "peer", "name", "right")
    for number, name in enumerate(("left", "right"), 1):
        ip("link", "set", name, "addrgenmode", "none", "up")
        if ipv4:
            ip("addr", "add", f"192.168.{number}.1/24", "dev", name)
        if ipv6:
            ip("-6", "addr", "add", f"fe80::{number}/64", "dev", name, "nodad")


def search(families: list[int]) -> dict[str, Any]:
    """Three supernodes on one machine: one serves us, one takes any, one is for others only."""

    async def main() -> dict[str, Any]:
        make_lan(ipv4=4 in families, ipv6=6 in families)
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_lan, serving(OTHER_COMMUNITY, port=1000))
            await nursery.start(serve_lan, serving(takes_any=True, port=1001))
            await nursery.start(serve_lan, serving(COMMUNITY, port=1002))
            start = trio.current_time()
            found = await find_supernodes(COMMUNITY, 3.0)
            took = trio.current_time() - start
            nobody = await find_supernodes(bytes([7] * 32), 0.3)
            nursery.cancel_scope.cancel()
        return {
            "ports": [one.endpoint.port for one in found if one.serves_us],
            "others": sorted({one.endpoint.port for one in found if not one.serves_us}),
            "first": found[0].endpoint.host if found else "",
            "order": [one.serves_us for one in found],
            "took": took,
            "nobody": sorted({one.endpoint.port for one in nobody}),
        }

    return trio.run(main)


@pytest.mark.netns
@pytest.mark.parametrize("families", [[4], [6], [4, 6]], ids=str)
def test_supernodes_on_the_lan_are_found_and_the_one_that_serves_us_comes_first(
    in_namespace: Callable[..., Any], families: list[int]
) -> None:
    found = in_namespace(search, families)
    assert found["ports"]
    assert set(found["ports"]) == {1002}
    assert set(found["others"]) <= {1001}
    assert found["order"] == sorted(found["order"], reverse=True)
    assert ("%" in found["first"]) == (families == [6])
    assert found["took"] < 1.5
    assert found["nobody"] == [1001]


def search_where_nobody_is() -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        start = trio.current_time()
        nothing = await find_supernodes(COMMUNITY, 0.2)
        make_lan(ipv4=True, ipv6=True)
        silence = await find_supernodes(COMMUNITY, 0.2)
        return {"found": len(nothing + silence), "took": trio.current_time() - start}

    return trio.run(main)


@pytest.mark.netns
def test_a_search_ends_in_time_without_network_and_without_answers(
    in_namespace: Callable[..., Any],
) -> None:
    found = in_namespace(search_where_nobody_is)
    assert found["found"] == 0
    assert 0.35 < found["took"] < 5


def join_later() -> int:
    async def main() -> int:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_lan, serving(COMMUNITY))
            make_lan(ipv4=True, ipv6=False)
            found: list[object] = []
            with trio.move_on_after(10):
                while not found:
                    found.extend(await find_supernodes(COMMUNITY, 0.3))
            nursery.cancel_scope.cancel()
        return len(found)

    return trio.run(main)


@pytest.mark.netns
def test_an_interface_that_appears_later_is_served_too(in_namespace: Callable[..., Any]) -> None:
    assert in_namespace(join_later) >= 1


def flood_with_queries() -> int:
    async def main() -> int:
        make_lan(ipv4=True, ipv6=False)
        query = LanQuery.for_community(COMMUNITY, NONCE).encode()
        answers = 0
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_lan, serving(COMMUNITY))
            with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
                await attacker.bind(("192.168.1.1", 0))
                attacker.setsockopt(
                    socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("192.168.1.1")
                )
                for _ in range(300):
                    await attacker.sendto(query, (LAN_GROUP_IPV4, LAN_PORT))
                with trio.move_on_after(0.5):
                    while True:
                        await attacker.recv(100)
                        answers += 1
            nursery.cancel_scope.cancel()
        return answers

    return trio.run(main)


@pytest.mark.netns
def test_a_flood_of_queries_from_one_source_draws_few_answers(
    in_namespace: Callable[..., Any],
) -> None:
    assert 1 <= in_namespace(flood_with_queries) <= 20
