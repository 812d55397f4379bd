"""Our place at one supernode: which way, and how it moves."""

from mesh.addresses import Endpoint
from mesh.core.contact import Contact
from mesh.core.context import Context
from mesh.core.outbox import Via
from mesh.core.ways import PROBE_REPEATS
from mesh.crypto.session import Session
from mesh.engine import Transport
from mesh.wire.messages import Ping, Pong, decode_message
from tests.core.edge_alone import SUPERNODE, Target, edge_context, split
from tests.core.scripted_supernode import ScriptedSupernode

UDP = Via(0, SUPERNODE)
STREAM = Via(1000, Endpoint("203.0.113.1", 443))
SEEN_AS = Endpoint("198.51.100.1", 4242)
DIGEST = bytes(8)


def sessions() -> tuple[Session, Session]:
    """Return the two ends of a session: ours and the supernode's."""
    target = Target()
    supernode = ScriptedSupernode(target)
    supernode.take_in(0.0)
    ours = target.engine._supernodes.primary.contact.session
    assert ours is not None
    assert supernode.session is not None
    return ours, supernode.session


class Talk:
    """A contact by UDP, and the supernode's end of it."""

    def __init__(self) -> None:
        self.context: Context = edge_context()
        self.contact = Contact(0, self.context, lambda _via: False)
        self.contact.ways.set_endpoints([SUPERNODE])
        ours, self.theirs = sessions()
        self.contact.established(ours, UDP, 7, 0.0)

    def said(self) -> list[tuple[Via, Ping]]:
        """Return the pings that were sent, and how."""
        said = []
        for batch in self.context.outbox.take():
            for datagram, destination in split([batch]):
                message = decode_message(self.theirs.open_untrusted(datagram)[4:])
                assert isinstance(message, Ping)
                said.append((Via(batch.socket, destination), message))
        return said

    def answer(self, via: Via, token: bytes, *, digest: bytes = b"") -> bool:
        return self.contact.receive_probe_answer(Pong(token, SEEN_AS, digest), via, 1.0)


def test_a_ping_goes_by_the_way_in_use_and_its_pong_measures() -> None:
    talk = Talk()
    talk.contact.ping(0.0)
    [(via, ping)] = talk.said()
    assert via == UDP
    assert talk.contact.receive_pong(Pong(ping.token, SEEN_AS, DIGEST), UDP, 0.25)
    assert talk.contact.liveness.rtt == 0.25


def test_only_a_pong_with_the_digest_moves_us_and_until_then_we_ask_again() -> None:
    talk = Talk()
    talk.contact.ways.set_stream(STREAM, Transport.TCP)
    talk.contact.ping_by(STREAM)
    for _ in range(PROBE_REPEATS):
        [(via, ping)] = talk.said()
        assert via == STREAM
        assert not talk.answer(STREAM, ping.token)
        assert talk.contact.via == UDP
    [(_, ping)] = talk.said()
    assert talk.answer(STREAM, ping.token, digest=DIGEST)
    assert talk.contact.via == STREAM
    assert talk.contact.transport is Transport.TCP


def test_asking_again_ends() -> None:
    talk = Talk()
    talk.contact.ways.set_stream(STREAM, Transport.TCP)
    talk.contact.ping_by(STREAM)
    for _ in range(PROBE_REPEATS + 1):
        [(_, ping)] = talk.said()
        talk.answer(STREAM, ping.token)
    assert talk.said() == []


def test_a_pong_by_another_way_than_its_ping_moves_nothing() -> None:
    talk = Talk()
    talk.contact.ways.set_stream(STREAM, Transport.TCP)
    talk.contact.ping_by(STREAM)
    [(_, ping)] = talk.said()
    assert not talk.answer(UDP, ping.token, digest=DIGEST)
    assert talk.contact.via == UDP


def test_envelopes_carry_our_relay_id_by_every_way_there_is_and_by_none_that_is_gone() -> None:
    talk = Talk()
    talk.contact.ways.set_stream(STREAM, Transport.TCP)
    talk.contact.tell_relay_id()
    for way in (UDP, STREAM):
        header = talk.context.outbox.envelope(way._replace(relay_id=9))
        assert header[4:8] == (7).to_bytes(4, "big")
    talk.contact.ways.stream_ended(STREAM.socket)
    talk.contact.tell_relay_id()
    assert talk.context.outbox.envelope(STREAM._replace(relay_id=9))[4:8] == bytes(4)


def test_what_udp_sees_is_kept_while_a_stream_is_in_use() -> None:
    talk = Talk()
    assert talk.contact.note_seen_as(SEEN_AS)
    assert talk.contact.note_seen_as(SEEN_AS._replace(port=0))
    assert not talk.contact.note_seen_as(SEEN_AS._replace(port=0))
    assert talk.contact.udp_seen_as == SEEN_AS
