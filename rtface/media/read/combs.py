"""Tells frames that weave two moments, in their even and odd rows, from whole ones, where no flag says so.

Rows of two moments are displaced against each other where something moves sideways: odd rows are like the mean of their
neighbours some columns away. Texture, stripes, noise and compression are most alike where they are.
"""

from __future__ import annotations

from typing import Any, Literal

import av
import cv2
import numpy as np

from rtface.errors import Message
from rtface.geometry.planes import layout, planes
from rtface.util.av_gpu import on_gpu

# Rows of each field and columns of a block; blocks in a column of the frame; those with most motion that are compared.
_ROWS, _COLUMNS, _DOWN, _MOVING = 8, 32, 12, 12
_REACH = 24  # columns that something may move from frame to frame
_CHANGED = 3.0  # code values of 8 bits that a block that moves must change by on average
_MANY, _LEAST = 0.1, 5  # share and number of combed frames from which on it is said
_CLEAR = 3  # times as many blocks that tell the order of the fields as blocks that tell the other


class CombMeter:
    """Looks at frames one after another.

    Attributes:
        combed, whole: frames of which it could be told, because something moved sideways.
    """

    def __init__(self) -> None:
        self.combed = self.whole = 0
        self._votes = [0, 0]  # blocks in which the top field, and the bottom one, is the earlier
        self._last = False
        self._before: Any = None

    def __call__(self, image: av.VideoFrame) -> bool:
        """Whether a frame is combed; as of the frame before where nothing moves."""
        form = None if on_gpu(image) else layout(image.format.name)
        if form is None or image.height < 2 * _ROWS * _DOWN or image.width < _COLUMNS + 2 * _REACH:
            return False
        luma = planes(image, form)["g" if form.kind == "rgb" else "y"]
        first = np.linspace(0, image.height - 2 * _ROWS, _DOWN).astype(int) // 2 * 2
        bands = luma[first[:, None] + np.arange(2 * _ROWS)].astype(np.float32) / 2 ** (form.bits + form.shift - 8)
        before, self._before = self._before, bands
        if before is None or before.shape != bands.shape:
            return self._last
        whole, *woven = _votes(bands, before)
        if max(woven) > max(1, 2 * (whole + min(woven))):
            self.combed, self._last = self.combed + 1, True
            self._votes = [count + more for count, more in zip(self._votes, woven, strict=True)]
        elif whole > max(woven):
            self.whole, self._last = self.whole + 1, False
        return self._last

    @property
    def order(self) -> Literal["tff", "bff"]:
        """Which field comes first, by what moved so far."""
        return "bff" if self._votes[1] > self._votes[0] else "tff"

    def message(self, name: str, *, enlarged: bool) -> Message | None:
        """What is to be said of a film, by name, at its end; None where few of its frames are combed.

        Args:
            enlarged: whether its frames were enlarged.
        """
        share = self.combed / max(1, self.combed + self.whole)
        if share < _MANY or self.combed < _LEAST:
            return None
        share = round(100 * share)
        if enlarged:
            return Message(
                "{name}: {share} % of its frames weave two moments in their lines, which enlarging mixes; make whole "
                "frames of them first (FFmpeg: -vf bwdif)",
                code="combed_scale",
                name=name,
                share=share,
            )
        if max(self._votes) < _CLEAR * min(self._votes):
            return Message(
                "{name}: {share} % of its frames weave two moments in their lines, though it says that they are whole. "
                "Their fields are corrected each by itself; which one comes first is not clear: {--fields:tff} or "
                "{--fields:bff} says it, and lets players deinterlace the output",
                code="combed_unclear",
                name=name,
                share=share,
            )
        return Message(
            "{name}: {share} % of its frames weave two moments in their lines, though it says that they are whole. "
            "Their fields are corrected each by itself; {--fields:{order}} lets players deinterlace the output, too",
            code="combed",
            name=name,
            share=share,
            order=self.order,
        )


def _votes(bands: Any, before: Any) -> list[int]:
    """Blocks that move and are whole, are woven with the top field first, and with the bottom field first."""
    votes, across = [0, 0, 0], (bands.shape[2] - 2 * _REACH) // _COLUMNS
    inner = slice(_REACH, _REACH + across * _COLUMNS)
    change = np.abs(bands - before)[:, :, inner].reshape(_DOWN, 2 * _ROWS, across, _COLUMNS).mean((1, 3))
    for place in np.argsort(change, axis=None)[-_MOVING:].tolist():
        down, along = divmod(place, across)
        seen = slice(along * _COLUMNS, (along + 1) * _COLUMNS + 2 * _REACH)
        (top, bottom), was = (bands[down, k::2, seen] for k in (0, 1)), before[down, :, seen]
        moves = [_differences(top, was[::2]), _differences(bottom, was[1::2])]
        moved = max((_best(by) for by in moves if by.min() < 0.3 * by[_REACH]), key=abs, default=0)
        if abs(moved) < 2 or change[down, along] < _CHANGED:
            continue
        apart = _differences(bottom[:-1], (top[:-1] + top[1:]) / 2)
        by, half = _best(apart), abs(moved) // 2
        if apart[_REACH] < 0.6 * min(apart[_REACH - half], apart[_REACH + half]):
            votes[0] += 1
        elif 0 < abs(by) <= 1.5 * abs(moved) and apart.min() < 0.5 * apart[_REACH] and _alone(apart):
            votes[1 if by * moved > 0 else 2] += 1
    return votes


def _differences(rows: Any, others: Any) -> Any:
    """How much rows differ from others that are shifted by −`_REACH` to `_REACH` columns."""
    part = np.ascontiguousarray(rows[:, _REACH:-_REACH])
    return cv2.matchTemplate(np.ascontiguousarray(others), part, cv2.TM_SQDIFF)[0]


def _best(differences: Any) -> int:
    return int(np.argmin(differences)) - _REACH


def _alone(differences: Any) -> bool:
    """Whether one shift is best by far: a texture has many."""
    low, inner = differences.min(), differences[1:-1]
    lowest = (inner <= differences[:-2]) & (inner <= differences[2:]) & (inner < 2 * low + 1)
    return np.count_nonzero(lowest) < 2
