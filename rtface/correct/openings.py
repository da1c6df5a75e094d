"""Limits a correction in the openings of eyes and mouth.

A network may draw an iris on a lowered lid, and turn teeth in an open mouth into lips. So an
eye is corrected only as far as the mesh shows it open, and the interior of an open mouth only as
far as the correction keeps its contrast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from rtface.correct.colour import CELLS, luma_of
from rtface.correct.mask import smooth_ramp
from rtface.frame import Float, Float32

# Points of MediaPipe's mesh for both eyes and the mouth: corners, and three pairs of points on the
# upper and the lower edge.
_POINTS = [
    33,
    133,
    159,
    145,
    158,
    153,
    160,
    144,
    362,
    263,
    386,
    374,
    385,
    380,
    387,
    373,
    78,
    308,
    13,
    14,
    82,
    87,
    312,
    317,
]
# Gap of the lids in widths of the eye (the eye aspect ratio of Soukupová and Čech, 2016), as a share
# of the same eye's gap when open: the eye is closed below the first figure, open above the second.
# Between them only a slit of the iris is visible, which networks complete to a round one.
_CLOSED, _OPEN = 0.35, 0.9
# The gap of an open eye. Of 229 portraits with open eyes 10 % have less than 0.217 and 2 % less than
# 0.16, most of these people of Asian descent. A track that shows a narrower gap for some seconds has
# such eyes. The gap never falls below the second figure, so that lowered lids do not count as open.
_USUAL_GAP, _MIN_GAP = 0.25, 0.15
_ADAPT_S = 8.0  # time in which the difference to a narrower gap falls to a third
# Gap of the lips in widths of the mouth: the interior may show from the first figure on, and surely
# shows from the second.
_MIN_LIP_GAP, _SURE_LIP_GAP = 0.03, 0.08
_MAX_LOSS_SHARE = 0.05  # share of the contrast in the mouth that a correction may remove
_RELEASE_S = 0.25  # time in which a limit is lifted; it is set at once


@dataclass(frozen=True, slots=True)
class Opening:
    """An eye or the mouth: an ellipse in units of the 64×64 cells of a crop.

    Attributes:
        centre, along: its centre x, y; and the unit vector from corner to corner.
        axes: half axes, along and across.
        gap: distance of the edges, as a share of the width from corner to corner.
        lips: whether this is the mouth.
    """

    centre: tuple[float, float]
    along: tuple[float, float]
    axes: tuple[float, float]
    gap: float
    lips: bool


def openings_of(mesh: Float | None, size: int) -> tuple[Opening, ...]:
    """Returns both eyes and the mouth; none without a mesh. It has 468 or more points, in pixels of a crop."""
    if mesh is None:
        return ()
    places = np.asarray(mesh)[_POINTS, :2].astype(np.float64) * (CELLS / size)
    openings: list[Opening] = []
    for k, (a, b, *edges) in enumerate(places.reshape(3, 8, 2).tolist()):
        width = max(math.dist(a, b), 1e-6)
        gap = sum(math.dist(upper, lower) for upper, lower in zip(edges[::2], edges[1::2], strict=True)) / 3 / width
        axes = (0.55 * width, max(0.6 * gap, 0.12) * width if k == 2 else 0.35 * width)
        along = (b[0] - a[0]) / width, (b[1] - a[1]) / width
        openings.append(Opening(((a[0] + b[0]) / 2, (a[1] + b[1]) / 2), along, axes, gap, k == 2))
    return tuple(openings)


class OpeningLimit:
    """Limits a track's corrections in eyes and mouth. A limit is set at once, and lifted within `_RELEASE_S`."""

    def __init__(self) -> None:
        self._gaps: list[tuple[float, float]] = []  # for each opening: its last gap, and the last different one
        self._limits: list[float] = []
        self._widest: list[float] = []  # gap of each opening when open
        self._time = 0.0

    def update(self, openings: Sequence[Opening], change: Float32, crop: Float32, time: float) -> Float32 | None:
        """Returns factors for one frame's correction.

        Args:
            openings: the frame's `openings_of(…)`.
            change: float32 3×64×64, averages of the correction.
            crop: float32 3×n×n, the crop at every `step`-th sample.
            time: seconds, rising within a track.

        Returns:
            float32 64×64, 0…1; None if all factors are 1.
        """
        if len(self._limits) != len(openings):
            self._gaps, self._limits = [], [1.0] * len(openings)
            self._widest = [_USUAL_GAP] * len(openings)
        gaps = [opening.gap for opening in openings]
        if not self._gaps:
            self._gaps = [(gap, gap) for gap in gaps]
        else:
            self._gaps = [
                last if gap == last[0] else (gap, last[0]) for gap, last in zip(gaps, self._gaps, strict=True)
            ]
        elapsed = max(time - self._time, 0.0)
        released = elapsed / _RELEASE_S
        narrowed = 1.0 - math.exp(-elapsed / _ADAPT_S)
        self._widest = [
            min(max(gap, old + narrowed * (max(gap, _MIN_GAP) - old)), _USUAL_GAP)
            for gap, old in zip(gaps, self._widest, strict=True)
        ]
        self._time = time
        out: Float32 | None = None
        for k, opening in enumerate(openings):
            # The tracker follows a closing lid late, so the next gap is extrapolated.
            limit = (
                _mouth_limit(opening, change, crop)
                if opening.lips
                else smooth_ramp(min(gaps[k], 2.0 * gaps[k] - self._gaps[k][1]) / self._widest[k], _CLOSED, _OPEN)
            )
            limit = self._limits[k] = min(limit, self._limits[k] + released) if released else limit
            if limit < 0.995:
                out = np.ones((CELLS, CELLS), np.float32) if out is None else out
                window, inside = _ellipse(opening)
                out[window] *= 1.0 - (1.0 - limit) * inside
        return out


def _mouth_limit(opening: Opening, change: Float32, crop: Float32) -> float:
    """Returns the share of a correction that keeps the mouth's contrast. By linear regression on the crop."""
    parted = smooth_ramp(opening.gap, _MIN_LIP_GAP, _SURE_LIP_GAP)
    if parted <= 0.0:
        return 1.0
    (rows, columns), weight = _ellipse(opening)
    share = weight / max(float(weight.sum()), 1e-6)
    if not share.size or float(weight.sum()) < 4.0:
        return 1.0
    luma: Any = luma_of(crop)
    if luma.shape != (CELLS, CELLS):
        luma = cv2.resize(luma, (CELLS, CELLS), interpolation=cv2.INTER_NEAREST)
    # A sample lies at the corner of its cell: the mean of four samples is the value at the cell's centre.
    interior = cv2.blur(luma, (2, 2), anchor=(0, 0), borderType=cv2.BORDER_REPLICATE)[rows, columns]
    interior = interior - float((share * interior).sum())
    spread = float((share * interior * interior).sum())
    if spread < 1e-6:
        return 1.0
    lost = -float((share * interior * luma_of(np.ascontiguousarray(change[:, rows, columns]))).sum()) / spread
    return 1.0 - parted * (1.0 - _MAX_LOSS_SHARE / lost) if lost > _MAX_LOSS_SHARE else 1.0


def _ellipse(opening: Opening) -> tuple[tuple[slice, slice], Float32]:
    """Returns a window of the cells, and the ellipse's weight in it. That is 1 inside, and 0 from 1.4 half axes on."""
    (x, y), (u, v), (a, b) = opening.centre, opening.along, opening.axes
    reach_x, reach_y = 1.4 * (a * abs(u) + b * abs(v)), 1.4 * (a * abs(v) + b * abs(u))
    x0, x1 = (min(max(int(w), 0), CELLS) for w in (x - reach_x, x + reach_x + 1))
    y0, y1 = (min(max(int(w), 0), CELLS) for w in (y - reach_y, y + reach_y + 1))
    columns = np.arange(x0, x1, dtype=np.float32)[None] + np.float32(0.5 - x)
    rows = np.arange(y0, y1, dtype=np.float32)[:, None] + np.float32(0.5 - y)
    p, q = (columns * u + rows * v) / a, (rows * u - columns * v) / b
    t: Any = np.clip((1.4 - np.sqrt(p * p + q * q)) / 0.6, 0.0, 1.0)
    return (slice(y0, y1), slice(x0, x1)), (t * t * (3.0 - 2.0 * t)).astype(np.float32)
