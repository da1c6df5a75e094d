"""Recognises faces at rest: their samples differ from an earlier frame's by no more than noise and light."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import cv2
import numpy as np

from rtface.correct.mask import median_of
from rtface.frame import Float, Float32
from rtface.geometry.transforms import clip_box

_CELL = 4
"""Side in samples of a cell, in which changes are compared."""
_MIN_CELLS = 100
_LIMITS = ((1, 3.0), (2, 2.0), (4, 1.0))
"""Squares of cells: side, and smallest limit of the change of their mean, of 255. The limit is 8 times the median
change if that is more, so that noise counts as rest."""
_MAX_NOISE = 0.5
"""Largest median change of cells at rest. With more noise, engines run on every frame, because they remove it."""
_MAX_OFFSET, _MAX_GAIN = 4.0, 0.04
"""Changes of the light that are no movement: of 255, and relative."""


class StillFaces:
    """Stores faces of a frame, to recognise frames on which they rest.

    Args:
        luma: uint8 h×w, a part of the frame's luma.
        ovals: the faces' ovals in samples of `luma`, float (N, 2).
    """

    def __init__(self, luma: Any, ovals: Sequence[Float]) -> None:
        points = np.concatenate(ovals).astype(np.int32)
        x0, y0, x1, y1 = clip_box((*points.min(0).tolist(), *points.max(0).tolist()), luma.shape[1], luma.shape[0])
        self._size = (x1 - x0) // _CELL, (y1 - y0) // _CELL
        self._part = np.s_[y0 : y0 + self._size[1] * _CELL, x0 : x0 + self._size[0] * _CELL]
        inside: Any = np.zeros(self._size[::-1], np.uint8)
        for oval in ovals:
            cv2.fillConvexPoly(inside, cv2.convexHull(((oval - (x0, y0)) / _CELL).astype(np.int32)), 1)
        self._inside: Any = inside > 0
        self._cells = self._cells_of(luma)

    def are_on(self, luma: Any) -> bool:
        """Returns whether another frame differs only by noise and light."""
        now, inside = self._cells_of(luma), self._inside
        x, change = self._cells[inside] - np.float32(128.0), (now - self._cells)[inside]
        if x.size < _MIN_CELLS:
            return False
        mean_x, mean = float(x.mean()), float(change.mean())
        x -= mean_x
        gain = float(x @ change) / max(float(x @ x), 1.0)
        if abs(gain) > _MAX_GAIN or abs(mean - gain * mean_x) > _MAX_OFFSET:
            return False
        cells = np.zeros(now.shape, np.float32)
        cells[inside] = change - (mean + gain * x)
        for side, low in _LIMITS:
            changes = np.abs(cv2.blur(cells, (side, side)))[inside]
            median = median_of(changes)
            if median > _MAX_NOISE or float(changes.max()) > max(low, 8.0 * median):
                return False
        return True

    def _cells_of(self, luma: Any) -> Float32:
        return cast(Float32, cv2.resize(luma[self._part].astype(np.float32), self._size, interpolation=cv2.INTER_AREA))
