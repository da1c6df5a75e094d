"""The luma patch that is measured, cut from the frame."""

from __future__ import annotations

import numpy as np

from rtface.analysis.measure import CORE, SIDE, luma
from rtface.frame import Face, Float32
from rtface.protocols import View

SMALLEST = 24
"""Side in pixels of the smallest patch that says anything."""

_COMBED = 0.25  # likeness from which on rows are combed; whole frames have up to 0.15, in rows that were doubled

SMALLEST_FACE = 20.0
"""Width in pixels of the smallest face that is measured; the patch of one below 27 px shows more than its core."""


def patch_of_view(view: View, face: Face) -> tuple[Float32, float, Float32] | None:
    """Luma of a face's core on the native grid; arguments for `measure`, None where the face is too small.

    The cuts are shifts by whole pixels, so nothing is resampled; only a core above `SIDE` is shrunk.
    """
    side = max(round(CORE * face.width), SMALLEST)
    if face.width < SMALLEST_FACE or min(int(view.width), int(view.height)) < SMALLEST:
        return None
    x, y = (float(v) for v in face.points.mean(axis=0))
    grid = _cut(view, x, y, SIDE)
    if side <= SIDE:
        return grid if side > 0.8 * SIDE else _cut(view, x, y, side), face.width, grid
    scale = SIDE / side
    matrix = np.array([[scale, 0.0, SIDE / 2 - scale * x], [0.0, scale, SIDE / 2 - scale * y]])
    return luma(view.crop(matrix, (SIDE, SIDE))), face.width * scale, grid


def is_combed(grid: Float32) -> bool:
    """Tells rows of two fields: every other one differs from its neighbours as what is shifted sideways does."""
    apart, along = grid[1:-1, 1:-1] - (grid[:-2, 1:-1] + grid[2:, 1:-1]) / 2, grid[1:-1, 2:] - grid[1:-1, :-2]
    apart[::2] *= -1
    return abs(float(np.vdot(apart, along))) > _COMBED * float(np.linalg.norm(apart) * np.linalg.norm(along))


def _cut(view: View, x: float, y: float, side: int) -> Float32:
    """Luma of about side×side pixels around a point, moved and shrunk to lie inside the frame."""
    w, h = min(side, int(view.width)), min(side, int(view.height))
    left = min(max(0, round(x - w / 2)), int(view.width) - w)
    top = min(max(0, round(y - h / 2)), int(view.height) - h)
    return luma(view.crop(np.array([[1.0, 0.0, -left], [0.0, 1.0, -top]]), (w, h)))
