"""Measures faults of a film's whole picture: grain, dust, scratches, flicker, low contrast.

From time to time, three consecutive frames are measured, in the middle of the picture, on their stored grid. Grain is
the difference between the middle frame and its neighbours' mean, in the calmer quarter of the picture. Dust is a spot,
and a scratch a thin vertical line, that neither neighbour shows nearby, where the neighbours agree; a longer scratch is
a thin line from top to bottom that jitters. Flicker is a change of light that is equal in all parts of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, cast

import cv2
import numpy as np

from rtface.analysis.measure import ramp
from rtface.frame import Bytes, Frame
from rtface.geometry.transforms import compose, plane_matrix, translation
from rtface.protocols import Device, Item

FAULTS = ("grain", "dust", "scratches", "flicker", "low_contrast")
_SIDE, _MIN_SIDE = 512, 200  # samples: side of the measured part; smallest side for flecks and lines
_ROW_FRAMES, _GAP_FRAMES = 3, 8  # consecutive frames; first gap between such rows (each gap is one longer)
_CELL, _COARSE = 8, 8  # side of the cells for grain; cells along each side for flicker
_SWITCHED_SHARE = 0.15  # relative change of light above which a lamp was switched, which is not flicker
_AREA_SAMPLES = 1e5  # flecks and lines are counted per this area
_AROUND, _LINE_ROWS = (21, 21), 25  # samples around a fleck that must agree in all three frames; minimum rows of a line
_NEAR = np.ones((3, 3), np.uint8)


class PictureMeter:
    """Measures frames of a film, or stills, as they pass."""

    def __init__(self) -> None:
        self._row: list[Bytes] = []
        self._wait, self._gap = 0, _GAP_FRAMES
        self._results: list[list[float]] = []  # results of `_compare`
        self._extremes: list[Any] = []  # levels of the darkest and the lightest hundredth of each picture

    def noted(self, items: Iterable[Item], device: Device) -> Iterator[Item]:
        """Yields the items unchanged, and measures some of the frames with `device`."""
        for item in items:
            if isinstance(item, Frame):
                self._measure(item, device)
            yield item

    def _measure(self, frame: Frame, device: Device) -> None:
        if self._wait <= 0 or frame.new:
            self._row, self._wait, self._gap = [], self._gap, self._gap + 1
        self._wait -= 1
        if len(self._row) < _ROW_FRAMES:
            try:
                luma = _middle(frame, device)
            except Exception:  # noqa: BLE001 - the frame cannot be read; the tracker reports it
                return
            if self._row and self._row[0].shape != luma.shape:
                self._row.clear()
            self._row.append(luma)
            if len(self._row) == 1:
                self._extremes.append(np.percentile(luma[::2, ::2], (1, 99)))
            elif len(self._row) == _ROW_FRAMES and (result := _compare(*self._row)) is not None:
                self._results.append(result)

    @property
    def scores(self) -> dict[str, float]:
        """Scores by the names in `FAULTS`, 0 (none) … 1. Stills have only low contrast."""
        scores = dict.fromkeys(FAULTS, 0.0)
        if self._extremes:
            dark, bright = np.median(self._extremes, axis=0).tolist()
            scores["low_contrast"] = math.sqrt(ramp(dark, 36.0, 72.0) * ramp(dark - bright, -170.0, -100.0))
        if self._results:
            results = np.array(self._results)
            grain, light, flecks, lines, _ = np.median(results, axis=0).tolist()
            scores["grain"] = 1 - math.exp(-max(0.0, grain - 1.0) / 6.0)
            scores["dust"] = 1 - math.exp(-flecks)
            scores["scratches"] = max(ramp(lines, 0.5, 5.0), float(np.mean(results[:, 4] > 0.9)))
            scores["flicker"] = ramp(light, 0.0015, 0.025) * bool(np.percentile(results[:, 1], 75) < _SWITCHED_SHARE)
        return {name: round(score, 3) for name, score in scores.items()}


def _middle(frame: Frame, device: Device) -> Bytes:
    """Returns the brightness of a picture's middle, uint8 h×w, on its grid. For an interlaced picture, of one field."""
    frame = frame.source or frame
    frame = replace(frame, field=None if frame.display.fields == "progressive" else 0)
    size = frame.image.width, frame.image.height
    width, height = size[0], size[1] if frame.field is None else size[1] // 2
    w, h = min(width, _SIDE), min(height, _SIDE)
    matrix = compose(
        translation(-((width - w) // 2), -((height - h) // 2)),
        plane_matrix(size, frame.display, field=frame.field),
    )
    return cast(Bytes, cv2.cvtColor(device.view(frame).crop(matrix, (w, h)), cv2.COLOR_RGB2GRAY))


def _compare(a: Bytes, b: Bytes, c: Bytes) -> list[float] | None:
    """Measures b against its neighbours a and c. Returns standard deviation of the grain in code values, relative
    change of the light, flecks and short lines per `_AREA_SAMPLES`, and the longest line as a share of the height; None
    if b is black or white."""
    if min(b.shape) < _CELL:
        return None
    coarse = [
        np.log(cv2.resize(p, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA) + np.float32(16)) for p in (a, b, c)
    ]
    light = float(np.median(coarse[1] - (coarse[0] + coarse[2]) / 2))
    shape = b.shape[1] // _CELL, b.shape[0] // _CELL
    means = cv2.resize(b, shape, interpolation=cv2.INTER_AREA)
    usable = (means > 20) & (means < 235)
    if np.count_nonzero(usable) < 32:
        return None
    steady: Any = b * np.float32(math.exp(-light))
    residual: Any = cv2.subtract(steady, cv2.addWeighted(a, 0.5, c, 0.5, 0.0, dtype=cv2.CV_32F))
    residual = cv2.subtract(residual, cv2.blur(residual, (9, 9)))
    power = cv2.resize(cv2.multiply(residual, residual), shape, interpolation=cv2.INTER_AREA)[usable]
    grain = math.sqrt(2 / 3 * float(np.percentile(power, 25)))
    if min(b.shape) < _MIN_SIDE:
        return [grain, abs(light), 0.0, 0.0, 0.0]
    steady = cv2.convertScaleAbs(steady)
    sides = (
        cv2.subtract(steady, cv2.dilate(cv2.max(a, c), _NEAR)),
        cv2.subtract(cv2.erode(cv2.min(a, c), _NEAR), steady),
    )
    flecks: Any = np.maximum(*sides) > max(20.0, 5 * grain)
    difference: Any = cv2.absdiff(steady, cv2.addWeighted(a, 0.5, c, 0.5, 0.0))
    moving: Any = cv2.blur(difference, (1, 9)) > 5 + 1.5 * grain  # a pole stands still, a scratch does not
    difference[cv2.dilate(flecks.view(np.uint8), np.ones((5, 5), np.uint8)) > 0] = 0
    agrees: Any = cv2.max(cv2.blur(difference, _AROUND), cv2.blur(cv2.absdiff(a, c), _AROUND)) < 2 + 1.5 * grain
    spots = sum(3 <= area <= 400 and max(w, h) <= 3 * min(w, h) + 1 for *_, w, h, area in _parts(flecks & agrees))
    lines, longest = 0, 0.0
    for side, sign in zip(sides, (1, -1), strict=True):
        isolated: Any = cv2.blur((side > 0).astype(np.float32), (1, _LINE_ROWS)) > 0.6
        thin = _thin_lines(steady, _LINE_ROWS, 3, sign, max(4.0, 0.6 * grain)) & isolated & agrees
        lines += sum(h >= 8 and w <= 6 for *_, w, h, _ in _parts(thin))
        thin = cv2.dilate((_thin_lines(steady, 9, 4, sign, 4.0) & moving).view(np.uint8), np.ones((1, 3), np.uint8))
        x, y = max(8, b.shape[1] // 32), b.shape[0] // 16
        longest = max(longest, float(thin[y:-y, x:-x].mean(0).max()))
    return [grain, abs(light), spots * _AREA_SAMPLES / b.size, lines * _AREA_SAMPLES / b.size, longest]


def _parts(mask: Any) -> list[list[int]]:
    """Returns x, y, width, height and area of a mask's connected parts."""
    return np.asarray(cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)[2])[1:].tolist()


def _thin_lines(luma: Bytes, rows: int, columns: int, sign: int, min_contrast: float) -> Any:
    """Returns a mask of thin vertical lines. They are lighter (sign 1) or darker (−1). Their mean over `rows` differs
    by `min_contrast` or more from the means `columns` to the left and right, which differ from each other by less than
    twice as much."""
    mean: Any = cv2.blur(luma, (1, rows)).astype(np.float32)
    left, right = np.roll(mean, columns, 1), np.roll(mean, -columns, 1)
    out = np.minimum(sign * (mean - left), sign * (mean - right))
    return (out > min_contrast) & (np.abs(left - right) < 2 * out)
