"""Rotates frames for display, and scales them to the sinks' format."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from rtface.device.cpu.swscale import Swscale
from rtface.frame import Bytes, Color, Display, Frame
from rtface.geometry.planes import layout, planes
from rtface.live.protocols import VideoFormat
from rtface.util.av_gpu import software

# swscale's constants for colour matrices. All other matrices are treated as BT.709.
_SPACES = {
    "bt601": Colorspace.ITU601,
    "fcc": Colorspace.FCC,
    "smpte240m": Colorspace.SMPTE240M,
    "bt2020": Colorspace.BT2020,
}


class Letterbox:
    """Scales frames to a format. Adds black bars if the aspect ratio differs."""

    def __init__(self, form: VideoFormat) -> None:
        self._form = form
        self._swscale, self._reformatter = Swscale(), VideoReformatter()

    def __call__(self, frame: Frame) -> Frame:
        """Converts the frame to the format, and removes its faces. Returns the same object if nothing changes."""
        image, form = frame.image, self._form
        target = form.width, form.height, form.pix_fmt, form.color
        if (image.width, image.height, image.format.name, frame.color) == target:
            return frame
        image = software(image)
        aspect = float(frame.display.aspect) / float(form.aspect)
        scale = min(form.width / (image.width * aspect), form.height / image.height)
        width = max(2, min(form.width, round(image.width * aspect * scale)))
        height = max(2, min(form.height, round(image.height * scale)))
        small = self._swscale.rgb(image, (width, height), frame.color.matrix, full=_full(frame.color), area=scale < 1)
        canvas = np.zeros((form.height, form.width, 3), np.uint8)
        y, x = (form.height - height) // 2, (form.width - width) // 2
        canvas[y : y + height, x : x + width] = small.to_ndarray()
        return replace(
            frame,
            image=self._convert(canvas),
            color=form.color,
            faces=(),
            display=replace(Display(), aspect=form.aspect),
        )

    def _convert(self, rgb: Bytes) -> av.VideoFrame:
        """Converts a uint8 height×width×3 RGB image to a frame of the format."""
        source: Any = av.VideoFrame.from_ndarray(rgb, "rgb24")
        form = self._form
        return self._reformatter.reformat(
            source,
            form.width,
            form.height,
            form.pix_fmt,
            dst_colorspace=_SPACES.get(form.color.matrix, Colorspace.ITU709),
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.JPEG if _full(form.color) else ColorRange.MPEG,
            threads=1,
        )


def _full(color: Color) -> bool:
    return color.full_range or color.matrix == "rgb"


class Rotation:
    """Rotates and mirrors frames as their `Display` prescribes.

    A frame whose chroma subsampling cannot be rotated (4:2:2) becomes 4:2:0, with 10 bits if it had more than 8. This
    shifts chroma by at most half a sample.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, image: av.VideoFrame, display: Display) -> tuple[av.VideoFrame, Display]:
        """Returns the rotated frame and its new display. Both are unchanged if the frame is upright."""
        turns, mirror = display.quarter_turns % 4, display.mirror
        if not turns and not mirror:
            return image, display
        pixels = layout(image.format.name)
        if pixels is None or (turns % 2 and pixels.subsampling[0] != pixels.subsampling[1]):
            image = self._reformatter.reformat(
                image, format="yuv420p10le" if pixels and pixels.bits > 8 else "yuv420p", threads=1
            )
            pixels = layout(image.format.name)
        assert pixels is not None
        size = (image.height, image.width) if turns % 2 else (image.width, image.height)
        out = av.VideoFrame(*size, image.format.name)
        out.colorspace, out.color_range = image.colorspace, image.color_range
        out_planes = planes(out, pixels)
        for role, samples in planes(image, pixels).items():
            rotated = np.rot90(samples, -turns)
            out_planes[role][...] = rotated[:, ::-1] if mirror else rotated
        aspect = 1 / display.aspect if turns % 2 else display.aspect
        return out, replace(display, quarter_turns=0, mirror=False, aspect=aspect)


class Turn:
    """Applies `--turn` and `--mirror` to the frames of a live run.

    Args:
        degrees: clockwise rotation: 0, 90, 180 or 270.
        mirror: whether left and right are swapped after the rotation.
    """

    def __init__(self, degrees: int, mirror: bool) -> None:
        self._turns, self._mirror, self._rotation = degrees // 90, mirror, Rotation()

    def __call__(self, frame: Frame) -> Frame:
        """Turns an upright frame. Returns the same object if nothing changes."""
        original, display = frame.image, replace(frame.display, quarter_turns=self._turns, mirror=self._mirror)
        image, display = self._rotation(original, display)
        if image is original:
            return frame
        image.pts, image.time_base, image.duration = frame.pts, frame.time_base, frame.duration
        return replace(frame, image=image, display=display, quantisers=None)
