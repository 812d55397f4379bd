"""The TAP interface: /dev/net/tun with a virtio-net header of 10 bytes before every frame."""

import contextlib
import errno
import fcntl
import os
import socket
import struct
from types import TracebackType
from typing import Final, Self

import trio

from mesh.engine import FrameIovec
from mesh.errors import ConfigError, DeviceUnavailable

TAP_READ_BYTES = 65536 + 512
"""Room for the largest super-frame with its headers."""

MAX_INTERFACE_NAME_BYTES = 15
"""IFNAMSIZ less the closing zero."""

_DEVICE: Final = "/dev/net/tun"
_NAMES_TRIED: Final = 256

# linux/if_tun.h
_TUNSETIFF: Final = 0x400454CA
_TUNSETOFFLOAD: Final = 0x400454D0
_TUNSETVNETHDRSZ: Final = 0x400454D8
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_IFF_TUN_EXCL: Final = 0x8000
_TUN_F_CSUM: Final = 0x01
_TUN_F_TSO: Final = 0x02 | 0x04  # TSO4 and TSO6
_TUN_F_USO: Final = 0x20 | 0x40  # USO4 and USO6, Linux 6.2; only together
_VNET_HEADER_BYTES: Final = 10

_IFREQ: Final = struct.Struct("=16sH22x")  # struct ifreq with ifr_flags, native byte order

_GONE: Final = {errno.EBADFD, errno.EBADF, errno.ENODEV, errno.ENXIO}


class Tap:
    """One TAP interface that exists as long as this object is open; made by `open_tap`.

    Attributes:
        name: such as ``mesh0``.
        index: the kernel's interface index.
        has_offload: whether the kernel hands over super-frames and partial checksums.
        has_uso: whether it hands over, and takes, super-frames of UDP as well.
    """

    def __init__(
        self, fd: int, name: str, index: int, *, has_offload: bool = False, has_uso: bool = False
    ) -> None:
        """Wrap an attached /dev/net/tun descriptor and own it from now on."""
        self.has_offload = has_offload
        self.has_uso = has_uso
        self.name = name
        self.index = index
        self._fd = fd

    def __repr__(self) -> str:
        return f"<Tap {self.name} ({self.index})>"

    def fileno(self) -> int:
        """Return the file descriptor, -1 after `close`."""
        return self._fd

    async def wait_readable(self) -> None:
        """Wait until a frame is there to be read, or the interface is deleted."""
        await trio.lowlevel.wait_readable(self._fd)

    def read_into(self, buffer: memoryview) -> int:
        """Read one virtio-net header and frame; return their length, 0 if nothing is there.

        Raises:
            DeviceUnavailable: the interface was deleted.
            OSError: anything else the kernel reports; the interface may come back.
        """
        # Hot path.
        try:
            return os.readv(self._fd, (buffer,))
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._explained(error) from error

    def write(self, iovec: FrameIovec) -> None:
        """Hand one frame, virtio-net header first, to the kernel.

        Raises:
            DeviceUnavailable: the interface was deleted.
            OSError: EIO while the interface is down; EINVAL for a header the kernel refuses;
                BlockingIOError if the kernel has no room.
        """
        # Hot path.
        try:
            os.writev(self._fd, iovec)
        except OSError as error:
            raise self._explained(error) from error

    def close(self) -> None:
        """Remove the interface; harmless the second time."""
        if self._fd >= 0:
            with contextlib.suppress(RuntimeError):  # outside trio.run nobody can be waiting
                trio.lowlevel.notify_closing(self._fd)
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _explained(self, error: OSError) -> OSError | DeviceUnavailable:
        if error.errno in _GONE:
            return DeviceUnavailable(
                f"the interface {self.name} was deleted while in use",
                "join again to have a new one",
            )
        return error


def open_tap(name: str | None = None, *, offload: bool = False) -> Tap:
    """Make a TAP interface; it vanishes with the process, however that ends.

    Args:
        name: at most 15 bytes; None for the first free of mesh0, mesh1...
        offload: whether the kernel may hand over super-frames and partial checksums.

    Raises:
        ConfigError: the name is too long or not one for an interface.
        DeviceUnavailable: no /dev/net/tun, no CAP_NET_ADMIN, the name is taken.
    """
    if name is not None:
        _check_name(name)
        return _open_named(name, offload=offload)
    for number in range(_NAMES_TRIED):
        try:
            return _open_named(f"mesh{number}", offload=offload)
        except _NameTaken:
            continue
    raise DeviceUnavailable(
        f"mesh0 to mesh{_NAMES_TRIED - 1} are all taken", "choose a name with --tap NAME"
    )


class _NameTaken(DeviceUnavailable):
    """The name belongs to another interface."""


def _check_name(name: str) -> None:
    if len(name.encode()) > MAX_INTERFACE_NAME_BYTES:
        raise ConfigError(
            "--tap",
            "",
            f"{name!r} is too long: an interface name has at most {MAX_INTERFACE_NAME_BYTES} bytes",
        )
    # "%" would make the kernel number the interface; the others it refuses (dev_valid_name).
    if name in {"", ".", ".."} or any(char in "/:%\0" or char.isspace() for char in name):
        raise ConfigError("--tap", "", f"{name!r} is not a name for an interface")


def _open_named(name: str, *, offload: bool) -> Tap:
    fd = _open_device()
    try:
        # TUN_EXCL: never attach to a persistent TAP that somebody else made.
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | _IFF_TUN_EXCL
        try:
            fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(name.encode(), flags))
        except OSError as error:
            raise _refusal(error, name) from error
        fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("=i", _VNET_HEADER_BYTES))
        has_uso = offload and _set_offload(fd, _TUN_F_CSUM | _TUN_F_TSO | _TUN_F_USO)
        has_offload = has_uso or (offload and _set_offload(fd, _TUN_F_CSUM | _TUN_F_TSO))
        if not has_offload:
            fcntl.ioctl(fd, _TUNSETOFFLOAD, 0)
        index = socket.if_nametoindex(name)
        return Tap(fd, name, index, has_offload=has_offload, has_uso=has_uso)
    except BaseException:
        os.close(fd)
        raise


def _set_offload(fd: int, features: int) -> bool:
    """Turn offloads on; return whether the kernel knows all of them."""
    try:
        fcntl.ioctl(fd, _TUNSETOFFLOAD, features)
    except OSError:
        return False
    return True


def _open_device() -> int:
    try:
        return os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as error:
        raise DeviceUnavailable(
            f"{_DEVICE} may not be opened by this user",
            "run as root or with CAP_NET_ADMIN",
        ) from error
    except OSError as error:
        raise DeviceUnavailable(
            f"{_DEVICE} cannot be opened ({error.strerror})",
            "load the kernel module with `modprobe tun`; in a container pass --device /dev/net/tun",
        ) from error


def _refusal(error: OSError, name: str) -> DeviceUnavailable:
    match error.errno:
        case errno.EPERM | errno.EACCES:
            return DeviceUnavailable(
                f"creating the interface {name} is not permitted",
                "run as root or with CAP_NET_ADMIN",
            )
        # EINVAL: the name belongs to an interface that is no TAP.
        case errno.EBUSY | errno.EEXIST | errno.EINVAL if _exists(name):
            return _NameTaken(
                f"the interface name {name} is taken", "choose another with --tap NAME"
            )
        case _:
            return DeviceUnavailable(
                f"the kernel refuses to create the interface {name} ({error.strerror})",
                "check the kernel's tun module",
            )


def _exists(name: str) -> bool:
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True
