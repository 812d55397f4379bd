"""The TAP interface: /dev/net/tun with a virtio-net header of 10 bytes."""

from mesh.engine import FrameIovec

TAP_READ_BYTES = 65536 + 512
"""Room for the largest super-frame with its headers."""


class Tap:
    """One TAP interface that exists as long as this object is open; made by `open_tap`.

    Attributes:
        name: such as ``mesh0``.
        index: the kernel's interface index.
    """

    name: str
    index: int

    def fileno(self) -> int:
        """Return the file descriptor, -1 after `close`."""
        raise NotImplementedError

    async def wait_readable(self) -> None:
        """Wait until a frame is there to be read."""
        raise NotImplementedError

    def read_into(self, buffer: memoryview) -> int:
        """Read one virtio-net header and frame; return their length, 0 if nothing is there.

        Raises:
            DeviceUnavailable: the interface was deleted.
            OSError: EIO while the interface is down.
        """
        raise NotImplementedError

    def write(self, iovec: FrameIovec) -> None:
        """Hand one frame, virtio-net header first, to the kernel.

        Raises:
            DeviceUnavailable: the interface was deleted.
            OSError: EIO while the interface is down; EINVAL for a header the kernel refuses;
                BlockingIOError if the kernel has no room.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Remove the interface; harmless the second time."""
        raise NotImplementedError


def open_tap(name: str | None = None, *, offload: bool = False) -> Tap:
    """Make a TAP interface; it vanishes with the process, however that ends.

    Args:
        name: at most 15 bytes; None for the first free of mesh0, mesh1...
        offload: whether the kernel may hand over super-frames and partial checksums.

    Raises:
        ConfigError: the name is too long or not one for an interface.
        DeviceUnavailable: no /dev/net/tun, no CAP_NET_ADMIN, the name is taken.
    """
    raise NotImplementedError
