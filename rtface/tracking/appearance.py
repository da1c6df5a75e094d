"""The appearance of a face: a coarse image of luma and colour around its mesh.

Enough to tell two people in one scene apart, nothing that could identify a person.
"""

from __future__ import annotations

from math import exp

import cv2
import numpy as np

from rtface.frame import Bytes, Float

_GRID = 8


def appearance_of(pixels: Bytes) -> Float:
    """Appearance descriptor of a face, from its upright 256×256 crop: normalised luma 8×8, then colour 4×4×2; (96,)."""
    ycc = cv2.cvtColor(cv2.resize(pixels, (_GRID, _GRID), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2YCrCb)
    y = ycc[:, :, 0].astype(np.float64)
    y -= y.mean()
    colour = ycc[:, :, 1:].astype(np.float64).reshape(4, 2, 4, 2, 2).mean((1, 3)) - 128
    return np.concatenate([(y / (np.linalg.norm(y) + 8)).ravel(), colour.ravel() / 12])


def likeness(a: Float, b: Float) -> float:
    """How similar two appearances are, 0…1; the same face some frames later has 0.7 and more."""
    n = _GRID * _GRID
    shape = float(np.dot(a[:n], b[:n]))
    colour = exp(-float(np.mean(np.abs(a[n:] - b[n:]))))
    return max(0.0, 0.5 * shape + 0.5 * colour)
