"""Takes the grain out of a picture: what is left where each of three octaves holds no more than grain does.

A small, sharp face has as much fine detail as grain; but grain is another one on each frame (`power_between`).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from rtface.correct.mask import smooth_ramp
from rtface.frame import Bytes, Float32

_OCTAVES, _CELL = 3, 8
_VISIBLE = 0.8, 1.6  # code values of the finest octave: grain below the first is left, from the second on all is taken
_MARGIN = 1.6  # times the power of grain that is taken for it: what is local trembles
_CALM, _CALMEST = 25, 5  # per cent of the cells; the fewer where no frame before tells grain from detail


def power_between(now: Bytes, before: Bytes) -> float:
    """The power that grain has at most by what differs between the same part of two frames, uint8 RGB h×w×3."""
    change: Any = (now.astype(np.float32) - before).mean(2) * np.float32(0.5**0.5)
    return _least(cv2.blur((change - cv2.GaussianBlur(change, (0, 0), 1.0)) ** 2, (7, 7)), _CALM)


def grain_of(picture: Bytes, most: float | None = None) -> Float32 | None:
    """The grain of a picture by a Wiener filter in octaves; each has at most the power of the finest one.

    Args:
        picture: uint8 RGB h×w×3, on the grid on which it is stored.
        most: the power of the finest octave at most, by `power_between`; None where that is not known.

    Returns:
        float32 h×w×3, 0…1 is the range of the picture; None where there is none.
    """
    planes: Any = cv2.cvtColor(picture.astype(np.float32), cv2.COLOR_RGB2YCrCb)
    grain = np.dstack([_plane_grain(plane, most) for plane in cv2.split(planes)])
    if not grain.any():
        return None
    rest: Any = cv2.cvtColor(planes - grain, cv2.COLOR_YCrCb2RGB)
    return (picture - rest) * np.float32(1 / 255)


def _plane_grain(plane: Float32, known: float | None) -> Float32:
    grain, share, most = np.zeros_like(plane), 1.0, np.inf if known is None else known
    for octave in range(_OCTAVES):
        soft: Any = cv2.GaussianBlur(plane, (0, 0), 2.0**octave)
        band, side = plane - soft, 6 * 2**octave + 1
        power: Any = cv2.blur(band * band, (side, side))
        most = min(most, _least(power, _CALMEST if known is None else _CALM))
        if octave == 0 and (share := smooth_ramp(most**0.5, *_VISIBLE)) == 0.0:
            break
        grain += band * np.minimum(_MARGIN * most / np.maximum(power, 1e-6), 1.0)
        plane = soft
    return grain * np.float32(share)


def _least(power: Any, per_cent: int) -> float:
    """The power in the calmer cells of the middle of a picture, where the face is."""
    cells: Any = cv2.resize(power, (power.shape[1] // _CELL, power.shape[0] // _CELL), interpolation=cv2.INTER_AREA)
    h, w = (length // 4 for length in cells.shape)
    return max(0.0, float(np.percentile(cells[h : 3 * h + 1, w : 3 * w + 1], per_cent)))  # running sums round
