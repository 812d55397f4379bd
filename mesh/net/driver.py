"""The trio shell around any engine: sockets, TAP and clock in, batches out (architecture.md)."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import trio

from mesh.engine import Engine, SocketId
from mesh.events import Event
from mesh.net.tap import Tap
from mesh.net.udp import UdpPort

T = TypeVar("T")

OnEvent: TypeAlias = Callable[[Event], Awaitable[None] | None]
"""What to do about one event; called from a task of the driver, one event at a time, in order."""


@dataclass(slots=True)
class DriverCounters:
    """What the driver has moved and lost, all since its start.

    Attributes:
        datagram_batches_received: successful reads of sockets.
        datagram_batches_sent: successful sends.
        send_would_block: sends dropped since the socket's buffer was full (EAGAIN).
        send_errors: sends the kernel refused, by errno name.
        receive_errors: errors that reads of sockets reported (ICMP), by errno name.
        frames_read: successful TAP reads.
        frames_written: successful TAP writes.
        tap_errors: TAP reads and writes the kernel refused, by errno name.
    """

    datagram_batches_received: int = 0
    datagram_batches_sent: int = 0
    send_would_block: int = 0
    send_errors: dict[str, int] = field(default_factory=dict)
    receive_errors: dict[str, int] = field(default_factory=dict)
    frames_read: int = 0
    frames_written: int = 0
    tap_errors: dict[str, int] = field(default_factory=dict)

    def drops(self) -> dict[str, int]:
        """Return the drops under the names of `mesh.events.DropReason`, zeros left out."""
        raise NotImplementedError


class Driver:
    """Moves bytes between one engine, its sockets and its TAP until it is cancelled.

    The engine must have been made with ``trio.current_time()`` as its clock. The driver owns the
    ports and the TAP from `run` on and closes them when it ends.

    Attributes:
        counters: see `DriverCounters`.
    """

    def __init__(
        self,
        engine: Engine,
        sockets: Mapping[SocketId, UdpPort],
        tap: Tap | None = None,
        *,
        on_event: OnEvent | None = None,
        store_first: tuple[type[Event], ...] = (),
    ) -> None:
        """Prepare; nothing is read or sent before `run`.

        Args:
            engine: a `FrameEngine` if there is a ``tap``.
            sockets: ports by the numbers under which the engine knows them.
            tap: the interface, or None for a supernode.
            on_event: told every event, in order; may be async and may take its time.
            store_first: event types (``LeaseGranted``...) that ``on_event`` must have finished with
                before the datagrams of the same step leave. If it raises `StateError` those
                datagrams are dropped: nothing is promised that is not stored.
        """
        raise NotImplementedError

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run until cancelled; then stop the engine, send its goodbyes and close everything.

        Raises:
            DeviceUnavailable: the TAP was deleted while running.
        """
        raise NotImplementedError

    def step(self, call: Callable[[float], T]) -> T:
        """Run one engine call with the current time, then drain the engine's outputs.

        For what does not come from a socket: control commands, new supernode addresses. Example:
        ``driver.step(lambda now: engine.probe(peer, token, now))``. Only inside ``trio.run``, while
        `run` is running.
        """
        raise NotImplementedError
