"""Removes grain from a picture, in three octaves.

A small, sharp face has as much fine detail as grain. But grain differs between frames, so `power_between` measures it.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from rtface.correct.mask import smooth_ramp
from rtface.frame import Bytes, Float32

_OCTAVES, _CELL = 3, 8
_VISIBLE_CODE_VALUES = 0.8, 1.6  # grain of the finest octave is kept up to the first, removed from the second on
_POWER_MARGIN = 1.6  # local power up to this multiple of the grain's is all grain, because local estimates vary
_CALM_PERCENTILE, _STILL_PERCENTILE = 25, 5  # of the power of cells; with and without a measurement between frames


def power_between(picture: Bytes, previous: Bytes) -> float:
    """Returns an upper bound of grain power. The pictures show the same part of two frames, uint8 RGB h×w×3."""
    change: Any = (picture.astype(np.float32) - previous).mean(2) * np.float32(0.5**0.5)
    return _calm_power(cv2.blur((change - cv2.GaussianBlur(change, (0, 0), 1.0)) ** 2, (7, 7)), _CALM_PERCENTILE)


def grain_of(picture: Bytes, max_power: float | None = None) -> Float32 | None:
    """Estimates a picture's grain by a Wiener filter in octaves. Coarser octaves have at most the finest one's power.

    Args:
        picture: uint8 RGB h×w×3, on its stored grid.
        max_power: upper bound of the finest octave's power, from `power_between`, or None.

    Returns:
        float32 h×w×3, where 0…1 is the range of the picture; None without grain.
    """
    planes: Any = cv2.cvtColor(picture.astype(np.float32), cv2.COLOR_RGB2YCrCb)
    grain = np.dstack([_plane_grain(plane, max_power) for plane in cv2.split(planes)])
    if not grain.any():
        return None
    clean: Any = cv2.cvtColor(planes - grain, cv2.COLOR_YCrCb2RGB)
    return (picture - clean) * np.float32(1 / 255)


def _plane_grain(plane: Float32, bound: float | None) -> Float32:
    grain, share, max_power = np.zeros_like(plane), 1.0, np.inf if bound is None else bound
    for octave in range(_OCTAVES):
        soft: Any = cv2.GaussianBlur(plane, (0, 0), 2.0**octave)
        band, side = plane - soft, 6 * 2**octave + 1
        power: Any = cv2.blur(band * band, (side, side))
        max_power = min(max_power, _calm_power(power, _STILL_PERCENTILE if bound is None else _CALM_PERCENTILE))
        if octave == 0 and (share := smooth_ramp(max_power**0.5, *_VISIBLE_CODE_VALUES)) == 0.0:
            break
        grain += band * np.minimum(_POWER_MARGIN * max_power / np.maximum(power, 1e-6), 1.0)
        plane = soft
    return grain * np.float32(share)


def _calm_power(power: Any, per_cent: int) -> float:
    """Returns the power in the calmer cells of the centre, the face."""
    cells: Any = cv2.resize(power, (power.shape[1] // _CELL, power.shape[0] // _CELL), interpolation=cv2.INTER_AREA)
    h, w = (length // 4 for length in cells.shape)
    return max(0.0, float(np.percentile(cells[h : 3 * h + 1, w : 3 * w + 1], per_cent)))  # cv2.blur may round below 0
