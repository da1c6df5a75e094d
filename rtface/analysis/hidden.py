"""Detects faces hidden on purpose, by a blur or a mosaic.

An added blur ends at an edge that no head has: the face is soft, and hair, ears, neck and background outside a box or
ellipse round it are sharp. If a person is out of focus, hair and shoulders are soft too. A small network decides by
maps of fine and coarse gradients, horizontal and vertical, in and round the face (trained by
engines/training/loop/train_hidden.py of 3a1a3492). A mosaic has a comb of steps in the face, but not round it.
"""

from __future__ import annotations

import math
from functools import cache
from importlib.resources import files
from typing import cast

import cv2
import numpy as np

from rtface.frame import Bytes, Face, Float32
from rtface.protocols import View

_MAX_WIDTH_PX, _REACH_WIDTHS, CELLS = 112.0, 1.393, 52
"""A larger face is reduced to `_MAX_WIDTH_PX`. The measured square extends `_REACH_WIDTHS` widths of the face to each
side of its centre, and has `CELLS` cells along its side."""
_BLUR_SHARE = 0.018  # sigma, in widths, of a second blur that measures sharpness: soft images change little
_ROUNDING = 0.3  # squared gradient due to rounding
_EDGE_CELLS = 1.2  # cells along the frame's edge that are not used
_MIN_COMB, _MAX_AROUND = 0.15, 0.4  # share of steps on a mosaic's comb; the same round the face, relative to it
_UNIFORM_AROUND, _SURE_COMB = 0.2, 0.45  # below this share of steps, surroundings are uniform; then this comb suffices
_SPECTRUM_POINTS = 1024


def hidden_by(view: View, face: Face, *, soft: bool) -> float:
    """Measures how surely a face was hidden on purpose, 0…1. A blur is considered only for a soft face."""
    return 1.0 if _mosaic(view, face) else max(0.0, _added_blur(view, face)) if soft else 0.0


def _mosaic(view: View, face: Face) -> bool:
    x, y = (float(v) for v in face.points.mean(axis=0))
    half = min(0.45 * face.width, 128.0)
    lines = _lines(_cut(view, (x - half, y - half, x + half, y + half)))
    comb = min(_comb(line, half / 2) for line in lines)
    if comb < _MIN_COMB:
        return False
    reach = min(0.9 * face.width, 256.0)
    x0, y0 = max(0.0, face.box[0] - reach), max(0.0, face.box[1] - reach)
    surroundings = _cut(view, (x0, y0, face.box[2] + reach, face.box[3] + reach))
    enlarged = face.box + 0.35 * face.width * np.array((-1, -1.3, 1, 1)) - (x0, y0, x0, y0)
    left, top, right, bottom = (max(0, round(v)) for v in enlarged)
    around = _lines(surroundings)
    for line, inner, start in zip(around, _lines(surroundings[top:bottom, left:right]), (left, top), strict=True):
        line[start : start + inner.size] -= inner
    is_uniform = sum(line.sum() for line in around) < _UNIFORM_AROUND * sum(line.sum() for line in lines)
    return comb > _SURE_COMB if is_uniform else min(_comb(line, half / 2) for line in around) < _MAX_AROUND * comb


def _cut(view: View, box: tuple[float, ...]) -> Bytes:
    """Returns luma of a box, cut at the frame's edges. The box is x0, y0, x1, y1; the luma may be empty."""
    left, top = (round(max(0.0, v)) for v in box[:2])
    size = max(0, round(min(view.width, box[2])) - left), max(0, round(min(view.height, box[3])) - top)
    if min(size) < 16:
        return np.zeros((0, 0), np.uint8)
    return view.luma(np.array([[1.0, 0.0, -left], [0.0, 1.0, -top]]), size)


def _lines(luma: Bytes) -> list[Float32]:
    """Sums the steps from each column and each row to the next."""
    if min(luma.shape) < 2:
        return [np.zeros(0, np.float32)] * 2
    steps = cv2.absdiff(luma[:, 1:], luma[:, :-1]), cv2.absdiff(luma[1:], luma[:-1])
    sums = (cv2.reduce(one, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32F) for axis, one in enumerate(steps))
    return [cast(Float32, one).ravel() for one in sums]


def _comb(line: Float32, longest: float) -> float:
    """Returns the share of steps on the best comb. Its teeth are at least 5 pixels apart."""
    spectrum = np.abs(np.fft.rfft(line, _SPECTRUM_POINTS)) if line.size else np.zeros(_SPECTRUM_POINTS // 2 + 1)
    first = np.arange(math.ceil(_SPECTRUM_POINTS / max(longest, 5.0)), _SPECTRUM_POINTS // 5 + 1)
    third = np.where(3 * first <= _SPECTRUM_POINTS // 2, spectrum[np.minimum(3 * first, _SPECTRUM_POINTS // 2)], np.inf)
    teeth = np.minimum(np.minimum(spectrum[first], spectrum[2 * first]), third)
    return float(teeth.max(initial=0.0) / (spectrum[0] + 1e-6))


def _added_blur(view: View, face: Face) -> float:
    """Measures how surely a blur was added to the face, 0…1."""
    network, maps = load_network("hidden"), maps_of(view, face)
    for k in range(3):
        parts = np.lib.stride_tricks.sliding_window_view(maps, (4, 4), axis=(1, 2))[:, ::2, ::2]
        maps = np.tensordot(network[f"kernel{k}"], parts, ((1, 2, 3), (0, 3, 4))) + network[f"bias{k}"][:, None, None]
        maps = np.maximum(maps, 0.0)
    return 1.0 / (1.0 + math.exp(-float((maps * network["out"]).sum() + network["bias"])))


def maps_of(view: View, face: Face) -> Float32:
    """Maps gradients in cells round a face, (5, `CELLS`, `CELLS`).

    Four maps are the gradients' logarithms, horizontal and vertical, fine and coarse; the fifth is 1 within the frame.
    All are 0 outside the frame and at its edge, because neither is used.
    """
    scale = min(1.0, _MAX_WIDTH_PX / face.width)
    side = round(2 * _REACH_WIDTHS * scale * face.width)
    shift = np.rint(side / 2 - scale * (face.box[:2] + face.box[2:]) / 2)
    padded = shift + 1  # a pixel on each side, for gradients
    size = side + 2, side + 2
    picture = view.luma(np.array([[scale, 0.0, padded[0]], [0.0, scale, padded[1]]]), size).astype(np.float32)
    blurred = cast(Float32, cv2.GaussianBlur(picture, (0, 0), _BLUR_SHARE * scale * face.width))
    squares = [one for each in (picture, blurred) for one in _squares(each)]
    cell = side / CELLS
    places = (np.arange(CELLS) + 0.5) * cell - shift[:, None]
    limits = scale * view.width, scale * view.height
    x, y = ((at > _EDGE_CELLS * cell) & (at < end - _EDGE_CELLS * cell) for at, end in zip(places, limits, strict=True))
    within = (y[:, None] & x).astype(np.float32)
    return np.stack([*(0.5 * np.log(np.array(squares) + _ROUNDING) * within), within]).astype(np.float32)


def _squares(picture: Float32) -> list[Float32]:
    """Returns mean squared gradients of each cell, horizontal and vertical."""
    inner = slice(1, -1)
    steps = cv2.subtract(picture[inner, 2:], picture[inner, :-2]), cv2.subtract(picture[2:, inner], picture[:-2, inner])
    cells = (cv2.resize(cv2.multiply(one, one), (CELLS, CELLS), interpolation=cv2.INTER_AREA) for one in steps)
    return [cast(Float32, one) for one in cells]


@cache
def load_network(name: str) -> dict[str, Float32]:
    """Loads the weights of a network of `rtface.analysis`."""
    with files("rtface.analysis").joinpath(f"{name}.npz").open("rb") as file, np.load(file) as arrays:
        return {name: np.asarray(arrays[name], np.float32) for name in arrays.files}
