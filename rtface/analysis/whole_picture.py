"""Faults that one sees in the whole picture of a film: grain, dust, scratches, flicker, low contrast.

Three frames in a row are looked at now and then, in the middle of the picture, on the grid on which they are stored.
Grain is what the mean of its neighbours lacks of the middle one, in the calmer quarter of the picture. Dust is a spot,
and a scratch a thin upright line, that neither neighbour shows near it, where these are alike; a scratch that stays is
a thin line from top to bottom. Flicker is light that comes and goes alike in all parts of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple, cast

import cv2
import numpy as np

from rtface.analysis.measure import ramp
from rtface.frame import Bytes, Frame
from rtface.geometry.transforms import compose, plane_matrix, scaling, translation
from rtface.protocols import Device, Item

FAULTS = ("grain", "dust", "scratches", "flicker", "low_contrast")
_SIDE = 512  # of the part of the picture that is looked at, in samples
_FRAMES, _GAP = 3, 8  # in a row; and from the first such row to the next, which grows by one from row to row
_LEAST = 200  # rows and columns of a picture in which flecks and lines are looked for
_CELL, _COARSE = 8, 8  # side of the cells for grain; cells along each side for flicker
_DARK, _BRIGHT = 20, 235  # code values beyond which a cell says nothing of grain
_FLASHES = 0.15  # share of the light from which on it is lamps that go on and off
_AREA = 1e5  # samples that flecks and lines are counted in
_CONTRAST = 20.0  # code values of a fleck, at least
_AROUND = 21, 21  # samples around a fleck that must be alike in all three frames
_LINE = 25  # rows over which a line is averaged
_NEAR = np.ones((3, 3), np.uint8)


class _Seen(NamedTuple):
    """Figures of three frames: the grain's deviation in code values, by what share the light of the middle one differs,
    flecks and short lines in each `_AREA`, and the share of the picture's height that its longest line has."""

    grain: float
    light: float
    flecks: float
    lines: float
    longest: float


class PictureMeter:
    """Measures the frames of a film, or stills, while they pass."""

    def __init__(self) -> None:
        self._row: list[Bytes] = []
        self._wait, self._gap = 0, _GAP
        self._seen: list[_Seen] = []
        self._ends: list[Any] = []  # levels of the darkest and the lightest hundredth of each picture

    def noted(self, items: Iterable[Item], device: Device) -> Iterator[Item]:
        """The items as they come; some of the frames are looked at with `device`."""
        for item in items:
            if isinstance(item, Frame):
                with suppress(Exception):  # of a frame that cannot be viewed the tracker, which meets it too, tells
                    self._note(item, device)
            yield item

    def _note(self, frame: Frame, device: Device) -> None:
        if self._wait <= 0 or frame.new:
            self._row, self._wait, self._gap = [], self._gap, self._gap + 1
        self._wait -= 1
        if len(self._row) < _FRAMES:
            self._row.append(luma := _middle(frame, device))
            if len(self._row) == 1:
                self._ends.append(np.percentile(luma[::2, ::2], (1, 99)))
            elif len(self._row) == _FRAMES and (seen := _compared(*self._row)) is not None:
                self._seen.append(seen)

    @property
    def scores(self) -> dict[str, float]:
        """By the names in `FAULTS`, each 0 (none of it) … 1; of stills there is low contrast alone."""
        scores = dict.fromkeys(FAULTS, 0.0)
        if self._ends:
            dark, bright = np.median(self._ends, axis=0).tolist()
            scores["low_contrast"] = math.sqrt(ramp(dark, 36.0, 72.0) * ramp(dark - bright, -170.0, -100.0))
        if self._seen:
            usual = _Seen(*np.median(self._seen, axis=0).tolist())
            through = sum(seen.longest > 0.9 for seen in self._seen) / len(self._seen)
            scores["grain"] = 1 - math.exp(-max(0.0, usual.grain - 1.0) / 6.0)
            scores["dust"] = 1 - math.exp(-usual.flecks)
            scores["scratches"] = max(ramp(usual.lines, 0.5, 5.0), through)
            if np.percentile([seen.light for seen in self._seen], 75) < _FLASHES:
                scores["flicker"] = ramp(usual.light, 0.0015, 0.025)
        return {name: round(score, 3) for name, score in scores.items()}


def _middle(frame: Frame, device: Device) -> Bytes:
    """Brightness of the middle of a picture, uint8 h×w, on its own grid; of one field of an interlaced one."""
    if frame.display.fields != "progressive" and frame.field is None:
        frame = replace(frame, field=0)
    size = frame.image.width, frame.image.height
    rows = size[1] if frame.field is None else size[1] // 2
    width, height = (round(length / frame.enlarged) for length in (size[0], rows))
    w, h = min(width, _SIDE), min(height, _SIDE)
    matrix = compose(
        translation(-((width - w) // 2), -((height - h) // 2)),
        scaling(1 / frame.enlarged, 1 / frame.enlarged),
        plane_matrix(size, frame.display, field=frame.field),
    )
    return cast(Bytes, cv2.cvtColor(device.view(frame).crop(matrix, (w, h)), cv2.COLOR_RGB2GRAY))


def _compared(a: Bytes, b: Bytes, c: Bytes) -> _Seen | None:
    """The figures of b between a and c; None where it is too dark or too bright to say."""
    coarse = [
        np.log(cv2.resize(p, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA) + np.float32(16)) for p in (a, b, c)
    ]
    change = coarse[1] - (coarse[0] + coarse[2]) / 2
    light = float(np.median(change))
    shape = b.shape[1] // _CELL, b.shape[0] // _CELL
    means = cv2.resize(b, shape, interpolation=cv2.INTER_AREA)
    usable = (means > _DARK) & (means < _BRIGHT)
    if np.count_nonzero(usable) < 32:
        return None
    steady: Any = b * np.float32(math.exp(-light))
    rest: Any = cv2.subtract(steady, cv2.addWeighted(a, 0.5, c, 0.5, 0.0, dtype=cv2.CV_32F))
    rest = cv2.subtract(rest, cv2.blur(rest, (9, 9)))
    power = cv2.resize(cv2.multiply(rest, rest), shape, interpolation=cv2.INTER_AREA)[usable]
    grain = math.sqrt(2 / 3 * float(np.percentile(power, 25)))
    if min(b.shape) < _LEAST:
        return _Seen(grain, abs(light), 0.0, 0.0, 0.0)
    steady = cv2.convertScaleAbs(steady)
    sides = (
        cv2.subtract(steady, cv2.dilate(cv2.max(a, c), _NEAR)),
        cv2.subtract(cv2.erode(cv2.min(a, c), _NEAR), steady),
    )
    flecks: Any = np.maximum(*sides) > max(_CONTRAST, 5 * grain)
    moved: Any = cv2.absdiff(steady, cv2.addWeighted(a, 0.5, c, 0.5, 0.0))
    moved[cv2.dilate(flecks.view(np.uint8), np.ones((5, 5), np.uint8)) > 0] = 0
    still: Any = cv2.max(cv2.blur(moved, _AROUND), cv2.blur(cv2.absdiff(a, c), _AROUND)) < 2 + 1.5 * grain
    spots = sum(3 <= area <= 400 and max(w, h) <= 3 * min(w, h) + 1 for *_, w, h, area in _parts(flecks & still))
    lines, longest = 0, 0.0
    for side, sign in zip(sides, (1, -1), strict=True):
        alone: Any = cv2.blur((side > 0).astype(np.float32), (1, _LINE)) > 0.6
        thin = _thin(steady, _LINE, 3, sign, max(4.0, 0.6 * grain)) & alone & still
        lines += sum(h >= 8 and w <= 6 for *_, w, h, _ in _parts(thin))
        thin = cv2.dilate(_thin(steady, 9, 4, sign, 4.0).view(np.uint8), np.ones((1, 3), np.uint8))
        x, y = max(8, b.shape[1] // 32), b.shape[0] // 16
        longest = max(longest, float(thin[y:-y, x:-x].mean(0).max()))
    return _Seen(grain, abs(light), spots * _AREA / b.size, lines * _AREA / b.size, longest)


def _parts(mask: Any) -> list[list[int]]:
    """x, y, width, height and area of each connected part of a mask."""
    return np.asarray(cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)[2])[1:].tolist()


def _thin(luma: Bytes, rows: int, columns: int, sign: int, least: float) -> Any:
    """Where the mean over so many rows is by `least` lighter (sign 1) or darker (−1) than so many columns to its left
    and right, whose own difference is less than twice that."""
    mean: Any = cv2.blur(luma, (1, rows)).astype(np.float32)
    left, right = np.roll(mean, columns, 1), np.roll(mean, -columns, 1)
    out = np.minimum(sign * (mean - left), sign * (mean - right))
    return (out > least) & (np.abs(left - right) < 2 * out)
