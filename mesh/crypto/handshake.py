"""The two handshakes as datagrams; docs/protocol.md section 5.

Between edges (Noise IKpsk2) one object on each side, towards a supernode (Noise XX) likewise:

```
PeerInitiator ──────── initiation ───────▶ PeerInitiation
  its Session ◀─────── response ────────── its Session

SupernodeInitiator ─── initiation ───────▶ SupernodeInitiation
  checks the pin  ◀─── response ──────────
  its Session ──────── confirmation ─────▶ its Session
```

What a datagram costs the receiver grows with what it has proved: length and version first, then
mac1, and only then a Diffie-Hellman. A datagram that is refused changes nothing: the true one may
still come.

No tag covers the sender index of a response. Whoever sees one and is faster with a copy that
names another index spoils this handshake: what is sealed for that index opens nowhere. Nothing is
forged or revealed, and the next handshake gets another chance.
"""

from copy import copy

from mesh.constants import KEY_BYTES
from mesh.crypto import Buffer, Entropy
from mesh.crypto.community import CommunityKeys
from mesh.crypto.cookie import (
    MAC1_KEY_SUPERNODE,
    add_macs,
    has_valid_mac1,
    mac1_key_peer,
    mac1_of,
)
from mesh.crypto.keypair import KeyPair
from mesh.crypto.layout import (
    Initiation,
    UnsupportedVersion,
    decode_confirmation_untrusted,
    decode_initiation_untrusted,
    decode_response_untrusted,
    encode_index,
    encode_prefix,
)
from mesh.crypto.noise import IK_PSK2, XX, HandshakeState
from mesh.crypto.session import Session
from mesh.crypto.suite import Suite
from mesh.errors import LocalError, NotAuthentic, Replayed
from mesh.wire.datagram import DatagramType

__all__ = [
    "PeerInitiation",
    "PeerInitiator",
    "SupernodeInitiation",
    "SupernodeInitiator",
    "UnsupportedVersion",
]

_NUMBER_BYTES = 8


class PeerInitiator:
    """Our initiation to another edge, waiting for its response; section 5.1.

    Args:
        identity: our static key.
        community: the community that both are members of.
        their_static: 32 bytes; the peer's public key as the supernode told it.
        suite: see `Suite.preferred`.
        our_index: the receiver index of datagrams for us: random, unique, not zero.
        number: the initiation number: greater than all that this peer has seen of us; 8 bytes.
        entropy: asked for the ephemeral key.
        cookie: 16 bytes the peer gave us less than `COOKIE_LIFETIME` ago.

    Attributes:
        datagram: the initiation, 144 bytes.
        mac1: its mac1, which a cookie reply must name.
        our_index: as given.
        their_static: as given.

    Raises:
        NotAuthentic: ``their_static`` is of low order (a supernode may tell us anything).
    """

    def __init__(  # noqa: PLR0917 - the parts of one initiation
        self,
        identity: KeyPair,
        community: CommunityKeys,
        their_static: bytes,
        suite: Suite,
        our_index: int,
        number: int,
        entropy: Entropy,
        cookie: bytes | None = None,
    ) -> None:
        self.our_index = our_index
        self.their_static = their_static
        self._suite = suite
        prefix = encode_prefix(DatagramType.PEER_INITIATION, suite)
        self._noise = HandshakeState(
            IK_PSK2,
            suite,
            is_initiator=True,
            prologue=_peer_prologue(prefix, community),
            our_static=identity,
            their_static=their_static,
            psk=community.psk,
        )
        noise_message = self._noise.write_message(
            number.to_bytes(_NUMBER_BYTES, "big"), ephemeral=entropy(KEY_BYTES)
        )
        self.datagram = add_macs(
            prefix + encode_index(our_index) + noise_message,
            mac1_key_peer(community, their_static),
            cookie,
        )
        self.mac1 = mac1_of(self.datagram)

    def receive_response_untrusted(self, datagram: Buffer, now: float) -> Session:
        """Return the session, ready to use; only the first response that verifies makes one.

        Raises:
            MalformedMessage: not a response of this version and suite.
            NotAuthentic: not an answer to this initiation, or not by this peer.
            Replayed: a response has verified before.
        """
        datagram = bytes(datagram)
        their_index, noise_message = decode_response_untrusted(
            datagram, DatagramType.PEER_RESPONSE, self._suite, self.our_index
        )
        if self._noise.is_finished:
            raise Replayed("the handshake has been answered")
        self._noise.read_message_untrusted(noise_message)
        return Session.from_handshake(self._noise, self.our_index, their_index, now)


class PeerInitiation:
    """Another edge's initiation that verified, not answered yet; section 5.1.

    The caller must still refuse a ``number`` not greater than the greatest accepted from this
    static key: until then it may be a replay.

    Attributes:
        their_static: 32 bytes; the public key that the initiator proved to hold.
        number: the initiation number.
        sender_index: the initiator's index, not zero.
        suite: what the initiator chose.
    """

    def __init__(self, noise: HandshakeState, initiation: Initiation, number: int) -> None:
        self._noise = noise
        self.suite = initiation.suite
        self.sender_index = initiation.sender_index
        self.their_static = _proved_static(noise)
        self.number = number

    @classmethod
    def receive_untrusted(
        cls, datagram: Buffer, identity: KeyPair, community: CommunityKeys
    ) -> "PeerInitiation":
        """Verify an initiation: length and version, then mac1, then the rest.

        Raises:
            UnsupportedVersion: another major version, to be answered with a refusal.
            MalformedMessage: another type, a wrong length, an unknown suite.
            NotAuthentic: not by a member of this community, or not for us.
        """
        datagram = bytes(datagram)
        initiation = decode_initiation_untrusted(datagram, DatagramType.PEER_INITIATION)
        if not has_valid_mac1(datagram, mac1_key_peer(community, identity.public_key)):
            raise NotAuthentic("the mac1 of an initiation is wrong")
        noise = HandshakeState(
            IK_PSK2,
            initiation.suite,
            is_initiator=False,
            prologue=_peer_prologue(initiation.prefix, community),
            our_static=identity,
            psk=community.psk,
        )
        payload = noise.read_message_untrusted(initiation.noise_message)
        return cls(noise, initiation, int.from_bytes(payload, "big"))

    def respond(self, our_index: int, entropy: Entropy, now: float) -> tuple[bytes, Session]:
        """Return the response, 60 bytes, and the session it makes; once only.

        The session is *next* until something opens under it: only then is the initiator known to
        know the community's secret and to be there.

        Args:
            our_index: the receiver index of datagrams for us: random, unique, not zero.
            entropy: asked for the ephemeral key.
            now: when the session starts.

        Raises:
            LocalError: called before.
            NotAuthentic: the initiator's ephemeral key is of low order.
        """
        response = (
            encode_prefix(DatagramType.PEER_RESPONSE, self.suite)
            + encode_index(our_index)
            + encode_index(self.sender_index)
            + self._noise.write_message(ephemeral=entropy(KEY_BYTES))
        )
        session = Session.from_handshake(self._noise, our_index, self.sender_index, now)
        return response, session


class SupernodeInitiator:
    """Our initiation to a supernode, waiting for its response; section 5.2.

    Args:
        identity: our static key.
        suite: see `Suite.preferred`.
        our_index: the receiver index of datagrams for us: random, unique, not zero.
        entropy: asked for the ephemeral key.
        cookie: 16 bytes the supernode gave us less than `COOKIE_LIFETIME` ago.

    Attributes:
        datagram: the initiation, 72 bytes.
        mac1: its mac1, which a cookie reply must name.
        our_index: as given.
    """

    def __init__(
        self,
        identity: KeyPair,
        suite: Suite,
        our_index: int,
        entropy: Entropy,
        cookie: bytes | None = None,
    ) -> None:
        self.our_index = our_index
        self._suite = suite
        prefix = encode_prefix(DatagramType.SUPERNODE_INITIATION, suite)
        self._noise = HandshakeState(
            XX,
            suite,
            is_initiator=True,
            prologue=_supernode_prologue(prefix),
            our_static=identity,
        )
        self._answered: tuple[HandshakeState, int] | None = None
        noise_message = self._noise.write_message(ephemeral=entropy(KEY_BYTES))
        self.datagram = add_macs(
            prefix + encode_index(our_index) + noise_message, MAC1_KEY_SUPERNODE, cookie
        )
        self.mac1 = mac1_of(self.datagram)

    def receive_response_untrusted(self, datagram: Buffer) -> bytes:
        """Return the static public key, 32 bytes, that the response proves, for the pin check.

        Anybody who saw the initiation can answer it with a key of his own. So a response with the
        wrong key is to be ignored, and another one may come until `confirm` is called.

        Raises:
            MalformedMessage: not a response of this version and suite.
            NotAuthentic: not an answer to this initiation.
            Replayed: `confirm` has been called.
        """
        datagram = bytes(datagram)
        their_index, noise_message = decode_response_untrusted(
            datagram, DatagramType.SUPERNODE_RESPONSE, self._suite, self.our_index
        )
        if self._noise.is_finished:
            raise Replayed("the handshake has been confirmed")
        noise = copy(self._noise)
        noise.read_message_untrusted(noise_message)
        their_static = _proved_static(noise)
        self._answered = noise, their_index
        return their_static

    def confirm(self, now: float) -> tuple[bytes, Session]:
        """Return the confirmation, 72 bytes, and the session with whose key was last returned.

        To repeat a confirmation send the same bytes again.

        Raises:
            LocalError: no response has verified, or called before.
            NotAuthentic: the supernode's ephemeral key is of low order.
        """
        if self._answered is None or self._noise.is_finished:
            raise LocalError("there is no response to confirm")
        noise, their_index = self._answered
        confirmation = (
            encode_prefix(DatagramType.SUPERNODE_CONFIRMATION, self._suite)
            + encode_index(their_index)
            + noise.write_message()
        )
        session = Session.from_handshake(noise, self.our_index, their_index, now)
        self._noise = noise
        return confirmation, session


class SupernodeInitiation:
    """An edge's initiation as a supernode sees it; nothing is proved before the confirmation.

    Attributes:
        sender_index: the edge's index, not zero.
        suite: what the edge chose.
    """

    def __init__(self, noise: HandshakeState, initiation: Initiation) -> None:
        self._noise = noise
        self._our_index = 0
        self.suite = initiation.suite
        self.sender_index = initiation.sender_index

    @classmethod
    def receive_untrusted(cls, datagram: Buffer, identity: KeyPair) -> "SupernodeInitiation":
        """Check an initiation: length and version, then mac1; no Diffie-Hellman yet.

        Raises:
            UnsupportedVersion: another major version, to be answered with a refusal.
            MalformedMessage: another type, a wrong length, an unknown suite.
            NotAuthentic: its mac1 is wrong.
        """
        datagram = bytes(datagram)
        initiation = decode_initiation_untrusted(datagram, DatagramType.SUPERNODE_INITIATION)
        if not has_valid_mac1(datagram, MAC1_KEY_SUPERNODE):
            raise NotAuthentic("the mac1 of an initiation is wrong")
        noise = HandshakeState(
            XX,
            initiation.suite,
            is_initiator=False,
            prologue=_supernode_prologue(initiation.prefix),
            our_static=identity,
        )
        noise.read_message_untrusted(initiation.noise_message)
        return cls(noise, initiation)

    def respond(self, our_index: int, entropy: Entropy) -> bytes:
        """Return the response, 108 bytes; once only.

        Args:
            our_index: the receiver index of datagrams for us: random, unique, not zero.
            entropy: asked for the ephemeral key.

        Raises:
            LocalError: called before.
            NotAuthentic: the edge's ephemeral key is of low order.
        """
        response = (
            encode_prefix(DatagramType.SUPERNODE_RESPONSE, self.suite)
            + encode_index(our_index)
            + encode_index(self.sender_index)
            + self._noise.write_message(ephemeral=entropy(KEY_BYTES))
        )
        self._our_index = our_index
        return response

    def receive_confirmation_untrusted(self, datagram: Buffer, now: float) -> Session:
        """Return the session; its ``their_static`` is the edge's key, now proved.

        Raises:
            MalformedMessage: not a confirmation of this version and suite.
            NotAuthentic: it does not complete this handshake.
            Replayed: a confirmation has verified before.
        """
        datagram = bytes(datagram)
        noise_message = decode_confirmation_untrusted(datagram, self.suite, self._our_index)
        if self._noise.is_finished:
            raise Replayed("the handshake has been confirmed")
        self._noise.read_message_untrusted(noise_message)
        return Session.from_handshake(self._noise, self._our_index, self.sender_index, now)


def _peer_prologue(prefix: bytes, community: CommunityKeys) -> bytes:
    """Section 5.1; ``prefix`` is the first 4 bytes of the initiation."""
    return b"mesh v1 peer" + prefix + community.community_id


def _supernode_prologue(prefix: bytes) -> bytes:
    """Section 5.2; ``prefix`` is the first 4 bytes of the initiation."""
    return b"mesh v1 supernode" + prefix


def _proved_static(noise: HandshakeState) -> bytes:
    """The other side's static key, known from here on by the pattern."""
    if noise.their_static is None:
        raise LocalError("the handshake has not come to the static key yet")
    return noise.their_static
