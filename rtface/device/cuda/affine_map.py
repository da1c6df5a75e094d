"""Affine maps as six floats a, b, x, c, d, y (rows a b x and c d y), float64, corner convention.

`rtface.geometry.transforms` has the same for arrays; for the few faces of a frame plain floats take less of the host's
time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from rtface.frame import Box, Float

Map = tuple[float, float, float, float, float, float]


def flat(matrix: Float) -> Map:
    """The map of a 2×3 array."""
    (a, b, x), (c, d, y) = matrix.tolist()
    return a, b, x, c, d, y


def joined(first: Map, second: Map) -> Map:
    """The composition: `second`, then `first`."""
    a, b, x, c, d, y = first
    e, f, u, g, h, v = second
    return a * e + b * g, a * f + b * h, a * u + b * v + x, c * e + d * g, c * f + d * h, c * u + d * v + y


def inverse(m: Map) -> Map:
    """The inverse map. Raises numpy.linalg.LinAlgError where there is none."""
    a, b, x, c, d, y = m
    det = a * d - b * c
    if not abs(det) > 0.0:
        raise np.linalg.LinAlgError("a matrix that flattens the plane has no inverse")
    a, b, c, d = d / det, -b / det, -c / det, a / det
    return a, b, -a * x - b * y, c, d, -c * x - d * y


def footprint(back: Map) -> tuple[float, float]:
    """How far one destination sample reaches in the source, along x and y."""
    return math.hypot(back[0], back[1]), math.hypot(back[3], back[4])


def reach(m: Map, width: float, height: float, margin: float) -> Box:
    """The smallest integer box that holds the image of 0, 0, width, height and a margin.

    Raises numpy.linalg.LinAlgError where the image is not finite.
    """
    a, b, x, c, d, y = m
    across, down, wide, high = a * width, b * height, c * width, d * height
    try:
        return (
            math.floor(x + min(across, 0.0) + min(down, 0.0) - margin),
            math.floor(y + min(wide, 0.0) + min(high, 0.0) - margin),
            math.ceil(x + max(across, 0.0) + max(down, 0.0) + margin),
            math.ceil(y + max(wide, 0.0) + max(high, 0.0) + margin),
        )
    except (OverflowError, ValueError):
        raise np.linalg.LinAlgError("a matrix whose values are not finite") from None


def between_centres(back: Map, source: Sequence[float], target: Sequence[float], scale: Sequence[float]) -> Map:
    """The map from target samples to source samples, both counted from sample centres, as the kernels want it.

    Args:
        back: target → source.
        source, target: x and y of the first sample of each.
        scale: in x and y, samples held for each of `back`'s source samples (below 1 where the source was shrunk).
    """
    a, b, x, c, d, y = back
    (u, v), (p, q) = target, scale
    return (
        a * p,
        b * p,
        (x - source[0] + a * (u + 0.5) + b * (v + 0.5)) * p - 0.5,
        c * q,
        d * q,
        (y - source[1] + c * (u + 0.5) + d * (v + 0.5)) * q - 0.5,
    )


def union(boxes: Iterable[Box]) -> Box:
    """The bounding box x0, y0, x1, y1 of one box or more."""
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)
