"""Where before|after pairs go: a film beside the output, or one picture of the clearest moment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from rtface.errors import OutputError
from rtface.frame import Frame
from rtface.media.file_sink import FileSink
from rtface.media.images import IMAGE_KINDS, ImagePlan, plan_image, write_image
from rtface.media.probe import MediaInfo
from rtface.media.stream_plan import plan_output
from rtface.options import EncodeOptions
from rtface.pipeline.compare import pair_size
from rtface.stats import Stats
from rtface.util.av_arrays import plane_rows

PICTURES = tuple(IMAGE_KINDS)


class PairSink(Protocol):
    """Takes before|after pairs."""

    def take(self, pair: Frame) -> None: ...
    def finish(self) -> None: ...

    def abort(self, *, keep_partial: bool) -> str | None:
        """Ends early; with `keep_partial`, gives the path of what is left: the film so far, or the best pair so far."""
        ...


def open_pairs(path: Path, info: MediaInfo, encode: EncodeOptions, *, overwrite: bool, threads: int,
               stats: Stats) -> PairSink:
    """Checks that `path` can be written, and opens the sink that its extension names.

    Raises as `plan_output`.
    """
    if path.suffix.lower() in PICTURES:
        return BestPair(path, overwrite=overwrite)
    return _PairFilm(path, info, encode, overwrite=overwrite, threads=threads, stats=stats)


class _PairFilm:
    def __init__(self, path: Path, info: MediaInfo, encode: EncodeOptions, *, overwrite: bool,
                 threads: int, stats: Stats) -> None:
        width, height = pair_size(info.width, info.height, info.display.quarter_turns)
        wide = replace(info, width=width, height=height, display_width=2 * info.display_width)
        plan = plan_output(wide, path, crf=encode.crf, preset=encode.preset, overwrite=overwrite,
                           video_only=True)
        self._sink = FileSink(plan, stats=stats, threads=threads)

    def take(self, pair: Frame) -> None:
        self._sink.write(pair)

    def finish(self) -> None:
        self._sink.finish()

    def abort(self, *, keep_partial: bool) -> str | None:
        return self._sink.abort(keep_partial=keep_partial)


class BestPair:
    """Keeps the pair whose halves differ most, and writes it as a picture at the end."""

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self._plan = plan_image(path, overwrite=overwrite)
        self._best: Frame | None = None
        self._change = -1.0

    def take(self, pair: Frame) -> None:
        change = _change(pair) if pair.touched else 0.0
        if change > self._change:
            self._best, self._change = pair, change

    def finish(self) -> None:
        if self._best is not None:
            write_image(self._best, self._plan)

    def abort(self, *, keep_partial: bool) -> str | None:
        best, self._best = self._best, None
        if best is None or not keep_partial:
            return None
        plan = ImagePlan(self._plan.target.partial(), self._plan.kind)
        try:
            write_image(best, plan)
        except OutputError:
            return None  # what ended the run is said
        return str(plan.target.path)


def _change(pair: Frame) -> float:
    """How much the halves differ: mean absolute difference of every fourth sample of the first plane."""
    plane = pair.image.planes[0]
    rows = plane_rows(plane)[::4]
    if pair.display.quarter_turns % 2 == 0:
        used = rows.shape[1] // 2
        a, b = rows[:, : used : 4], rows[:, used : 2 * used : 4]
    else:
        half = rows.shape[0] // 2
        a, b = rows[:half, ::4], rows[half : 2 * half, ::4]
    return float(np.abs(a.astype(np.int16) - b).mean())
