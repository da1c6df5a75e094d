"""Scales the fine detail of a correction beyond the mean of what may be true (``--look``).

An engine's answer is the mean of what may be true, so its detail is weaker than a face's. With b the fine part of the
luma of the correction d, and h that of the crop (both less their averages over 64×64 cells, enlarged, and b without the
finest structure), h + b is the fine part of the answer, and

    w = amount·min(SLOPE·⟨b, h + b⟩ / ⟨b, b⟩, MOST)        d ← d + w·b / (1 + w·√⟨b, b⟩ / LIMIT)

⟨,⟩ are averages over a cell and its neighbours. Where the correction sharpens what is there (lids, irises, lips), b
agrees with the answer and w is large; where it removes blocks or noise, b opposes what it removes and w is 0. So the
detail that is added lies along what the crop and the engine agree on: its energy grows by a third and more, while the
error hardly does; scaling all of b alike costs three times as much, and trembles (benchmarks/README.md, "Looks").
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from rtface.correct.colour import CELLS, enlarged, luma_of
from rtface.frame import Box, Float32

SLOPE, MOST = 2.3, 4.5
LIMIT = 18.0 / 255.0
"""The root mean square, luma of 0…1, that the added detail of a cell approaches: rims are not overdrawn."""
SIGMA = 0.65
"""Samples of `fine`, of the Gaussian of 3 taps that takes its finest structure away."""
_LARGE = 384  # samples a side, from which on half as many show all but the finest structure
_SAME = 1e-7  # mean square of detail that cannot be seen, luma of 0…1
_SECONDS = 0.12  # time constant of the weights


def cell_box(box: Box, size: int) -> Box:
    """The box, in whole cells; all of S×S where cells are no whole samples."""
    k = size // CELLS
    if size != k * CELLS:
        return 0, 0, size, size
    x0, y0, x1, y1 = box
    return x0 // k * k, y0 // k * k, -(-x1 // k) * k, -(-y1 // k) * k


def fine(image: Float32, cells: Float32, box: Box) -> Float32:
    """The fine part of the luma of a box, without its finest structure: float32 h×w, of every `step_of` samples one.

    Engines answer in the finest structure with a weave of 4×4 samples rather than with a face's.

    Args:
        image: float32 3×S×S.
        cells: float32 3×64×64, its averages.
        box: x0, y0, x1, y1, a `cell_box`.
    """
    x0, y0, x1, y1 = box
    step = step_of(image.shape[1])
    out: Any = luma_of(image[:, y0:y1, x0:x1])
    if step > 1:
        out = cv2.resize(out, (out.shape[1] // step, out.shape[0] // step), interpolation=cv2.INTER_AREA)
    cv2.GaussianBlur(out, (3, 3), SIGMA, dst=out, borderType=cv2.BORDER_REPLICATE)
    cv2.subtract(out, _enlarged(cells, image.shape[1], box), dst=out)
    return out


def products(b: Float32, luma: Float32, cells: Float32, size: int, box: Box) -> Float32:
    """float32 2×64×64: averages over cells of h·b and b·b; 0 outside the box.

    Args:
        b: float32 h×w, `fine` of the correction in the box.
        luma: of the crop in the box.
        cells: float32 3×64×64, averages of the crop.
        size: S, of the crop.
        box: x0, y0, x1, y1, a `cell_box`.
    """
    step, out = step_of(size), np.zeros((2, CELLS, CELLS), np.float32)
    h: Any = cv2.subtract(np.ascontiguousarray(luma[::step, ::step]), _enlarged(cells, size, box))
    left, top, right, bottom = (v * CELLS // size for v in box)
    for part, other in zip(out, (h, b), strict=True):
        part[top:bottom, left:right] = cv2.resize(
            cv2.multiply(b, other), (right - left, bottom - top), interpolation=cv2.INTER_AREA
        )
    return out


def step_of(size: int) -> int:
    """From one sample of `fine` to the next, in both directions: 1, or 2 in a large crop."""
    return 2 if size >= _LARGE and size % (2 * CELLS) == 0 else 1


def _enlarged(cells: Float32, size: int, box: Box) -> Float32:
    """The luma of 3×64×64 cells, or 64×64 cells, enlarged to `fine`'s samples of a box."""
    step = step_of(size)
    x0, y0, x1, y1 = box
    luma = luma_of(cells) if cells.ndim == 3 else cells
    return enlarged(luma, size // step, (x0 // step, y0 // step, x1 // step, y1 // step))


class DetailWeights:
    """Weights of one track's detail from frame to frame."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets the track."""
        self._before: Float32 | None = None
        self._time = 0.0

    def update(self, averages: Float32, amount: float, time: float) -> Float32:
        """The weights of one frame, float32 64×64.

        Args:
            averages: `products(…)` of the correction and its crop.
            amount: how much detail is asked for, 0…1.5.
            time: seconds, rising within a track.
        """
        both, own = (cv2.GaussianBlur(cells, (5, 5), 1.0) for cells in averages)
        ratio = both / (own + np.float32(_SAME)) + np.float32(1.0)
        now: Any = np.clip(ratio * np.float32(SLOPE), 0.0, MOST) * np.float32(amount)
        now /= 1.0 + now * np.sqrt(np.maximum(own, 0.0)) * np.float32(1.0 / LIMIT)
        elapsed, self._time = time - self._time, time
        if self._before is not None and 0.0 <= elapsed <= 1.0:
            keep = float(np.exp(-elapsed / _SECONDS))
            now = cv2.addWeighted(self._before, keep, now, 1.0 - keep, 0.0)
        self._before = now
        return now


def scaled(b: Float32, weights: Float32, size: int, box: Box) -> Float32:
    """The detail that is added to each plane of a correction in a box: float32 h×w.

    Args:
        b: `fine` of the correction; changed.
        weights: float32 64×64, of `DetailWeights.update`.
        size: S, of the correction.
        box: x0, y0, x1, y1, a `cell_box`.
    """
    x0, y0, x1, y1 = box
    out: Any = cv2.multiply(b, _enlarged(weights, size, box), dst=b)
    if step_of(size) > 1:
        out = cv2.resize(out, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
    return out
