"""What a driver counts: bytes moved are the engine's to count, what the kernel refused is ours."""

import errno
from dataclasses import dataclass, field

from mesh.events import DropReason


@dataclass(slots=True)
class DriverCounters:
    """What the driver has moved and lost, all since its start.

    Attributes:
        datagram_batches_received: successful reads of sockets.
        datagram_batches_sent: successful sends.
        send_would_block: sends dropped since the socket's buffer was full (EAGAIN).
        queue_full: datagrams dropped since a stream did not take them in time.
        send_errors: sends the kernel refused, by errno name.
        receive_errors: errors that reads of sockets reported (ICMP), by errno name.
        frames_read: successful TAP reads.
        frames_written: successful TAP writes.
        tap_errors: TAP reads and writes the kernel refused, by errno name.
    """

    datagram_batches_received: int = 0
    datagram_batches_sent: int = 0
    send_would_block: int = 0
    queue_full: int = 0
    send_errors: dict[str, int] = field(default_factory=dict)
    receive_errors: dict[str, int] = field(default_factory=dict)
    frames_read: int = 0
    frames_written: int = 0
    tap_errors: dict[str, int] = field(default_factory=dict)

    def drops(self) -> dict[str, int]:
        """Return the drops under the names of `mesh.events.DropReason`, zeros left out."""
        drops = {
            DropReason.SEND_ERROR.value: self.send_would_block + sum(self.send_errors.values()),
            DropReason.QUEUE_FULL.value: self.queue_full,
            DropReason.TAP_ERROR.value: sum(self.tap_errors.values()),
        }
        return {reason: count for reason, count in drops.items() if count}


def count_error(counters: dict[str, int], error: OSError) -> str:
    """Count ``error`` under the name of its errno (``ENETUNREACH``) and return that name."""
    name = errno.errorcode.get(error.errno or 0, "UNKNOWN")
    counters[name] = counters.get(name, 0) + 1
    return name
