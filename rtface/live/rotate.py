"""Pictures that lie on their side by their display: turned at the source, because few live outputs can say it."""

from __future__ import annotations

from dataclasses import replace

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from rtface.frame import Display
from rtface.geometry.planes import layout, planes


class Rotation:
    """Turns and mirrors pictures as their display says. Where samples of colour are not square on the turned picture
    (4:2:2), it becomes 4:2:0 or, of more than 8 bits, 4:2:0 of 10; colour stays where it was to half a sample of it."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, image: av.VideoFrame, display: Display) -> tuple[av.VideoFrame, Display]:
        """The picture as it is seen, with its display; the same two where nothing has to be done."""
        turns, mirror = display.quarter_turns % 4, display.mirror
        if not turns and not mirror:
            return image, display
        form = layout(image.format.name)
        if form is None or (turns % 2 and form.subsampling[0] != form.subsampling[1]):
            image = self._reformatter.reformat(image, format="yuv420p10le" if form and form.bits > 8 else "yuv420p",
                                               threads=1)
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
