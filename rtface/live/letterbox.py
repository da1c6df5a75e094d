"""Scales frames to the format that the sinks were opened for: a source may come back with another size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from rtface.device.cpu.swscale import Swscale
from rtface.frame import Bytes, Color, Display, Frame
from rtface.live.protocols import VideoFormat
from rtface.util.av_gpu import software

# swscale's numbers of the matrices that frames come with; others are read as BT.709.
_SPACES = {
    "bt601": Colorspace.ITU601,
    "fcc": Colorspace.FCC,
    "smpte240m": Colorspace.SMPTE240M,
    "bt2020": Colorspace.BT2020,
}


class Letterbox:
    """Scales whole frames to a format, with black bars where the proportions differ."""

    def __init__(self, form: VideoFormat) -> None:
        self._form = form
        self._swscale, self._back = Swscale(), VideoReformatter()

    def __call__(self, frame: Frame) -> Frame:
        """The frame in the sinks' format, without its faces; the frame itself where it fits."""
        image, form = frame.image, self._form
        fitting = form.width, form.height, form.pix_fmt, form.color
        if (image.width, image.height, image.format.name, frame.color) == fitting:
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
            image=self._converted(canvas),
            color=form.color,
            faces=(),
            display=replace(Display(), aspect=form.aspect),
        )

    def _converted(self, rgb: Bytes) -> av.VideoFrame:
        """A uint8 height×width×3 RGB image as a frame of the format."""
        source: Any = av.VideoFrame.from_ndarray(rgb, "rgb24")
        form = self._form
        return self._back.reformat(
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
