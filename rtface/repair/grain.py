"""Adds the grain of a picture's sound parts to filled holes."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rtface.frame import Float32

_SIGMA, _CELL, _SHIFTS = 1.5, 16, 24  # sigma of the blur that leaves grain; side of a cell; number of shifts
_MOST = 2.5  # greatest grain, in multiples of its local mean


def missing_grain(luma: Float32, filled: Float32, hole: NDArray[np.bool_], seed: int) -> Float32:
    """Returns the grain that a filled picture lacks in its holes, h×w.

    Its pattern comes from sound places nearby, and its level from the calmest of the surrounding cells, so that
    edges and hair do not count as grain.

    Args:
        luma, filled: float32 h×w before and after filling, in any unit.
        hole: the holes, h×w.
        seed: seed of the random numbers.
    """
    r, (rows, columns) = np.random.default_rng(seed), np.nonzero(hole)
    detail, level = _grain_of(luma, (~hole).astype(np.float32))
    present = _grain_of(filled, np.ones_like(luma))[1]
    pattern, usable = detail / np.maximum(level, 1e-6), ~hole & (np.abs(detail) < _MOST * level)
    grain, left = r.normal(0, 1, len(rows)), np.arange(len(rows))
    for angle, radius in zip(r.uniform(0, 2 * np.pi, _SHIFTS), 4 + 2 * np.arange(_SHIFTS), strict=True):
        y = np.clip(rows[left] + round(radius * np.sin(angle)), 0, hole.shape[0] - 1)
        x = np.clip(columns[left] + round(radius * np.cos(angle)), 0, hole.shape[1] - 1)
        fits = usable[y, x]
        grain[left[fits]] = pattern[y[fits], x[fits]]
        left = left[~fits]
    result = np.zeros_like(luma)
    result[rows, columns] = grain * np.sqrt(np.maximum(level**2 - present**2, 0))[rows, columns]
    return result


def _grain_of(luma: Float32, sound: Float32) -> tuple[Float32, Float32]:
    """Returns the detail at sound places, and the grain's local mean size."""
    weight = np.maximum(cv2.GaussianBlur(sound, (0, 0), _SIGMA), 1e-3)
    detail = np.asarray((luma - cv2.GaussianBlur(luma * sound, (0, 0), _SIGMA) / weight) * sound, np.float32)
    size = max(1, -(-luma.shape[1] // _CELL)), max(1, -(-luma.shape[0] // _CELL))
    share, sizes = (cv2.resize(v, size, interpolation=cv2.INTER_AREA) for v in (sound, np.abs(detail)))
    cells = np.where(share > 0.25, sizes / np.maximum(share, 1e-3), np.float32(1e9))
    calm = cv2.erode(cells, np.ones((5, 5), np.uint8))
    calm = np.where(calm > 1e8, min(cells.min(), 1e8) % 1e8, calm).astype(np.float32)
    return detail, np.asarray(cv2.resize(cv2.blur(calm, (3, 3)), luma.shape[::-1]), np.float32)
