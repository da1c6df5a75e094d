"""Rotates frames that are displayed on their side, because few live outputs can carry a display matrix, or whose user
asks for it."""

from __future__ import annotations

from dataclasses import replace

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from rtface.frame import Display, Frame
from rtface.geometry.planes import layout, planes


class Rotation:
    """Rotates and mirrors frames as their display says.

    Where chroma subsampling does not fit the rotated frame (4:2:2), it becomes 4:2:0, of 10 bits where there are more
    than 8; chroma moves by half a sample at most.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, image: av.VideoFrame, display: Display) -> tuple[av.VideoFrame, Display]:
        """The frame as it is displayed, with its new display; both unchanged where no rotation is needed."""
        turns, mirror = display.quarter_turns % 4, display.mirror
        if not turns and not mirror:
            return image, display
        form = layout(image.format.name)
        if form is None or (turns % 2 and form.subsampling[0] != form.subsampling[1]):
            image = self._reformatter.reformat(
                image, format="yuv420p10le" if form and form.bits > 8 else "yuv420p", threads=1
            )
            form = layout(image.format.name)
        assert form is not None
        size = (image.height, image.width) if turns % 2 else (image.width, image.height)
        out = av.VideoFrame(*size, image.format.name)
        out.colorspace, out.color_range = image.colorspace, image.color_range
        to = planes(out, form)
        for role, samples in planes(image, form).items():
            turned = np.rot90(samples, -turns)
            to[role][...] = turned[:, ::-1] if mirror else turned
        aspect = 1 / display.aspect if turns % 2 else display.aspect
        return out, replace(display, quarter_turns=0, mirror=False, aspect=aspect)


class Turn:
    """Turns and mirrors the frames of a live run as `--turn` and `--mirror` say.

    Args:
        degrees: clockwise, 0, 90, 180 or 270.
        mirror: whether left and right are then swapped.
    """

    def __init__(self, degrees: int, mirror: bool) -> None:
        self._turns, self._mirror, self._rotation = degrees // 90, mirror, Rotation()

    def __call__(self, frame: Frame) -> Frame:
        """The frame as it is to be seen, from an upright one; itself where nothing is asked."""
        before, display = frame.image, replace(frame.display, quarter_turns=self._turns, mirror=self._mirror)
        image, display = self._rotation(before, display)
        if image is before:
            return frame
        image.pts, image.time_base, image.duration = frame.pts, frame.time_base, frame.duration
        return replace(frame, image=image, display=display, quantisers=None)
