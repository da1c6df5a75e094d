"""Enlarges frames before all other processing (``--scale``).

FFmpeg's swscale computes the samples with a three-lobed Lanczos kernel and exact rounding. Planes, bit depth and chroma
siting stay. One FFmpeg version gives the same bits on all machines, so that `rtface verify` can repeat the enlarging.
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
        self._like = tuple[object, ...]()

    def __call__(self, frame: Frame) -> Frame:
        """Enlarges a frame. Returns the frame itself if it already has the size.

        Raises:
            UsageError: the size is too small or large, has another aspect ratio, or is odd despite chroma subsampling.
            InputError: the sample format cannot be enlarged.
        """
        if self.scale is None:
            return frame
        image = _workable(frame.image)
        width, height, display = self.size(image, frame.display)
        if (width, height) == (image.width, image.height):
            return frame
        form = layout(image.format.name)
        assert form is not None
        if form.kind == "rgb":
            alpha = "a" if any(part.is_alpha for part in image.format.components) else ""
            depth = "" if form.bits == 8 else f"{form.bits}le"
            planar, carrier = f"gbr{alpha}p{depth}", f"yuv{alpha}444p{depth}"
            carried = self._scaled(_renamed(repacked(image, planar), carrier), width, height, "center")
            large = repacked(_renamed(carried, planar), image.format.name)
        else:
            large = self._scaled(image, width, height, frame.color.siting)
        large.pts, large.duration = image.pts, image.duration
        if image.time_base:
            large.time_base = image.time_base
        large.colorspace, large.color_range = image.colorspace, image.color_range
        large.color_primaries, large.color_trc = image.color_primaries, image.color_trc
        if frame.color.matrix == "bt601" and int(image.colorspace) == UNSPECIFIED and is_hd(width, height):
            large.colorspace = _BT601  # players would assume the matrix of HD
        source = replace(frame, image=image)
        return replace(frame, image=large, display=display, quantisers=None, filtered=True, source=source)

    def size(self, image: av.VideoFrame, display: Display) -> tuple[int, int, Display]:
        """Returns stored width, height and display after enlarging. Raises the same errors as calling the object."""
        form = layout(image.format.name)
        assert form is not None and self.scale is not None
        steps, turned = form.subsampling, display.quarter_turns % 2 == 1
        named = [int(number) for number in re.findall(r"\d+", self.scale)][:: -1 if turned else 1]
        shown, lines = (image.width * display.aspect, Fraction(image.height)), self.scale.endswith("p")
        if len(named) == 1 and not lines:
            wanted, held = [named[0] * image.width, named[0] * image.height], []
        else:
            factor = named[0] / shown[0 if turned else 1]
            wanted = [factor * length for length in shown] if lines else [*map(Fraction, named)]
            held, display = [wanted[0 if turned else 1]] if lines else wanted, replace(display, aspect=Fraction(1))
        width, height = (step * round(Fraction(length, step)) for length, step in zip(wanted, steps, strict=True))
        as_stored = (image.width, image.height), shown, (width, height)
        now, shape, near = ([round(side) for side in sides[:: -1 if turned else 1]] for sides in as_stored)
        if width < image.width or height < image.height:
            raise UsageError(
                "{--scale:{scale}}: the picture is already {width}×{height}, and this option only enlarges; give a "
                "larger size, or leave it out",
                code="scale_smaller",
                scale=self.scale,
                width=now[0],
                height=now[1],
            )
        if abs(width * shown[1] / (height * shown[0]) * display.aspect - 1) > _ASPECT_TOLERANCE:
            raise UsageError(
                "{--scale:{scale}}: the picture has another aspect ratio, that of {width}×{height}; give a size with "
                "that ratio, or only the lines, such as 1080p",
                code="scale_shape",
                scale=self.scale,
                width=shape[0],
                height=shape[1],
            )
        if any(length not in (width, height) for length in held):
            raise UsageError(
                "{--scale:{scale}}: frames in {format} cannot have this size; the nearest is {width}×{height}",
                code="scale_odd",
                scale=self.scale,
                format=image.format.name,
                width=near[0],
                height=near[1],
            )
        if width * height > MAX_PIXELS:
            raise UsageError(
                "{--scale:{scale}}: {width}×{height} are {megapixels} megapixels, and the limit is {most}; give a "
                "smaller size",
                code="scale_large",
                scale=self.scale,
                megapixels=width * height // 1_000_000,
                most=MAX_PIXELS // 1_000_000,
                width=near[0],
                height=near[1],
            )
        return width, height, display

    def _scaled(self, image: av.VideoFrame, width: int, height: int, siting: Siting) -> av.VideoFrame:
        """Scales a YCbCr or gray image. Reuses the filter for images of the same form."""
        like = image.width, image.height, image.format.name, width, height, siting
        if self._graph is None or like != self._like:
            # "full" for input and output keeps the range of the values. `repacked` says why to use one thread.
            self._like = like
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
        large = self._graph.pull()
        assert isinstance(large, av.VideoFrame)
        return large


def _workable(image: av.VideoFrame) -> av.VideoFrame:
    """Returns the image in host memory. Converts palettes and similar formats to `planes.fallback`."""
    image = software(image)
    name = image.format.name
    if layout(name) is not None and not name.startswith("gbrap14"):  # swscale has no such YCbCr format
        return image
    if re.search(r"f(16|32)|^xyz|^bayer|^gbrap14", name):
        raise InputError(
            "{--scale}: frames in {format} cannot be enlarged; convert the input to 16 bits first",
            code="scale_format",
            format=name,
        )
    return repacked(image, fallback(name))


def _renamed(image: av.VideoFrame, name: str) -> av.VideoFrame:
    """Copies the planes of an image into another format."""
    out = av.VideoFrame(image.width, image.height, name)
    for source, target in zip(image.planes, out.planes, strict=True):
        rows = plane_rows(source), plane_rows(target)
        used = min(rows[0].shape[1], rows[1].shape[1])
        rows[1][:, :used] = rows[0][:, :used]
    return out
