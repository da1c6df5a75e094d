"""Prevents corrections from sharpening dust, flecks and scratches.

In a film, a fleck appears on one frame only (`FleckLimit`). A spot is not a fleck if the previous frame has the same
brightness within a distance of one cell. Nor is it a fleck if it is large: then a hand comes in, a lid closes, or light
changes. In a still, flecks cannot be distinguished from moles or glints, so no spot becomes stronger (`hold_spots`).
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

# Difference of luma from the range round the cell in the previous frame; less may be due to motion of the face.
_MIN_DIFFERENCE_LUMA = 0.03
_MIN_DIFFERENCE_NOISES = 4.0  # the same, as a multiple of the median difference between the two frames
_MAX_FLECK_CELLS, _MAX_CELLS = 40, 96  # maximum cells of one fleck, and of all changes; more are due to fast motion
_MAX_GAP_S = 0.2  # maximum time between two frames that are compared

_NEIGHBOURHOOD = np.ones((3, 3), np.uint8)
_SIDE = 256  # side of the grid on which a crop is searched for spots
_WIDTH, _WIDTHS = 11.0, (5, 11)  # maximum width of a spot in image pixels; its limits in cells of the grid
_MIN_CONTRAST_LUMA, _FULL_CONTRAST_LUMA = 0.01, 0.03  # between these, the limit of a spot rises to full
_SURROUND_WIDTHS = 1.5  # side, in widths of a spot, of the square with which its change is compared


class FleckLimit:
    """Finds the flecks on a track's crops, frame by frame."""

    def __init__(self) -> None:
        self._previous: Float32 | None = None
        self._time = 0.0

    def update(self, crop: Float32, time: float) -> Float32 | None:
        """Returns factors for one frame's correction.

        Args:
            crop: float32 3×64×64, averages of the crop.
            time: seconds, rising within a track.

        Returns:
            float32 64×64, 0 on flecks and 1 elsewhere; None without flecks.
        """
        now, previous, elapsed = luma_of(crop), self._previous, time - self._time
        if previous is not None and elapsed == 0.0:
            return None  # another field, or the same frame again
        self._previous, self._time = now, time
        if previous is None or not 0.0 < elapsed <= _MAX_GAP_S:
            return None
        previous = previous * np.float32(median_of(now.ravel()) / max(median_of(previous.ravel()), 0.02))
        median_change = median_of(np.abs(now - previous).ravel())
        outside: Any = np.maximum(now - cv2.dilate(previous, _NEIGHBOURHOOD), cv2.erode(previous, _NEIGHBOURHOOD) - now)
        changed = (outside > max(_MIN_DIFFERENCE_LUMA, _MIN_DIFFERENCE_NOISES * median_change)).astype(np.uint8)
        if not 0 < np.count_nonzero(changed) <= _MAX_CELLS:
            return None
        _, labels, figures, _ = cv2.connectedComponentsWithStats(changed, connectivity=8)
        small = np.asarray(figures[:, cv2.CC_STAT_AREA]) <= _MAX_FLECK_CELLS
        small[0] = False
        flecks: Any = small[np.asarray(labels)]
        if not flecks.any():
            return None
        out: Any = 1.0 - cv2.dilate(flecks.astype(np.float32), _NEIGHBOURHOOD)
        return out


def hold_spots(d: Float32, c: Float32, area: FaceRegion) -> None:
    """Limits a correction so that no small spot gains contrast.

    A spot is short in all directions. So the maximum of four morphological openings of the luma by lines (for dark
    spots, the minimum of closings) removes spots, but not hair, lashes, wrinkles and rims. If the correction lightens a
    light spot, or darkens a dark spot, more than its surroundings, the excess is removed. Elsewhere, and at spots that
    become weaker, the correction is not changed.

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
    contrast: Any = cv2.max(light, dark)
    if float(contrast.max()) <= _MIN_CONTRAST_LUMA:
        return
    change, surround = small(d), round(_SURROUND_WIDTHS * width) | 1
    excess: Any = cv2.subtract(change, cv2.blur(change, (surround, surround)))
    excess[(excess > 0.0) != (light > dark)] = 0.0
    excess *= np.clip((contrast - _MIN_CONTRAST_LUMA) * (1 / (_FULL_CONTRAST_LUMA - _MIN_CONTRAST_LUMA)), 0.0, 1.0)
    excess = cv2.resize(excess, (cell * (x1 - x0), cell * (y1 - y0)), interpolation=cv2.INTER_LINEAR)
    for plane in d[part]:
        cv2.subtract(plane, excess, dst=plane)


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
