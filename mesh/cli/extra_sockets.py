"""Opens and closes the extra UDP sockets that the engine asks for: guessing at ports takes many."""

import logging
import socket

import trio

from mesh.core.edge import EdgeEngine
from mesh.engine import SocketId
from mesh.errors import ConfigError
from mesh.events import SocketsUnwanted, SocketsWanted
from mesh.net.driver import Driver
from mesh.net.udp import open_udp

OPENED_AT_ONCE = 32  # some 2 ms, in which no frame moves

_log = logging.getLogger(__name__)


class ExtraSockets:
    """The extra sockets of one edge; the driver owns them."""

    def __init__(self, engine: EdgeEngine, driver: Driver) -> None:
        self._engine = engine
        self._driver = driver

    async def open(self, wanted: SocketsWanted) -> None:
        """Open as many as can be had and tell the engine."""
        opened: list[SocketId] = []
        try:
            while len(opened) < wanted.count:
                opened.append(self._open_one())
                if len(opened) % OPENED_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
        except (OSError, ConfigError) as error:
            have = f"{len(opened)} of {wanted.count}"
            _log.warning("%s extra sockets, so a direct path is less likely: %s", have, error)
        self._driver.step(lambda now: self._engine.sockets_opened(opened, now))

    def _open_one(self) -> SocketId:
        number = self._driver.new_socket_id()
        self._driver.add_port(open_udp(socket.AF_INET, socket_id=number, where="extra socket"))
        return number

    def close(self, unwanted: SocketsUnwanted) -> None:
        """Close those that are not needed any more."""
        for number in unwanted.sockets:
            self._driver.remove_port(number)
