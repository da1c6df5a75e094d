"""Before|after: the untouched and the enhanced picture side by side, in the frame's own format.

Two stages around the correction. `remember` copies each picture into the first half of a frame twice as large before
anything is written; `complete` fills the other half afterwards and hands the pair to a sink of its own. Rows are
copied as bytes, so the pair holds exactly the samples of both pictures.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import av

from rtface.frame import Frame
from rtface.protocols import Item
from rtface.util.av_arrays import plane_rows, sample_bytes


@dataclass(slots=True)
class _Half:
    pts: int
    pair: av.VideoFrame


class Comparison:
    """Makes before|after pairs while the frames pass.

    Args:
        take: receives each finished pair: a Frame twice as wide as seen by a viewer (twice as high in storage where
            the picture is stored turned by 90°).
    """

    def __init__(self, take: Callable[[Frame], None]) -> None:
        self._take = take
        self._halves: deque[_Half] = deque()

    def remember(self, items: Iterator[Item]) -> Iterator[Item]:
        """Copies each whole picture before it is corrected."""
        for item in items:
            if isinstance(item, Frame) and item.field != 1:
                self._halves.append(_Half(item.pts, _first_half(item)))
            yield item

    def complete(self, items: Iterator[Item]) -> Iterator[Item]:
        """Fills the second half from each corrected picture and hands the pair over."""
        for item in items:
            if isinstance(item, Frame):
                while self._halves and self._halves[0].pts != item.pts:
                    self._halves.popleft()  # that frame was dropped on the way
                if self._halves:
                    pair = self._halves.popleft().pair
                    _copy_half(item, pair, first=_upright_first(item) is False)
                    self._take(replace(item, image=pair))
            yield item


def _side_by_side(frame: Frame) -> bool:
    return frame.display.quarter_turns % 2 == 0


def _upright_first(frame: Frame) -> bool:
    """Whether the stored first half (left or top) is what a viewer sees on the left."""
    turns, mirror = frame.display.quarter_turns % 4, frame.display.mirror
    # A clockwise quarter turn brings the stored bottom to the left; a half turn brings the right to the left.
    return (turns in (0, 3)) != mirror


def pair_size(width: int, height: int, quarter_turns: int) -> tuple[int, int]:
    """Stored width and height of a before|after pair."""
    return (2 * width, height) if quarter_turns % 2 == 0 else (width, 2 * height)


def _first_half(frame: Frame) -> av.VideoFrame:
    image = frame.image
    width, height = pair_size(image.width, image.height, frame.display.quarter_turns)
    pair = av.VideoFrame(width, height, image.format.name)
    pair.pts, pair.time_base, pair.duration = frame.pts, frame.time_base, frame.duration
    pair.colorspace, pair.color_range = image.colorspace, image.color_range
    pair.color_primaries, pair.color_trc = image.color_primaries, image.color_trc
    _copy_half(frame, pair, first=_upright_first(frame))
    return pair


def _copy_half(frame: Frame, pair: av.VideoFrame, *, first: bool) -> None:
    for source, target in zip(frame.image.planes, pair.planes, strict=True):
        rows_in, rows_out = plane_rows(source), plane_rows(target)
        if _side_by_side(frame):
            used = source.width * sample_bytes(frame.image, source)
            start = 0 if first else used
            rows_out[: source.height, start : start + used] = rows_in[: source.height, :used]
        else:
            used = source.width * sample_bytes(frame.image, source)
            start = 0 if first else source.height
            rows_out[start : start + source.height, :used] = rows_in[: source.height, :used]
