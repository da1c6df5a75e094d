"""A folder of stills as one film."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import cast

from av.stream import Disposition, Stream

from rtface.errors import InputError, UsageError
from rtface.frame import Frame
from rtface.media.color import tags_of
from rtface.media.image_read import list_images, read_image
from rtface.media.image_write import upright
from rtface.media.pixel_format import pixel_format_info
from rtface.media.probe import MediaInfo, StreamInfo, shown
from rtface.protocols import Item
from rtface.stats import Stats


class SequenceSource:
    """Yields the images of a folder as frames of one film, upright, in the size and format of the first.

    They come in the natural order of their names. An image that cannot be read is left out with a warning; its time
    stays, so that the film keeps its length.

    Args:
        folder: holds the images; all should have one size.
        fps: frames a second, None for 25.
        start, end: cut in seconds.
        stats: receives counters and warnings.

    Raises:
        InputMissing, InputError: no folder, no image in it, or the first image cannot be read.
        UsageError: the cut leaves nothing, or fps is not positive.
    """

    def __init__(self, folder: str | os.PathLike[str], *, fps: Fraction | float | None = None,
                 start: float | None = None, end: float | None = None, stats: Stats | None = None) -> None:
        self._stats = stats or Stats()
        self._rate = rate = Fraction(25 if fps is None else fps).limit_denominator(1_001_000)
        if rate <= 0:
            raise UsageError(f"--fps {fps}: give the frames a second, such as 25")
        paths = list_images(folder)
        first, last = 0, len(paths)
        if start is not None:
            first = max(0, -int(-Fraction(start).limit_denominator(1_000_000) * rate // 1))
        if end is not None:
            last = min(last, -int(-Fraction(end).limit_denominator(1_000_000) * rate // 1))
        if first >= last:
            raise UsageError(f"{shown(folder)}: the cut leaves none of its {len(paths)} images "
                             f"({len(paths) / float(rate):.3f} s)")
        self._paths, self._first = paths[first:last], first
        self._shape: tuple[int, int, str] | None = None
        self._begin = self._frame(0, self._paths[0])
        self.info = self._describe(shown(folder), start, end)

    def __iter__(self) -> Iterator[Item]:
        yield self._begin
        for place, path in enumerate(self._paths[1:], 1):
            try:
                yield self._frame(place, path)
            except InputError as error:
                self._stats.count("pictures_lost")
                self._stats.warn("pictures_lost", f"{error}; it is left out")

    def close(self) -> None:
        """Nothing is held open."""

    def _frame(self, place: int, path: Path) -> Frame:
        frame = upright(read_image(path).frame)
        image = frame.image
        now = (image.width, image.height, image.format.name)
        if self._shape is None:
            self._shape = now
        elif now != self._shape:
            width, height, kind = self._shape
            self._stats.count("frames_resized")
            self._stats.warn("frames_resized", f"{path}: is {now[0]}×{now[1]} {now[2]}; brought to the first image's "
                             f"{width}×{height} {kind}")
            same = pixel_format_info(kind).model == pixel_format_info(now[2]).model
            full = {"src_color_range": 2, "dst_color_range": 2} if same else {}
            image = image.reformat(width, height, kind, interpolation="BICUBIC", **full)  # pyright: ignore
        pts, base = self._first + place, 1 / self._rate
        image.pts, image.time_base, image.duration = pts, base, 1
        self._stats.count("frames_in")
        return replace(frame, image=image, pts=pts, time_base=base, duration=1, new=False)

    def _describe(self, folder: str, start: float | None, end: float | None) -> MediaInfo:
        image, count = self._begin.image, len(self._paths)
        shape = pixel_format_info(image.format.name)
        # There is no container, hence no stream that could be a template; sinks ask the enhanced one only for its tags.
        stream = StreamInfo(0, "video", "stills", None, Disposition.default, {}, True, cast(Stream, None))
        return MediaInfo(
            path=folder, format="stills", duration_s=count / float(self._rate), width=image.width, height=image.height,
            display_width=image.width, display_height=image.height, rate=self._rate, time_base=1 / self._rate,
            pix_fmt=image.format.name, codec="stills", color=self._begin.color, display=self._begin.display,
            tags=tags_of(image), transparent=shape.alpha and int(
                image.reformat(format="rgba").to_ndarray()[..., 3].min()) < 255,
            streams=[stream], expected_frames=count,
            start=None if start is None else self._first / self._rate, end=None,
            origin=self._first / self._rate, size=sum(p.stat().st_size for p in self._paths),
            notes=[f"{folder}: {count} images as a film of {float(self._rate):g} frames a second"])
