"""An edge on a real socket, for supernodes with real sockets."""

import os
import socket

import trio

from mesh.addresses import Endpoint
from mesh.crypto.community import CommunityKeys
from mesh.crypto.handshake import SupernodeInitiator
from mesh.crypto.identity import Identity, fingerprint_of
from mesh.crypto.session import Session
from mesh.crypto.suite import Suite
from mesh.wire.inner import open_control_untrusted, wrap_control
from mesh.wire.messages import (
    AddressMode,
    Message,
    Register,
    decode_message,
    encode_message,
)


class SocketEdge:
    """An edge on a real socket that registers and listens."""

    def __init__(self, endpoint: Endpoint, fingerprint: str, identity: Identity) -> None:
        family = socket.AF_INET6 if endpoint.is_ipv6 else socket.AF_INET
        self.socket = trio.socket.socket(family, socket.SOCK_DGRAM)
        self.fingerprint = fingerprint
        self.endpoint = endpoint
        self.identity = identity
        self.session: Session

    async def register(self, community: CommunityKeys) -> Message:
        await self.socket.connect(self.endpoint)
        initiator = SupernodeInitiator(self.identity, Suite.AESGCM_SHA256, 7, os.urandom)
        await self.socket.send(initiator.datagram)
        key = initiator.receive_response_untrusted(await self.socket.recv(2000))
        assert fingerprint_of(key) == self.fingerprint
        confirmation, self.session = initiator.confirm(trio.current_time())
        await self.socket.send(confirmation)
        message = Register(
            community=community.community_id,
            signature=community.sign_registration(self.session.handshake_hash),
            instance=bytes(8),
            mode=AddressMode.AUTO,
            address="",
            subnets=tuple(str(subnet) for subnet in community.subnet_proposals()),
            aes=True,
        )
        await self.socket.send(self.session.seal(wrap_control(encode_message(message))))
        return await self.read()

    async def read(self) -> Message:
        plaintext = self.session.open_untrusted(await self.socket.recv(2000))
        return decode_message(bytes(open_control_untrusted(plaintext)))

    async def ask(self, message: Message, place: Endpoint) -> tuple[Message, Endpoint, Endpoint]:
        """Send a message from a socket of its own; return the answer, its source, and our end."""
        with trio.socket.socket(self.socket.family, socket.SOCK_DGRAM) as asking:
            await asking.sendto(self.session.seal(wrap_control(encode_message(message))), place)
            datagram, source = await asking.recvfrom(2000)
            ours = Endpoint("127.0.0.1", asking.getsockname()[1])
        plaintext = self.session.open_untrusted(datagram)
        answer = decode_message(bytes(open_control_untrusted(plaintext)))
        return answer, Endpoint(*source[:2]), ours
