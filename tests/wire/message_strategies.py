"""Every control message within its limits, for properties; see test_messages.py."""

import ipaddress

from hypothesis import strategies as st

from mesh.addresses import EdgeId, Endpoint, MacAddress
from mesh.errors import RefusalReason
from mesh.wire.messages import (
    AddressMode,
    Bye,
    Gone,
    Guess,
    GuessStep,
    Hello,
    Leave,
    Lookup,
    Member,
    Members,
    Ping,
    Pong,
    RefusedMessage,
    Register,
    Registered,
    ReplacedMessage,
    Shutdown,
    is_displayable,
)

U8 = st.integers(0, 2**8 - 1)
U16 = st.integers(0, 2**16 - 1)
U32 = st.integers(0, 2**32 - 1)
DIGEST = st.binary(min_size=8, max_size=8)


def _text(max_bytes: int) -> st.SearchStrategy[str]:
    return st.text(st.characters(codec="utf-8"), max_size=max_bytes).filter(
        lambda text: is_displayable(text) and len(text.encode()) <= max_bytes
    )


def _cidr(address: ipaddress.IPv4Address | ipaddress.IPv6Address, share: int) -> str:
    return f"{address}/{share % (address.max_prefixlen + 1)}"


ENDPOINT = st.builds(Endpoint, st.ip_addresses().map(str), st.integers(1, 65535))
CIDR = st.builds(_cidr, st.ip_addresses(), U8)
IPV4_CIDR = st.builds(_cidr, st.ip_addresses(v=4), U8)
ADDRESS = st.just("") | IPV4_CIDR

MEMBER = st.builds(
    Member,
    key=st.binary(min_size=32, max_size=32),
    endpoint=ENDPOINT,
    relay_id=st.integers(1, 2**32 - 1),
    address=ADDRESS,
    aes=st.booleans(),
)

BY_CLASS = {
    Register: st.builds(
        Register,
        community=st.binary(min_size=32, max_size=32),
        signature=st.binary(min_size=64, max_size=64),
        instance=DIGEST,
        mode=st.sampled_from(AddressMode),
        address=ADDRESS,
        subnets=st.lists(IPV4_CIDR, max_size=8).map(tuple),
        aes=st.booleans(),
        version=U8,
    ),
    Registered: st.builds(
        Registered,
        relay_id=st.integers(1, 2**32 - 1),
        endpoint=ENDPOINT,
        address=ADDRESS,
        members=U32,
        digest=DIGEST,
        version=U8,
        probes=st.lists(st.integers(1, 2**16 - 1), max_size=2).map(tuple),
    ),
    RefusedMessage: st.builds(
        RefusedMessage, reason=st.sampled_from(RefusalReason), detail=_text(200), version=U8
    ),
    Members: st.builds(
        Members,
        members=st.lists(MEMBER, max_size=9).map(tuple),
        digest=DIGEST,
        page=U16,
        pages=U16,
    ),
    Gone: st.builds(Gone, id=st.binary(min_size=16, max_size=16).map(EdgeId), digest=DIGEST),
    Lookup: st.just(Lookup()),
    ReplacedMessage: st.just(ReplacedMessage()),
    Leave: st.just(Leave()),
    Shutdown: st.just(Shutdown()),
    Ping: st.builds(Ping, token=DIGEST, pad=st.binary(max_size=8890), other=st.booleans()),
    Pong: st.builds(
        Pong,
        token=DIGEST,
        endpoint=st.none() | ENDPOINT,
        digest=st.just(b"") | DIGEST,
        probes=st.lists(st.integers(1, 2**16 - 1), max_size=2).map(tuple),
    ),
    Hello: st.builds(
        Hello,
        name=_text(64),
        mac=st.binary(min_size=6, max_size=6).map(MacAddress),
        addresses=st.lists(CIDR, max_size=8).map(tuple),
        candidates=st.lists(ENDPOINT, max_size=32).map(tuple),
        mtu=U16,
        answer=st.booleans(),
        version=U8,
        nat=st.lists(U8, max_size=4).map(tuple),
    ),
    Bye: st.just(Bye()),
    Guess: st.builds(Guess, attempt=DIGEST, step=st.sampled_from(GuessStep), port=U16, stride=U16),
}
MESSAGE = st.one_of(*BY_CLASS.values())
