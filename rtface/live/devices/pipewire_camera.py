"""Reads cameras through PipeWire, including those that V4L2 does not list."""

from __future__ import annotations

import json
import queue
import subprocess
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import av
import numpy as np

from rtface.errors import InputError
from rtface.live.devices.pipewire import INPUT, PipewireStream, Planes, is_running
from rtface.live.devices.pipewire_formats import FORMATS, PIXEL_FORMAT, RATE, SIZE, any_format
from rtface.live.devices.v4l2 import USUAL_RATE, USUAL_SIZE
from rtface.live.messages import SourceRequest
from rtface.live.sources.open_stream import OpenedInput

_OPENING_S, _LIST_S = 3.0, 2.0
_WAITING_FRAMES = 4
# Bytes per sample of a plane's rows, and the divisor of its height, by FFmpeg's names of the formats.
_PLANES = {
    "yuv420p": ((Fraction(1), 1), (Fraction(1, 2), 2), (Fraction(1, 2), 2)),
    "nv12": ((Fraction(1), 1), (Fraction(1), 2)),
    "yuyv422": ((Fraction(2), 1),),
    "uyvy422": ((Fraction(2), 1),),
    "rgb24": ((Fraction(3), 1),),
    "bgr24": ((Fraction(3), 1),),
    "rgb0": ((Fraction(4), 1),),
    "bgr0": ((Fraction(4), 1),),
}

Node = Mapping[str, Any]  # properties of a node of PipeWire


def cameras() -> list[Node]:
    """Lists the properties of PipeWire's cameras, by its program ``pw-dump``. Omits this program's own cameras."""
    if not is_running():
        return []
    try:
        text = subprocess.run(["pw-dump"], capture_output=True, timeout=_LIST_S, check=True).stdout
        objects = json.loads(text)
    except (OSError, ValueError, subprocess.SubprocessError):
        return []
    properties = [item["info"].get("props", {}) for item in objects if str(item.get("type")).endswith("Interface:Node")]
    return [
        one
        for one in properties
        if one.get("media.class") == "Video/Source" and one.get("application.name") != "rtface"
    ]


def label(node: Node) -> str:
    """Returns the name of a camera that programs show."""
    return str(node.get("node.description") or node.get("node.nick") or node.get("node.name") or "camera")


def find(name: str) -> Node | None:
    """Finds a camera by (part of) its name. "" and "0" mean the first."""
    if name in ("", "0"):
        return next(iter(cameras()), None)
    if name.isdigit():  # a number of V4L2
        return None
    text = name.casefold()
    return next((one for one in cameras() if text in f"{label(one)}\n{one.get('node.name', '')}".casefold()), None)


def open_pipewire(request: SourceRequest, node: Node) -> OpenedInput:
    """Opens a camera of PipeWire. Raises InputError, MissingComponent or OutputError if it delivers no frames."""
    size, rate = request.size or USUAL_SIZE, Fraction(request.fps or USUAL_RATE)
    frames = _Frames()
    properties = {"media.type": "Video", "media.category": "Capture", "media.role": "Camera"}
    stream = PipewireStream(
        INPUT,
        properties
        | {"node.name": "rtface.reader", "target.object": str(node["node.name"]), "node.dont-reconnect": "true"},
        any_format(size, (rate.numerator, rate.denominator)),
        received=frames.waiting,
    )
    frames.stream = stream
    if not frames.wait():
        stream.close()
        raise InputError(
            "camera {name}: PipeWire delivers no frames; close programs that use it, or choose another camera "
            "('rtface devices')",
            code="pipewire_silent",
            name=label(node),
        )
    width, height = stream.format[SIZE]
    numerator, denominator = stream.format.get(RATE, (0, 1))  # 0 for a variable rate
    rate = Fraction(numerator, denominator) if numerator and denominator else rate
    pixel_format = next(name for name, number in FORMATS.items() if (number,) == stream.format[PIXEL_FORMAT])
    frames.form, frames.opened = (width, height, pixel_format), stream.format
    options = {"framerate": str(rate), "video_size": f"{width}x{height}", "pixel_format": pixel_format}
    container = av.open(frames, "r", format="rawvideo", options=options, buffer_size=1 << 20)
    video = container.streams.video[0]
    video.codec_context.thread_type, video.codec_context.thread_count = "SLICE", 1
    return OpenedInput(container, video, None, rate, timed=False, label=label(node))


class _Frames:
    """Frames of a stream, as a file that FFmpeg reads.

    Attributes:
        waiting: queue of frames.
        stream: the stream.
        form: width, height and pixel format; valid after the first frame.
        opened: format that was negotiated at first.
    """

    def __init__(self) -> None:
        self.waiting: queue.Queue[Planes] = queue.Queue(_WAITING_FRAMES)
        self._rest = memoryview(b"")
        self.stream: PipewireStream | None = None
        self.form: tuple[int, int, str] = 0, 0, "nv12"
        self.opened = dict[int, tuple[int, ...]]()

    def wait(self) -> bool:
        """Waits for the first frame, and drops it. Returns whether it came in time."""
        try:
            self.waiting.get(timeout=_OPENING_S)
        except queue.Empty:
            return False
        return True

    def read(self, size: int) -> bytes:
        """Returns at most `size` bytes; b"" if the stream has ended."""
        while not self._rest:
            try:
                self._rest = memoryview(self._packed(self.waiting.get(timeout=0.5)))
            except queue.Empty:
                if self.stream is None or self.stream.lost:
                    return b""
            if self.stream is not None and self.stream.format != self.opened:
                return b""  # the run opens the camera again
        part, self._rest = self._rest[:size], self._rest[size:]
        return bytes(part)

    def _packed(self, parts: Planes) -> bytes:
        """Joins a frame's planes without the padding of their rows."""
        width, height, pixel_format = self.form
        planes, data, stride, at = list[bytes](), *parts[0], 0
        for number, (unit, divisor) in enumerate(_PLANES[pixel_format]):
            if number and number < len(parts):
                (data, stride), at = parts[number], 0
            pairs = -(-width // 2) if unit == 2 or number else width / 2  # planes with chroma have whole pairs
            row, rows = int(2 * pairs * unit), -(-height // divisor)
            step = max(row, int(stride * unit / _PLANES[pixel_format][0][0]) if len(parts) == 1 else stride)
            if step * (rows - 1) + row > len(data) - at:
                return b""  # not a whole frame
            plane = np.frombuffer(data, np.uint8, min(step * rows, len(data) - at), at)
            planes.append(np.resize(plane, (rows, step))[:, :row].tobytes())
            at += step * rows
        return b"".join(planes)
