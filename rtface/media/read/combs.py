"""Detects combed (interlaced) frames that no flag marks as such.

Horizontal motion displaces the rows of two fields against each other, so that odd rows match the mean of their
neighbours best if they are shifted by some columns. Texture, stripes, noise and compression match best unshifted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import av
import cv2
import numpy as np
from av.filter import Graph

from rtface.errors import Message
from rtface.frame import Frame
from rtface.geometry.planes import Layout, Samples, layout, planes
from rtface.media.read.faults import Faults
from rtface.media.read.frame_details import filter_for
from rtface.media.read.frame_form import Fields
from rtface.stats import Stats
from rtface.util.av_gpu import on_gpu, software

# Rows per field and columns of a block; number of rows of blocks; number of blocks to compare (those with the most
# motion); largest detectable motion in columns per frame.
_ROWS, _COLUMNS, _DOWN, _MOVING, _REACH = 8, 32, 12, 12, 24
# Least mean change of a moving block in 8-bit code values; columns within which displacements count as equal; share (%)
# and number of combed frames from which to warn; ratio of votes from which the warning names one field order.
_CHANGED, _ALIKE, _MANY, _LEAST, _CLEAR = 3.0, 8, 10, 5, 3
# After `CALM` frames without combs, only every `_EACH`th frame is analysed. 8 is coprime to 5, the telecine period.
CALM, _EACH = 500, 8
_ORDERS = ("combed_tff", "combed_bff")


class ChosenFields:
    """Determines the field order by ``--fields``, flags, or motion.

    Args:
        chosen: a value of ``--fields``; None trusts the flags, without looking for combed frames.
        enlarged: whether frames are enlarged afterwards.
        faults: `faults.stats` counts the frames with enough horizontal motion to decide, the combed frames, and the
            blocks in which the top or the bottom field is earlier.
    """

    def __init__(self, chosen: str | None, *, enlarged: bool, faults: Faults) -> None:
        self._chosen, self._enlarged, self._graph = chosen, enlarged, cast(Graph | None, None)
        self._faults, self._votes = faults, np.zeros(2, int)  # number of blocks with top, bottom field first
        # Whether the last frame with motion was combed; rows of the last analysed frame; frames since the last combs.
        self._last, self._before, self._calm = False, np.empty(0), 0

    def marked(self, image: av.VideoFrame) -> av.VideoFrame:
        """Marks an image with the chosen field order. All must have one format. Copies no samples in host memory."""
        if self._chosen in (None, "auto"):
            return image
        image = software(image)
        self._graph = self._graph or filter_for(image, "setparams", field_mode=self._chosen.replace("none", "prog"))
        self._graph.push(image)
        return cast(av.VideoFrame, self._graph.pull())

    def with_fields(self, frame: Frame) -> Frame:
        """Returns a frame with its field order. Detects the order if the frame is not flagged as interlaced."""
        detect = self._chosen == "auto" and frame.display.fields == "progressive"
        fields = self._fields(frame.image) if detect else frame.display.fields
        woven = fields != "progressive" and (detect or self._chosen in ("tff", "bff")) and not self._enlarged
        luma, display = luma_of(frame.image) if woven else None, replace(frame.display, fields=fields)
        # RGB frames get no `combed` samples, which limit combing: limiting green alone would tint the rows.
        combed = None if luma is None or frame.image.format.is_rgb else luma.copy()
        return frame if luma is None else replace(frame, display=display, combed=combed)

    def _fields(self, image: av.VideoFrame) -> Fields:
        """Detects the field order of a frame. A frame without motion gets the order of the last frame."""
        luma = luma_of(image)
        if luma is None or luma.shape[0] < 2 * _ROWS * _DOWN or luma.shape[1] < _COLUMNS + 2 * _REACH:
            return "progressive"
        self._calm, place = (0, 0) if self._last else (self._calm + 1, max(0, self._calm - CALM) % _EACH)
        if 0 < place < _EACH - 1:
            return "progressive"
        first = np.linspace(0, len(luma) - 2 * _ROWS, _DOWN).astype(int) // 2 * 2
        form = cast(Layout, layout(image.format.name))
        bands = luma[first[:, None] + np.arange(2 * _ROWS)] / np.float32(2 ** (form.bits + form.shift - 8))
        whole, *woven = (0, 0, 0) if place or self._before.shape != bands.shape else _votes(bands, self._before)
        combed, self._before = max(woven) > max(1, 2 * (whole + min(woven))), bands
        if combed or whole > max(woven):
            self._last, self._votes = combed, self._votes + np.array(woven) * combed
            counts = {"frames_told": 1 if combed or self._calm <= CALM else _EACH, "frames_combed": int(combed)}
            for name, n in (counts | dict(zip(_ORDERS, woven, strict=True)) if combed else counts).items():
                self._faults.stats.count(name, n)
        return "progressive" if not self._last else "bff" if self._votes[1] > self._votes[0] else "tff"


def warn_if_combed(stats: Stats, name: str, *, enlarged: bool) -> None:
    """Warns if `ChosenFields` counted many combed frames."""
    counted = stats.counted()
    combed, (top, bottom) = counted["frames_combed"], (counted[order] for order in _ORDERS)
    share = round(100 * combed / max(1, counted["frames_told"]))
    if share >= _MANY and combed >= _LEAST:
        stats.warn(
            "combed",
            Message(
                "{name}: {share} % of its frames are combed: they interleave two fields, which enlarging would mix; "
                "deinterlace it first (FFmpeg: -vf bwdif)",
                code="combed_scale",
                name=name,
                share=share,
            )
            if enlarged
            else Message(
                "{name}: {share} % of its frames are combed: they interleave two fields, though marked as "
                "progressive. Fields are corrected separately; {--fields:{order}} lets players deinterlace it",
                code="combed",
                name=name,
                share=share,
                order="tff" if top > _CLEAR * bottom else "bff" if bottom > _CLEAR * top else "tff|bff",
            ),
        )


def luma_of(image: av.VideoFrame) -> Samples | None:
    """Returns a view of the luma (RGB: green) plane; None if not in host memory."""
    form = None if on_gpu(image) else layout(image.format.name)
    return planes(image, form)["g" if form.kind == "rgb" else "y"] if form else None


def hold_combs(luma: Samples, before: Samples) -> None:
    """Undoes changes to `luma` that increase combing. It only affects samples that were combed in `before`."""
    now, was = luma[1:-1], before.astype(np.int32)
    comb = 2 * was[1:-1] - was[:-2] - was[2:]
    held = (np.abs(comb) > np.abs(was[2:] - was[:-2])) & ((now > was[1:-1]) == (comb > 0))
    now[...] = np.rint(now + cv2.blur(held.astype(np.float32), (5, 1)) * (was[1:-1] - now))  # the blur avoids dashes


def _votes(bands: Any, before: Any) -> list[int]:
    """Counts moving blocks by field order. They are progressive, top field first or bottom field first."""
    votes, across = [0, 0, 0], (bands.shape[2] - 2 * _REACH) // _COLUMNS
    inner = np.abs(bands - before)[:, :, _REACH : _REACH + across * _COLUMNS]
    change = inner.reshape(_DOWN, 2 * _ROWS, across, _COLUMNS).mean((1, 3))
    moving = np.argsort(change, axis=None)[-_MOVING:]
    for place in moving[change.flat[moving] >= _CHANGED].tolist():
        down, along = divmod(place, across)
        seen = slice(along * _COLUMNS, (along + 1) * _COLUMNS + 2 * _REACH)
        (top, bottom), was = (bands[down, k::2, seen] for k in (0, 1)), before[down, :, seen]
        moves = [_differences(top, was[::2]), _differences(bottom, was[1::2])]
        moved = max((by.argmin() - _REACH for by in moves if by.min() < 0.3 * by[_REACH]), key=abs, default=0)
        if half := abs(moved) // 2:
            apart = _differences(bottom[:-1], (top[:-1] + top[1:]) / 2)
            by, near = apart.argmin() - _REACH, np.flatnonzero(apart < 2 * apart.min() + 1)
            if apart[_REACH] < 0.6 * min(apart[_REACH - half], apart[_REACH + half]):
                votes[0] += 1
            elif 0 < abs(by) <= 1.5 * abs(moved) and apart.min() < 0.5 * apart[_REACH] and np.ptp(near) <= _ALIKE:
                votes[1 if by * moved > 0 else 2] += 1
    return votes


def _differences(rows: Any, others: Any) -> Any:
    """Returns squared differences of rows from shifted others. Shifts are −`_REACH` to `_REACH` columns."""
    whole, part = (np.ascontiguousarray(one) for one in (others, rows[:, _REACH:-_REACH]))
    return cv2.matchTemplate(whole, part, cv2.TM_SQDIFF)[0]
