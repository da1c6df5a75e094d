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

# Rows per field and columns of a block; number of bands of blocks; number of blocks to compare (those with the most
# motion); largest detectable motion in columns per frame.
_ROWS, _COLUMNS, _BANDS, _BLOCKS, _REACH = 8, 32, 12, 12, 24
# Minimum mean change of a moving block in 8-bit code values; columns within which displacements count as equal; minimum
# share (%) and number of combed frames for a warning; minimum ratio of votes for a warning to name one field order.
_MIN_CHANGE, _MAX_SPREAD, _MIN_SHARE, _MIN_FRAMES, _MIN_RATIO = 3.0, 8, 10, 5, 3
# After `CALM` frames without combs, only every `_EVERY`th frame is analysed. 8 is coprime to 5, the telecine period.
CALM, _EVERY = 150, 8
_ORDERS = ("combed_tff", "combed_bff")


class ChosenFields:
    """Determines the field order by ``--fields``, flags, or motion.

    Args:
        chosen: a value of ``--fields``; None trusts the flags, and detects no combed frames.
        enlarged: whether frames are enlarged afterwards.
        faults: `faults.stats` counts the frames with enough horizontal motion to decide, the combed frames, and the
            blocks in which the top or the bottom field is earlier.
    """

    def __init__(self, chosen: str | None, *, enlarged: bool, faults: Faults) -> None:
        self._chosen, self._enlarged, self._graph = chosen, enlarged, cast(Graph | None, None)
        self._faults, self._votes = faults, np.zeros(2, int)  # number of blocks with top, bottom field first
        # Whether the last frame with motion was combed; rows of the last analysed frame; frames since the last combs.
        self._combed, self._previous, self._calm = False, np.empty(0), 0

    def marked(self, image: av.VideoFrame) -> av.VideoFrame:
        """Marks an image with the chosen field order. All images must have one format. Copies no host memory."""
        if self._chosen in (None, "auto"):
            return image
        image = software(image)
        self._graph = self._graph or filter_for(image, "setparams", field_mode=self._chosen.replace("none", "prog"))
        self._graph.push(image)
        return cast(av.VideoFrame, self._graph.pull())

    def with_fields(self, frame: Frame) -> Frame:
        """Returns a frame with its field order. Detects the order if the frame is not flagged as interlaced."""
        detect = self._chosen == "auto" and frame.display.fields == "progressive"
        fields = self._detect_fields(frame.image) if detect else frame.display.fields
        interlaced = fields != "progressive" and (detect or self._chosen in ("tff", "bff")) and not self._enlarged
        luma, display = luma_of(frame.image) if interlaced else None, replace(frame.display, fields=fields)
        # RGB frames get no `combed` samples, which limit combing: limiting green alone would tint the rows.
        combed = None if luma is None or frame.image.format.is_rgb else luma.copy()
        return frame if luma is None else replace(frame, display=display, combed=combed)

    def _detect_fields(self, image: av.VideoFrame) -> Fields:
        """Detects the field order of a frame. A frame without motion gets the order of the last frame."""
        luma = luma_of(image)
        if luma is None or luma.shape[0] < 2 * _ROWS * _BANDS or luma.shape[1] < _COLUMNS + 2 * _REACH:
            return "progressive"
        self._calm, phase = (0, 0) if self._combed else (self._calm + 1, max(0, self._calm - CALM) % _EVERY)
        if 0 < phase < _EVERY - 1:
            return "progressive"
        first = np.linspace(0, len(luma) - 2 * _ROWS, _BANDS).astype(int) // 2 * 2
        info = cast(Layout, layout(image.format.name))
        bands = luma[first[:, None] + np.arange(2 * _ROWS)] / np.float32(2 ** (info.bits + info.shift - 8))
        progressive, *interlaced = (
            (0, 0, 0) if phase or self._previous.shape != bands.shape else _count_votes(bands, self._previous)
        )
        combed, self._previous = max(interlaced) > max(1, 2 * (progressive + min(interlaced))), bands
        if combed or progressive > max(interlaced):
            self._combed, self._votes = combed, self._votes + np.array(interlaced) * combed
            counts = {"frames_told": 1 if combed or self._calm <= CALM else _EVERY, "frames_combed": int(combed)}
            for name, n in (counts | dict(zip(_ORDERS, interlaced, strict=True)) if combed else counts).items():
                self._faults.stats.count(name, n)
        return "progressive" if not self._combed else "bff" if self._votes[1] > self._votes[0] else "tff"


def warn_if_combed(stats: Stats, name: str, *, enlarged: bool) -> None:
    """Warns if `ChosenFields` counted many combed frames."""
    counted = stats.counted()
    combed, (top, bottom) = counted["frames_combed"], (counted[order] for order in _ORDERS)
    share = round(100 * combed / max(1, counted["frames_told"]))
    if share >= _MIN_SHARE and combed >= _MIN_FRAMES:
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
                order="tff" if top > _MIN_RATIO * bottom else "bff" if bottom > _MIN_RATIO * top else "tff|bff",
            ),
        )


def luma_of(image: av.VideoFrame) -> Samples | None:
    """Returns a view of the luma (RGB: green) plane; None for frames in GPU memory."""
    info = None if on_gpu(image) else layout(image.format.name)
    return planes(image, info)["g" if info.kind == "rgb" else "y"] if info else None


def hold_combs(luma: Samples, before: Samples) -> None:
    """Undoes changes to `luma` that increase combing. Only affects samples that were combed in `before`."""
    now, old = luma[1:-1], before.astype(np.int32)
    comb = 2 * old[1:-1] - old[:-2] - old[2:]
    limited = (np.abs(comb) > np.abs(old[2:] - old[:-2])) & ((now > old[1:-1]) == (comb > 0))
    now[...] = np.rint(now + cv2.blur(limited.astype(np.float32), (5, 1)) * (old[1:-1] - now))  # the blur avoids dashes


def _count_votes(bands: Any, previous: Any) -> list[int]:
    """Counts moving blocks by field order: progressive, top field first, bottom field first."""
    votes, columns = [0, 0, 0], (bands.shape[2] - 2 * _REACH) // _COLUMNS
    inner = np.abs(bands - previous)[:, :, _REACH : _REACH + columns * _COLUMNS]
    change = inner.reshape(_BANDS, 2 * _ROWS, columns, _COLUMNS).mean((1, 3))
    moving = np.argsort(change, axis=None)[-_BLOCKS:]
    for block in moving[change.flat[moving] >= _MIN_CHANGE].tolist():
        band, column = divmod(block, columns)
        window = slice(column * _COLUMNS, (column + 1) * _COLUMNS + 2 * _REACH)
        (top, bottom), old = (bands[band, k::2, window] for k in (0, 1)), previous[band, :, window]
        shifts = [_differences(top, old[::2]), _differences(bottom, old[1::2])]
        motion = max((by.argmin() - _REACH for by in shifts if by.min() < 0.3 * by[_REACH]), key=abs, default=0)
        if half := abs(motion) // 2:
            diffs = _differences(bottom[:-1], (top[:-1] + top[1:]) / 2)
            by, near = diffs.argmin() - _REACH, np.flatnonzero(diffs < 2 * diffs.min() + 1)
            if diffs[_REACH] < 0.6 * min(diffs[_REACH - half], diffs[_REACH + half]):
                votes[0] += 1
            elif 0 < abs(by) <= 1.5 * abs(motion) and diffs.min() < 0.5 * diffs[_REACH] and np.ptp(near) <= _MAX_SPREAD:
                votes[1 if by * motion > 0 else 2] += 1
    return votes


def _differences(rows: Any, others: Any) -> Any:
    """Returns squared differences between rows and shifted others. Shifts are −`_REACH` to `_REACH` columns."""
    image, template = (np.ascontiguousarray(array) for array in (others, rows[:, _REACH:-_REACH]))
    return cv2.matchTemplate(image, template, cv2.TM_SQDIFF)[0]
