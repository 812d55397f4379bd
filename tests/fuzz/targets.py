"""All fuzz targets by name; each has a folder of the corpus."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.fuzz.decoders import (
    fuzz_datagram,
    fuzz_fragment,
    fuzz_inner,
    fuzz_invite,
    fuzz_lan,
    fuzz_message,
    fuzz_portmap,
    fuzz_stream,
    fuzz_websocket,
)
from tests.fuzz.engines import fuzz_edge, fuzz_supernode
from tests.fuzz.frames import fuzz_frame, fuzz_join, fuzz_split
from tests.fuzz.handshakes import fuzz_handshake

CORPUS: Final = Path(__file__).with_name("corpus")

TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "datagram": fuzz_datagram,
    "message": fuzz_message,
    "inner": fuzz_inner,
    "fragment": fuzz_fragment,
    "stream": fuzz_stream,
    "websocket": fuzz_websocket,
    "lan": fuzz_lan,
    "portmap": fuzz_portmap,
    "invite": fuzz_invite,
    "frame": fuzz_frame,
    "split": fuzz_split,
    "join": fuzz_join,
    "handshake": fuzz_handshake,
    "edge": fuzz_edge,
    "supernode": fuzz_supernode,
}
