"""Tells a frame of a dissolve, in which two views are blended."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from rtface.analysis.scene_cuts import change_between
from rtface.frame import Bytes, Float32

AROUND_S = 0.5
"""Seconds before and after a frame with which it is compared."""
SIDE = 256
"""Longer side of the thumbnails."""
_BLENDED_SHARES = 0.15, 0.85
"""Share of the later view in a frame that counts as blended."""
_CHANGE = 0.25
"""Least change between the view before and the one after (`change_between`)."""
_REST = 0.35
"""Most of what the blend leaves unexplained, as a part of the difference of both views (RMS). Set on two made
dissolves and 20 clips; in three of the clips a few frames outside dissolves count as blends."""


def blended(before: Bytes, frame: Bytes, after: Bytes) -> bool:
    """True if a frame is a blend of what was shown before and after it, and these are different views.

    Args:
        before, frame, after: thumbnails, uint8 RGB h×w×3.
    """
    first, now, last = map(_gray, (before, frame, after))
    step = last - first
    size = float((step * step).mean())
    share = float(((now - first) * step).mean()) / max(size, 1e-9)
    rest = now - first - share * step
    return (
        _BLENDED_SHARES[0] < share < _BLENDED_SHARES[1]
        and float((rest * rest).mean()) < _REST**2 * size
        and change_between(before, after) > _CHANGE
    )


def in_dissolve(time: float, thumbnails: Sequence[tuple[float, Bytes]]) -> bool:
    """True if the frame at a time is `blended`, by thumbnails of the frames around it with their times in seconds, in
    order; those at the ends stand for what is missing.

    It is compared with the frames beside it, as one frame of two views may stand between flashes or in a moving shot,
    and with those `AROUND_S` away, as within a slow dissolve the frames beside it are nearly the same.
    """

    def nearest(at: float) -> int:
        return min(range(len(thumbnails)), key=lambda n: abs(thumbnails[n][0] - at))

    n = nearest(time)
    pairs = (max(n - 1, 0), min(n + 1, len(thumbnails) - 1)), (nearest(time - AROUND_S), nearest(time + AROUND_S))
    return any(blended(thumbnails[k][1], thumbnails[n][1], thumbnails[m][1]) for k, m in pairs)


def _gray(thumbnail: Bytes) -> Float32:
    return np.asarray(cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY), np.float32)
