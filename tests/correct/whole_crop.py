"""The correction of a whole crop, for tests that look at all of it."""

from __future__ import annotations

from typing import Any

from rtface.correct import CorrectionState, ShapingOptions, shape_part
from rtface.correct.shape import whole
from rtface.frame import Float32


def shape(
    r: Float32, c: Float32, mask: Float32, state: CorrectionState, shaping: ShapingOptions, **more: Any
) -> tuple[Float32, Float32]:
    """`shape_part` for the whole crop: the masked correction, S×S×3, and the mask that it was multiplied with."""
    return whole(shape_part(r, c, mask, state, shaping, **more), int(c.shape[1]))
