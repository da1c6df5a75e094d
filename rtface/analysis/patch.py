"""The luma patch that is measured: cut from the frame where a view of it exists, else from a crop."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np

from rtface.analysis.measure import CORE, SIDE, luma
from rtface.errors import UsageError
from rtface.frame import Bytes, Face, Float32
from rtface.protocols import View

SMALLEST = 24
"""Side in pixels of the smallest patch that says anything."""

SMALLEST_FACE = 20.0
"""Width in pixels of the smallest face that is measured; the patch of one below 27 px shows more than its core."""

# In the FFHQ template a face's box is 0.556 of the crop's width; its core lies between these rows and columns.
_FACE_IN_CROP = 0.556
_TOP, _LEFT = 0.3125, 0.25


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
        patch = grid if side > 0.8 * SIDE else _cut(view, x, y, side)
        return patch, face.width, grid
    scale = SIDE / side
    matrix = np.array([[scale, 0.0, SIDE / 2 - scale * x], [0.0, scale, SIDE / 2 - scale * y]])
    return luma(view.crop(matrix, (SIDE, SIDE))), face.width * scale, grid


def _cut(view: View, x: float, y: float, side: int) -> Float32:
    """Luma of about side×side pixels around a point, moved and shrunk to lie inside the frame."""
    w, h = min(side, int(view.width)), min(side, int(view.height))
    left = min(max(0, round(x - w / 2)), int(view.width) - w)
    top = min(max(0, round(y - h / 2)), int(view.height) - h)
    return luma(view.crop(np.array([[1.0, 0.0, -left], [0.0, 1.0, -top]]), (w, h)))


def patch_of_crop(crop: Float32 | Bytes, width: float) -> tuple[Float32, float, None] | None:
    """The same out of an aligned crop, brought back to about the native grid where the crop is finer.

    Resampling has blurred the codec's grid and repeated rows unless the crop was cut upright at scale 1: compression
    and pixelation read too low here.

    Args:
        crop: aligned RGB, float32 3×S×S 0…1 or uint8 S×S×3.
        width: of the face in the frame that the crop was cut from, pixels.
    """
    if crop.dtype == np.uint8 and crop.ndim == 3 and crop.shape[2] == 3:
        rgb = crop
    elif crop.dtype == np.float32 and crop.ndim == 3 and crop.shape[0] == 3:
        rgb = np.ascontiguousarray(crop.transpose(1, 2, 0)) * np.float32(255)
    else:
        raise UsageError("a crop to analyse must be float32 3×S×S (0…1) or uint8 S×S×3, "
                         f"got {crop.dtype} {'×'.join(map(str, crop.shape))}")
    size = rgb.shape[0]
    side, top, left = size // 2, round(_TOP * size), round(_LEFT * size)
    patch = luma(cast(Bytes, rgb[top:top + side, left:left + side]))
    face = _FACE_IN_CROP * size
    scale = min(1.0, width / face, SIDE / side)
    if round(scale * side) < SMALLEST:
        return None
    if scale < 1.0:
        patch = cast(Float32, cv2.resize(patch, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    return patch, face * scale, None
