"""Modes of a V4L2 camera, enumerated from an open device, and the choice of one for a run.

The ioctls are those of linux/videodev2.h; nothing here starts, stops or changes a device.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from rtface.live.devices import v4l2

_ENUM_FMT, _ENUM_SIZES, _ENUM_RATES = 0xC0405602, 0xC02C564A, 0xC034564B
# What FFmpeg's v4l2 calls the formats, the ones wanted most first: what needs no conversion, then 4:2:2, then RGB.
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
# Sizes that are offered of a device that takes any.
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
# What is asked of a camera where the user asks for nothing: what calls show.
USUAL_SIZE, USUAL_RATE = (1280, 720), Fraction(30)


@dataclass(frozen=True, slots=True)
class CameraMode:
    """A format, size and frame rates of a camera.

    Attributes:
        format: FFmpeg's name for `input_format`: a pixel format, or "mjpeg".
        width, height: in samples.
        rate: frames a second, the highest of them; 0 where the driver does not say.
        rates: all that it names.
    """

    format: str
    width: int
    height: int
    rate: Fraction
    rates: tuple[Fraction, ...] = ()

    def nearest(self, rate: Fraction) -> Fraction:
        """The rate to ask for: the slowest that reaches `rate`, else the highest."""
        return min((r for r in self.rates if r >= rate * Fraction(99, 100)), default=self.rate)


def modes(fd: int) -> list[CameraMode]:
    """All that the camera behind an open device offers in formats that can be read, in the driver's order; of sizes in
    steps, the usual ones. Empty where it is no camera."""
    known = RAW | JPEG
    return [
        CameraMode(known[code], width, height, max(rates, default=Fraction(0)), rates)
        for code in formats(fd)
        if code in known
        for width, height in sizes(fd, code)
        for rates in [rates_of(fd, code, width, height)]
    ]


def modes_of(node: Path) -> list[CameraMode]:
    """The `modes` of a device by its path; OSError where it cannot be opened."""
    with v4l2.opened(node) as fd:
        return modes(fd)


def formats(fd: int) -> list[str]:
    """The four letters of every pixel format that a device captures in; none of a codec, which converts frames."""
    entries = list(_each(fd, _ENUM_FMT, struct.pack("=I", v4l2.CAPTURE), 64))
    captures = bool(entries) and v4l2.capability(fd).captures
    return [data[44:48].decode("latin-1").rstrip() for data in entries if captures]


def sizes(fd: int, code: str) -> list[tuple[int, int]]:
    """Widths and heights in which a format comes."""
    found: list[tuple[int, int]] = []
    for data in _each(fd, _ENUM_SIZES, _code(code), 44):
        kind, *numbers = struct.unpack("=I6I", data[8:36])
        if kind != 1:
            low_w, high_w, step_w, low_h, high_h, step_h = numbers
            found += [
                (w, h)
                for w, h in _COMMON
                if low_w <= w <= high_w
                and low_h <= h <= high_h
                and (w - low_w) % max(1, step_w) == 0
                and (h - low_h) % max(1, step_h) == 0
            ]
            break
        found.append((numbers[0], numbers[1]))
    return found


def rates_of(fd: int, code: str, width: int, height: int) -> tuple[Fraction, ...]:
    """Frames a second that a format of a size comes at, fastest first; of a range its ends."""
    found: set[Fraction] = set()
    for data in _each(fd, _ENUM_RATES, _code(code) + struct.pack("=2I", width, height), 52):
        kind, *numbers = struct.unpack("=I6I", data[16:44])
        for above, below in ((0, 1),) if kind == 1 else ((0, 1), (2, 3)):
            if numbers[above] and numbers[below]:
                found.add(Fraction(numbers[below], numbers[above]))
        if kind != 1:
            break
    return tuple(sorted(found, reverse=True))


def choose(offered: Iterable[CameraMode], size: tuple[int, int] | None, rate: Fraction | None) -> CameraMode | None:
    """The mode to ask for: near the size that was asked for, then fast enough, then raw rather than JPEG, which costs a
    core and detail. Where no size was asked for, fast enough comes first. None where nothing is offered."""
    width, height = size or USUAL_SIZE
    wanted = rate or USUAL_RATE
    ranks = [*RAW.values(), *JPEG.values()]

    def cost(mode: CameraMode) -> tuple[float, ...]:
        slow = float(max(Fraction(0), wanted * Fraction(99, 100) - mode.rate)) if mode.rate else 0.0
        off = abs(mode.width - width) + abs(mode.height - height)
        first = (off, slow) if size else (slow, off)
        return *first, mode.format in JPEG.values(), ranks.index(mode.format)

    return min(offered, key=cost, default=None)


def _code(code: str) -> bytes:
    return code.ljust(4).encode("latin-1")


def _each(fd: int, request: int, question: bytes, size: int) -> Iterator[bytes]:
    """Answers to index 0, 1, … until the driver has no more."""
    for index in range(256):
        try:
            yield v4l2.ioctl(fd, request, (struct.pack("=I", index) + question).ljust(size, b"\0"))
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOTTY, errno.ENODATA):
                return
            raise
