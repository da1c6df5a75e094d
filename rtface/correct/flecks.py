"""Where a crop shows what stands on one frame only: dust, flecks and scratches of a film, which no correction sharpens.

A spot is no fleck where the frame before has its brightness within a cell around it, or where it is large: a hand that
comes in, a lid that closes, light that changes.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from rtface.correct.colour import luma_of
from rtface.correct.mask import median_of
from rtface.frame import Float32

_APART = 0.04  # luma outside what the frame before shows there, from which on it is none of the face's own motion
_NOISES = 4.0  # likewise, times the usual difference of the two frames
_LARGEST, _MOST = 40, 96  # cells of a fleck, and of all; above that the face moves faster than can be told
_GAP = 0.2  # seconds between two frames that are compared


class FleckLimit:
    """Finds the flecks on a track's crops, one after the other."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets the track."""
        self._before: Float32 | None = None
        self._time = 0.0

    def update(self, crop: Float32, time: float) -> Float32 | None:
        """Factors for one frame's correction.

        Args:
            crop: float32 3×64×64, averages of the crop.
            time: seconds, rising within a track.

        Returns:
            float32 64×64, 0 on flecks and 1 elsewhere; None where there is none.
        """
        now, before, elapsed = luma_of(crop), self._before, time - self._time
        if before is not None and elapsed == 0.0:
            return None  # a field, or the same frame again
        self._before, self._time = now, time
        if before is None or not 0.0 < elapsed <= _GAP:
            return None
        around, flicker = np.ones((3, 3), np.uint8), median_of(now.ravel()) / max(median_of(before.ravel()), 0.02)
        before = before * np.float32(flicker)
        usual = median_of(np.abs(now - before).ravel())
        apart: Any = np.maximum(now - cv2.dilate(before, around), cv2.erode(before, around) - now)
        parts = (apart > max(_APART, _NOISES * usual)).astype(np.uint8)
        if not 0 < np.count_nonzero(parts) <= _MOST:
            return None
        _, labels, figures, _ = cv2.connectedComponentsWithStats(parts, connectivity=8)
        small = np.asarray(figures[:, cv2.CC_STAT_AREA]) <= _LARGEST
        small[0] = False
        flecks: Any = small[np.asarray(labels)]
        if not flecks.any():
            return None
        out: Any = 1.0 - cv2.dilate(flecks.astype(np.float32), around)
        return out
