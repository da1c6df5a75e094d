"""Describes a face's region in its crop, before the engine has answered."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import Any

import cv2
import numpy as np

from rtface.correct.colour import CELLS
from rtface.correct.eyes import Iris, irises_in
from rtface.correct.mask import FACE_OVAL, enlarged_mask, face_mask, support_box
from rtface.correct.openings import Opening
from rtface.frame import Box, CorrectedRegion, Float, Float32

_UNSEEN_SHIFT_SHARE = 1 / 700  # motion of the oval, as a share of the side, that a mask need not follow


class KeptMask:
    """Keeps a track's `face_mask` while its oval hardly moves.

    Each second begins with a new mask, which does not depend on earlier frames.
    """

    _kept: tuple[Any, Any, Any] = None, None, None  # key, oval and mask

    def of(self, size: int, mesh: Float | None, region: CorrectedRegion, time: float) -> Float32:
        """Returns `face_mask` of this frame or an earlier one. Do not write into it."""
        oval = np.zeros((1, 2)) if mesh is None else mesh.take(FACE_OVAL, 0)[:, :2]
        key = size, mesh is None, region, floor(time)
        if key != self._kept[0] or cv2.norm(oval, self._kept[1], cv2.NORM_INF) > _UNSEEN_SHIFT_SHARE * size:
            self._kept = key, oval, face_mask(size, mesh, region)
        return self._kept[2]


@dataclass(frozen=True, slots=True)
class FaceRegion:
    """A face's reduced mask, its irises, and the scale of its crop.

    Attributes:
        size: S, the side of the crop.
        scale: crop pixels per image pixel, `sqrt(|det W|)`.
        step: distance between measured samples; about 64 samples per side are measured.
        box: the part of the mask above 0.
        part: the box, extended to the left and up so that its corner is a measured sample.
        weight: float32 64×64, the mask's averages.
        samples: float32 n×n, the mask at every `step`-th sample in both directions, starting at sample 0.
        middle: float32 m×w, the mask in `middle_rows` of the part.
        eyes: `irises(…)`, (2, 3).
        irises: the irises in the box.
        openings: `openings_of(…)`: eyes and mouth; empty without a mesh.
    """

    size: int
    scale: float
    step: int
    box: Box
    part: Box
    weight: Float32
    samples: Float32
    middle: Float32
    eyes: Float
    irises: tuple[Iris | None, ...]
    openings: tuple[Opening, ...] = ()

    @property
    def rows(self) -> slice:
        """The rows of `samples` in the part."""
        return slice(self.part[1] // self.step, -(-self.part[3] // self.step))

    @property
    def columns(self) -> slice:
        """The columns of `samples` in the part."""
        return slice(self.part[0] // self.step, -(-self.part[2] // self.step))


def face_region_of(
    mask: Float32, size: int, eyes: Float, scale: float, openings: tuple[Opening, ...] = ()
) -> FaceRegion | None:
    """Returns the region of a mask; None if it is 0 everywhere. A mask smaller than S×S is enlarged."""
    if len(mask) != size:
        mask = enlarged_mask(mask, size)
    box = support_box(mask)
    if box is None:
        return None
    step = max(2, size // CELLS)
    (x0, y0), (x1, y1) = (v // step * step for v in box[:2]), box[2:]
    weight: Any = cv2.resize(mask, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    return FaceRegion(
        size,
        scale,
        step,
        box,
        (x0, y0, x1, y1),
        weight,
        np.ascontiguousarray(mask[::step, ::step]),
        mask[y0:y1, x0:x1][middle_rows(y1 - y0)],
        eyes,
        irises_in(eyes, box),
        openings,
    )


def middle_rows(height: int) -> slice:
    """Returns every 4th of 64 rows in the middle of a part."""
    return slice(max(0, height // 2 - 32), min(height // 2 + 32, height), 4)
