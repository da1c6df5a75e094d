"""Amplifies the fine detail of a correction (``--look``).

An engine's answer is the mean of all plausible faces, so its detail is weaker than a real face's. Let h be the fine
luma of the crop: its luma minus the luma's enlarged averages over 64×64 cells. Let b be that of the correction d,
without the finest structure (`smoothing`). Then h + b is the fine part of the answer, and

    w = amount·min(SLOPE·⟨b, h + b⟩ / ⟨b, b⟩, MOST)        d ← d + w·b / (1 + w·√⟨b, b⟩ / LIMIT)

⟨,⟩ are averages over a cell and its neighbours. Where the correction sharpens existing detail (lids, irises, lips), b
agrees with the answer, and w is large. Where it removes blocks or noise, b is opposed to h, and w is 0. So detail is
added where crop and engine agree. The energy of detail grows by a quarter or more. Scaling all of b equally would cause
three times the error, and flicker (benchmarks/README.md, "Looks").
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from rtface.correct.colour import CELLS, enlarged, enlarging, luma_of
from rtface.frame import Box, Float32

SLOPE, MOST = 1.9, 3.5
LIMIT = 12.0 / 255.0
"""Upper bound of the root mean square of a cell's added detail, luma 0…1, so that rims are not exaggerated."""
_UNSEEN_MEAN_SQUARE = 1e-7  # mean square of detail that cannot be seen, luma of 0…1
_WEIGHTS_S = 0.12  # time constant of the weights


def cell_box(box: Box, size: int) -> Box:
    """Extends a box to whole cells. Returns all of S×S if a cell is not a whole number of samples."""
    k = size // CELLS
    if size != k * CELLS:
        return 0, 0, size, size
    x0, y0, x1, y1 = box
    return x0 // k * k, y0 // k * k, -(-x1 // k) * k, -(-y1 // k) * k


def fine(image: Float32, cells: Float32, box: Box) -> Float32:
    """Returns the fine part of the luma in a box, float32 h×w.

    Args:
        image: float32 3×S×S.
        cells: float32 3×64×64, averages of the image.
        box: x0, y0, x1, y1, a `cell_box`.
    """
    x0, y0, x1, y1 = box
    out: Any = luma_of(image[:, y0:y1, x0:x1])
    taps, sigma = smoothing(image.shape[1])
    cv2.GaussianBlur(out, (taps, taps), sigma, dst=out, borderType=cv2.BORDER_REPLICATE)
    cv2.subtract(out, enlarged(luma_of(cells), image.shape[1], box), dst=out)
    return out


def smoothing(size: int) -> tuple[int, float]:
    """Returns taps and sigma of the Gaussian that removes b's finest structure.

    The finest structure that engines draw in crops of S×S is not a face's, but a weave of 4×4 samples.
    """
    return (5, 1.3) if size >= 384 else (3, 0.65)


def products(b: Float32, crop: Float32, cells: Float32, box: Box) -> Float32:
    """Returns cell averages of h·b and b·b, float32 2×64×64. They use every `step_of`-th sample, and are 0 outside
    the box.

    Args:
        b: float32 h×w, the fine part of the correction in the box.
        crop: float32 3×S×S.
        cells: float32 3×64×64, averages of the crop.
        box: x0, y0, x1, y1, a `cell_box`.
    """
    (x0, y0, x1, y1), size = box, crop.shape[1]
    step, out = step_of(size), np.zeros((2, CELLS, CELLS), np.float32)
    larger = enlarging(CELLS, size)
    h = luma_of(np.ascontiguousarray(crop[:, y0:y1:step, x0:x1:step]))
    h -= larger[y0:y1:step] @ luma_of(cells) @ larger[x0:x1:step].T
    b = np.ascontiguousarray(b[::step, ::step])
    left, top, right, bottom = (v * CELLS // size for v in box)
    for part, other in zip(out, (h, b), strict=True):
        part[top:bottom, left:right] = cv2.resize(
            cv2.multiply(b, other), (right - left, bottom - top), interpolation=cv2.INTER_AREA
        )
    return out


def step_of(size: int) -> int:
    """Returns the sampling step of `products`, in both directions. A cell has 16 or more samples."""
    return max(1, size // (4 * CELLS))


class DetailWeights:
    """Weights of one track's detail from frame to frame."""

    def __init__(self) -> None:
        self._previous: Float32 | None = None
        self._time = 0.0

    def update(self, averages: Float32, amount: float, time: float) -> Float32:
        """Returns the weights of one frame, float32 64×64.

        Args:
            averages: `products(…)` of the correction and its crop.
            amount: the requested amount of detail, 0…1.5.
            time: seconds, rising within a track.
        """
        product, square = (cv2.GaussianBlur(cells, (5, 5), 1.0) for cells in averages)
        ratio = product / (square + np.float32(_UNSEEN_MEAN_SQUARE)) + np.float32(1.0)
        weights: Any = np.clip(ratio * np.float32(SLOPE), 0.0, MOST) * np.float32(amount)
        weights /= 1.0 + weights * np.sqrt(np.maximum(square, 0.0)) * np.float32(1.0 / LIMIT)
        elapsed, self._time = time - self._time, time
        if self._previous is not None and 0.0 <= elapsed <= 1.0:
            previous_share = float(np.exp(-elapsed / _WEIGHTS_S))
            weights = cv2.addWeighted(self._previous, previous_share, weights, 1.0 - previous_share, 0.0)
        self._previous = weights
        return weights


def add_scaled(d: Float32, b: Float32, weights: Float32, box: Box) -> None:
    """Adds detail to a correction, in place.

    Args:
        d: float32 3×S×S.
        b: float32 h×w, the correction's fine part in the box; overwritten.
        weights: float32 64×64, from `DetailWeights.update`.
        box: x0, y0, x1, y1, a `cell_box`.
    """
    x0, y0, x1, y1 = box
    cv2.multiply(b, enlarged(weights, d.shape[1], box), dst=b)
    for plane in d:
        part: Any = plane[y0:y1, x0:x1]
        cv2.add(part, b, dst=part)
