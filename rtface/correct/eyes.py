"""The colour of the eyes: a feature of the person that a restorer must not exchange for another.

Codecs wash the skin's red into small irises and blur what is left, and a network is nearer to the truth on average: in
32 eyes of strongly compressed films its mean colour is 4.5 code values off, the input's 10.4. But where hardly anything
is left of a brown eye it can paint a green one. So an iris's colour may fade, and not turn into another.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rtface.correct.colour import LUMA
from rtface.frame import Float, Float32
from rtface.geometry import FFHQ_512

# MediaPipe's iris points: centre, then four on its rim.
_IRISES = ((468, 469, 470, 471, 472), (473, 474, 475, 476, 477))
# Radius of an iris in an aligned crop without a mesh, as a fraction of its side.
_RADIUS = 0.021
_KEPT = 0.6  # how much of its own mean colour an iris has to keep
_REACH = 1.9  # in radii: where its colour is the correction's own again


def irises(size: int, mesh: Float | None = None) -> Float:
    """Centre x, y and radius of both irises in crop pixels, (2, 3).

    Args:
        size: S.
        mesh: 478 points in crop pixels, (478, 2|3); None (or one of 468) for the alignment template's eye centres.
    """
    if mesh is None or len(mesh) < 478:
        centres = FFHQ_512[:2] * (size / 512.0)
        return np.column_stack([centres, np.full(2, _RADIUS * size)])
    found: list[Float] = []
    for centre, *rim in _IRISES:
        middle = np.asarray(mesh[centre, :2], np.float64)
        radius = np.linalg.norm(mesh[rim, :2] - middle, axis=1).mean()
        found.append(np.array([*middle, radius]))
    return np.stack(found)


def keep_eye_colour(d: Float32, c: Float32, eyes: Float) -> Float32:
    """Keeps a part of an iris's own mean colour where a correction would take more of it, or turn it; in place.

    Args:
        d: float32 3×S×S, RGB, the correction.
        c: float32 3×S×S, RGB, what it is added to.
        eyes: `irises(…)`, (2, 3).

    Returns:
        d.
    """
    size = d.shape[1]
    for x, y, radius in eyes:
        reach = _REACH * radius
        x0, y0 = max(0, int(x - reach)), max(0, int(y - reach))
        x1, y1 = min(size, int(x + reach) + 2), min(size, int(y + reach) + 2)
        if x1 <= x0 or y1 <= y0:
            continue
        u = (np.arange(x0, x1, dtype=np.float32) + 0.5 - x)[None]
        v = (np.arange(y0, y1, dtype=np.float32) + 0.5 - y)[:, None]
        away = np.sqrt(u * u + v * v) / radius
        inside = np.maximum(1.0 - away * away, 1e-6)  # the iris itself
        part = d[:, y0:y1, x0:x1]
        own, change = (_chroma((z * inside).sum((1, 2)) / inside.sum()) for z in (c[:, y0:y1, x0:x1], part))
        kept = 1.0 + float(own @ change) / max(float(own @ own), 1e-9)
        if kept < _KEPT:
            fall = np.clip((_REACH - away) / (_REACH - 1.0), 0.0, 1.0)
            weight: Any = (fall * fall * (3.0 - 2.0 * fall)).astype(np.float32)
            part += weight * ((_KEPT - kept) * own).astype(np.float32)[:, None, None]
    return d


def _chroma(rgb: Any) -> Any:
    return rgb - np.dot(LUMA, rgb)
