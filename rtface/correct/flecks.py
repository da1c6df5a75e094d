"""Keeps corrections from sharpening dust, flecks and scratches.

In a film a fleck appears on one frame only (`FleckLimit`). A spot is not a fleck if the previous frame has its
brightness within a cell around it, or if it is large: a hand that comes in, a lid that closes, light that changes.
In a still, flecks cannot be told from moles or glints, so none of these becomes stronger (`hold_spots`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from rtface.correct.colour import luma_of
from rtface.correct.face_region import FaceRegion
from rtface.correct.mask import median_of
from rtface.frame import Bytes, Float32

# Difference of luma from the range in the previous frame above which it is not due to the face's own motion.
_MIN_DIFFERENCE_LUMA = 0.03
_MIN_DIFFERENCE_NOISES = 4.0  # likewise, in units of the usual difference between the two frames
_MAX_FLECK_CELLS, _MAX_CELLS = 40, 96  # cells of one fleck, and of all flecks; more are due to fast motion
_MAX_GAP_S = 0.2  # longest gap between two frames that are compared

_SIDE = 256  # side of the grid on which a crop is searched for spots
_WIDTH, _WIDTHS = 11.0, (5, 11)  # width of the largest spot in image pixels; its limits in cells of the grid
_MIN_CONTRAST_LUMA, _FULL_CONTRAST_LUMA = 0.01, 0.03  # contrast up to which a spot is not limited, and from which fully
_SURROUND_WIDTHS = 1.5  # side of the square with which a spot's change is compared, in widths


class FleckLimit:
    """Finds the flecks on a track's crops, one by one."""

    def __init__(self) -> None:
        self._before: Float32 | None = None
        self._time = 0.0

    def update(self, crop: Float32, time: float) -> Float32 | None:
        """Returns factors for one frame's correction.

        Args:
            crop: float32 3×64×64, averages of the crop.
            time: seconds, rising within a track.

        Returns:
            float32 64×64, 0 on flecks and 1 elsewhere; None without flecks.
        """
        now, before, elapsed = luma_of(crop), self._before, time - self._time
        if before is not None and elapsed == 0.0:
            return None  # another field, or the same frame again
        self._before, self._time = now, time
        if before is None or not 0.0 < elapsed <= _MAX_GAP_S:
            return None
        around, flicker = np.ones((3, 3), np.uint8), median_of(now.ravel()) / max(median_of(before.ravel()), 0.02)
        before = before * np.float32(flicker)
        usual = median_of(np.abs(now - before).ravel())
        apart: Any = np.maximum(now - cv2.dilate(before, around), cv2.erode(before, around) - now)
        parts = (apart > max(_MIN_DIFFERENCE_LUMA, _MIN_DIFFERENCE_NOISES * usual)).astype(np.uint8)
        if not 0 < np.count_nonzero(parts) <= _MAX_CELLS:
            return None
        _, labels, figures, _ = cv2.connectedComponentsWithStats(parts, connectivity=8)
        small = np.asarray(figures[:, cv2.CC_STAT_AREA]) <= _MAX_FLECK_CELLS
        small[0] = False
        flecks: Any = small[np.asarray(labels)]
        if not flecks.any():
            return None
        out: Any = 1.0 - cv2.dilate(flecks.astype(np.float32), around)
        return out


def hold_spots(d: Float32, c: Float32, area: FaceRegion) -> None:
    """Limits a correction so that no small spot gains contrast.

    A spot is short in all directions, so the largest of four openings of the luma by lines (or the smallest closing)
    removes it, but keeps hair, lashes, wrinkles and rims. Where the correction lightens a light spot, or darkens a
    dark one, more than its surroundings, the excess is removed. Everything else keeps its correction, and so do spots
    that become weaker.

    Args:
        d: float32 3×S×S, the correction.
        c: float32 3×S×S, the crop.
        area: the face in its crop.
    """
    cell = max(1, area.size // _SIDE)
    side = area.size // cell
    x0, y0 = (low // cell for low in area.box[:2])
    x1, y1 = (min(-(-high // cell), side) for high in area.box[2:])
    width = round(min(max(_WIDTH * area.scale / cell, _WIDTHS[0]), _WIDTHS[1])) | 1
    part = np.s_[:, y0 * cell : y1 * cell, x0 * cell : x1 * cell]

    def small(image: Float32) -> Float32:
        return luma_of(
            np.stack([cv2.resize(plane, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA) for plane in image[part]])
        )

    light, dark = _spots(small(c), width)
    out: Any = cv2.max(light, dark)
    if float(out.max()) <= _MIN_CONTRAST_LUMA:
        return
    change, near = small(d), round(_SURROUND_WIDTHS * width) | 1
    more: Any = cv2.subtract(change, cv2.blur(change, (near, near)))
    more[(more > 0.0) != (light > dark)] = 0.0
    more *= np.clip((out - _MIN_CONTRAST_LUMA) * (1 / (_FULL_CONTRAST_LUMA - _MIN_CONTRAST_LUMA)), 0.0, 1.0)
    more = cv2.resize(more, (cell * (x1 - x0), cell * (y1 - y0)), interpolation=cv2.INTER_LINEAR)
    for plane in d[part]:
        cv2.subtract(plane, more, dst=plane)


def _spots(luma: Float32, width: int) -> tuple[Float32, Float32]:
    """Returns the contrast of light and dark spots at each sample, n×n."""
    levels = np.clip(np.rint(luma * np.float32(255.0)), 0, 255).astype(np.uint8)
    opened, closed = np.zeros_like(levels), np.full_like(levels, 255)
    for line in _lines(width):
        cv2.max(opened, cv2.morphologyEx(levels, cv2.MORPH_OPEN, line), dst=opened)
        cv2.min(closed, cv2.morphologyEx(levels, cv2.MORPH_CLOSE, line), dst=closed)
    light, dark = (
        np.asarray(part, np.float32) * np.float32(1 / 255)
        for part in (cv2.subtract(levels, opened), cv2.subtract(closed, levels))
    )
    return light, dark


@lru_cache(maxsize=8)
def _lines(width: int) -> tuple[Bytes, ...]:
    """Returns four lines of `width` samples: horizontal, vertical and both diagonals."""
    diagonal = np.eye(width, dtype=np.uint8)
    return (
        np.ones((1, width), np.uint8),
        np.ones((width, 1), np.uint8),
        diagonal,
        np.ascontiguousarray(diagonal[::-1]),
    )
