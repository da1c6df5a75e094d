"""Tells faces that somebody has hidden, by a blur or a mosaic laid over them, from faces that are soft.

A laid-over blur ends at an edge that no head has: the chin is soft and the collar below it sharp. So the sharpness of
each cell round the face is compared with that of its middle, and the box or ellipse is searched that separates soft
cells from sharp ones best, below, above and on both sides. A mosaic is a comb of steps in the face, and none round it.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import product
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from rtface.frame import Bytes, Face, Float32
from rtface.protocols import View

_WIDTH, _REACH, _CELLS = 112.0, 1.42, 26
"""Width in pixels that a larger face is shrunk to; half the side of what is looked at, in widths of the face; its cells
in a row."""
_BLUR = 0.018  # of the second blur, by which sharpness is measured: what is soft already loses little; of the width
_ROUNDING, _LEAST, _PLAIN = 0.6, 2.0, 25.0  # squared gradients: of rounding, of none to speak of, of an edge
_SOFT = 1.56  # sharpness of the middle of a face that is not hidden
_BELOW, _SIDE, _PRIOR = 0.5, 1.7, 1.2
"""Cells with sharp edges that are asked for below the chin; with edges, on a side; and soft ones that are assumed."""
_ROOM = 0.22  # widths of the face that the frame has to show below it
_COMB, _AROUND = 0.15, 0.4  # share of all steps that lie on a mosaic's comb; and at most round it, of that share
_PLAIN_AROUND, _SURE = 0.2, 0.45  # of a face's steps round it, below which that is plain; the comb that suffices then
_POINTS = 1024  # of a spectrum


def hidden_by(view: View, face: Face, *, soft: bool) -> float:
    """Measures how surely a face was hidden on purpose, 0…1; by a blur only where it is soft."""
    return 1.0 if _mosaic(view, face) else max(0.0, _laid_over(view, face)) if soft else 0.0


def _mosaic(view: View, face: Face) -> bool:
    x, y = (float(v) for v in face.points.mean(axis=0))
    half = min(0.45 * face.width, 128.0)
    lines = _lines(_cut(view, (x - half, y - half, x + half, y + half)))
    comb = min(_comb(line, half / 2) for line in lines)
    if comb < _COMB:
        return False
    reach = min(0.9 * face.width, 256.0)
    x0, y0 = max(0.0, face.box[0] - reach), max(0.0, face.box[1] - reach)
    whole = _cut(view, (x0, y0, face.box[2] + reach, face.box[3] + reach))
    grown = face.box + 0.35 * face.width * np.array((-1, -1.3, 1, 1)) - (x0, y0, x0, y0)
    left, top, right, bottom = (max(0, round(v)) for v in grown)
    around = _lines(whole)
    for line, inner, start in zip(around, _lines(whole[top:bottom, left:right]), (left, top), strict=True):
        line[start : start + inner.size] -= inner
    plain = sum(line.sum() for line in around) < _PLAIN_AROUND * sum(line.sum() for line in lines)
    return comb > _SURE if plain else min(_comb(line, half / 2) for line in around) < _AROUND * comb


def _cut(view: View, box: tuple[float, ...]) -> Bytes:
    """Luma of the part of a box (x0, y0, x1, y1) that lies inside the frame, on its own grid; may be empty."""
    left, top = (round(max(0.0, v)) for v in box[:2])
    size = max(0, round(min(view.width, box[2])) - left), max(0, round(min(view.height, box[3])) - top)
    if min(size) < 16:
        return np.zeros((0, 0), np.uint8)
    return view.luma(np.array([[1.0, 0.0, -left], [0.0, 1.0, -top]]), size)


def _lines(luma: Bytes) -> list[Float32]:
    """Sums of the steps from each column, and from each row, to the next."""
    if min(luma.shape) < 2:
        return [np.zeros(0, np.float32)] * 2
    steps = cv2.absdiff(luma[:, 1:], luma[:, :-1]), cv2.absdiff(luma[1:], luma[:-1])
    sums = (cv2.reduce(one, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32F) for axis, one in enumerate(steps))
    return [cast(Float32, one).ravel() for one in sums]


def _comb(line: Float32, longest: float) -> float:
    """Share of the steps that lie on the teeth of the best comb, whose teeth are 5 pixels apart or more."""
    spectrum = np.abs(np.fft.rfft(line, _POINTS)) if line.size else np.zeros(_POINTS // 2 + 1)
    first = np.arange(math.ceil(_POINTS / max(longest, 5.0)), _POINTS // 5 + 1)
    third = np.where(3 * first <= _POINTS // 2, spectrum[np.minimum(3 * first, _POINTS // 2)], np.inf)
    teeth = np.minimum(np.minimum(spectrum[first], spectrum[2 * first]), third)
    return float(teeth.max(initial=0.0) / (spectrum[0] + 1e-6))


def _laid_over(view: View, face: Face) -> float:
    """Measures how well a box or an ellipse separates a soft face from what is sharp all round it."""
    if view.height < face.box[3] + _ROOM * face.width:
        return 0.0
    scale = min(1.0, _WIDTH / face.width)
    width = scale * face.width
    side = round(2 * _REACH * width)
    shift = np.rint(side / 2 - scale * (face.box[:2] + face.box[2:]) / 2)
    picture = view.luma(np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]]), (side, side)).astype(np.float32)
    blurred = cast(Float32, cv2.GaussianBlur(picture, (0, 0), _BLUR * width))
    fine, coarse = _gradients(picture), _gradients(blurred)
    inside, rings, x, y, middle = _regions()
    # What lies outside the frame is no evidence, and neither is its edge.
    to = (np.stack([x, y]) + _REACH) * (side / (2 * _REACH)) - shift[:, None]
    room = 0.8 * side / _CELLS
    end = scale * np.array([[view.width], [view.height]]) - room
    within = ((to > room) & (to < end)).all(axis=0)
    cap = np.minimum(1.0, 80.0 / (coarse + 1e-6)) * within
    sharp = math.sqrt((fine * cap)[middle].sum() / ((coarse * cap)[middle].sum() + _ROUNDING * middle.sum()))
    if sharp > _SOFT - 0.05:
        return 0.0
    evidence = np.sqrt(np.clip((coarse - _LEAST) / _PLAIN, 0.0, 1.0)) * within
    sharper = np.clip(2.0 * np.log(np.sqrt((fine + 0.01) / (coarse + _ROUNDING)) / sharp), -0.5, 1.0)
    both = np.stack([evidence, evidence * sharper], axis=1).astype(np.float32)
    (known, found), (around, beyond) = (inside @ both).T, np.moveaxis(rings @ both, -1, 0)
    enough = around > _SIDE
    sides = beyond / (around + _PRIOR)
    least = np.where(enough, sides, np.inf)[1:4].min(axis=0)
    below = sides[0] * np.clip(beyond[4] / _BELOW, 0.0, 1.0)
    outside = beyond[:4].sum(axis=0) / (around[:4].sum(axis=0) + _PRIOR / 2)
    score = np.minimum(outside, np.minimum(below, least + 0.2)) - np.maximum(found / (known + _PRIOR / 4), 0.0)
    score = np.where(enough[:4].sum(axis=0) >= 3, score, 0.0)
    return min(float(score.max()), 3.0 * (_SOFT - sharp))


def _gradients(picture: Float32) -> Float32:
    """Mean squared gradient of each cell, flat."""
    dx = cv2.subtract(picture[1:-1, 2:], picture[1:-1, :-2])
    dy = cv2.subtract(picture[2:, 1:-1], picture[:-2, 1:-1])
    squares = cv2.add(cv2.multiply(dx, dx), cv2.multiply(dy, dy))
    return np.asarray(cv2.resize(squares, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA), np.float32).ravel()


@cache
def _regions() -> tuple[Float32, Float32, Float32, Float32, NDArray[np.bool_]]:
    """Boxes and ellipses in which a face may be hidden, as shares of cells: (n, cells) inside, and (4, n, cells) of the
    ring round each, below, above, right and left; x and y of the cells in widths of the face; its middle."""
    places = ((np.arange(_CELLS, dtype=np.float32) + 0.5) * (2 * _REACH / _CELLS) - _REACH).astype(np.float32)
    x, y = np.tile(places, _CELLS), np.repeat(places, _CELLS)
    inside, ring = list[NDArray[np.bool_]](), list[NDArray[np.bool_]]()
    tops, ends = (-0.6, -0.75, -0.95, -1.2), (0.52, 0.65, 0.85, 1.1)
    for round_, centre, top, end, a in product((0, 1), (-0.12, 0.0, 0.12), tops, ends, (0.46, 0.56, 0.7, 0.9)):
        across, down, b = abs(x - centre), abs(y - (top + end) / 2), (end - top) / 2
        to_edge = (np.hypot(across / a, down / b) - 1) * min(a, b) if round_ else np.maximum(across - a, down - b)
        inside.append(to_edge < -0.05)
        ring.append((to_edge > 0.06) & (to_edge < 0.42))
    wedges = np.stack([y > abs(x), -y > abs(x), x > abs(y), -x > abs(y), y > 1.7 * abs(x)])
    middle = np.hypot(x / 0.4, y / 0.5) < 1
    return np.array(inside, np.float32), (wedges[:, None] * np.array(ring)).astype(np.float32), x, y, middle
