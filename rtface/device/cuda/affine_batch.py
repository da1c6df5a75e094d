"""Affine maps of many faces at once: N×2×3, float64, corner convention; `rtface.geometry.transforms` has the same
for one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtface.frame import Float, Float32

Boxes = NDArray[np.int64]


def joined(first: Float, second: Float) -> Float:
    """The composition: `second`, then `first`; each N×2×3 or 2×3."""
    out: Float = first[..., :2] @ second
    out[..., 2] += first[..., 2]
    return out


def inverse(maps: Float) -> Float:
    """Inverse maps, N×2×3. Raises numpy.linalg.LinAlgError where a map has none."""
    a, b, x, c, d, y = maps.reshape(-1, 6).T
    det = a * d - b * c
    if not (np.abs(det) > 0.0).all():
        raise np.linalg.LinAlgError("a matrix that flattens the plane has no inverse")
    a, b, c, d = d / det, -b / det, -c / det, a / det
    return np.array([a, b, -a * x - b * y, c, d, -c * x - d * y]).T.reshape(-1, 2, 3)


def footprints(back: Float) -> Float:
    """N×2: how far one destination sample reaches in the source, along x and y."""
    return np.hypot(back[:, :, 0], back[:, :, 1])


def reach(maps: Float, sizes: Float | NDArray[Any], margin: Float | float) -> Boxes:
    """N×4: the smallest integer boxes that hold the images of 0, 0, w, h (`sizes`: N×2) and a margin."""
    w, h = sizes.T.astype(np.float64)
    across, down = maps[:, :, 0] * w[:, None], maps[:, :, 1] * h[:, None]
    low = maps[:, :, 2] + np.minimum(across, 0.0) + np.minimum(down, 0.0)
    high = maps[:, :, 2] + np.maximum(across, 0.0) + np.maximum(down, 0.0)
    margin = np.reshape(margin, (-1, 1))
    return np.concatenate([np.floor(low - margin), np.ceil(high + margin)], axis=1).astype(np.int64)


def between_centres(back: Float, source: Float | Boxes, target: Float | Boxes, scale: Float) -> Float32:
    """N×6 of maps from target samples to source samples, both counted from sample centres, as the kernels want them.

    Args:
        back: target → source.
        source, target: N×2, the position of the first sample of each.
        scale: N×2, samples held for each of `back`'s source samples (below 1 where the source was shrunk).
    """
    linear, offset = back[:, :, :2], back[:, :, 2]
    offset = offset - source + (linear @ (target + 0.5)[:, :, None])[:, :, 0]
    out = np.concatenate([linear * scale[:, :, None], (offset * scale - 0.5)[:, :, None]], axis=2)
    return out.reshape(-1, 6).astype(np.float32)


def union(boxes: Boxes) -> tuple[int, int, int, int]:
    """The bounding box x0, y0, x1, y1 of one box or more."""
    x0, y0 = boxes[:, :2].min(0).tolist()
    x1, y1 = boxes[:, 2:].max(0).tolist()
    return x0, y0, x1, y1
