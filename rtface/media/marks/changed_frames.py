"""Records which frames and areas of an output were changed."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import Any

from rtface.frame import Box, Frame
from rtface.geometry.transforms import bounds, clip_box, plane_matrix
from rtface.media.marks.provenance import Change

# `_REACH`: number of samples by which interpolation and chroma may extend beyond a box on each side. `_GRID`: boxes are
# aligned to multiples of it, so that they contain whole samples of every plane.
_REACH, _GRID = 4.0, 4
_ANYWHERE = -1


def sample_boxes(frame: Frame) -> list[Box] | None:
    """Converts `Frame.changed` to boxes in stored luma samples. Samples outside these boxes are unchanged. Returns
    None if changes may be anywhere."""
    if frame.changed is None or (frame.touched and not frame.changed):
        return None
    width, height = frame.image.width, frame.image.height
    to_samples = plane_matrix((width, height), frame.display)
    boxes: list[Box] = []
    for box in frame.changed:
        x0, y0, x1, y1 = bounds(to_samples, box, margin=_REACH)
        x0, y0, x1, y1 = clip_box(
            (x0 // _GRID * _GRID, y0 // _GRID * _GRID, -(-x1 // _GRID) * _GRID, -(-y1 // _GRID) * _GRID), width, height
        )
        if x1 > x0 and y1 > y0:
            boxes.append((x0, y0, x1, y1))
    return boxes


class ChangedFrames:
    """Records the changed boxes of each frame of an output. Needs 20 bytes per box.

    Attributes:
        change: kinds of all changes so far.
        count: number of frames so far.
    """

    def __init__(self) -> None:
        self.change, self.count = Change.NOTHING, 0
        self._rows = array("i")  # for each changed frame: its number, the number of boxes or _ANYWHERE, the boxes

    def add(self, frame: Frame) -> None:
        """Adds the next frame of the output."""
        self.change |= Change.of(frame)
        if frame.touched:
            self._add(self.count, sample_boxes(frame))
        self.count += 1

    def extend(self, count: int, rows: Iterable[Any]) -> None:
        """Adds the next `count` frames. Frame numbers in `rows` count from the first of these frames."""
        for number, boxes in rows:
            self._add(self.count + number, boxes)
        self.count += count

    def _add(self, number: int, boxes: Iterable[Iterable[int]] | None) -> None:
        flat = [] if boxes is None else [v for box in boxes for v in box]
        self._rows.extend((number, _ANYWHERE if boxes is None else len(flat) // 4, *flat))

    def rows(self) -> Iterator[tuple[int, list[Box] | None]]:
        """Yields number and boxes of every changed frame. The boxes are None if changes may be anywhere."""
        rows, at = self._rows, 0
        while at < len(rows):
            number, count = rows[at], rows[at + 1]
            end = at + 2 + 4 * max(count, 0)
            flat = rows[at + 2 : end].tolist()
            yield (
                number,
                None
                if count == _ANYWHERE
                else [(flat[k], flat[k + 1], flat[k + 2], flat[k + 3]) for k in range(0, len(flat), 4)],
            )
            at = end
