"""Takes the grain out of a picture: what is left where each of three octaves holds no more than grain does."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from rtface.correct.mask import smooth_ramp
from rtface.frame import Bytes, Float32

_OCTAVES = 3
_CELL = 8
_VISIBLE = 0.8, 1.6  # code values of the finest octave: grain below the first is left, from the second on all is taken
_MARGIN = 1.6  # times the power of grain that is taken for it: what is local trembles


def grain_of(picture: Bytes) -> Float32 | None:
    """The grain of a picture by a Wiener filter in octaves; each has at most the power of the finest one.

    Args:
        picture: uint8 RGB h×w×3, on the grid on which it is stored.

    Returns:
        float32 h×w×3, 0…1 is the range of the picture; None where there is none.
    """
    planes: Any = cv2.cvtColor(picture.astype(np.float32), cv2.COLOR_RGB2YCrCb)
    grain = [_plane_grain(plane) for plane in cv2.split(planes)]
    if not any(part.any() for part in grain):
        return None
    rest: Any = cv2.cvtColor(planes - np.dstack(grain), cv2.COLOR_YCrCb2RGB)
    return (picture - rest) * np.float32(1 / 255)


def _plane_grain(plane: Float32) -> Float32:
    grain, most, share = np.zeros_like(plane), np.inf, 1.0
    for octave in range(_OCTAVES):
        soft: Any = cv2.GaussianBlur(plane, (0, 0), 2.0**octave)
        band, side = plane - soft, 6 * 2**octave + 1
        power: Any = cv2.blur(band * band, (side, side))
        cells: Any = cv2.resize(power, (plane.shape[1] // _CELL, plane.shape[0] // _CELL), interpolation=cv2.INTER_AREA)
        h, w = (length // 4 for length in cells.shape)
        most = min(most, float(np.percentile(cells[h : 3 * h + 1, w : 3 * w + 1], 25)))  # the face itself
        if octave == 0 and (share := smooth_ramp(most**0.5, *_VISIBLE)) == 0.0:
            break
        grain += band * np.minimum(_MARGIN * most / np.maximum(power, 1e-6), 1.0)
        plane = soft
    return grain * np.float32(share)
