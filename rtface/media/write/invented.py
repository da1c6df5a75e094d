"""Writes the map of invented detail as a separate film (`--invented`).

The film is grey FFV1 in Matroska, with the output's times. Each sample is the possible
error of the output's sample, in 8-bit code values (full range); it is 0 where the output's sample is the input's.
"""

from __future__ import annotations

from dataclasses import replace

import av
import numpy as np
from av.stream import Disposition

from rtface.frame import Frame
from rtface.media.files.workfile import Target
from rtface.media.formats.coding import Coding
from rtface.media.formats.color import ColorTags
from rtface.media.read.media_info import MediaInfo
from rtface.media.write.encoder_options import set_slices
from rtface.media.write.encoders import FAMILIES, VideoPlan
from rtface.media.write.stream_plan import OutputPlan
from rtface.util.av_arrays import plane_rows

_FULL_RANGE = 2


def map_frame(frame: Frame) -> Frame:
    """Returns a frame's map as a grey frame with the same times. All samples are 0 if no face was corrected."""
    width, height = frame.image.width, frame.image.height
    image = av.VideoFrame(width, height, "gray")
    rows = plane_rows(image.planes[0])
    if frame.invented is None:
        rows[:] = 0
    else:
        np.copyto(rows[:height, :width], frame.invented)
    image.color_range = _FULL_RANGE
    return replace(
        frame,
        image=image,
        faces=(),
        unfollowed=(),
        touched=False,
        corrected=False,
        filtered=False,
        generated=False,
        invented=None,
    )


def plan_map(target: Target, info: MediaInfo, look: str) -> OutputPlan:
    """Plans the output file of a map.

    Args:
        target: path of the film, already checked.
        info: the input.
        look: look of the run; the error bound of 90 % was measured only for "faithful".
    """
    confidence = "at 90 %" if look == "faithful" else f"an estimate under the look {look}"
    video = VideoPlan(
        "ffv1",
        "gray",
        info.width,
        info.height,
        info.rate,
        info.time_base,
        ColorTags(_FULL_RANGE),
        info.aspect,
        lossless=True,
        options=dict(FAMILIES["ffv1"].options),
        fields=info.display.fields,
    )
    set_slices(video)
    enhanced = next(stream for stream in info.streams if stream.enhanced)
    described = replace(
        info,
        streams=[replace(enhanced, metadata={}, disposition=Disposition.default)],
        chapters=[],
        metadata={"title": f"What was invented: possible error of the output, of 255, {confidence}"},
        xmp=None,
        notes=[],
        hdr=None,
        coding=Coding("lossless", "FFV1"),
    )
    return OutputPlan(target, "matroska", video, [], described)
