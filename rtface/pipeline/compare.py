"""Before|after (`--compare`): the untouched and the enhanced image side by side, in the frame's own format.

`Comparison.remember` copies each image into the first half of a frame twice as large before anything
is written; `complete` fills the other half afterwards. Rows are copied as bytes, so the pair holds
exactly the samples of both. Pairs go to a film (`FileSink`) or become one image (`BestPair`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import av
import numpy as np

from rtface.config.options import EncodeOptions
from rtface.errors import OutputError
from rtface.frame import Frame
from rtface.media.files.workfile import Target
from rtface.media.marks.provenance import Change, made_by_machine, own_tags, true_tags
from rtface.media.read.probe import MediaInfo
from rtface.media.stills.images import IMAGE_KINDS, ImagePlan, plan_image, write_image
from rtface.media.write.encoders import limit_look_ahead
from rtface.media.write.stream_plan import OutputPlan, plan_frames
from rtface.protocols import Item
from rtface.util.av_arrays import plane_rows, sample_bytes

IMAGES = tuple(IMAGE_KINDS)
# Pairs that libx264 looks ahead: with the 30 of its default preset it would hold 370 MB of 1080p.
_LOOK_AHEAD_PAIRS = 10


class Comparison:
    """Makes before|after pairs while the frames pass.

    Args:
        take: receives each finished pair: a Frame twice as wide as seen by a viewer (twice as high in
            storage where the image is stored turned by 90°).
    """

    def __init__(self, take: Callable[[Frame], None]) -> None:
        self._take = take
        self._begun: deque[tuple[int, av.VideoFrame]] = deque()  # pts, and a pair with one half

    def remember(self, items: Iterator[Item]) -> Iterator[Item]:
        """Copies each whole image before it is corrected; those of a lead-in have no pair."""
        for item in items:
            if isinstance(item, Frame) and item.field != 1 and not item.lead_in:
                self._begun.append((item.pts, _first_half(item)))
            yield item

    def complete(self, items: Iterator[Item]) -> Iterator[Item]:
        """Fills the second half from each corrected image and hands the pair over."""
        for item in items:
            if isinstance(item, Frame) and not item.lead_in:
                while self._begun and self._begun[0][0] != item.pts:
                    self._begun.popleft()  # that frame was dropped
                if self._begun:
                    _, pair = self._begun.popleft()
                    _copy_half(item, pair, first=not _upright_first(item))
                    self._take(replace(item, image=pair))
            yield item


class KeptPairs:
    """The before|after pairs of a run, until their frames are written.

    Attributes:
        comparison: makes them, in the chain.
    """

    def __init__(self) -> None:
        self._made: deque[Frame] = deque()
        self.comparison = Comparison(self._made.append)

    def of(self, frame: Frame) -> Frame:
        """The pair of the next frame.

        Raises:
            OutputError: none was made of it.
        """
        while self._made and self._made[0].pts < frame.pts:
            self._made.popleft()  # of a frame that was dropped
        if not self._made or self._made[0].pts != frame.pts:
            raise OutputError("the comparison cannot be continued: a frame has no pair", code="comparison_pair")
        return self._made.popleft()


def _upright_first(frame: Frame) -> bool:
    """True if the stored first half (left or top) is what a viewer sees on the left."""
    turns, mirror = frame.display.quarter_turns % 4, frame.display.mirror
    # A clockwise quarter turn brings the stored bottom to the left; a half turn brings the right to the left.
    return (turns in (0, 3)) != mirror


def _pair_size(width: int, height: int, quarter_turns: int) -> tuple[int, int]:
    """Stored width and height of a before|after pair."""
    return (2 * width, height) if quarter_turns % 2 == 0 else (width, 2 * height)


def _first_half(frame: Frame) -> av.VideoFrame:
    image = frame.image
    width, height = _pair_size(image.width, image.height, frame.display.quarter_turns)
    pair = av.VideoFrame(width, height, image.format.name)
    pair.pts, pair.time_base, pair.duration = frame.pts, frame.time_base, frame.duration
    pair.colorspace, pair.color_range = image.colorspace, image.color_range
    pair.color_primaries, pair.color_trc = image.color_primaries, image.color_trc
    _copy_half(frame, pair, first=_upright_first(frame))
    return pair


def _copy_half(frame: Frame, pair: av.VideoFrame, *, first: bool) -> None:
    side_by_side = frame.display.quarter_turns % 2 == 0
    for source, target in zip(frame.image.planes, pair.planes, strict=True):
        height, used = source.height, source.width * sample_bytes(frame.image, source)
        top, left = (0, 0) if first else (0, used) if side_by_side else (height, 0)
        plane_rows(target)[top : top + height, left : left + used] = plane_rows(source)[:height, :used]


def plan_pairs(info: MediaInfo, target: Target, encode: EncodeOptions) -> OutputPlan:
    """The plan of a film of pairs.

    Args:
        info: the input.
        target: its place, checked.
        encode: quality and speed.

    Raises:
        UsageError: as `rtface.media.write.stream_plan.plan_frames`.
    """
    width, height = _pair_size(info.width, info.height, info.display.quarter_turns)
    # That the input was captured is not true of a pair; that it was generated is.
    metadata = {k: v for k, v in info.metadata.items() if not own_tags({k: v})} | made_by_machine(
        own_tags(info.metadata, info.xmp)
    )
    wide = replace(info, width=width, height=height, display_width=2 * info.display_width, metadata=metadata, xmp=None)
    plan = plan_frames(wide, target, crf=encode.crf, preset=encode.preset)
    limit_look_ahead(plan.video, _LOOK_AHEAD_PAIRS)
    return plan


class BestPair:
    """A `Sink` of pairs that writes the one whose halves differ most, as an image.

    Attributes:
        tags: what was done, see `rtface.media.marks.provenance.describe`; may be set before `finish`.
        own: what the input says of itself, see `rtface.media.marks.provenance.own_tags`; as `tags`.
    """

    kept = 0

    def __init__(
        self,
        path: Path,
        *,
        overwrite: bool,
        tags: Mapping[str, str] | None = None,
        own: Mapping[str, str] | None = None,
    ) -> None:
        self._plan = plan_image(path, overwrite=overwrite)
        self.tags, self.own = tags or {}, own or {}
        self._best: Frame | None = None
        self._change = -1.0

    def write(self, item: Item) -> None:
        change = _change(item) if isinstance(item, Frame) and item.touched else 0.0
        if isinstance(item, Frame) and change > self._change:
            self._best, self._change = item, change

    def finish(self) -> None:
        if self._best is not None:
            self._write(self._best, self._plan)

    def abort(self, *, keep_partial: bool) -> str | None:
        best, self._best = self._best, None
        if best is None or not keep_partial:
            return None
        plan = ImagePlan(self._plan.target.partial(), self._plan.kind)
        try:
            self._write(best, plan)
        except OutputError:
            return None  # what ended the run is said
        return str(plan.target.path)

    def _write(self, pair: Frame, plan: ImagePlan) -> None:
        write_image(pair, plan, tags=true_tags(self.tags, Change.of(pair), made_by_machine(self.own)))


def _change(pair: Frame) -> float:
    """How much the halves differ: mean absolute difference of every fourth sample of the first plane."""
    rows = plane_rows(pair.image.planes[0])[::4]
    if pair.display.quarter_turns % 2 == 0:
        used = rows.shape[1] // 2
        a, b = rows[:, :used:4], rows[:, used : 2 * used : 4]
    else:
        half = rows.shape[0] // 2
        a, b = rows[:half, ::4], rows[half : 2 * half, ::4]
    return float(np.abs(a.astype(np.int16) - b).mean())
