import contextlib
import errno
import functools
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

from mesh.addresses import Endpoint
from mesh.engine import OutgoingDatagrams, ReceivedDatagrams, WellKnownSocket
from mesh.errors import ConfigError
from mesh.net.udp import RECEIVE_BUFFER_BYTES, UdpPort, open_udp, open_udp_pair

LOOPBACKS = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]


@pytest.fixture(params=LOOPBACKS, ids=["IPv4", "IPv6"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[UdpPort, UdpPort]]:
    family, host = request.param
    try:
        with open_udp(family, host) as one, open_udp(family, host) as other:
            yield one, other
    except ConfigError as error:
        pytest.skip(f"no loopback address of that family: {error}")


def receive(port: UdpPort) -> ReceivedDatagrams:
    async def main() -> ReceivedDatagrams:
        with trio.fail_after(5):
            while True:
                await port.wait_readable()
                batch = port.receive_into(memoryview(bytearray(RECEIVE_BUFFER_BYTES)))
                if batch is not None:
                    return batch

    return trio.run(main)


def receive_datagrams(port: UdpPort, count: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < count:
        batch = receive(port)
        content = bytes(batch.buffer)
        size = batch.segment_bytes
        found += [content[start : start + size] for start in range(0, len(content), size)]
    return found


def send(port: UdpPort, to: UdpPort, *buffers: bytes, segment_bytes: int = 0, ttl: int = 0) -> None:
    size = segment_bytes or sum(map(len, buffers))
    port.send(OutgoingDatagrams(buffers, size, to.local, to.socket_id, ttl))


def test_a_datagram_arrives_with_its_source_and_socket(pair: tuple[UdpPort, UdpPort]) -> None:
    one, other = pair
    send(one, other, b"head", b"", b"body")
    batch = receive(other)
    assert bytes(batch.buffer) == b"headbody"
    assert batch.segment_bytes == 8
    assert batch.source == one.local
    assert isinstance(batch.source, Endpoint)
    assert batch.socket == other.socket_id


def test_an_answer_to_the_source_comes_back(pair: tuple[UdpPort, UdpPort]) -> None:
    one, other = pair
    send(one, other, b"ping")
    source = receive(other).source
    other.send(OutgoingDatagrams([b"pong"], 4, source, other.socket_id))
    assert bytes(receive(one).buffer) == b"pong"


def test_a_batch_is_cut_into_datagrams_of_its_segment_size(pair: tuple[UdpPort, UdpPort]) -> None:
    one, other = pair
    for port in (one, other):
        port.has_gro = port.has_gso = False
    send(one, other, b"aaabb", b"b", b"cc", segment_bytes=3)
    assert receive_datagrams(other, 3) == [b"aaa", b"bbb", b"cc"]


@pytest.mark.parametrize("count", [2, 44, 64, 65, 200])
def test_a_batch_of_any_length_arrives_as_its_datagrams(
    pair: tuple[UdpPort, UdpPort], count: int
) -> None:
    one, other = pair
    datagrams = [number.to_bytes(2, "big") * 500 for number in range(count)]
    datagrams[-1] = datagrams[-1][:7]
    send(one, other, *datagrams, segment_bytes=1000)
    assert receive_datagrams(other, count) == datagrams


def test_a_batch_is_one_call_and_one_arrival_where_the_kernel_can(
    pair: tuple[UdpPort, UdpPort],
) -> None:
    one, other = pair
    if not (one.has_gso and other.has_gro):
        pytest.skip("this kernel has no UDP_SEGMENT or UDP_GRO")
    send(one, other, b"aaabb", b"b", b"cc", segment_bytes=3, ttl=9)
    batch = receive(other)
    assert (bytes(batch.buffer), batch.segment_bytes) == (b"aaabbbcc", 3)


def test_without_offload_every_datagram_travels_alone() -> None:
    with (
        open_udp(socket.AF_INET, "127.0.0.1", offload=False) as one,
        open_udp(socket.AF_INET, "127.0.0.1", offload=False) as other,
    ):
        assert not one.has_gso
        assert not one.has_gro
        send(one, other, b"aaabbbcc", segment_bytes=3)
        assert [bytes(receive(other).buffer) for _ in range(3)] == [b"aaa", b"bbb", b"cc"]


class Refusing:
    """A socket whose kernel or device cannot segment."""

    def __init__(self, real: socket.socket, number: int) -> None:
        self._real = real
        self._number = number
        self.refused = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - stands for a socket
        return getattr(self._real, name)

    def sendmsg(self, buffers: Any, ancillary: Any, flags: int, address: Any) -> int:  # noqa: ANN401
        if any(kind == 103 for _, kind, _ in ancillary):
            self.refused += 1
            raise OSError(self._number, "refused")
        return self._real.sendmsg(buffers, ancillary, flags, address)


@pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL])
def test_a_refused_segmentation_is_turned_off_and_nothing_is_lost(
    pair: tuple[UdpPort, UdpPort], number: int
) -> None:
    one, other = pair
    if not one.has_gso:
        pytest.skip("this kernel has no UDP_SEGMENT")
    refusing = one._socket = Refusing(one._socket, number)  # type: ignore[assignment]
    for _ in range(2):
        send(one, other, b"aaabbbcc", segment_bytes=3)
        assert receive_datagrams(other, 3) == [b"aaa", b"bbb", b"cc"]
    assert refusing.refused == 1
    assert not one.has_gso


def test_another_refusal_of_a_batch_leaves_segmentation_on(
    pair: tuple[UdpPort, UdpPort],
) -> None:
    one, other = pair
    if not one.has_gso:
        pytest.skip("this kernel has no UDP_SEGMENT")
    one._socket = Refusing(one._socket, errno.ENETUNREACH)  # type: ignore[assignment]
    with pytest.raises(OSError, match="refused"):
        send(one, other, b"aaabbbcc", segment_bytes=3)
    assert one.has_gso


class Flooded:
    """A socket to which somebody sends forged ICMP: so many sends in a row fail."""

    def __init__(self, real: socket.socket, *failures: int) -> None:
        self._real = real
        self.failures = list(failures)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - stands for a socket
        return getattr(self._real, name)

    def sendmsg(self, *arguments: Any) -> int:  # noqa: ANN401
        if self.failures:
            raise OSError(self.failures.pop(0), "what ICMP says")
        return self._real.sendmsg(*arguments)


@pytest.mark.parametrize("failures", [1, 2, 4])
def test_forged_icmp_does_not_make_a_send_fail(
    pair: tuple[UdpPort, UdpPort], failures: int
) -> None:
    one, other = pair
    one.hear_icmp()
    one._socket = Flooded(one._socket, *[errno.ECONNREFUSED] * failures)  # type: ignore[assignment]
    send(one, other, b"hello")
    assert receive_datagrams(other, 1) == [b"hello"]


def test_what_fails_again_and_again_is_no_icmp(pair: tuple[UdpPort, UdpPort]) -> None:
    one, other = pair
    one.hear_icmp()
    one._socket = Flooded(one._socket, *[errno.ENETUNREACH] * 9)  # type: ignore[assignment]
    with pytest.raises(OSError, match="ICMP"):
        send(one, other, b"hello")


def test_forged_packet_too_big_leaves_segmentation_on(pair: tuple[UdpPort, UdpPort]) -> None:
    one, other = pair
    if not one.has_gso:
        pytest.skip("no UDP_SEGMENT here")
    one.hear_icmp()
    one._socket = Flooded(one._socket, errno.EMSGSIZE)  # type: ignore[assignment]
    before = one._unsegmentable_bytes
    send(one, other, b"a" * 1000, b"b" * 1000, segment_bytes=1000)
    assert receive_datagrams(other, 2) == [b"a" * 1000, b"b" * 1000]
    assert one.has_gso
    assert one._unsegmentable_bytes == before


@pytest.mark.parametrize("length", [0, 1, 1452, 65_000])
def test_datagrams_of_every_length_arrive_whole(pair: tuple[UdpPort, UdpPort], length: int) -> None:
    one, other = pair
    send(one, other, bytes(length))
    batch = receive(other)
    assert len(batch.buffer) == batch.segment_bytes == length


def test_nothing_to_read_is_none(pair: tuple[UdpPort, UdpPort]) -> None:
    assert pair[0].receive_into(memoryview(bytearray(RECEIVE_BUFFER_BYTES))) is None


def test_a_hop_limit_is_for_its_datagrams_only(pair: tuple[UdpPort, UdpPort]) -> None:
    one, other = pair
    with socket.socket(other._socket.family, socket.SOCK_DGRAM) as watcher:
        watcher.bind((other.local.host, 0))
        watcher.settimeout(5)
        is_ipv6 = watcher.family == socket.AF_INET6
        if is_ipv6:
            watcher.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        else:
            watcher.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
        destination = Endpoint(*watcher.getsockname()[:2])
        seen = []
        for ttl in (3, 0):
            one.send(OutgoingDatagrams([b"x"], 1, destination, one.socket_id, ttl))
            [(_, _, value)] = watcher.recvmsg(10, 100)[1]
            seen.append(int.from_bytes(value[:4], "little"))
        assert seen[0] == 3
        assert seen[1] >= 64


def test_the_same_source_is_the_same_object(pair: tuple[UdpPort, UdpPort]) -> None:
    one, other = pair
    send(one, other, b"a")
    send(one, other, b"b")
    assert receive(other).source is receive(other).source


def test_remembered_addresses_have_a_cap() -> None:
    with open_udp(socket.AF_INET, "127.0.0.1") as port:
        for number in range(10_000):
            port._endpoint_of((f"10.0.{number >> 8}.{number & 255}", 1))
        assert len(port._endpoints) <= 4096


def test_the_kernels_refusal_is_raised() -> None:
    with open_udp(socket.AF_INET, "127.0.0.1") as port:
        with pytest.raises(OSError, match="Message too long") as caught:
            port.send(OutgoingDatagrams([bytes(65_530)], 65_530, Endpoint("127.0.0.1", 9), 0))
        assert caught.value.errno == errno.EMSGSIZE


@pytest.mark.parametrize(("family", "host"), LOOPBACKS)
def test_a_port_that_is_taken_is_one_clear_error(family: int, host: str) -> None:
    with open_udp(family, host) as taken, pytest.raises(ConfigError, match="taken by another"):
        open_udp(family, host, taken.local.port)


def test_a_foreign_address_is_one_clear_error() -> None:
    with pytest.raises(ConfigError, match="not an address of this machine"):
        open_udp(socket.AF_INET, "192.0.2.1", where="--listen")


@pytest.mark.parametrize("host", ["example.invalid", "::1", "1.2.3.4.5"])
def test_what_is_no_numeric_ipv4_address_is_one_clear_error(host: str) -> None:
    with pytest.raises(ConfigError, match=r"^--listen: .* not a numeric address"):
        open_udp(socket.AF_INET, host, where="--listen")


def test_a_pair_shares_one_port_number_and_keeps_the_families_apart() -> None:
    pair = open_udp_pair()
    try:
        ipv4 = pair[WellKnownSocket.UDP_IPV4]
        ipv6 = pair.get(WellKnownSocket.UDP_IPV6)
        if ipv6 is None:
            pytest.skip("no IPv6 on this machine")
        assert ipv4.local.port == ipv6.local.port
        with open_udp(socket.AF_INET, "127.0.0.1") as sender:
            destination = Endpoint("127.0.0.1", ipv4.local.port)
            sender.send(OutgoingDatagrams([b"x"], 1, destination, 0))
            assert bytes(receive(ipv4).buffer) == b"x"
            assert ipv6.receive_into(memoryview(bytearray(10))) is None
    finally:
        for port in pair.values():
            port.close()


def test_a_pair_on_a_port_that_one_family_lacks_is_refused_and_leaves_nothing_open() -> None:
    try:
        taken = open_udp(socket.AF_INET6)
    except (OSError, ConfigError):
        pytest.skip("no IPv6 on this machine")
    with taken, pytest.raises(ConfigError, match="taken"):
        open_udp_pair(taken.local.port)
    with taken:
        open_udp(socket.AF_INET, "", taken.local.port).close()


def test_closing_twice_is_harmless() -> None:
    port = open_udp(socket.AF_INET)
    port.close()
    port.close()
    assert port.fileno() == -1


def probe_a_narrow_link() -> dict[str, Any]:
    """In a network namespace: what leaves on a veth link of MTU 1400, probes and data in turn."""
    for command in (
        "ip link add left mtu 1400 type veth peer name right",
        "ip link set lo up",
        "ip link set left up",
        "ip link set right up",
        "ip address add 10.1.0.1/24 dev left",
        "ip address add fd00:1::1/64 dev left nodad",
        "ip neighbour add 10.1.0.2 lladdr 02:00:00:00:00:01 dev left",
        "ip neighbour add fd00:1::2 lladdr 02:00:00:00:00:01 dev left",
    ):
        subprocess.run(command.split(), check=True)
    found: dict[str, Any] = {}
    for family, host, header_bytes in (
        (socket.AF_INET, "10.1.0.2", 28),
        (socket.AF_INET6, "fd00:1::2", 48),
    ):
        with open_udp(family) as port, wire("right") as seen:
            sent = functools.partial(send_to, port, Endpoint(host, 7777), seen)
            largest = 1400 - header_bytes
            found[host] = {
                "data": sent(largest),
                "probe": sent(largest, dont_fragment=True),
                "data after it": sent(largest),
                "too large": sent(largest + 1, dont_fragment=True),
                "data cut by the kernel": sent(largest + 1),
                "batch of too large": sent(1420, count=3),
                "batch": sent(1200, count=3),
                "has_gso": port.has_gso,
            }
            subprocess.run(["ip", "link", "set", "left", "mtu", "1500"], check=True)
            found[host]["has grown"] = sent(1420, dont_fragment=True)
            found[host]["batch after growth"] = sent(1420, count=3)
            subprocess.run(["ip", "link", "set", "left", "mtu", "1400"], check=True)
    return found


@contextlib.contextmanager
def wire(interface: str) -> Iterator[socket.socket]:
    """Show the IP packets with UDP, or fragments, that arrive on an interface."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)) as seen:
        seen.bind((interface, 3))
        seen.settimeout(0.3)
        yield seen


def send_to(
    port: UdpPort,
    destination: Endpoint,
    seen: socket.socket,
    size: int,
    *,
    count: int = 1,
    dont_fragment: bool = False,
) -> list[str]:
    """Send ``count`` datagrams of ``size`` bytes; say what packets that made."""
    buffer = bytes(size * count)
    try:
        port.send(
            OutgoingDatagrams(
                [buffer], size, destination, port.socket_id, dont_fragment=dont_fragment
            )
        )
    except OSError as error:
        return [errno.errorcode[error.errno or 0]]
    packets = []
    with contextlib.suppress(TimeoutError):
        while True:
            packets.append(describe(seen.recv(65536)))
    return [packet for packet in packets if packet]


def describe(packet: bytes) -> str:
    if packet[0] >> 4 == 6:
        return {17: "whole", 44: "fragment"}.get(packet[6], "")
    if packet[9] != 17:
        return ""
    flags = int.from_bytes(packet[6:8], "big")
    return "fragment" if flags & 0x3FFF else "whole, DF" if flags & 0x4000 else "whole"


@pytest.mark.netns
def test_probes_alone_must_not_be_fragmented(in_namespace: Callable[..., Any]) -> None:
    found = in_namespace(probe_a_narrow_link)
    for host, probe in (("10.1.0.2", "whole, DF"), ("fd00:1::2", "whole")):
        seen = found[host]
        assert seen["data"] == seen["data after it"] == ["whole"]
        assert seen["probe"] == [probe]
        assert seen["too large"] == ["EMSGSIZE"]
        assert seen["data cut by the kernel"] == ["fragment"] * 2


@pytest.mark.netns
def test_an_interface_that_shrinks_and_grows_again_keeps_its_batches(
    in_namespace: Callable[..., Any],
) -> None:
    for seen in in_namespace(probe_a_narrow_link).values():
        assert seen["batch of too large"] == ["fragment"] * 6
        assert seen["batch"] == (["whole"] if seen["has_gso"] else ["whole"] * 3)
        assert seen["has_gso"]
        assert seen["has grown"][0].startswith("whole")
        assert seen["batch after growth"] == ["whole"]


def talk_over_link_local() -> dict[str, Any]:
    """In a network namespace: two veth ends with link-local addresses only."""
    for command in (
        "ip link add left type veth peer name right",
        "sysctl -qw net.ipv6.conf.left.accept_dad=0 net.ipv6.conf.right.accept_dad=0",
        "ip link set lo up",
        "ip link set left up",
        "ip link set right up",
    ):
        subprocess.run(command.split(), check=True)
    index = socket.if_nametoindex("left")
    shown = subprocess.run(
        ["ip", "-6", "-br", "addr", "show", "left"], check=True, capture_output=True, text=True
    )
    host = shown.stdout.split()[2].partition("/")[0]
    with open_udp(socket.AF_INET6, f"{host}%left") as one, open_udp(socket.AF_INET6) as other:
        destination = Endpoint(f"{host}%{index}", one.local.port)
        other.send(OutgoingDatagrams([b"x"], 1, destination, 1))
        source = receive(one).source
        one.send(OutgoingDatagrams([b"y"], 1, source, 1))
        answered = receive(other)
        return {
            "local": one.local.host,
            "source": source.host,
            "answer_from": answered.source.host,
            "expected": f"{host}%{index}",
        }


@pytest.mark.netns
def test_link_local_addresses_carry_the_interface_index_both_ways(
    in_namespace: Callable[..., Any],
) -> None:
    found = in_namespace(talk_over_link_local)
    assert found["local"] == found["expected"]
    assert found["source"] == found["expected"]
    assert found["answer_from"] == found["expected"]
