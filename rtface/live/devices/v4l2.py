"""Queries of Linux video devices and of the processes that use them."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import struct
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple

from rtface.errors import Message

DEVICES, CLASS, MODULE, PROC = Path("/dev"), Path("/sys/class/video4linux"), Path("/sys/module"), Path("/proc")

QUERYCAP = 0x80685600
CAPTURE, OUTPUT = 1, 2
"""Bits of what a device can do; V4L2's numbers of its two kinds of stream too."""

ADD = "sudo usermod -aG video $USER"
JOIN = Message("{line}, then log in again", code="repair_join", line=ADD)
FORBIDDEN = Message("no permission", code="device_forbidden")
IN_USE = Message("in use", code="device_used")
FREE = Message("free", code="device_free")


class DeviceCapability(NamedTuple):
    """Answer of VIDIOC_QUERYCAP: the device's bus, and whether frames can be read from it and written to it.

    Of a loopback device, the first is True while it has a writer, and the second, with exclusive_caps=1, while it has
    none.
    """

    bus: str
    captures: bool
    outputs: bool


@contextlib.contextmanager
def opened(node: Path | str) -> Generator[int]:
    """Opens a video device for a block, without waiting for it; OSError where that fails."""
    assert sys.platform == "linux"
    fd = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def ioctl(fd: int, request: int, data: bytes | bytearray) -> bytes:
    """The ioctl's answer; OSError as the driver gives it."""
    assert sys.platform == "linux"
    import fcntl

    return fcntl.ioctl(fd, request, bytes(data))


def read_text(path: Path, otherwise: str = "") -> str:
    """What a file of the kernel says; `otherwise` where it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return otherwise


def nodes() -> list[Path]:
    """All video devices by number; empty where there are none."""
    found = [path for path in DEVICES.glob("video*") if re.fullmatch(r"video\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name[5:]))


def label(node: Path) -> str:
    """The name that programs show; read without opening the device. Empty where it is not known."""
    return read_text(CLASS / node.name / "name")


def query(node: Path) -> DeviceCapability:
    """Capabilities of a device; OSError where it cannot be opened, or is no video device."""
    with opened(node) as fd:
        return capability(fd)


def capability(fd: int) -> DeviceCapability:
    """Capabilities of an open device; OSError where it is no video device."""
    bus, _, all_bits, bits = struct.unpack_from("=32sIII", ioctl(fd, QUERYCAP, bytes(104)), 48)
    can = bits if all_bits & 0x80000000 else all_bits
    return DeviceCapability(bus.split(b"\0")[0].decode(errors="replace"), bool(can & CAPTURE), bool(can & OUTPUT))


def users(node: Path) -> tuple[str, ...]:
    """Other processes that hold a device open, as "zoom (pid 8)", as far as this one may see: those of the same user,
    all for root."""
    return tuple(user for user, path in open_files() if path == str(node))


def open_files() -> Iterator[tuple[str, str]]:
    """Each other process that has a video device open, with the device's path."""
    prefix, own = str(DEVICES / "video"), str(os.getpid())
    for link in glob.iglob(f"{PROC}/[0-9]*/fd/*"):  # noqa: PTH207 - no Path for each of thousands
        pid = link.split("/")[-3]
        with contextlib.suppress(OSError):  # it ended
            if pid != own and (path := os.readlink(link)).startswith(prefix):  # noqa: PTH115
                yield f"{read_text(PROC / pid / 'comm', '?')} (pid {pid})", path


def is_loopback(node: Path) -> bool:
    """True if a device is v4l2loopback's; found out without opening it."""
    with contextlib.suppress(OSError):
        target = (CLASS / node.name).resolve(strict=True)
        return "/virtual/video4linux/" in f"{target}" and (target / "max_openers").exists()
    return False


def why(error: OSError) -> str:
    """What the kernel said, in words of the field."""
    return {errno.ENOENT: "it is not there", errno.ENODEV: "it is gone", errno.ENXIO: "it is gone"}.get(
        error.errno or 0, error.strerror or str(error)
    )
