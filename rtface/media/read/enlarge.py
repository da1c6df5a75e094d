"""Enlarges frames before all other processing (``--scale``).

FFmpeg's swscale computes the samples with a three-lobed Lanczos kernel and exact rounding. Planes, bit depth and chroma
siting do not change. With the same FFmpeg version, the result is bit-identical on all machines, so that `rtface verify`
can repeat it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

import av
from av.filter import Graph

from rtface.errors import InputError, UsageError
from rtface.frame import Display, Frame, Siting
from rtface.geometry.planes import fallback, layout
from rtface.media.formats.color import UNSPECIFIED, is_hd
from rtface.media.read.container import MAX_PIXELS
from rtface.media.read.frame_details import filter_for
from rtface.util.av_arrays import plane_rows
from rtface.util.av_gpu import repacked, software

_FLAGS = "lanczos+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
_ASPECT_TOLERANCE = Fraction(1, 100)
_BT601 = 6


class Enlarger:
    """Enlarges the frames of a film, or stills. It is not thread-safe.

    Attributes:
        scale: a value of ``--scale``; if None, frames stay unchanged.
    """

    def __init__(self, scale: str | None) -> None:
        self.scale = scale
        self._graph: Graph | None = None
        self._graph_key = tuple[object, ...]()

    def __call__(self, frame: Frame) -> Frame:
        """Enlarges a frame. Returns the frame itself if it already has the size.

        Raises:
            UsageError: the size is too small or large, has another aspect ratio, or is odd despite chroma subsampling.
            InputError: the sample format cannot be enlarged.
        """
        if self.scale is None:
            return frame
        image = _scalable(frame.image)
        width, height, display = self.size(image, frame.display)
        if (width, height) == (image.width, image.height):
            return frame
        plane_layout = layout(image.format.name)
        assert plane_layout is not None
        if plane_layout.kind == "rgb":
            # Relabelled as YCbCr 4:4:4, the planes are scaled without conversion of colours.
            alpha = "a" if any(part.is_alpha for part in image.format.components) else ""
            depth = "" if plane_layout.bits == 8 else f"{plane_layout.bits}le"
            planar, as_yuv = f"gbr{alpha}p{depth}", f"yuv{alpha}444p{depth}"
            scaled = self._scale(_relabel(repacked(image, planar), as_yuv), width, height, "center")
            enlarged = repacked(_relabel(scaled, planar), image.format.name)
        else:
            enlarged = self._scale(image, width, height, frame.color.siting)
        enlarged.pts, enlarged.duration = image.pts, image.duration
        if image.time_base:
            enlarged.time_base = image.time_base
        enlarged.colorspace, enlarged.color_range = image.colorspace, image.color_range
        enlarged.color_primaries, enlarged.color_trc = image.color_primaries, image.color_trc
        if frame.color.matrix == "bt601" and int(image.colorspace) == UNSPECIFIED and is_hd(width, height):
            enlarged.colorspace = _BT601  # at this size, players would assume BT.709
        source = replace(frame, image=image)
        return replace(frame, image=enlarged, display=display, quantisers=None, filtered=True, source=source)

    def size(self, image: av.VideoFrame, display: Display) -> tuple[int, int, Display]:
        """Returns stored width, height and display after enlarging. Raises the same errors as calling the object."""
        plane_layout = layout(image.format.name)
        assert plane_layout is not None and self.scale is not None
        steps, turned = plane_layout.subsampling, display.quarter_turns % 2 == 1
        numbers = [int(number) for number in re.findall(r"\d+", self.scale)][:: -1 if turned else 1]
        display_size, by_height = (image.width * display.aspect, Fraction(image.height)), self.scale.endswith("p")
        if len(numbers) == 1 and not by_height:
            target, exact = [numbers[0] * image.width, numbers[0] * image.height], []
        else:
            factor = numbers[0] / display_size[0 if turned else 1]
            target = [factor * length for length in display_size] if by_height else [*map(Fraction, numbers)]
            exact, display = [target[0 if turned else 1]] if by_height else target, replace(display, aspect=Fraction(1))
        width, height = (step * round(Fraction(length, step)) for length, step in zip(target, steps, strict=True))
        as_stored = (image.width, image.height), display_size, (width, height)
        current, shape, nearest = ([round(side) for side in sides[:: -1 if turned else 1]] for sides in as_stored)
        if width < image.width or height < image.height:
            raise UsageError(
                "{--scale:{scale}}: the picture is already {width}×{height}, and this option only enlarges; specify "
                "a larger size, or omit the option",
                code="scale_smaller",
                scale=self.scale,
                width=current[0],
                height=current[1],
            )
        if abs(width * display_size[1] / (height * display_size[0]) * display.aspect - 1) > _ASPECT_TOLERANCE:
            raise UsageError(
                "{--scale:{scale}}: the picture has a different aspect ratio, that of {width}×{height}; specify a "
                "size with that ratio, or only a height, such as 1080p",
                code="scale_shape",
                scale=self.scale,
                width=shape[0],
                height=shape[1],
            )
        if any(length not in (width, height) for length in exact):
            raise UsageError(
                "{--scale:{scale}}: frames in {format} cannot have this size; the nearest possible is {width}×{height}",
                code="scale_odd",
                scale=self.scale,
                format=image.format.name,
                width=nearest[0],
                height=nearest[1],
            )
        if width * height > MAX_PIXELS:
            raise UsageError(
                "{--scale:{scale}}: {width}×{height} are {megapixels} megapixels, and the limit is {most}; specify "
                "a smaller size",
                code="scale_large",
                scale=self.scale,
                megapixels=width * height // 1_000_000,
                most=MAX_PIXELS // 1_000_000,
                width=nearest[0],
                height=nearest[1],
            )
        return width, height, display

    def _scale(self, image: av.VideoFrame, width: int, height: int, siting: Siting) -> av.VideoFrame:
        """Scales a YCbCr or gray image. Reuses the filter for images of the same size and format."""
        key = image.width, image.height, image.format.name, width, height, siting
        if self._graph is None or key != self._graph_key:
            # "full" on both sides leaves the value range unchanged. `repacked` explains why one thread is used.
            self._graph_key = key
            self._graph = filter_for(
                image,
                "scale",
                w=str(width),
                h=str(height),
                flags=_FLAGS,
                in_range="full",
                out_range="full",
                in_chroma_loc=siting,
                out_chroma_loc=siting,
                threads="1",
            )
        self._graph.push(image)
        enlarged = self._graph.pull()
        assert isinstance(enlarged, av.VideoFrame)
        return enlarged


def _scalable(image: av.VideoFrame) -> av.VideoFrame:
    """Returns the image in host memory. Converts palettes and similar formats to `planes.fallback`."""
    image = software(image)
    name = image.format.name
    if layout(name) is not None and not name.startswith("gbrap14"):  # swscale lacks the YCbCr equivalent
        return image
    if re.search(r"f(16|32)|^xyz|^bayer|^gbrap14", name):
        raise InputError(
            "{--scale}: frames in {format} cannot be enlarged; convert the input to 16 bits first",
            code="scale_format",
            format=name,
        )
    return repacked(image, fallback(name))


def _relabel(image: av.VideoFrame, name: str) -> av.VideoFrame:
    """Copies the planes of an image into a frame of another format."""
    out = av.VideoFrame(image.width, image.height, name)
    for source, target in zip(image.planes, out.planes, strict=True):
        rows = plane_rows(source), plane_rows(target)
        row_bytes = min(rows[0].shape[1], rows[1].shape[1])
        rows[1][:, :row_bytes] = rows[0][:, :row_bytes]
    return out
