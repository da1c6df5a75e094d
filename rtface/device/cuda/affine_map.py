"""Affine maps between samples, in the kernels' format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rtface.frame import Box, Float

Map = tuple[float, float, float, float, float, float]
"""An affine map's rows a b x and c d y."""


def between_centres(back: Float, source: Sequence[float], target: Sequence[float], scale: Sequence[float]) -> Map:
    """Returns the map from target to source samples, relative to sample centres.

    Args:
        back: target → source, 2×3, corner convention.
        source, target: x and y of the first source sample and of the first target sample.
        scale: stored samples per source sample of `back`, in x and y (below 1 if the source was shrunk).
    """
    (a, b, x), (c, d, y) = back.tolist()
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
    """Returns the bounding box of one or more boxes: x0, y0, x1, y1."""
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)
