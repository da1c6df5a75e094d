"""Removes grain from a picture, in three octaves.

A small, sharp face has as much fine detail as grain, but grain differs on each frame (`power_between`).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from rtface.correct.mask import smooth_ramp
from rtface.frame import Bytes, Float32

_OCTAVES, _CELL = 3, 8
_VISIBLE_CODE_VALUES = 0.8, 1.6  # in the finest octave: grain up to the first is kept, from the second on removed
_POWER_MARGIN = 1.6  # local power up to this multiple of grain's counts as grain: local estimates vary
_CALM_PERCENTILE, _STILL_PERCENTILE = 25, 5  # of the cells; the lower one if no previous frame tells grain from detail


def power_between(now: Bytes, before: Bytes) -> float:
    """Returns an upper bound of grain power. Both images are the same part of two frames, uint8 RGB h×w×3."""
    change: Any = (now.astype(np.float32) - before).mean(2) * np.float32(0.5**0.5)
    return _calm_power(cv2.blur((change - cv2.GaussianBlur(change, (0, 0), 1.0)) ** 2, (7, 7)), _CALM_PERCENTILE)


def grain_of(picture: Bytes, most: float | None = None) -> Float32 | None:
    """Returns a picture's grain, by a Wiener filter in octaves. No octave has more power than the finest one.

    Args:
        picture: uint8 RGB h×w×3, on its stored grid.
        most: upper bound of the finest octave's power, from `power_between`, or None.

    Returns:
        float32 h×w×3, where 0…1 is the range of the picture; None without grain.
    """
    planes: Any = cv2.cvtColor(picture.astype(np.float32), cv2.COLOR_RGB2YCrCb)
    grain = np.dstack([_plane_grain(plane, most) for plane in cv2.split(planes)])
    if not grain.any():
        return None
    rest: Any = cv2.cvtColor(planes - grain, cv2.COLOR_YCrCb2RGB)
    return (picture - rest) * np.float32(1 / 255)


def _plane_grain(plane: Float32, bound: float | None) -> Float32:
    grain, share, most = np.zeros_like(plane), 1.0, np.inf if bound is None else bound
    for octave in range(_OCTAVES):
        soft: Any = cv2.GaussianBlur(plane, (0, 0), 2.0**octave)
        band, side = plane - soft, 6 * 2**octave + 1
        power: Any = cv2.blur(band * band, (side, side))
        most = min(most, _calm_power(power, _STILL_PERCENTILE if bound is None else _CALM_PERCENTILE))
        if octave == 0 and (share := smooth_ramp(most**0.5, *_VISIBLE_CODE_VALUES)) == 0.0:
            break
        grain += band * np.minimum(_POWER_MARGIN * most / np.maximum(power, 1e-6), 1.0)
        plane = soft
    return grain * np.float32(share)


def _calm_power(power: Any, per_cent: int) -> float:
    """Returns the power in the calmer cells of the picture's middle. The face is there."""
    cells: Any = cv2.resize(power, (power.shape[1] // _CELL, power.shape[0] // _CELL), interpolation=cv2.INTER_AREA)
    h, w = (length // 4 for length in cells.shape)
    return max(0.0, float(np.percentile(cells[h : 3 * h + 1, w : 3 * w + 1], per_cent)))  # running sums round
