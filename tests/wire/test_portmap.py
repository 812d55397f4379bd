"""mesh.wire.portmap: NAT-PMP, PCP, and the clock that tells that a router began anew."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.addresses import Endpoint
from mesh.errors import MalformedMessage
from mesh.wire.portmap import (
    EpochWatch,
    PcpMap,
    PcpOpcode,
    PcpRequest,
    PcpResponse,
    PmpAddress,
    PmpMapped,
    PmpMapRequest,
    encode_pmp_address_request,
)

u16, u32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
ipv4 = st.ip_addresses(v=4).map(str)
# An IPv4 address in IPv6 clothes is the IPv4 address, so it does not come back as it went.
ipv6 = st.ip_addresses(v=6).filter(lambda ip: ip.ipv4_mapped is None).map(str)
nonces = st.binary(min_size=12, max_size=12)
endpoints = st.builds(Endpoint, ipv4 | ipv6, u16)
pcp_maps = st.builds(PcpMap, nonces, u16, endpoints)

NONCE = bytes(range(12))


@given(st.builds(PmpMapRequest, u16, u16, u32))
def test_a_nat_pmp_request_that_is_encoded_is_decoded(request: PmpMapRequest) -> None:
    assert len(request.encode()) == 12
    assert PmpMapRequest.decode(request.encode()) == request


@given(st.builds(PmpMapped, st.just(0), u32, u16, u16, u32))
def test_a_nat_pmp_mapping_that_is_encoded_is_decoded(answer: PmpMapped) -> None:
    assert len(answer.encode()) == 16
    assert PmpMapped.decode(answer.encode()) == answer


@given(st.builds(PmpAddress, st.just(0), u32, ipv4))
def test_a_nat_pmp_address_that_is_encoded_is_decoded(answer: PmpAddress) -> None:
    assert len(answer.encode()) == 12
    assert PmpAddress.decode(answer.encode()) == answer


@given(st.builds(PcpRequest, ipv4 | ipv6, u32, st.none() | pcp_maps))
def test_a_pcp_request_that_is_encoded_is_decoded(request: PcpRequest) -> None:
    assert len(request.encode()) == (24 if request.map is None else 60)
    assert PcpRequest.decode(request.encode()) == request


@given(st.builds(PcpResponse, st.just(0), u32, u32, pcp_maps))
def test_a_pcp_mapping_that_is_encoded_is_decoded(response: PcpResponse) -> None:
    encoded = response.encode(PcpOpcode.MAP)
    assert len(encoded) == 60
    assert PcpResponse.decode(encoded, PcpOpcode.MAP) == response
    options = bytes(8)  # of a router that has more to say
    assert PcpResponse.decode(encoded + options, PcpOpcode.MAP) == response


def test_nat_pmp_has_the_layout_of_rfc_6886() -> None:
    assert encode_pmp_address_request() == bytes.fromhex("0000")
    assert PmpMapRequest(7801, 7802, 7200).encode() == bytes.fromhex("0001 0000 1e79 1e7a 00001c20")
    answer = bytes.fromhex("0081 0000 00000005 1e79 1e7a 00001c20")
    assert PmpMapped.decode(answer) == PmpMapped(0, 5, 7801, 7802, 7200)
    address = bytes.fromhex("0080 0000 00000005 2d000102")
    assert PmpAddress.decode(address) == PmpAddress(0, 5, "45.0.1.2")


def test_pcp_has_the_layout_of_rfc_6887() -> None:
    wish = PcpMap(NONCE, 7801, Endpoint("0.0.0.0", 7802))  # noqa: S104
    request = PcpRequest("192.168.1.2", 7200, wish).encode()
    assert request == (
        bytes.fromhex("02 01 0000 00001c20 00000000000000000000ffffc0a80102")
        + NONCE
        + bytes.fromhex("11 000000 1e79 1e7a 00000000000000000000ffff00000000")
    )
    answer = bytes.fromhex("02 81 00 00 00001c20 00000005" + "00" * 12) + request[24:]
    assert PcpResponse.decode(answer, PcpOpcode.MAP) == PcpResponse(0, 5, 7200, wish)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param("0081 0002 00000005", id="mapping"),
        pytest.param("0081 0002 00000005 1e79 1e7a 00001c20", id="mapping in full"),
    ],
)
def test_a_refusal_may_be_short_and_grants_nothing(answer: str) -> None:
    assert PmpMapped.decode(bytes.fromhex(answer)) == PmpMapped(2, 5)


def test_a_pcp_refusal_grants_nothing() -> None:
    wish = PcpMap(NONCE, 7801, Endpoint("45.0.1.2", 7802))
    refusal = PcpResponse(2, 5, 1800, wish).encode(PcpOpcode.MAP)
    assert PcpResponse.decode(refusal, PcpOpcode.MAP) == PcpResponse(2, 5, 1800)


def test_answers_to_other_questions_are_malformed() -> None:
    mapped = PmpMapped(0, 5, 1, 2, 3).encode()
    with pytest.raises(MalformedMessage):
        PmpAddress.decode(mapped)
    with pytest.raises(MalformedMessage):
        PmpMapped.decode(PmpAddress(0, 5, "45.0.1.2").encode())
    with pytest.raises(MalformedMessage):
        PcpResponse.decode(PcpResponse(0, 5).encode(PcpOpcode.ANNOUNCE), PcpOpcode.MAP)
    with pytest.raises(MalformedMessage, match="PCP"):  # a router that knows NAT-PMP only
        PcpResponse.decode(bytes.fromhex("0081 0001 00000005") + bytes(16), PcpOpcode.MAP)
    with pytest.raises(MalformedMessage):  # our own request, sent back
        PmpMapped.decode(PmpMapRequest(1, 2, 3).encode())


def test_a_mapping_of_tcp_is_malformed() -> None:
    encoded = bytearray(PcpMap(NONCE, 1, Endpoint("45.0.1.2", 2)).encode())
    encoded[12] = 6
    with pytest.raises(MalformedMessage, match="protocol"):
        PcpMap.decode(bytes(encoded))


@given(
    st.binary(max_size=80)
    | st.builds(
        lambda head, rest: head + rest,
        st.sampled_from(
            [b"\0\x80\0\0", b"\0\x81\0\0", b"\x02\x81\0\0", b"\x02\x80\0\0", b"\x02\1"]
        ),
        st.binary(max_size=1200),
    )
)
def test_arbitrary_bytes_decode_or_are_malformed(datagram: bytes) -> None:
    readers = (
        PmpAddress.decode,
        PmpMapped.decode,
        PmpMapRequest.decode,
        PcpRequest.decode,
        lambda answer: PcpResponse.decode(answer, PcpOpcode.MAP),
        lambda answer: PcpResponse.decode(answer, PcpOpcode.ANNOUNCE),
    )
    for read in readers:
        try:
            read(datagram)
        except MalformedMessage:
            continue
        assert len(datagram) <= 1200


@given(
    start=st.integers(0, 10**9),
    steps=st.lists(st.floats(0.0, 10_000.0), max_size=20),
    rate=st.floats(15 / 16, 17 / 16),
)
def test_a_clock_that_runs_a_little_wrong_is_no_restart(
    start: int, steps: list[float], rate: float
) -> None:
    watch, now = EpochWatch(), 0.0
    for step in [0.0, *steps]:
        now += step
        assert not watch.has_restarted(start + int(now * rate), now)


@given(up_for=st.integers(10, 10**9), silence=st.floats(0.0, 3600.0), age=st.integers(0, 5))
def test_a_clock_that_began_anew_is_a_restart(up_for: int, silence: float, age: int) -> None:
    watch = EpochWatch()
    assert not watch.has_restarted(up_for, 100.0)
    assert watch.has_restarted(min(age, up_for - 2), 100.0 + silence) or up_for < silence


def test_a_clock_that_jumps_ahead_is_a_restart_too() -> None:
    watch = EpochWatch()
    watch.has_restarted(100, 0.0)
    assert watch.has_restarted(1000, 30.0)
    assert not watch.has_restarted(1030, 60.0)
