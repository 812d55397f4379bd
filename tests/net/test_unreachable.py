"""ICMP errors of real sockets: they are told, and hinder nobody else's datagrams."""

import socket

import pytest
import trio

from mesh.addresses import Endpoint
from mesh.engine import OutgoingDatagrams
from mesh.net.udp import RECEIVE_BUFFER_BYTES, UdpPort, open_udp
from mesh.net.unreachable import Unreachable

ECONNREFUSED = 111
LOOPBACKS = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]


def closed_endpoint(family: int, host: str) -> Endpoint:
    with open_udp(family, host) as port:
        return port.local


def send(port: UdpPort, payload: bytes, to: Endpoint) -> None:
    port.send(OutgoingDatagrams([payload], len(payload), to, port.socket_id))


def wait_for_errors(port: UdpPort) -> list[Unreachable]:
    async def main() -> list[Unreachable]:
        with trio.fail_after(5):
            await port.wait_readable()
        return port.take_unreachable()

    return trio.run(main)


@pytest.mark.parametrize(("family", "host"), LOOPBACKS, ids=["IPv4", "IPv6"])
def test_a_closed_port_is_told_with_what_was_sent_there(family: int, host: str) -> None:
    nobody = closed_endpoint(family, host)
    with open_udp(family, host) as port:
        port.hear_icmp()
        send(port, b"is anybody there?", nobody)
        [error] = wait_for_errors(port)
        assert error == (nobody, ECONNREFUSED, b"is anybody there?")
        assert port.take_unreachable() == []
        assert port.receive_into(memoryview(bytearray(RECEIVE_BUFFER_BYTES))) is None


@pytest.mark.parametrize(("family", "host"), LOOPBACKS, ids=["IPv4", "IPv6"])
def test_one_destinations_error_does_not_cost_another_its_datagram(family: int, host: str) -> None:
    nobody = closed_endpoint(family, host)
    with open_udp(family, host) as port, open_udp(family, host) as other:
        port.hear_icmp()
        for number in range(10):
            send(port, b"x", nobody)
            send(port, bytes([number]), other.local)
        buffer = memoryview(bytearray(RECEIVE_BUFFER_BYTES))
        received = b""
        while batch := other.receive_into(buffer):
            received += bytes(batch.buffer)
        assert received == bytes(range(10))
        assert {error.destination for error in wait_for_errors(port)} == {nobody}


def test_errors_that_nobody_asked_for_are_not_collected() -> None:
    nobody = closed_endpoint(socket.AF_INET, "127.0.0.1")
    with open_udp(socket.AF_INET, "127.0.0.1") as port:
        send(port, b"x", nobody)
        assert port.take_unreachable() == []


def test_an_error_about_a_refused_local_send_is_no_icmp() -> None:
    with open_udp(socket.AF_INET, "127.0.0.1") as port:
        port.hear_icmp()
        with pytest.raises(OSError, match="too long"):
            send(port, bytes(65508), Endpoint("127.0.0.1", 9))
        assert port.take_unreachable() == []
