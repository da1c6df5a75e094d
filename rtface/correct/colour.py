"""The colour lock: a correction preserves the colours and the light of the film.

All images are planar float32, 3×S×S, RGB 0…1. Corrections have the same layout, with values −1…1.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from rtface.frame import Box, Float32

GRID, CELLS = 32, 64
LUMA_LIMIT = 6.0 / 255.0
CHROMA_LIMIT = 1.0 / 255.0
COLOURLESS = 0.2  # chroma may change by this share of an image's mean chroma, so that a grey film stays grey
LUMA = (0.299, 0.587, 0.114)


def luma_of(rgb: Float32) -> Float32:
    """Returns h×w luma of 3×h×w (BT.601 weights, as in the training loss)."""
    out: Any = cv2.addWeighted(rgb[0], LUMA[0], rgb[1], LUMA[1], 0.0)
    return cv2.scaleAdd(rgb[2], LUMA[2], out, dst=out)


def cells_of(image: Float32, side: int = CELLS) -> Float32:
    """Returns area averages, 3×side×side, of an image 3×S×S."""
    out = np.empty((3, side, side), np.float32)
    for plane, cells in zip(image, out, strict=True):
        cv2.resize(plane, (side, side), dst=cells, interpolation=cv2.INTER_AREA)
    return out


def low_frequencies(image: Float32, grid: int = GRID) -> Float32:
    """Returns low frequencies, 3×grid×grid: area averages, then a 5-tap Gaussian of sigma 1 with replicated border.

    `image` is 3×S×S. The `cells_of` an image have the same low frequencies as the image.
    """
    small = cells_of(image, grid)
    for plane in small:
        cv2.GaussianBlur(plane, (5, 5), 1.0, dst=plane, borderType=cv2.BORDER_REPLICATE)
    return small


def chroma_limit(c: Float32) -> float:
    """Returns the limit for changes of a crop's low chroma frequencies. The crop is float32 3×S×S. The limit is at most
    one code value of 8 bits, less than a codec changes, and almost 0 if the crop has no colour."""
    step = max(1, c.shape[1] // GRID)
    sample = np.ascontiguousarray(c[:, ::step, ::step])
    return min(CHROMA_LIMIT, COLOURLESS * float(np.abs(sample - luma_of(sample)).mean()))


def lock_colour(d: Float32, chroma: float = CHROMA_LIMIT) -> Float32:
    """Limits the low frequencies of a correction, in place.

    On the grid of `low_frequencies`, let y be the luma of low(d), z = low(d) − y, and m the largest |z| of a channel:

        kept = L·tanh(y/L) + z·chroma/m·tanh(m/chroma)        d ← d − up(low(d) − kept)

    L is `LUMA_LIMIT`; up is bilinear enlargement (half-pixel centres). The training loss contains the same operation,
    so that networks do not learn changes that are removed here.

    Args:
        d: float32 3×S×S.
        chroma: limit for the change of each chroma channel, see `chroma_limit`.

    Returns:
        d.
    """
    return subtract_low_frequencies(d, excess(low_frequencies(d), chroma), (0, 0, d.shape[2], d.shape[1]))


def excess(low: Float32, chroma: float = CHROMA_LIMIT) -> Float32:
    """Returns low − kept of `lock_colour`, 3×32×32."""
    luma = luma_of(low)
    removed = low - luma
    if chroma > 1e-5:
        max_chroma = np.maximum(np.abs(removed).max(axis=0), np.float32(1e-9))
        removed *= 1.0 - chroma * np.tanh(max_chroma / chroma) / max_chroma
    removed += luma
    removed -= LUMA_LIMIT * np.tanh(luma / LUMA_LIMIT)
    return removed


def subtract_low_frequencies(d: Float32, cells: Float32, box: Box) -> Float32:
    """Subtracts up(cells) from d in the box, in place: `d` 3×S×S, `cells` 3×n×n."""
    size = int(d.shape[1])
    x0, y0, x1, y1 = box
    for plane, plane_cells in zip(d, cells, strict=True):
        inner = plane[y0:y1, x0:x1]
        cv2.subtract(inner, enlarged(plane_cells, size, box), dst=inner)
    return d


@lru_cache(maxsize=16)
def enlarging(side: int, size: int) -> Float32:
    """Returns the matrix size×side that enlarges `side` samples to `size` linearly. Sample centres are at halves."""
    out: Any = cv2.resize(np.eye(side, dtype=np.float32), (side, size), interpolation=cv2.INTER_LINEAR)
    out.flags.writeable = False
    return out


def enlarged(cells: Float32, size: int, box: Box) -> Float32:
    """Returns the part `box` of n×n cells after enlargement to `size` (`enlarging`)."""
    n, (x0, y0, x1, y1) = len(cells), box
    k = size // n
    left = top = 0
    if size == k * n:  # only the cells in and round the box are needed
        left, top = max(0, x0 // k - 1), max(0, y0 // k - 1)
        cells = cells[top : -(-y1 // k) + 1, left : -(-x1 // k) + 1]
        h, w = cells.shape[0] * k, cells.shape[1] * k
    else:
        h = w = size
    out: Any = cv2.resize(cells, (w, h), interpolation=cv2.INTER_LINEAR)
    return out[y0 - top * k : y1 - top * k, x0 - left * k : x1 - left * k]
