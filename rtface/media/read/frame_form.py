"""Determines size, colours and display of frames from the first frame."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, TypeAlias

import av

from rtface.frame import Color, Display
from rtface.media.cuda.decoder import GpuDecoder
from rtface.media.formats.color import color_of, display_matrix, display_of, orientation
from rtface.media.read.faults import Faults
from rtface.media.read.frame_details import details_of
from rtface.media.read.timeline import Cut
from rtface.util.av_gpu import native_format, software

_FIELDS = {"progressive": "progressive frames", "tff": "top field first", "bff": "bottom field first"}

Size: TypeAlias = tuple[int, int, str]
"""Width, height and pixel format of decoded frames."""
Fields: TypeAlias = Literal["progressive", "tff", "bff"]


class FrameForm:
    """Scales all frames to one size, and determines their colours and display.

    Args:
        video: stream of the frames.
        faults: reports changes of the format.
        cut: formats the times in messages.
        size: size of all frames; None for the size of the first frame.
        gpu: decoder of the frames if a GPU decodes them.

    Attributes:
        siting: FFmpeg's name for the chroma location, or None; set by the first frame.
        matrix: display matrix, or None; set by the first frame.
        first: the first frame in host memory, decoded in software even if a GPU decodes the others. Code that reads
            it sets it to None to release its memory, up to 100 MB.
        fields: expected field order. Interlaced frames of another order are reported as a fault; None accepts any.
    """

    def __init__(
        self, video: av.VideoStream, faults: Faults, cut: Cut, size: Size | None, gpu: GpuDecoder | None
    ) -> None:
        self._video, self._faults, self._cut, self._size, self._gpu = video, faults, cut, size, gpu
        self.siting: str | None = None
        self.matrix: tuple[int, ...] | None = None
        self.first: av.VideoFrame | None = None
        self._orientation: tuple[int, bool] | None = None  # set by the first frame: quarter turns, mirroring
        self._tags: tuple[int, ...] | None = None
        self._color = Color()
        self.fields: Fields | None = None
        self._displays: dict[Fields, Display] = {}

    def sized(self, image: av.VideoFrame) -> av.VideoFrame:
        """Scales an image to the common size of all frames."""
        now = (image.width, image.height, native_format(image))
        if self._orientation is None:
            # The software-decoded frame is used, because a GPU decoder ignores the container's metadata.
            self.first = first = (self._gpu.first if self._gpu else None) or software(image)
            self.siting = details_of(first)[0]
            self.matrix = display_matrix(first)
            turns = round(-first.rotation / 90) % 4, False
            self._orientation = turns if self.matrix is None else orientation(self.matrix)
            self._size = self._size or now
        if now == self._size:
            return image
        assert self._size is not None
        width, height, pix_fmt = self._size
        self._faults.count(
            "frames_resized",
            f"changes from {width}×{height} {pix_fmt} to {now[0]}×{now[1]} {now[2]} midway; frames that differ are "
            "converted to the first format",
        )
        return software(image).reformat(width, height, pix_fmt, interpolation="BICUBIC", threads=1)

    def color_of(self, image: av.VideoFrame) -> Color:
        """Returns how to interpret the samples of an image."""
        tags = (int(image.colorspace), int(image.color_range), int(image.color_trc), int(image.color_primaries))
        if tags != self._tags:
            self._tags = tags
            self._color = color_of(image, siting=self.siting, codec=self._video.codec_context.codec.canonical_name)
        return self._color

    def display_of(self, image: av.VideoFrame, time: Fraction) -> Display:
        """Returns how to display an image. Messages state `time`."""
        fields: Fields = "progressive"
        if image.interlaced_frame and self._gpu and self._displays.keys() - {"progressive"}:
            fields = next(order for order in self._displays if order != "progressive")  # avoids downloading the frame
        elif image.interlaced_frame:
            fields = details_of(software(image))[1]
        if self.fields is not None and fields not in ("progressive", self.fields):
            self._faults.report(
                "fields_changed",
                f"changes from {_FIELDS[self.fields]} to {_FIELDS[fields]} at {self._cut.shown(time)}; the "
                "whole output is marked as the former",
            )
        if fields not in self._displays:
            turns_and_mirror = self._orientation or (0, False)
            self._displays[fields] = display_of(*turns_and_mirror, self._video.sample_aspect_ratio, fields)
        return self._displays[fields]
