"""Limits a correction in the openings of eyes and mouth.

A network may draw an iris on a lowered lid, and turn teeth in an open mouth into lips. So the
correction of an eye is limited if the mesh shows the eye narrowed or closed, and that of an open
mouth's interior if the correction would remove contrast there.
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

# Points of MediaPipe's mesh for each eye and the mouth: two corners, and three pairs of points on the
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
# of the same eye's gap when open. Below the first figure, the eye is closed; above the second, it is
# open. Between them, only a slit of the iris is visible, which networks turn into a round iris.
_CLOSED, _OPEN = 0.35, 0.9
# The gap of an open eye: initial and maximum value; minimum. Of 229 portraits with open eyes, 10 % have less
# than 0.217, and 2 % less than 0.16 (mainly people of Asian descent). So the value adapts to a track
# whose gap is narrower for some seconds. It has a minimum, so that lowered lids do not count as open.
_USUAL_GAP, _MIN_GAP = 0.25, 0.15
_ADAPT_S = 8.0  # time constant of the adaptation to a narrower gap
# Gap of the lips in widths of the mouth: from the first figure on, the mouth's interior may be
# visible; from the second on, it surely is.
_MIN_LIP_GAP, _SURE_LIP_GAP = 0.03, 0.08
_MAX_LOSS_SHARE = 0.05  # share of the contrast in the mouth that a correction may remove
_RELEASE_S = 0.25  # time in which a limit is lifted; limits are set at once


@dataclass(frozen=True, slots=True)
class Opening:
    """An eye or the mouth: an ellipse in units of the 64×64 cells of a crop.

    Attributes:
        centre: x, y of the centre.
        along: unit vector from corner to corner.
        axes: half axes, parallel to `along` and perpendicular to it.
        gap: distance between the edges, as a share of the distance between the corners.
        lips: whether this is the mouth.
    """

    centre: tuple[float, float]
    along: tuple[float, float]
    axes: tuple[float, float]
    gap: float
    lips: bool


def openings_of(mesh: Float | None, size: int) -> tuple[Opening, ...]:
    """Returns both eyes and the mouth, or nothing without a mesh. The mesh has 468 or more points, in crop pixels."""
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
        self._gaps: list[tuple[float, float]] = []  # for each opening: its last gap, and the last gap that differed
        self._limits: list[float] = []
        self._open_gaps: list[float] = []  # gap of each opening when it is open
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
            self._open_gaps = [_USUAL_GAP] * len(openings)
        gaps = [opening.gap for opening in openings]
        if not self._gaps:
            self._gaps = [(gap, gap) for gap in gaps]
        else:
            self._gaps = [
                last if gap == last[0] else (gap, last[0]) for gap, last in zip(gaps, self._gaps, strict=True)
            ]
        elapsed = max(time - self._time, 0.0)
        opened = elapsed / _RELEASE_S
        adapted = 1.0 - math.exp(-elapsed / _ADAPT_S)
        self._open_gaps = [
            min(max(gap, old + adapted * (max(gap, _MIN_GAP) - old)), _USUAL_GAP)
            for gap, old in zip(gaps, self._open_gaps, strict=True)
        ]
        self._time = time
        out: Float32 | None = None
        for k, opening in enumerate(openings):
            # The tracker follows a closing lid with a delay, so the next gap is extrapolated.
            limit = (
                _mouth_limit(opening, change, crop)
                if opening.lips
                else smooth_ramp(min(gaps[k], 2.0 * gaps[k] - self._gaps[k][1]) / self._open_gaps[k], _CLOSED, _OPEN)
            )
            limit = self._limits[k] = min(limit, self._limits[k] + opened) if opened else limit
            if limit < 0.995:
                out = np.ones((CELLS, CELLS), np.float32) if out is None else out
                window, inside = _ellipse(opening)
                out[window] *= 1.0 - (1.0 - limit) * inside
        return out


def _mouth_limit(opening: Opening, change: Float32, crop: Float32) -> float:
    """Returns the share of a correction that preserves the mouth's contrast. The loss of contrast is the slope of a
    regression of the correction on the crop."""
    openness = smooth_ramp(opening.gap, _MIN_LIP_GAP, _SURE_LIP_GAP)
    if openness <= 0.0:
        return 1.0
    (rows, columns), weight = _ellipse(opening)
    share = weight / max(float(weight.sum()), 1e-6)
    if not share.size or float(weight.sum()) < 4.0:
        return 1.0
    luma: Any = luma_of(crop)
    if luma.shape != (CELLS, CELLS):
        luma = cv2.resize(luma, (CELLS, CELLS), interpolation=cv2.INTER_NEAREST)
    # A sample lies at the corner of its cell, so the value at the cell's centre is the mean of four samples.
    interior = cv2.blur(luma, (2, 2), anchor=(0, 0), borderType=cv2.BORDER_REPLICATE)[rows, columns]
    interior = interior - float((share * interior).sum())
    variance = float((share * interior * interior).sum())
    if variance < 1e-6:
        return 1.0
    loss = -float((share * interior * luma_of(np.ascontiguousarray(change[:, rows, columns]))).sum()) / variance
    return 1.0 - openness * (1.0 - _MAX_LOSS_SHARE / loss) if loss > _MAX_LOSS_SHARE else 1.0


def _ellipse(opening: Opening) -> tuple[tuple[slice, slice], Float32]:
    """Returns a window of the cells, and the ellipse's weight in it: 1 inside, 0 from 1.4 half axes on."""
    (x, y), (u, v), (a, b) = opening.centre, opening.along, opening.axes
    reach_x, reach_y = 1.4 * (a * abs(u) + b * abs(v)), 1.4 * (a * abs(v) + b * abs(u))
    x0, x1 = (min(max(int(w), 0), CELLS) for w in (x - reach_x, x + reach_x + 1))
    y0, y1 = (min(max(int(w), 0), CELLS) for w in (y - reach_y, y + reach_y + 1))
    columns = np.arange(x0, x1, dtype=np.float32)[None] + np.float32(0.5 - x)
    rows = np.arange(y0, y1, dtype=np.float32)[:, None] + np.float32(0.5 - y)
    p, q = (columns * u + rows * v) / a, (rows * u - columns * v) / b
    t: Any = np.clip((1.4 - np.sqrt(p * p + q * q)) / 0.6, 0.0, 1.0)
    return (slice(y0, y1), slice(x0, x1)), (t * t * (3.0 - 2.0 * t)).astype(np.float32)
