"""Triangulates the face mesh, without the mouth's opening.

MediaPipe's 478 points come without triangles. This module computes triangles (Delaunay 1934) on a face whose mouth has
been pulled open, so that no triangle joins upper and lower lip.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rtface.correct.mask import FACE_OVAL
from rtface.frame import Float

Triangles = NDArray[np.int32]

# MediaPipe's inner lips, from the right mouth corner of the person (left in the frame) to the left one.
UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
INNER_LIPS = UPPER + LOWER[1:-1][::-1]
"""Outline of the mouth's opening, in order."""
_PULL = 0.2  # share of the face's height by which the lower lip and everything below it move down


def triangulate(mesh: Float) -> Triangles:
    """Returns the triangles of a frontal face, (T, 3), without mouth opening.

    Args:
        mesh: points of the face, (478, 2 or more), in pixels of any image.
    """
    points = np.array(mesh[:, :2], np.float64)
    low, high = points.min(0), points.max(0)
    points = (points - low) / (high - low)
    mouth_line = points[list(UPPER), 1].mean()
    lower = points[:, 1] > mouth_line
    lower[list(UPPER)] = False
    lower[list(LOWER[1:-1])] = True
    points[lower, 1] += _PULL
    points[[78, 308], 1] += _PULL / 2
    # cv2 returns coordinates in place of indices, so points are matched by position. Noise keeps equal points apart.
    points += np.random.default_rng(0).normal(0, 1e-4, points.shape)
    scaled = (points * 800.0 + 100.0).astype(np.float32)
    search: Any = cv2.Subdiv2D((0, 0, 1200, 1300))
    search.insert([(float(x), float(y)) for x, y in scaled])
    corners = np.asarray(search.getTriangleList(), np.float32).reshape(-1, 3, 2)
    corners = corners[((corners > 0) & (corners < 1300)).all((1, 2))]
    distance = np.abs(corners[:, :, None] - scaled[None, None]).max(3)
    indices = distance.argmin(2)
    indices = indices[np.take_along_axis(distance, indices[..., None], 2).max((1, 2)) < 0.5]
    inner, oval = set(INNER_LIPS), set(FACE_OVAL)
    triangles = [t for t in indices.tolist() if not set(t) <= inner and not set(t) <= oval]
    return np.array(triangles, np.int32)


@cache
def mouth() -> Triangles:
    """Returns the triangles of the mouth's opening, (18, 3)."""
    triangles: list[tuple[int, int, int]] = []
    for k in range(len(UPPER) - 1):
        a, b, c, d = UPPER[k], UPPER[k + 1], LOWER[k], LOWER[k + 1]
        triangles += [(a, b, c)] if a != c and b == d else [(b, d, c)] if a == c else [(a, b, c), (b, d, c)]
    return np.array(triangles, np.int32)
