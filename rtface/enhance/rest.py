"""Recognises faces at rest: crops that differ from an earlier one by no more than noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from rtface.correct.mask import median_of
from rtface.frame import Box, Float32

_CELLS, _CELL_SAMPLES = (16, 64), 4.0
"""Smallest and largest number of cells per side of the crop, in which changes are compared, and the side of a cell in
samples of the frame."""
_LIMITS = ((2.0, 8.0), (1.0, 4.0))
"""Smallest and largest limit of a cell's change, of 255: in cells, and in squares of four cells. Between these, the
limit follows the noise; a movement of lids or lips changes some cells by more."""
_NOISE_FACTOR = 5.0
"""Limit of a cell's change, in standard deviations of all cells' changes."""
_MAX_LIGHT_CHANGE = 3.0
"""Change of the whole face's brightness, of 255, that is no movement."""
_SETTLING_FRAMES = 6
"""Frames at rest on which a recurrent engine still runs, because its answers become clearer."""


@dataclass(slots=True, eq=False)
class Rest:
    """Rest of one track.

    Attributes:
        crop: float32 1×3×S×S, the crop for which the engine ran last.
        frames: number of frames in a row on which the face was at rest.
    """

    crop: Float32 | None = None
    frames: int = 0

    def update(self, crop: Float32, cells: int, box: Box) -> bool:
        """Adds a crop. Returns whether the last answer may be kept.

        Args:
            crop: as in the attributes.
            cells: number of cells per side, `cells_of`.
            box: part of the crop that is shown, in cells.
        """
        rests = self.crop is not None and self.crop.shape == crop.shape and is_still(crop, self.crop, cells, box)
        self.frames = self.frames + 1 if rests else 0
        if self.frames > _SETTLING_FRAMES:
            return True
        self.crop = crop
        return False


def cells_of(size: int, scale: float) -> int:
    """Returns the number of cells per side of a crop with `size` samples, `scale` for each sample of the frame."""
    return min(max(round(size / (_CELL_SAMPLES * scale)), _CELLS[0]), _CELLS[1])


def is_still(crop: Float32, earlier: Float32, number: int, box: Box) -> bool:
    """Returns whether two crops, float32 1×3×S×S, differ by no more than noise and light within `box` of the cells."""
    x0, y0, x1, y1 = box
    change: Any = cv2.resize(cv2.subtract(crop[0, 1], earlier[0, 1]), (number, number), interpolation=cv2.INTER_AREA)
    cells = np.ascontiguousarray(change[y0:y1, x0:x1]) * np.float32(255.0)
    light = median_of(cells)
    if abs(light) > _MAX_LIGHT_CHANGE:
        return False
    cells -= np.float32(light)
    for low, high in _LIMITS:
        size = np.abs(cells)
        limit = min(max(low, _NOISE_FACTOR * 1.48 * median_of(size)), high)
        if float(size.max()) > limit:
            return False
        cells = cv2.resize(cells, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return True
