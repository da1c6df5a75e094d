"""Queries Linux video devices: capabilities, modes, and the processes that use them."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import struct
import sys
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from rtface.errors import Message

DEVICES, CLASS, MODULE, PROC = Path("/dev"), Path("/sys/class/video4linux"), Path("/sys/module"), Path("/proc")

QUERYCAP = 0x80685600
CAPTURE, OUTPUT = 1, 2
"""Capability bits of a device; also V4L2's constants for the two stream types."""

ADD = "sudo usermod -aG video $USER"
JOIN = Message("{line}, then log in again", code="repair_join", line=ADD)
FORBIDDEN = Message("no permission", code="device_forbidden")
IN_USE = Message("in use", code="device_used")
FREE = Message("free", code="device_free")


class DeviceCapability(NamedTuple):
    """Capabilities of a video device, from VIDIOC_QUERYCAP.

    Attributes:
        bus: bus information, which contains the number of a loopback device.
        captures: whether frames can be read (on a loopback device, only while it has a writer).
        outputs: whether frames can be written (with exclusive_caps=1, only while the device has no writer).
    """

    bus: str
    captures: bool
    outputs: bool


@contextlib.contextmanager
def opened(node: Path | str) -> Generator[int]:
    """Opens a video device for a `with` block, non-blocking. Raises OSError on failure."""
    assert sys.platform == "linux"
    fd = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def ioctl(fd: int, request: int, data: bytes | bytearray) -> bytes:
    """Calls an ioctl and returns its result. Raises the driver's OSError."""
    assert sys.platform == "linux"
    import fcntl

    return fcntl.ioctl(fd, request, bytes(data))


def read_text(path: Path, otherwise: str = "") -> str:
    """Reads a kernel file. Returns `otherwise` if it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return otherwise


def nodes() -> list[Path]:
    """Lists all video devices, sorted by number."""
    paths = [path for path in DEVICES.glob("video*") if re.fullmatch(r"video\d+", path.name)]
    return sorted(paths, key=lambda path: int(path.name[5:]))


def label(node: Path) -> str:
    """Returns the name that programs show, without opening the device; "" if unknown."""
    return read_text(CLASS / node.name / "name")


def query(node: Path) -> DeviceCapability:
    """Queries a device. Raises OSError if it is not an accessible video device."""
    with opened(node) as fd:
        return capability(fd)


def capability(fd: int) -> DeviceCapability:
    """Queries an open device. Raises OSError if it is not a video device."""
    bus, _, all_bits, bits = struct.unpack_from("=32sIII", ioctl(fd, QUERYCAP, bytes(104)), 48)
    flags = bits if all_bits & 0x80000000 else all_bits
    return DeviceCapability(bus.split(b"\0")[0].decode(errors="replace"), bool(flags & CAPTURE), bool(flags & OUTPUT))


def users(node: Path) -> tuple[str, ...]:
    """Lists other processes that use a device, such as "zoom (pid 8)". Only processes of the same user are visible,
    except to root."""
    return tuple(user for user, path in open_files() if path == str(node))


def open_files() -> Iterator[tuple[str, str]]:
    """Yields other processes with an open video device, and the device's path."""
    prefix, this_pid = str(DEVICES / "video"), str(os.getpid())
    for link in glob.iglob(f"{PROC}/[0-9]*/fd/*"):  # noqa: PTH207 - faster than Path for thousands of links
        pid = link.split("/")[-3]
        with contextlib.suppress(OSError):  # the process has ended
            if pid != this_pid and (path := os.readlink(link)).startswith(prefix):  # noqa: PTH115
                yield f"{read_text(PROC / pid / 'comm', '?')} (pid {pid})", path


def is_loopback(node: Path) -> bool:
    """Tests whether a device belongs to v4l2loopback, without opening it."""
    with contextlib.suppress(OSError):
        target = (CLASS / node.name).resolve(strict=True)
        return "/virtual/video4linux/" in f"{target}" and (target / "max_openers").exists()
    return False


def why(error: OSError) -> str:
    """Describes a kernel error in a few words."""
    return {errno.ENOENT: "it does not exist", errno.ENODEV: "it was removed", errno.ENXIO: "it was removed"}.get(
        error.errno or 0, error.strerror or str(error)
    )


_ENUM_FMT, _ENUM_SIZES, _ENUM_RATES = 0xC0405602, 0xC02C564A, 0xC034564B
# V4L2 formats and FFmpeg's names, in order of preference: without conversion, then 4:2:2, then RGB.
RAW = {
    "NV12": "nv12",
    "YU12": "yuv420p",
    "422P": "yuv422p",
    "YUYV": "yuyv422",
    "UYVY": "uyvy422",
    "BGR3": "bgr24",
    "RGB3": "rgb24",
    "GREY": "gray",
}
JPEG = {"MJPG": "mjpeg", "JPEG": "mjpeg"}
# Sizes to list for a device that accepts any size.
_COMMON = (
    (160, 120),
    (320, 180),
    (320, 240),
    (640, 360),
    (640, 480),
    (800, 600),
    (960, 540),
    (1024, 768),
    (1280, 720),
    (1920, 1080),
    (2560, 1440),
    (3840, 2160),
)
# The default request to a camera: the usual mode of video calls.
USUAL_SIZE, USUAL_RATE = (1280, 720), Fraction(30)


@dataclass(frozen=True, slots=True)
class CameraMode:
    """A format, size and frame rates of a camera.

    Attributes:
        format: FFmpeg's name for `input_format`: a pixel format, or "mjpeg".
        width, height: size in samples.
        rate: highest number of frames per second; 0 if the driver does not report it.
        rates: all frame rates that the driver reports.
    """

    format: str
    width: int
    height: int
    rate: Fraction
    rates: tuple[Fraction, ...] = ()

    def nearest(self, rate: Fraction) -> Fraction:
        """Returns the lowest rate that is at least `rate`, else the highest."""
        return min((r for r in self.rates if r >= rate * Fraction(99, 100)), default=self.rate)


def modes(fd: int) -> list[CameraMode]:
    """Lists an open camera's modes in readable formats, in the driver's order. If the driver reports a range of
    sizes, lists common sizes in it. Returns an empty list if the device is not a camera."""
    readable = RAW | JPEG
    return [
        CameraMode(readable[code], width, height, max(rates, default=Fraction(0)), rates)
        for code in formats(fd)
        if code in readable
        for width, height in sizes(fd, code)
        for rates in [rates_of(fd, code, width, height)]
    ]


def formats(fd: int) -> list[str]:
    """Lists a capture device's pixel formats as four letters each. Returns an empty list for a codec device."""
    entries = list(_each(fd, _ENUM_FMT, struct.pack("=I", CAPTURE), 64))
    captures = bool(entries) and capability(fd).captures
    return [data[44:48].decode("latin-1").rstrip() for data in entries if captures]


def sizes(fd: int, code: str) -> list[tuple[int, int]]:
    """Lists the widths and heights of a format."""
    size_list: list[tuple[int, int]] = []
    for data in _each(fd, _ENUM_SIZES, _code(code), 44):
        kind, *values = struct.unpack("=I6I", data[8:36])
        if kind != 1:
            low_w, high_w, step_w, low_h, high_h, step_h = values
            size_list += [
                (w, h)
                for w, h in _COMMON
                if low_w <= w <= high_w
                and low_h <= h <= high_h
                and (w - low_w) % max(1, step_w) == 0
                and (h - low_h) % max(1, step_h) == 0
            ]
            break
        size_list.append((values[0], values[1]))
    return size_list


def rates_of(fd: int, code: str, width: int, height: int) -> tuple[Fraction, ...]:
    """Returns a mode's frame rates, fastest first. For a range, returns its two ends."""
    rates: set[Fraction] = set()
    for data in _each(fd, _ENUM_RATES, _code(code) + struct.pack("=2I", width, height), 52):
        kind, *values = struct.unpack("=I6I", data[16:44])
        for numerator, denominator in ((0, 1),) if kind == 1 else ((0, 1), (2, 3)):
            if values[numerator] and values[denominator]:
                rates.add(Fraction(values[denominator], values[numerator]))
        if kind != 1:
            break
    return tuple(sorted(rates, reverse=True))


def choose(offers: Iterable[CameraMode], size: tuple[int, int] | None, rate: Fraction | None) -> CameraMode | None:
    """Chooses the mode to request; None if there are no modes. Prefers the nearest size, then a sufficient rate, then
    raw frames, because JPEG costs a core and detail. Without a requested size, the rate comes first."""
    width, height = size or USUAL_SIZE
    target_rate = rate or USUAL_RATE
    ranks = [*RAW.values(), *JPEG.values()]

    def cost(mode: CameraMode) -> tuple[float, ...]:
        slow = float(max(Fraction(0), target_rate * Fraction(99, 100) - mode.rate)) if mode.rate else 0.0
        size_error = abs(mode.width - width) + abs(mode.height - height)
        priorities = (size_error, slow) if size else (slow, size_error)
        return *priorities, mode.format in JPEG.values(), ranks.index(mode.format)

    return min(offers, key=cost, default=None)


def _code(code: str) -> bytes:
    return code.ljust(4).encode("latin-1")


def _each(fd: int, request: int, query: bytes, size: int) -> Iterator[bytes]:
    """Yields the driver's responses for index 0, 1, … until the last."""
    for index in range(256):
        try:
            yield ioctl(fd, request, (struct.pack("=I", index) + query).ljust(size, b"\0"))
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOTTY, errno.ENODATA):
                return
            raise
