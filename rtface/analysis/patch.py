"""Cuts from a frame the luma patch that `measure` analyses."""

from __future__ import annotations

import numpy as np

from rtface.analysis.measure import CORE, SIDE, luma
from rtface.frame import Face, Float32
from rtface.protocols import View

SMALLEST = 24
"""Side in pixels of the smallest useful patch."""

_MIN_COMBED = 0.25  # minimum correlation of combed rows; doubled rows of progressive frames reach 0.15

SMALLEST_FACE = 20.0
"""Width in pixels of the smallest face that is measured. Below 27 px, the patch is larger than the core."""


def patch_of_view(view: View, face: Face) -> tuple[Float32, float, Float32] | None:
    """Returns the arguments of `measure` for a face; None if too small.

    The luma is cut on the native grid without resampling; only a core larger than `SIDE` is reduced.
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
    """Detects rows of two fields: every other row is shifted sideways against its neighbours."""
    comb, slope = grid[1:-1, 1:-1] - (grid[:-2, 1:-1] + grid[2:, 1:-1]) / 2, grid[1:-1, 2:] - grid[1:-1, :-2]
    comb[::2] *= -1
    return abs(float(np.vdot(comb, slope))) > _MIN_COMBED * float(np.linalg.norm(comb) * np.linalg.norm(slope))


def _cut(view: View, x: float, y: float, side: int) -> Float32:
    """Returns luma of side×side pixels around a point. The square is moved and reduced to lie inside the frame."""
    w, h = min(side, int(view.width)), min(side, int(view.height))
    left = min(max(0, round(x - w / 2)), int(view.width) - w)
    top = min(max(0, round(y - h / 2)), int(view.height) - h)
    return luma(view.crop(np.array([[1.0, 0.0, -left], [0.0, 1.0, -top]]), (w, h)))
